"""One grid for every loss histogram, so that runs, splits and losses can be laid over each other.

The axis is log10 of the loss: a trained network's losses span many powers of ten, and a linear axis
puts nearly all of them into its first bin.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lossbench.evaluation.probabilities import Floats, Integers

LOG10_LOSS_EDGES = np.linspace(-8, 2, 101)
"""Edges of the 100 inner bins, ``(101,)``; every histogram has a bin below and one above them."""

NUM_BINS = len(LOG10_LOSS_EDGES) + 1


def loss_histogram(losses: ArrayLike, targets: Integers, num_classes: int) -> Integers:
    """Counts ``(C, 102)`` for each class: underflow, 100 bins of log10(loss), overflow.

    Bins are ``[low, high)``, the last inner one closed, as in ``np.histogram``. Losses of 0 and
    below (an objective may be negative) are underflow, +inf is overflow.

    Args:
        losses: ``(N,)``, the loss of each sample.
        targets: ``(N,)``, its class.
        num_classes: C.

    Raises:
        ValueError: if a loss is NaN; it belongs into no bin and must not vanish.
    """
    values = np.asarray(losses, dtype=np.float64)
    nans = int(np.isnan(values).sum())
    if nans:
        raise ValueError(f"{nans} of {values.size} losses are NaN; the loss or the model diverged")
    log10_loss = np.full(values.shape, -np.inf)
    np.log10(values, out=log10_loss, where=values > 0)
    index = np.searchsorted(LOG10_LOSS_EDGES, log10_loss, side="right")
    index[log10_loss == LOG10_LOSS_EDGES[-1]] = NUM_BINS - 2
    counts = np.bincount(
        targets.astype(np.int64) * NUM_BINS + index, minlength=num_classes * NUM_BINS
    )
    return counts.reshape(num_classes, NUM_BINS).astype(np.int64)


def fraction(histogram: Integers) -> Floats:
    """``(102,)``: the share of all samples in each bin, classes pooled as they occurred.

    Args:
        histogram: ``(C, 102)`` of `loss_histogram`. Without any sample the result is NaN.
    """
    pooled = histogram.sum(axis=0)
    total = pooled.sum()
    return pooled / total if total else np.full(pooled.shape, np.nan)


def reweight(histogram: Integers, class_prior: ArrayLike) -> Floats:
    """``sum_c prior_c h_c / n_c``: the shares ``(102,)`` if classes occurred as ``class_prior``.

    The prior is renormalised over the classes that have samples. Used to show the training losses
    under the evaluation prior, so that a shift of the prior is not read as over-fitting.

    Args:
        histogram: ``(C, 102)`` of `loss_histogram`.
        class_prior: ``(C,)``, 0 or more each. The result is NaN if no class with a prior above 0
            has samples.
    """
    per_class = histogram.sum(axis=1)
    prior = np.where(per_class > 0, np.asarray(class_prior, dtype=np.float64), 0.0)
    if not prior.sum() > 0:
        return np.full(histogram.shape[1], np.nan)
    weights = prior / prior.sum() / np.maximum(per_class, 1)
    return weights @ histogram
