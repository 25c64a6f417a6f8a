"""Precision and recall of each class against the rest, at fixed thresholds of its probability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lossbench.evaluation.probabilities import Floats, Integers, blocks

THRESHOLDS = np.linspace(0, 1, 101)
"""TensorBoard's tab of PR curves draws evenly spaced thresholds from 0 to 1 and no others."""


@dataclass(frozen=True)
class Decisions:
    """How often "it is class c", said wherever the probability of c is at least t, is right.

    Attributes:
        true_positives: ``(C, 101)``, samples of the class with ``p_c >= t``, for `THRESHOLDS`.
        false_positives: ``(C, 101)``, samples of other classes with ``p_c >= t``.
        support: ``(C,)``, samples of the class.
        samples: N.
    """

    true_positives: Integers
    false_positives: Integers
    support: Integers
    samples: int

    def precision(self) -> Floats:
        """``(C, 101)``: TP / (TP + FP); NaN where the class is never said."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    def recall(self) -> Floats:
        """``(C, 101)``: TP / support; NaN for an absent class."""
        return _ratio(self.true_positives, self.support[:, None])

    def table(self, classes: Integers) -> Floats:
        """``(6, 101)``: TP, FP, TN, FN, precision and recall of ``classes`` (K,), taken together.

        Counts are sums over the classes; precision and recall are means over those where they
        are defined (macro averages), and 0 where none is. For one class they are its own.
        """
        found = self.true_positives[classes].sum(axis=0)
        wrong = self.false_positives[classes].sum(axis=0)
        support = int(self.support[classes].sum())
        missed = support - found
        left = len(classes) * self.samples - support - wrong
        means = _mean(self.precision()[classes]), _mean(self.recall()[classes])
        return np.stack([found, wrong, left, missed, *means]).astype(np.float64)


def one_vs_rest_decisions(logits: NDArray[np.floating], targets: Integers) -> Decisions:
    """The decisions of all classes in one pass, in float64 and in blocks of rows.

    Only probabilities of at least 0.01, of which a sample has 100 at most, are looked at one by
    one; whatever lies below counts at threshold 0 alone.

    Args:
        logits: ``(N, C)``, finite; they are soft-maxed.
        targets: ``(N,)``, in [0, C).
    """
    samples, classes = logits.shape
    size = len(THRESHOLDS)
    right = np.zeros(classes * size, dtype=np.int64)
    said = np.zeros(classes * size, dtype=np.int64)
    for block in blocks(samples, classes):
        z = logits[block].astype(np.float64)
        z -= z.max(axis=1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(axis=1, keepdims=True)
        row, column = np.nonzero(z >= THRESHOLDS[1])
        # the highest threshold that the probability reaches
        reached = np.searchsorted(THRESHOLDS, z[row, column], side="right") - 1
        cell = column * size + reached
        said += np.bincount(cell, minlength=classes * size)
        right += np.bincount(cell[targets[block][row] == column], minlength=classes * size)
    support = np.bincount(targets, minlength=classes)
    true_positives, all_positives = _at_least(right, classes), _at_least(said, classes)
    true_positives[:, 0], all_positives[:, 0] = support, samples
    return Decisions(true_positives, all_positives - true_positives, support, samples)


def _at_least(reached: Integers, classes: int) -> Integers:
    """From how many reach just this threshold to how many reach it or a higher one."""
    return reached.reshape(classes, -1)[:, ::-1].cumsum(axis=1)[:, ::-1].copy()


def _ratio(part: Integers, whole: Integers) -> Floats:
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _mean(values: Floats) -> Floats:
    """Column means of what is defined; 0 where nothing is."""
    number = (~np.isnan(values)).sum(axis=0)
    return np.nan_to_num(values).sum(axis=0) / np.maximum(number, 1)
