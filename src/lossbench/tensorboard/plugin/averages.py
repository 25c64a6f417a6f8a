"""Loss histograms as TensorBoard keeps them, back on the shared grid, and their mean over seeds.

A grid is (low, high, bins) in log10 of the loss in nats. A distribution over it has bins + 2
fractions: underflow, the bins between low and high, overflow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Grid = tuple[float, float, int]

GRID: Grid = (-8.0, 2.0, 100)
"""The grid of runs whose logs do not name theirs."""

LOG10_LOG_2 = math.log10(math.log(2))
"""A cross-entropy of log 2 gives the target half of the probability."""


def on_grid(buckets: Floats, grid: Grid) -> Floats:
    """Buckets (B, 3) of left, right, count, with empty ends left out, as fractions (bins + 2,).

    Raises: ValueError where the buckets are not bins of the grid or hold nothing.
    """
    low, high, bins = grid
    buckets = np.asarray(buckets, np.float64)
    if buckets.ndim != 2 or buckets.shape[1] != 3 or not buckets[:, 2].sum() > 0:
        raise ValueError("a histogram holds no counts")
    width = (high - low) / bins
    first = round((buckets[0, 0] - low) / width) + 1
    left = low + (first - 1 + np.arange(len(buckets))) * width
    off = max(np.abs(buckets[:, 0] - left).max(), np.abs(buckets[:, 1] - left - width).max())
    if first < 0 or first + len(buckets) > bins + 2 or not off < width / 100:
        raise ValueError(
            f"its buckets are not bins of the shared grid, {bins} from 1e{low:g} to 1e{high:g}"
        )
    fractions = np.zeros(bins + 2)
    fractions[first : first + len(buckets)] = buckets[:, 2] / buckets[:, 2].sum()
    return fractions


def describe(runs: Sequence[Floats], grid: Grid) -> dict[str, Any]:
    """The mean distribution of several runs, each with the same weight, and its numbers.

    Returns: ``runs``, their number; ``first`` and ``fractions``, the mean from its first filled
        bin to its last; ``median`` and ``percentile_95``, log10 of the loss, interpolated within
        a bin, with under- and overflow at the ends of the grid; ``above_log_2``, the fraction of
        samples with a loss above log 2, likewise interpolated.
    """
    low, high, bins = grid
    mean = np.mean(runs, axis=0)
    edges = np.linspace(low, high, bins + 1)
    below = np.minimum(np.cumsum(mean)[:-1], 1.0)
    median, percentile = np.interp([0.5, 0.95], below, edges)
    filled = np.flatnonzero(mean)
    return {
        "runs": len(runs),
        "first": int(filled[0]),
        "fractions": [round(value, 6) for value in mean[filled[0] : filled[-1] + 1].tolist()],
        "median": round(float(median), 4),
        "percentile_95": round(float(percentile), 4),
        "above_log_2": round(float(1 - np.interp(LOG10_LOG_2, edges, below)), 4),
    }
