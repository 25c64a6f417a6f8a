"""What a reader must know beside the answer: how it may err, what is missing, what is cheaper."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lossbench.comparison import formats
from lossbench.comparison.pairing import Difference
from lossbench.comparison.posthoc import JOINT, WORDS, tag_of
from lossbench.comparison.sealing import OPEN, sealing
from lossbench.comparison.statistics import ALPHA
from lossbench.comparison.table import balanced_validation
from lossbench.comparison.verdict import BETTER, NOT_COMPARED, TESTED, WORSE

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

Graded = dict[str, list[Difference]]
"""The differences of one context by grade, each list with the best first."""


def interim(comparison: Comparison) -> str:
    """That the sweep is not through; a look after each new seed finds something by chance."""
    if not comparison.pending:
        return ""
    runs = (
        "1 planned run is" if comparison.pending == 1 else f"{comparison.pending} planned runs are"
    )
    return (
        f"This is an interim look: {runs} still to come. The intervals and p are those of one look "
        "at all planned seeds; who looks after each seed and stops where it pleases finds "
        "differences by chance more often than they say. Runs that will not be trained after all "
        "are forgotten by removing the study's plan.json."
    )


def seal(comparison: Comparison) -> str:
    """Whether the test set is sealed, or since when it is open; "" if it never was sealed."""
    told = sealing(comparison.records)
    return "" if told == OPEN else told


def error_rate(graded: Graded) -> str:
    """How often such a study errs, and on what that rests; "" if it decided nothing."""
    tested = sum(len(graded[grade]) for grade in TESTED)
    if not (graded[BETTER] or graded[WORSE]) or tested < 2:
        return ""
    all_ = "Both" if tested == 2 else f"All {tested}"
    return (
        f"{all_} were judged together: at most {ALPHA:.0%} of studies like this one would "
        "call any of them better or worse by chance, if the differences over seeds are roughly "
        "normal."
    ).replace("%", " %")


def two_pairs(graded: Graded) -> str:
    """That a verdict stands on the fewest seeds that can give one; "" if none does."""
    labels = [entry.label for grade in (BETTER, WORSE) for entry in graded[grade] if entry.n == 2]
    if not labels:
        return ""
    return (
        f"Two paired seeds decided about {formats.some(labels)}: that such differences are roughly "
        "normal is taken on trust there, and a third seed may change the verdict."
    )


def incomplete(comparison: Comparison, context: str, graded: Graded) -> str:
    """Which labels lack seeds, and that their means are of the seeds that are left."""
    missing: dict[str, dict[str, None]] = {}
    said = {entry.label for entry in graded[NOT_COMPARED]}
    for gap in comparison.gaps:
        if gap.context != context or gap.label in said:
            continue
        seeds = f"seed{'s' * (len(gap.seeds) != 1)} {', '.join(map(str, gap.seeds))}"
        finished = gap.label in comparison.ranked[context]
        what = f"{gap.kind} on {seeds}" if finished else "no run finished"
        missing.setdefault(what, {})[gap.label] = None
    if not missing:
        return ""
    told = [f"{formats.some(list(names), 4)} ({what})" for what, names in missing.items()]
    return (
        f"Not all seeds are there: {'; '.join(told[:5])}{'; and so on' * (len(told) > 5)}. Their "
        "numbers are of the seeds that are left, and pairs exist only where both runs do."
    )


def example_uncertainty(comparison: Comparison, context: str) -> str:
    """How much the examples of the split leave open; "" for metrics that measured no such thing."""
    runs = comparison.done[context]
    low, high = (f"{comparison.metric}_{end}" for end in ("low", "high"))
    if not {low, high} <= set(runs.columns):
        return ""
    half = (runs[high] - runs[low]).mean() / 2
    if math.isnan(half):
        return ""
    return (
        f"The intervals are over seeds only: which examples are in the {comparison.where} leaves "
        f"± {formats.number(half)} open in the {comparison.facts.name} of one run (95 %), the same "
        "examples for every arm."
    )


def without_training(comparison: Comparison, context: str, chosen: Difference | None) -> str:
    """What the baseline has under a post-hoc method, where that is no arm of the comparison.

    Of the methods that need no oracle's validation set, the one with the best mean.
    """
    if chosen is None or JOINT in chosen.label:
        return ""
    runs = comparison.done[context]
    of_baseline = runs[runs["label"] == comparison.baseline]
    oracle = any(balanced_validation(comparison.records[row]) for row in of_baseline.index)
    split, _, metric = comparison.metric.partition("/")
    methods = ["logit_adjustment"] if oracle else list(WORDS)
    tags = {method: tag_of(split, method, metric) for method in methods}
    means = {m: of_baseline[tag].mean() for m, tag in tags.items() if tag in of_baseline}
    sign = 1 if comparison.facts.higher_is_better else -1
    known = {method: mean for method, mean in means.items() if not math.isnan(mean)}
    best = max(known, key=lambda method: sign * known[method], default=None)
    label = "" if best is None else f"{comparison.baseline}{JOINT}{WORDS[best]}"
    if best is None or label in comparison.labels:
        return ""
    own = comparison.cells[context, chosen.label, comparison.metric]["mean"]
    return (
        f"Without training anything else, {label} has {formats.number(known[best])} where "
        f"{chosen.label} has {formats.number(own)}; posthoc={best} makes it an arm, and "
        f'baseline="{label}" what the others are judged against.'
    )
