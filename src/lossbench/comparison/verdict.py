"""One sentence per difference: better, worse, or not distinguishable with these seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lossbench.comparison import formats
from lossbench.comparison.metrics import SPLITS, Metric
from lossbench.comparison.pairing import Difference
from lossbench.comparison.statistics import ALPHA

BETTER, WORSE = "better", "worse"
NOT_DISTINGUISHABLE, NOT_JUDGED, NOT_COMPARED = "not distinguishable", "not judged", "not compared"


@dataclass(frozen=True)
class Verdict:
    """The decision about one label in one context: its ``word`` and the whole ``sentence``."""

    context: str
    label: str
    word: str
    sentence: str


def judge(difference: Difference, metric: Metric) -> str:
    """The word: better or worse if Holm's p is below alpha, by the direction of the metric."""
    if difference.n == 0:
        return NOT_COMPARED
    if math.isnan(difference.holm_p):
        return NOT_JUDGED
    if difference.holm_p >= ALPHA:
        return NOT_DISTINGUISHABLE
    return BETTER if (difference.mean > 0) == metric.higher_is_better else WORSE


def verdict(difference: Difference, baseline: str, metric: Metric, where: str) -> Verdict:
    """The verdict on ``difference``; ``where`` is the split in words, such as ``test set``."""
    word = judge(difference, metric)
    label, seeds = difference.label, formats.seeds(difference.n)
    size, low, high = formats.difference(difference.mean, difference.low, difference.high)
    value = f"{metric.name} {size}" if where == SPLITS["test"] else f"{where}, {metric.name} {size}"
    evidence = f"95 % Holm interval {low} to {high}, Holm p {formats.p_value(difference.holm_p)}"
    sentence = {
        BETTER: f"{label} is better than {baseline}: {value} ({evidence}, n = {seeds}).",
        WORSE: f"{label} is worse than {baseline}: {value} ({evidence}, n = {seeds}).",
        NOT_DISTINGUISHABLE: f"{label} is not distinguishable from {baseline} with these {seeds}: "
        f"{value} ({evidence}).",
        NOT_JUDGED: f"{label} is not judged against {baseline}: {value} (n = {seeds}; "
        "two are the least that show a spread).",
        NOT_COMPARED: f"{label} is not compared with {baseline}: no paired seed.",
    }[word]
    return Verdict(difference.context, label, word, sentence + _caution(difference))


def _caution(difference: Difference) -> str:
    """What a reader must know beside the numbers; "" if nothing."""
    notes = []
    if difference.n >= 2 and difference.standard_error == 0:
        notes.append(
            f" The difference is the same on all {difference.n} seeds: "
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
    for word in (BETTER, WORSE, NOT_DISTINGUISHABLE, NOT_JUDGED, NOT_COMPARED):
        labels = [verdict.label for verdict in verdicts if verdict.word == word]
        names = list(dict.fromkeys(labels))
        if contexts > 1 and labels:
            parts.append(f"{word} {len(labels)} times ({formats.listing(names)})")
        elif labels:
            parts.append(f"{formats.listing(names)} {'is' if len(names) == 1 else 'are'} {word}")
    cells = f", in {contexts} cells" if contexts > 1 else ""
    return f"{start}{cells}: {'; '.join(parts)}."
