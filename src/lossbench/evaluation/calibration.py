"""Do probabilities come true? Proper scores and calibration errors.

Bins of equal width are ``(k / B, (k + 1) / B]``, as in Guo et al. (ICML 2017): a confidence of
exactly 1 is in the last bin, of exactly 0 in the first. Calibration errors but for the classwise
one are of the top label: the confidence is the probability of the predicted class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lossbench.evaluation.probabilities import Floats, Integers, blocks

BINS = 15

GRID = 4096
"""Cells of [0, 1] for the smooth calibration error."""


@dataclass(frozen=True)
class Reduced:
    """What one pass over the logits of a split keeps of its probabilities; N numbers, not N x C.

    Attributes:
        predictions: ``(N,)``, the most probable class.
        confidence: ``(N,)``, its probability.
        losses: ``(N,)``, ``-log p_y`` in nats.
        log_normaliser: ``(N,)``, ``log sum_c exp(z_c)``.
        brier_score: see `brier_score`.
        classwise_gaps: ``(C, 15)``, see `classwise_gaps`.
    """

    predictions: Integers
    confidence: Floats
    losses: Floats
    log_normaliser: Floats
    brier_score: float
    classwise_gaps: Floats


def reduce(logits: NDArray[np.floating], targets: Integers, shift: Floats | None = None) -> Reduced:
    """One pass over ``logits`` ``(N, C)``, of any float type, plus ``shift`` ``(C,)`` if given.

    In float64 and in blocks of rows, so that no second N x C array is made.
    """
    samples, classes = logits.shape
    predictions = np.empty(samples, dtype=np.int64)
    confidence, losses, log_normaliser = np.empty((3, samples))
    brier, gaps = 0.0, np.zeros((classes, BINS))
    for block in blocks(samples, classes):
        z, y = logits[block].astype(np.float64), targets[block]
        if shift is not None:
            z += shift
        rows, predicted = np.arange(len(z)), z.argmax(axis=1)
        top = z[rows, predicted]
        z -= top[:, None]
        log_chosen = z[rows, y]
        probabilities = np.exp(z, out=z)
        total = probabilities.sum(axis=1)
        probabilities /= total[:, None]
        log_total = np.log(total)
        predictions[block], confidence[block] = predicted, 1 / total
        losses[block] = log_total - log_chosen
        log_normaliser[block] = top + log_total
        brier += brier_score(probabilities, y) * len(z)
        gaps += classwise_gaps(probabilities, y)
    return Reduced(predictions, confidence, losses, log_normaliser, brier / samples, gaps)


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
    return _table(_bin_index(confidence, bins), confidence, correct, bins)


def adaptive_bins(confidence: Floats, correct: NDArray[np.bool_], bins: int = BINS) -> Floats:
    """As `reliability_bins`, with bins of equal mass: edges at the quantiles ``k / bins``.

    The quantiles are interpolated between neighbours; equal confidences share a bin, so that the
    order of samples does not matter, and bins are as equal as ties allow.
    """
    edges = np.quantile(confidence, np.arange(1, bins) / bins)
    return _table(np.searchsorted(edges, confidence, side="left"), confidence, correct, bins)


def expected_calibration_error(reliability: Floats) -> float:
    """``sum_b n_b / N |accuracy_b - confidence_b|`` (Naeini et al., AAAI 2015).

    Of `adaptive_bins` it is the adaptive calibration error (Nguyen and O'Connor, EMNLP 2015).

    Args:
        reliability: ``(bins, 3)`` of `reliability_bins`. The result is NaN if all are empty.
    """
    count, confidence, correct = reliability[reliability[:, 0] > 0].T
    if not count.size:
        return float("nan")
    return float((count * np.abs(correct - confidence)).sum() / count.sum())


def classwise_gaps(probabilities: Floats, targets: Integers, bins: int = BINS) -> Floats:
    """``n_cb (frequency_cb - mean p_cb)`` of each class and bin, ``(C, bins)``.

    Every sample is in one bin for each class, by its probability of that class. Gaps of several
    blocks of rows add up.

    Args:
        probabilities: ``(N, C)``, rows that sum to 1.
        targets: ``(N,)``.
        bins: number of equally wide bins.
    """
    samples, classes = probabilities.shape
    happened = _bin_index(probabilities[np.arange(samples), targets], bins) + bins * targets
    # Fewer than ``bins`` probabilities of a row are above the first bin: only those are looked up.
    row, column = np.nonzero(probabilities > 1 / bins)
    above = probabilities[row, column]
    size = bins * classes
    gaps = np.bincount(happened, minlength=size).astype(np.float64)
    gaps -= np.bincount(_bin_index(above, bins) + bins * column, weights=above, minlength=size)
    gaps = gaps.reshape(classes, bins)
    gaps[:, 0] -= np.where(probabilities > 1 / bins, 0.0, probabilities).sum(axis=0)
    return gaps


def classwise_calibration_error(gaps: Floats, samples: int) -> float:
    """``mean_c sum_b n_cb / N |frequency_cb - mean p_cb|`` (Kull et al., NeurIPS 2019).

    The mean is over all C classes, present or not: a class that never occurs should get
    probability 0.

    Args:
        gaps: ``(C, bins)``, the sum of `classwise_gaps` over all samples.
        samples: N.
    """
    return float(np.abs(gaps).sum() / (samples * len(gaps)))


def kolmogorov_smirnov_calibration_error(confidence: Floats, correct: NDArray[np.bool_]) -> float:
    """``max_t |1/N sum_{i: confidence_i <= t} (correct_i - confidence_i)|``, without any bins.

    The largest gap between the cumulative accuracy and the cumulative confidence (Gupta et al.,
    ICLR 2021). Equal confidences are passed together, so that the order of samples does not matter.

    Args:
        confidence: ``(N,)`` in [0, 1], N of 1 or more.
        correct: ``(N,)``.
    """
    order = np.argsort(confidence)
    ranked = confidence[order]
    gap = np.cumsum(correct[order] - ranked)
    last_of_tie = np.append(np.diff(ranked) > 0, True)
    return float(np.abs(gap[last_of_tie]).max() / len(gap))


def smooth_calibration_error(confidence: Floats, correct: NDArray[np.bool_]) -> float:
    """smECE (Błasiok and Nakkiran, ICLR 2024): the calibration error of smoothed residuals.

    ``smECE_sigma = integral over t in [0, 1] of |1/N sum_i K_sigma(t, confidence_i) (correct_i -
    confidence_i)|`` with the Gaussian kernel reflected at 0 and 1. It does not rise with sigma; the
    result is at the one sigma where smECE_sigma = sigma, so there is no bandwidth to choose.

    Confidences are put into 4096 cells. There the reflected kernel is exact: it multiplies the k-th
    cosine coefficient by ``exp(-(pi k sigma)^2 / 2)``.

    Args:
        confidence: ``(N,)`` in [0, 1], N of 1 or more.
        correct: ``(N,)``.
    """
    from scipy.fft import dct, idct

    cell = np.minimum((confidence * GRID).astype(np.int64), GRID - 1)
    residuals = np.bincount(cell, weights=correct - confidence, minlength=GRID) / len(confidence)
    coefficients = dct(residuals)
    decay = -((np.pi * np.arange(GRID)) ** 2) / 2

    def smoothed(sigma: float) -> float:
        return float(np.abs(idct(coefficients * np.exp(decay * sigma**2))).sum())

    if smoothed(0.0) == 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(24):  # to 6e-8
        middle = (low + high) / 2
        low, high = (middle, high) if smoothed(middle) > middle else (low, middle)
    return high


def _table(index: Integers, confidence: Floats, correct: NDArray[np.bool_], bins: int) -> Floats:
    """``(bins, 3)``: count, mean confidence and accuracy of the samples of each ``index``."""
    count = np.bincount(index, minlength=bins).astype(np.float64)
    table = np.full((bins, 3), np.nan)
    table[:, 0] = count
    for column, values in ((1, confidence), (2, correct)):
        total = np.bincount(index, weights=values, minlength=bins)
        np.divide(total, count, out=table[:, column], where=count > 0)
    return table


def _bin_index(probabilities: Floats, bins: int) -> Integers:
    """``k`` with ``k / bins < p <= (k + 1) / bins``; 0 for ``p = 0``."""
    upper_edges = np.arange(1, bins) / bins
    return np.searchsorted(upper_edges, probabilities, side="left")
