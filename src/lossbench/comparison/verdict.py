"""One grade and one sentence per difference: what these seeds show, and what they do not.

``better`` and ``worse`` are Holm's p below 0.05. ``no relevant difference`` needs a margin that the
study declares and the proof that the difference is smaller (two one-sided tests, Schuirmann 1987,
Holm over the labels of the cell). All else is ``cannot tell``, which is never called equality.
Sizes are claimed with the simultaneous interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lossbench.comparison import formats
from lossbench.comparison.metrics import SPLITS, Metric
from lossbench.comparison.pairing import Difference
from lossbench.comparison.statistics import ALPHA

BETTER, WORSE = "better", "worse"
NO_RELEVANT_DIFFERENCE, CANNOT_TELL = "no relevant difference", "cannot tell"
NOT_JUDGED, NOT_COMPARED = "not judged", "not compared"
TESTED = (BETTER, WORSE, NO_RELEVANT_DIFFERENCE, CANNOT_TELL)
"""The grades of what was tested, in two paired seeds or more."""
GRADES = (*TESTED, NOT_JUDGED, NOT_COMPARED)


@dataclass(frozen=True)
class Verdict:
    """The decision about one label in one context: its ``word`` and the whole ``sentence``."""

    context: str
    label: str
    word: str
    sentence: str


def judge(difference: Difference, metric: Metric) -> str:
    """The grade, one of `GRADES`; better and worse by the direction of the metric."""
    if difference.n == 0:
        return NOT_COMPARED
    if math.isnan(difference.holm_p):
        return NOT_JUDGED
    if difference.holm_p < ALPHA:
        return BETTER if (difference.mean > 0) == metric.higher_is_better else WORSE
    return NO_RELEVANT_DIFFERENCE if equivalent(difference) else CANNOT_TELL


def equivalent(difference: Difference) -> bool:
    """Whether the difference is shown to be smaller than the margin; False without a margin."""
    return difference.equivalence_p < ALPHA  # NaN is not


def beyond_margin(difference: Difference) -> bool:
    """Whether the whole simultaneous interval lies on one side of the margin, away from 0."""
    low, high = difference.simultaneous
    return difference.margin is not None and (low > difference.margin or high < -difference.margin)


def verdict(
    difference: Difference, baseline: str, metric: Metric, where: str, lost: str = ""
) -> Verdict:
    """The verdict on ``difference``; ``where`` is the split in words, such as ``test set``.

    ``lost`` names the runs that could not be used, "" if all could.
    """
    word = judge(difference, metric)
    label, seeds = difference.label, formats.seeds(difference.n)
    size, low, high = formats.difference(difference.mean, difference.low, difference.high)
    value = f"{metric.name} {size}" if where == SPLITS["test"] else f"{where}, {metric.name} {size}"
    evidence = f"95 % Holm interval {low} to {high}, Holm p {formats.p_value(difference.holm_p)}"
    sentence = {
        BETTER: f"{label} is better than {baseline}: {value} ({evidence}, n = {seeds})."
        + _against_margin(difference),
        WORSE: f"{label} is worse than {baseline}: {value} ({evidence}, n = {seeds})."
        + _against_margin(difference),
        NO_RELEVANT_DIFFERENCE: f"{label} shows no relevant difference from {baseline}: "
        f"{value}, and with these {seeds} it is within the margin of "
        f"{formats.margin(difference.margin)} either way (equivalence p "
        f"{formats.p_value(difference.equivalence_p)}, interval "
        f"{formats.interval(difference.equivalence_interval)}; {evidence}).",
        CANNOT_TELL: f"{label} cannot be told from {baseline} with these {seeds}: "
        f"{value} ({evidence}).{_still_possible(difference)}{_more_seeds(difference)}",
        NOT_JUDGED: f"{label} is not judged against {baseline}: {value} (n = {seeds}; "
        "two are the least that show a spread).",
        NOT_COMPARED: f"{label} is not compared with {baseline}: no paired seed"
        f"{f' ({lost})' * bool(lost)}.",
    }[word]
    left_out = f"Left out: {lost}." if lost and difference.n else ""
    told = formats.one_line(sentence, left_out, _caution(difference))
    return Verdict(difference.context, label, word, told)


def _against_margin(difference: Difference) -> str:
    """How a difference that is shown stands to the margin; "" without one."""
    if difference.margin is None:
        return ""
    margin = formats.margin(difference.margin)
    if equivalent(difference):
        return f" It is smaller than the margin of {margin}."
    _, low, high = formats.difference(difference.mean, *difference.simultaneous)
    interval = f"(95 % simultaneous interval {low} to {high})"
    if beyond_margin(difference):
        return f" It is larger than the margin of {margin} {interval}."
    return f" Whether it is larger than the margin of {margin} is open {interval}."


def _still_possible(difference: Difference) -> str:
    _, low, high = formats.difference(difference.mean, *difference.simultaneous)
    if difference.margin is None:
        return (
            f" A difference below {low} or above {high} is ruled out "
            "(95 % simultaneous interval), a smaller one is not."
        )
    return f" It could still be anything from {low} to {high} (95 % simultaneous interval)."


def _more_seeds(difference: Difference) -> str:
    """How many more seeds would show a difference; "" where no spread or no size was seen."""
    if not difference.standard_error > 0 or (difference.margin is None and difference.mean == 0):
        return ""
    if difference.margin is None:
        aim = "a difference of the size seen"
    else:
        aim = f"a difference of {formats.margin(difference.margin)}"
    more = seeds_missing(difference)
    if more == 0:
        return f" These seeds had an 80 % chance to show {aim}; it is neither shown nor excluded."
    return f" {formats.more_seeds([more])} would be needed to show {aim} (80 % power)."


def seeds_missing(difference: Difference) -> int | None:
    """How many more seeds `Difference.seeds_needed` asks for, at least 0; None: over 1000."""
    needed = difference.seeds_needed
    return None if needed is None else max(0, needed - difference.n)


def _caution(difference: Difference) -> str:
    """What a reader must know beside the numbers; "" if nothing."""
    notes = []
    if difference.n >= 2 and difference.standard_error == 0:
        alike = "both seeds" if difference.n == 2 else f"all {difference.n} seeds"
        notes.append(
            f" The difference is the same on {alike}: "
            "no spread was seen, so the interval and p say less than they seem to."
        )
    for reason, seeds in difference.refused.items():
        names = ", ".join(map(str, seeds))
        notes.append(f" Not paired: seed{'s' * (len(seeds) != 1)} {names} ({reason}).")
    return "".join(notes)


def headline(verdicts: Sequence[Verdict], baseline: str, metric: Metric, where: str) -> str:
    """The whole study in one sentence: which are better, worse, or undecided; ``where`` in words.

    With several contexts, how many of them are which.
    """
    start = f"Compared with {baseline} on {metric.name}, {where}"
    if not verdicts:
        return f"{start}: there is nothing to judge; the notes say why."
    contexts = len({verdict.context for verdict in verdicts})
    parts = []
    for word in GRADES:
        labels = [verdict.label for verdict in verdicts if verdict.word == word]
        names = list(dict.fromkeys(labels))
        if contexts > 1 and labels:
            parts.append(f"{word} {len(labels)} times ({formats.some(names)})")
        elif labels:
            parts.append(_said(word, names))
    cells = f", in {contexts} cells" if contexts > 1 else ""
    return formats.one_line(f"{start}{cells}: {'; '.join(parts)}.")


def _said(word: str, names: list[str]) -> str:
    """Such as ``focal is better``, ``cannot tell for focal and mae``."""
    some, one = formats.some(names), len(names) == 1
    if word == CANNOT_TELL:
        return f"cannot tell for {some}"
    if word == NO_RELEVANT_DIFFERENCE:
        return f"{some} {'shows' if one else 'show'} {word}"
    return f"{some} {'is' if one else 'are'} {word}"
