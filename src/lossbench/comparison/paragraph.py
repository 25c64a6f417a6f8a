"""The answer in words: which loss to use, how sure that is, and what it costs.

Everything follows from the grades (`verdict.judge`). A label is recommended only if it is better
than the baseline and not shown to be better by less than the margin; the best mean alone is not
enough. The labels were tested against the baseline, not against each other, and the text says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lossbench.comparison import formats
from lossbench.comparison.cautions import (
    Graded,
    error_rate,
    example_uncertainty,
    incomplete,
    interim,
    seal,
    two_pairs,
    without_training,
)
from lossbench.comparison.pairing import Difference
from lossbench.comparison.posthoc import ORACLE
from lossbench.comparison.statistics import ALPHA
from lossbench.comparison.statistics.power import seeds_needed
from lossbench.comparison.tradeoffs import trade_offs
from lossbench.comparison.tuning_effect import tuning_remarks
from lossbench.comparison.verdict import (
    BETTER,
    CANNOT_TELL,
    GRADES,
    NO_RELEVANT_DIFFERENCE,
    NOT_COMPARED,
    NOT_JUDGED,
    TESTED,
    WORSE,
    beyond_margin,
    equivalent,
    judge,
    seeds_missing,
)

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison


def paragraph(comparison: Comparison, context: str) -> str:
    """The answer for one context, as one paragraph of plain text."""
    return formats.one_line(*remarks(comparison, context))


def remarks(comparison: Comparison, context: str) -> list[str]:
    """The parts of `paragraph`: the answer, then how sure it is, what is missing, its price."""
    if context in comparison.notes:
        return [f"Nothing is judged here: {comparison.notes[context]}."]
    graded = _graded(comparison, context)
    chosen = recommended(graded)
    sentences = [
        _answer(comparison, graded, chosen),
        _oracle(graded, chosen),
        _higher(comparison, graded, chosen),
        *_the_others(comparison, graded, chosen),
        interim(comparison) or error_rate(graded),
        two_pairs(graded),
        example_uncertainty(comparison, context),
        incomplete(comparison, context, graded),
        without_training(comparison, context, chosen),
        *tuning_remarks(comparison, context),
        seal(comparison),
    ]
    subject = chosen or best_in_mean(comparison, graded)
    if subject and subject not in graded[NOT_JUDGED]:
        sentences.append(trade_offs(comparison, context, subject.label))
    return list(filter(None, sentences))


def recommended(graded: Graded) -> Difference | None:
    """The label to use: the best of those better and not shown to be so by less than the margin.

    One that was fitted on an oracle's validation set comes after all that were not.
    """
    worth = [entry for entry in graded[BETTER] if not equivalent(entry)]
    return min(worth, key=lambda entry: _oracle_assisted(entry.label), default=None)


def _graded(comparison: Comparison, context: str) -> Graded:
    graded: Graded = {grade: [] for grade in GRADES}
    for entry in comparison.differences:  # in table order: the best first
        if entry.context == context:
            graded[judge(entry, comparison.facts)].append(entry)
    return graded


def _answer(comparison: Comparison, graded: Graded, chosen: Difference | None) -> str:
    """Which one to use, by how much, how surely."""
    baseline = comparison.baseline
    measured = f"{comparison.facts.name} ({comparison.where})"
    if chosen:
        names = [chosen.label, *_same(graded, chosen)]
        alike = " (their results are the same on every seed)" if len(names) > 1 else ""
        return (
            f"Use {formats.listing(names, 'or')}{alike}: better than {baseline} in {measured}, "
            f"{_size(comparison, chosen)}{_margin(chosen)}."
        )
    if graded[BETTER]:
        yet = "yet " * (bool(graded[CANNOT_TELL]) or _partly_open(comparison, graded))
        return (
            f"There is no reason {yet}that matters to replace {baseline}: "
            f"{formats.some([entry.label for entry in graded[BETTER]])} "
            f"{'is' if len(graded[BETTER]) == 1 else 'are'} better in {measured}, but by less than "
            f"the margin of {formats.margin(comparison.margin)} "
            f"({_sizes(comparison, graded[BETTER])})."
        )
    tested = [entry for grade in TESTED for entry in graded[grade]]
    if tested:
        return _no_reason(comparison, graded, tested, measured)
    best = best_in_mean(comparison, graded)
    if best is None:
        return f"Nothing can be said in {measured}: no run is paired with one of {baseline}."
    return (
        f"One seed cannot say which loss to use: {best.label} has the largest lead over {baseline} "
        f"in {measured}, {_signed(best)}, described and not judged; two seeds are the least that "
        "show a spread."
        if _lead(comparison, best) > 0
        else f"One seed cannot say which loss to use: {baseline} itself is the best in {measured}, "
        "described and not judged; two seeds are the least that show a spread."
    )


def _no_reason(
    comparison: Comparison, graded: Graded, tested: Sequence[Difference], measured: str
) -> str:
    """No label is better than the baseline: what that does and does not mean."""
    baseline = comparison.baseline
    one = len(tested) == 1
    others = f"{tested[0].label} is not" if one else f"none of the {len(tested)} others is"
    start = f"with {_seeds(tested)}, {others} shown to be better than {baseline} in {measured}"
    if not graded[CANNOT_TELL]:
        if _partly_open(comparison, graded):
            return f"Keep {baseline} for now: {start}, but a part of the study is not judged."
        return f"Keep {baseline}: {start}, and nothing that matters is left open."
    best = best_in_mean(comparison, graded)
    answer = f"{start[0].upper()}{start[1:]}, so there is no reason yet to replace it."
    if best is None or best not in graded[CANNOT_TELL] or _lead(comparison, best) <= 0:
        return answer
    return (
        f"{answer} Nor is it shown to be as good: {best.label} has the best mean, "
        f"{_size(comparison, best)}, and cannot be told from it; {_open([best])}"
        f"{_at_the_size_seen(comparison, best)}."
    )


def _partly_open(comparison: Comparison, graded: Graded) -> bool:
    """Whether runs are still to come, or a label could not be judged for want of runs or pairs."""
    contexts = {entry.context for entries in graded.values() for entry in entries}
    unfinished = any(
        gap.context in contexts and gap.label not in comparison.ranked[gap.context]
        for gap in comparison.gaps
    )
    return bool(comparison.pending or graded[NOT_JUDGED] or graded[NOT_COMPARED] or unfinished)


def best_in_mean(comparison: Comparison, graded: Graded) -> Difference | None:
    """The label with the best paired mean, whatever its grade; None if there is no pair."""
    paired = [entry for grade in GRADES for entry in graded[grade] if entry.n]
    return max(paired, key=lambda entry: _lead(comparison, entry), default=None)


def _oracle(graded: Graded, chosen: Difference | None) -> str:
    """What an oracle's validation set has to do with the best labels; "" if nothing."""
    helped = [entry for entry in graded[BETTER] if _oracle_assisted(entry.label)]
    if chosen is None or not helped:
        return ""
    what = "fitted on a balanced validation set, made of images that the imbalance threw away"
    if helped[0] is chosen:
        return f"That is with an oracle's help: it is {what}."
    if abs(helped[0].mean) > abs(chosen.mean):
        best = f"{helped[0].label} ({_signed(helped[0])})"
        return f"{best} goes further with an oracle's help: it is {what}."
    return ""


def _higher(comparison: Comparison, graded: Graded, chosen: Difference | None) -> str:
    """Which labels have a higher mean than the one recommended, with too little behind it."""
    if chosen is None:
        return ""
    lead = _lead(comparison, chosen)
    higher = [entry for entry in graded[CANNOT_TELL] if _lead(comparison, entry) > lead]
    if not higher:
        return ""
    return (
        f"More seeds may change that: {_names(higher)} {'has' if len(higher) == 1 else 'have'} a "
        f"better mean, but cannot be told from {comparison.baseline} yet."
    )


def _the_others(comparison: Comparison, graded: Graded, chosen: Difference | None) -> list[str]:
    """One sentence for each grade that has labels which were not named yet."""
    named = {chosen.label, *_same(graded, chosen)} if chosen else set()
    told = None if graded[BETTER] else best_in_mean(comparison, graded)  # in the answer
    if told and _lead(comparison, told) <= 0:
        told = None
    also = [entry for entry in graded[BETTER] if entry.label not in named and chosen]
    sentences = []
    if also:
        sentences.append(
            f"Better than {comparison.baseline} too: {_sizes(comparison, also)}; all were "
            "judged against it, not against each other."
        )
    if same := graded[NO_RELEVANT_DIFFERENCE]:
        sentences.append(
            f"No difference larger than the margin of {formats.margin(comparison.margin)}: "
            f"{_sizes(comparison, same)}."
        )
    if open_ := [entry for entry in graded[CANNOT_TELL] if entry is not told]:
        names = formats.some([f"{entry.label} {_open_size(comparison, entry)}" for entry in open_])
        either = " either" if told and told in graded[CANNOT_TELL] else ""
        sentences.append(f"Cannot tell{either}, with {_seeds(open_)}: {names}; {_open(open_)}.")
    if worse := graded[WORSE]:
        sentences.append(f"Worse: {_sizes(comparison, worse)}.")
    tested = any(graded[grade] for grade in TESTED)
    if tested and (alone := graded[NOT_JUDGED]):
        sentences.append(f"Not judged, with one paired seed: {_names(alone)}.")
    if gone := graded[NOT_COMPARED]:
        sentences.append(f"Not compared: {_names(gone)}; the reason stands below.")
    return sentences


def _open(entries: Sequence[Difference]) -> str:
    """What cannot be told could still be, and how many more seeds it would take.

    Without a margin the seeds are given for a single difference only: the sizes seen differ.
    """
    margin = entries[0].margin
    bounds = [bound for entry in entries for bound in entry.simultaneous]
    if len(entries) == 1:
        _, low, high = formats.difference(entries[0].mean, *bounds)
        still = f"it could still be anything from {low} to {high} (95 % simultaneous interval)"
        ruled = f"below {low} and above {high} are ruled out (95 % simultaneous interval)"
    else:
        widest = formats.number(max(map(abs, bounds)))
        still = f"a difference could still be as large as {widest} (95 % simultaneous intervals)"
        ruled = f"beyond {widest} are ruled out (95 % simultaneous intervals)"
    said = still if margin is not None else f"only differences {ruled}"
    spread = [entry for entry in entries if entry.standard_error > 0]
    if not spread or (margin is None and (len(entries) > 1 or entries[0].mean == 0)):
        return said
    aim = "the size seen" if margin is None else formats.margin(margin)
    more = [seeds_missing(entry) for entry in spread]
    if all(count == 0 for count in more):
        return f"{said}, though a difference of {aim} had an 80 % chance to be shown"
    needed = formats.more_seeds(more)
    return (
        f"{said}, and {needed[0].lower()}{needed[1:]} would be needed to show a difference "
        f"of {aim} "
        "(80 % power)"
    )


def _at_the_size_seen(comparison: Comparison, entry: Difference) -> str:
    """How many more seeds would show a difference of the size seen, where that is over the margin.

    Every label of the context but the baseline shares alpha, whether it could be tested or not.
    """
    if entry.margin is None or not abs(entry.mean) > entry.margin or not entry.standard_error > 0:
        return ""
    spread = entry.standard_error * entry.n**0.5
    runs = comparison.runs
    family = runs.loc[runs["context"] == entry.context, "label"].nunique() - 1
    needed = seeds_needed(entry.mean, spread, ALPHA / family)
    if needed is None or needed <= entry.n:
        return ""
    return f"; {formats.more_seeds([needed - entry.n]).lower()} if it is as large as seen"


def _margin(entry: Difference) -> str:
    if entry.margin is None:
        return ""
    margin = formats.margin(entry.margin)
    if beyond_margin(entry):
        return f", which is more than the margin of {margin}"
    return f"; whether it is more than the margin of {margin} is open"


def _same(graded: Graded, chosen: Difference | None) -> list[str]:
    """The labels whose results cannot be told from those of ``chosen`` on any seed."""
    return [
        entry.label
        for entry in graded[BETTER]
        if chosen
        and entry is not chosen
        and entry.seeds == chosen.seeds
        and np.allclose(entry.values, chosen.values, rtol=0, atol=1e-9)
    ]


def _size(comparison: Comparison, entry: Difference) -> str:
    mean, low, high = formats.difference(entry.mean, entry.low, entry.high)
    evidence = f"Holm p {formats.p_value(entry.holm_p)}, {formats.seeds(entry.n)}"
    evidence += _no_spread(entry)
    lost = _lost(comparison, entry)
    return f"{mean} (95 % Holm interval {low} to {high}; {evidence}{lost})"


def _sizes(comparison: Comparison, entries: Sequence[Difference]) -> str:
    """Label, mean and interval of the first five, and what is missing of them.

    The interval is Holm's, or that of the equivalence test where this decided.
    """
    texts = []
    for entry in entries:
        decided = judge(entry, comparison.facts) == NO_RELEVANT_DIFFERENCE
        bounds = entry.equivalence_interval if decided else (entry.low, entry.high)
        mean, low, high = formats.difference(entry.mean, *bounds)
        lost = _no_spread(entry) + _lost(comparison, entry)
        texts.append(f"{entry.label} {mean} ({low} to {high}{lost})")
    return formats.some(texts, 5)


def _no_spread(entry: Difference) -> str:
    """That equal differences say less than their p; "" if there is a spread."""
    return "; no spread was seen, so p says little" * (entry.standard_error == 0)


def _open_size(comparison: Comparison, entry: Difference) -> str:
    lost = _lost(comparison, entry)
    return f"{_signed(entry)} ({lost[2:]})" if lost else _signed(entry)


def _lost(comparison: Comparison, entry: Difference) -> str:
    """Such as ``; 3 of 5, 2 failed``; "" if no run of the label failed."""
    counted = comparison.counted(entry.context, entry.label)
    return f"; {counted}" if " failed" in counted else ""


def _names(entries: Sequence[Difference]) -> str:
    return formats.some([entry.label for entry in entries])


def _signed(entry: Difference) -> str:
    return formats.difference(entry.mean, entry.low, entry.high)[0]


def _seeds(entries: Sequence[Difference]) -> str:
    counts = sorted({entry.n for entry in entries})
    least, most = counts[0], counts[-1]
    return formats.seeds(most) if least == most else f"{least} to {formats.seeds(most)}"


def _lead(comparison: Comparison, entry: Difference) -> float:
    """The mean paired difference, positive where it is better."""
    return entry.mean if comparison.facts.higher_is_better else -entry.mean


def _oracle_assisted(label: str) -> bool:
    return ORACLE.strip(" ()").partition(" ")[0] in label
