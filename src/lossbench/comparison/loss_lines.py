"""The loss histograms of the figures: by split, class group, and whether the sample was right.

All are counts of the yardstick, the cross-entropy of the deployed logits, on the shared grid of
102 bins (below 1e-8, 100 bins of log10(loss), above 100), seeds added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lossbench.class_groups import rank_groups
from lossbench.comparison.columns import Columns, append, plain
from lossbench.records import Record

SPLITS = ("train", "val", "test")
REWEIGHTED = "reweighted"
EVERYONE = "all"
CORRECT, WRONG = "correct", "wrong"
ARRAYS = [
    f"histogram/{loss}/{split}"
    for loss in ("cross_entropy", "cross_entropy_of_errors")
    for split in SPLITS
]


class Line(NamedTuple):
    """What a histogram is of: a split, a class group or all, an outcome or all."""

    split: str
    group: str = EVERYONE
    outcome: str = EVERYONE


class LossLines:
    """The histograms of one arm, added up run by run, so that no run's arrays are kept."""

    def __init__(self) -> None:
        self._sums: dict[Line, np.ndarray] = {}
        self._runs: dict[Line, int] = {}

    def add(self, record: Record, arrays: dict[str, np.ndarray]) -> None:
        """Add one run; ``arrays`` are those of `ARRAYS` that it has.

        Class groups follow the training images of the run itself, so that they are right where
        the order of the classes is drawn anew for every seed.
        """
        counts = {
            Line(split, outcome=outcome): arrays[f"histogram/{name}/{split}"]
            for split in SPLITS
            for name, outcome in (("cross_entropy", EVERYONE), ("cross_entropy_of_errors", WRONG))
            if f"histogram/{name}/{split}" in arrays
        }
        if not counts:
            return
        groups = rank_groups(record.image_counts())
        for line, by_class in counts.items():
            self._count(line, by_class.sum(axis=0))
            for group, classes in groups.items():
                if classes.size:
                    self._count(line._replace(group=group), by_class[classes].sum(axis=0))
        if Line("train") in counts and _shifted(record):
            self._count(Line(REWEIGHTED), _reweighted(counts[Line("train")], record))

    def _count(self, line: Line, counts: np.ndarray) -> None:
        self._sums[line] = self._sums.get(line, 0) + counts
        self._runs[line] = self._runs.get(line, 0) + 1

    def write(self, columns: Columns, arm: int) -> None:
        """Append every line that has samples to ``columns``.

        ``samples`` is the size of the selection, ``values`` the fractions *of the selection* from
        bin ``first`` of 102 on. Right and wrong are told apart only where all runs can tell.
        """
        for line, counts in self._sums.items():
            if line.outcome == EVERYONE:
                _write(columns, arm, line, counts)
                wrong = line._replace(outcome=WRONG)
                if self._runs.get(wrong) == self._runs[line]:
                    correct = counts - self._sums[wrong]
                    _write(columns, arm, line._replace(outcome=CORRECT), correct)
                    _write(columns, arm, wrong, self._sums[wrong])


def _write(columns: Columns, arm: int, line: Line, counts: np.ndarray) -> None:
    filled = np.flatnonzero(counts)
    if not filled.size:
        return
    start, end = filled[0], filled[-1] + 1
    total = counts.sum()
    values = plain(counts[start:end] / total)
    append(columns, arm=arm, **line._asdict(), samples=round(float(total)))
    append(columns, first=int(start), values=values)


def _shifted(record: Record) -> bool:
    """Whether training has another class prior than the test."""
    train, test = (_prior(record, split) for split in ("train", "test"))
    return train.shape == test.shape and not np.allclose(train, test, atol=1e-6)


def _reweighted(by_class: np.ndarray, record: Record) -> np.ndarray:
    """``n sum_c prior_c h_c / n_c / sum_c prior_c`` over the classes trained on, n all samples."""
    sizes = by_class.sum(axis=1)
    weights = _prior(record, "test") * (sizes > 0) / np.maximum(sizes, 1)
    shares = weights @ by_class
    return sizes.sum() * shares / shares.sum() if shares.any() else shares


def _prior(record: Record, split: str) -> np.ndarray:
    stored: Sequence[float] = record.priors.get(split) or []
    return np.asarray(stored)
