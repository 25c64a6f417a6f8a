"""The tables as text cells, shared by the terminal, the markdown file and the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING

from lossbench.comparison import formats, metrics, posthoc
from lossbench.comparison.notes import where_measured
from lossbench.comparison.pairing import Difference
from lossbench.comparison.posthoc import WORDS
from lossbench.comparison.statistics import estimate
from lossbench.comparison.verdict import judge

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison


@dataclass(frozen=True)
class Sheet:
    """A table: its caption, the heads of its columns, and rows of text (the first is the label)."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sheets(comparison: Comparison, context: str) -> list[Sheet]:
    """All tables of one context, those that there are."""
    makers = (
        *(summary_sheet, difference_sheet, resolution_sheet, sensitivity_sheet),
        *(example_uncertainty_sheet, posthoc_sheet),
        *(overfitting_sheet, label_noise_sheet),
    )
    return [sheet for make in makers if (sheet := make(comparison, context))]


def summary_sheet(comparison: Comparison, context: str) -> Sheet:
    """n, mean ± standard error of every summary metric, and the t-interval of the one that decides.

    One row per label.
    """
    tags = metrics.columns(comparison.split, comparison.runs.columns)
    if comparison.metric not in tags:
        tags = [comparison.metric, *tags]
    cells = comparison.cells
    rows = []
    for label in comparison.ranked[context]:
        numbers = [cells[context, label, tag] for tag in tags]
        texts = [formats.plus_minus(cell["mean"], cell["standard_error"]) for cell in numbers]
        deciding = cells[context, label, comparison.metric]
        ends = (formats.number(deciding[end]) for end in ("low", "high"))
        texts.insert(tags.index(comparison.metric) + 1, " to ".join(ends))
        rows.append((label, comparison.counted(context, label), *texts))
    facts = [metrics.facts(tag) for tag in tags]
    names = [f"{fact.name} {fact.arrow}" for fact in facts]
    names.insert(tags.index(comparison.metric) + 1, "95 % t-interval")
    head = (comparison.by, "n", *names)
    caption = f"Mean ± standard error over seeds, {comparison.where}"
    return Sheet(caption, head, tuple(rows))


def difference_sheet(comparison: Comparison, context: str) -> Sheet | None:
    """The paired differences to the baseline, one row per label; None if there are none."""
    fact = comparison.facts
    rows = []
    for entry in _entries(comparison, context):
        mean, low, high = formats.difference(entry.mean, entry.low, entry.high)
        rows.append(
            (
                entry.label,
                f"{mean} ± {formats.number(entry.standard_error)}",
                f"{low} to {high}",
                formats.p_value(entry.holm_p),
                str(entry.n),
                judge(entry, fact),
            )
        )
    if not rows:
        return None
    head = (
        *(comparison.by, f"{fact.name} minus {comparison.baseline}", "95 % Holm interval"),
        *("Holm p", "paired seeds", "verdict"),
    )
    return Sheet(f"Paired differences to {comparison.baseline}", head, tuple(rows))


def resolution_sheet(comparison: Comparison, context: str) -> Sheet | None:
    """What these seeds can show, one row per label with two pairs; None if there is none.

    The simultaneous interval, the unadjusted p, with a margin the equivalence p, the smallest
    difference that would have been shown with 80 % power, and the seeds in all that would show one
    of the margin (without: of the size seen).
    """
    entries = [entry for entry in _entries(comparison, context) if entry.n >= 2]
    if not entries:
        return None
    margin = comparison.margin
    equivalence = () if margin is None else ("equivalence p",)
    aim = "the size seen" if margin is None else formats.margin(margin)
    rows = [
        (
            entry.label,
            formats.interval(entry.simultaneous),
            formats.p_value(entry.p),
            *(formats.p_value(entry.equivalence_p) for _ in equivalence),
            formats.number(entry.detectable),
            _needed(entry),
            entry.matched or formats.UNDEFINED,
        )
        for entry in entries
    ]
    head = (
        *(comparison.by, "95 % simultaneous interval", "p", *equivalence),
        *("smallest difference shown", f"seeds needed for {aim}", "equal fingerprints"),
    )
    caption = (
        f"What these seeds can show against {comparison.baseline}: the intervals hold all together "
        "with 95 %; shown and needed are at 80 % power, judged together, with the spread seen"
    )
    return Sheet(caption, head, tuple(rows))


def _needed(entry: Difference) -> str:
    if entry.seeds_needed is not None:
        return str(entry.seeds_needed)
    aim = entry.mean if entry.margin is None else entry.margin
    return "> 1,000" if entry.standard_error > 0 and aim != 0 else formats.UNDEFINED


def sensitivity_sheet(comparison: Comparison, context: str) -> Sheet | None:
    """The same differences under other assumptions, one row per label with two pairs, or None.

    The bootstrap has a column where a label has the 8 seeds that it takes.
    """
    entries = [entry for entry in _entries(comparison, context) if entry.n >= 2]
    if not entries:
        return None
    enough = not all(isnan(entry.sensitivity.bootstrap[0]) for entry in entries)
    most = max(entry.n for entry in entries)
    rows = []
    for entry in entries:
        found = entry.sensitivity
        chance = [formats.number(end) for end in found.probability_interval]
        rows.append(
            (
                entry.label,
                formats.p_value(found.sign_flip_p),
                formats.p_value(found.wilcoxon_p),
                formats.interval((found.hodges_lehmann,) * 2).partition(" ")[0],
                formats.interval(found.hodges_lehmann_interval),
                *((formats.interval(found.bootstrap),) if enough else ()),
                f"{formats.number(found.probability_of_improvement)} ({' to '.join(chance)})",
            )
        )
    head = (
        *(comparison.by, "sign-flip p", "Wilcoxon p", "Hodges-Lehmann", "95 % interval of it"),
        *(("95 % bootstrap interval",) if enough else ()),
        "probability of improvement",
    )
    least = formats.p_value(2.0 ** (1 - most))
    caption = (
        f"Differences to {comparison.baseline} under other assumptions: they stand beside the "
        "verdict and do not make it; no correction for the number of comparisons; with "
        f"{formats.seeds(most)} neither of the two p can be below {least}"
    )
    return Sheet(caption, head, tuple(rows))


def example_uncertainty_sheet(comparison: Comparison, context: str) -> Sheet | None:
    """What the test images bring to a single run's number, one row per label that measured it.

    Half the width of the 95 % interval from a bootstrap over examples, its mean over the runs,
    beside half the t-interval over seeds. The two are never pooled. None for any other metric.
    """
    ends = [f"{comparison.metric}_{end}" for end in ("low", "high")]
    runs = comparison.done[context]
    if not set(ends) <= set(runs.columns):
        return None
    halves = (runs[ends[1]] - runs[ends[0]]) / 2
    means = halves.groupby(runs["label"]).mean().dropna().to_dict()
    rows = []
    for label in comparison.ranked[context]:
        if label in means:
            seeds = comparison.cells[context, label, comparison.metric]
            over_seeds = (seeds["high"] - seeds["low"]) / 2
            rows.append((label, *(f"± {formats.number(x)}" for x in (means[label], over_seeds))))
    if not rows:
        return None
    head = (comparison.by, "95 % over test examples, one run", "95 % over seeds, their mean")
    caption = (
        f"Uncertainty of {comparison.facts.name} that the examples of the {comparison.where} bring "
        "(bootstrap over examples, half width, mean over runs), apart from that over seeds"
    )
    return Sheet(caption, head, tuple(rows))


def overfitting_sheet(comparison: Comparison, context: str) -> Sheet | None:
    """How far the losses of training and test samples lie apart, where the runs measured it."""
    names = ("mean_gap", "overlap_coefficient", "loss_threshold_auc")
    tags = [f"test/overfitting/{name}" for name in names] + ["test/overfitting_tail/mean_gap"]
    caption = "Over-fitting: losses of training and test samples, last epoch"
    return _plain_sheet(comparison, context, tags, caption)


def label_noise_sheet(comparison: Comparison, context: str) -> Sheet | None:
    """How well the samples flagged as mislabelled are those whose label is wrong."""
    names = ("precision", "recall", "f1", "average_precision")
    tags = [f"train/label_noise/{name}" for name in names]
    return _plain_sheet(comparison, context, tags, "Wrong training labels found by their losses")


def _plain_sheet(
    comparison: Comparison, context: str, tags: Sequence[str], caption: str
) -> Sheet | None:
    """Mean ± standard error over seeds of ``tags``, one row per label that measured any."""
    runs = comparison.done[context]
    known = [tag for tag in tags if tag in runs and runs[tag].notna().any()]
    rows = []
    for label in comparison.ranked[context]:
        of_label = runs[runs["label"] == label]
        numbers = [estimate(of_label[tag].dropna().to_numpy()) for tag in known]
        if any(number.n for number in numbers):
            texts = (formats.plus_minus(entry.mean, entry.standard_error) for entry in numbers)
            rows.append((label, *texts))
    if not rows:
        return None
    facts = [metrics.facts(tag) for tag in known]
    head = (comparison.by, *(f"{fact.name} {fact.arrow}" for fact in facts))
    return Sheet(f"{caption}, mean ± standard error over seeds", head, tuple(rows))


def _entries(comparison: Comparison, context: str) -> list[Difference]:
    """The differences of one context, in the order of its table."""
    return [entry for entry in comparison.differences if entry.context == context]


def posthoc_sheet(comparison: Comparison, context: str) -> Sheet | None:
    """The metric that decides, under every post-hoc method; None if no run has measured it.

    One row per label that was trained; mean ± standard error over the seeds.
    """
    split, _, metric = comparison.metric.partition("/")
    columns = {"as trained": comparison.metric}
    columns |= {words: posthoc.tag_of(split, method, metric) for method, words in WORDS.items()}
    runs = comparison.done[context]
    known = {
        words: tag for words, tag in columns.items() if tag in runs and runs[tag].notna().any()
    }
    if len(known) < 2:
        return None
    rows = []
    for label in comparison.ranked[context]:
        of_label = runs[runs["label"] == label]
        numbers = [estimate(of_label[tag].dropna().to_numpy()) for tag in known.values()]
        if any(number.n for number in numbers[1:]):
            cells = (formats.plus_minus(entry.mean, entry.standard_error) for entry in numbers)
            rows.append((label, *cells))
    fact = comparison.facts
    chosen_on = where_measured("val", comparison.records)
    caption = (
        f"{fact.name} {fact.arrow} with post-hoc methods, mean ± standard error over seeds, "
        f"{comparison.where}; fitted and chosen on: {chosen_on}"
    )
    return Sheet(caption[0].upper() + caption[1:], (comparison.by, *known), tuple(rows))


def gradient_sheet(comparison: Comparison, context: str) -> Sheet | None:
    """The learning rate hidden in each loss, means over seeds; None if no run has measured it.

    One row per label. The loss scale has a column where a run has one.
    """
    runs = comparison.done[context]
    known = [tag for tag in (metrics.GRADIENT, metrics.LOSS_SCALE) if tag in runs.columns]
    means = runs.groupby("label")[known].mean().dropna(axis="columns", how="all")
    if means.empty:
        return None
    words = {
        metrics.GRADIENT: "gradient relative to cross-entropy, first epoch",
        metrics.LOSS_SCALE: "loss scale",
    }
    values = means.T.to_dict("list")
    rows = [
        (label, *(formats.significant(value) for value in values[label]))
        for label in comparison.ranked[context]
    ]
    head = (comparison.by, *(words[tag] for tag in means.columns))
    caption = "Size of the loss's gradient, before the loss scale, mean over seeds"
    return Sheet(caption, head, tuple(rows))
