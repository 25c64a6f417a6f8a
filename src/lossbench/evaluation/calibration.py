"""Do probabilities come true? Proper scores and binned calibration errors.

Bins are ``(k / B, (k + 1) / B]``, as in Guo et al. (ICML 2017): a confidence of exactly 1 is in the
last bin, of exactly 0 in the first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lossbench.evaluation.probabilities import Floats, Integers

BINS = 15


def brier_score(probabilities: Floats, targets: Integers) -> float:
    """Mean of ``sum_c (p_c - 1[y = c])^2``, from 0 to 2 (Brier, 1950); ``(N, C)``, ``(N,)``."""
    # The square expanded, so that no one-hot array is needed: sum p^2 - 2 p_y + 1.
    chosen = probabilities[np.arange(len(targets)), targets]
    squares = np.einsum("nc,nc->n", probabilities, probabilities)
    return float((squares - 2 * chosen + 1).mean())


def reliability_bins(confidence: Floats, correct: NDArray[np.bool_], bins: int = BINS) -> Floats:
    """``(bins, 3)``: count, mean confidence and accuracy of each bin; means NaN where empty.

    Args:
        confidence: ``(N,)`` in [0, 1], the probability of the predicted class.
        correct: ``(N,)``, whether the prediction was right.
        bins: number of equally wide bins.
    """
    index = _bin_index(confidence, bins)
    count = np.bincount(index, minlength=bins).astype(np.float64)
    table = np.full((bins, 3), np.nan)
    table[:, 0] = count
    for column, values in ((1, confidence), (2, correct)):
        total = np.bincount(index, weights=values, minlength=bins)
        np.divide(total, count, out=table[:, column], where=count > 0)
    return table


def expected_calibration_error(reliability: Floats) -> float:
    """``sum_b n_b / N |accuracy_b - confidence_b|`` (Naeini et al., AAAI 2015), top label.

    Args:
        reliability: ``(bins, 3)`` of `reliability_bins`. The result is NaN if all are empty.
    """
    count, confidence, correct = reliability[reliability[:, 0] > 0].T
    if not count.size:
        return float("nan")
    return float((count * np.abs(correct - confidence)).sum() / count.sum())


def classwise_calibration_error(
    probabilities: Floats, targets: Integers, bins: int = BINS
) -> float:
    """``mean_c sum_b n_cb / N |frequency_cb - mean p_cb|`` (Kull et al., NeurIPS 2019).

    Every sample is in one bin for each class, by its probability of that class; the mean is over
    all C classes, present or not (a class that never occurs should get probability 0).

    Args:
        probabilities: ``(N, C)``.
        targets: ``(N,)``.
        bins: number of equally wide bins.
    """
    samples, classes = probabilities.shape
    index = _bin_index(probabilities, bins)
    index += bins * np.arange(classes)
    size = bins * classes
    predicted = np.bincount(index.ravel(), weights=probabilities.ravel(), minlength=size)
    happened = np.bincount(index[np.arange(samples), targets], minlength=size)
    # n_cb / N |frequency - mean p| is |happened - predicted| / N: empty bins need no special case.
    return float(np.abs(happened - predicted).sum() / (samples * classes))


def _bin_index(probabilities: Floats, bins: int) -> Integers:
    """``k`` with ``k / bins < p <= (k + 1) / bins``; 0 for ``p = 0``."""
    upper_edges = np.arange(1, bins) / bins
    return np.searchsorted(upper_edges, probabilities, side="left")
