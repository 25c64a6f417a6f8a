"""Statistics over several cells: pure functions on arrays, in which a higher score is better.

The cells are the blocks. ``scores`` (N cells, k labels) are means over seeds: the seeds of one cell
repeat one block, and counting them as blocks would make N look larger than it is. Only the
aggregates look at single runs, and they draw anew seeds, never cells: what they say, they say of
these cells.

Average ranks, Friedman's test and the critical difference follow Demsar (2006, JMLR 7:1-30), the
interquartile mean, profiles and the probability of improvement Agarwal et al. (2021, NeurIPS), and
the Bayesian test Benavoli et al. (2017, JMLR 18(77):1-36).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from lossbench.comparison.statistics.paired import ALPHA, holm
from lossbench.comparison.statistics.sensitivity import wilcoxon_test
from lossbench.seeding import generator

REPETITIONS = 2_000
"""Resamples of a bootstrap, as many as Agarwal et al. take for their profiles."""

POSTERIOR_DRAWS = 20_000
"""Draws of the Bayesian test: the Monte Carlo error of a probability is at most 0.0035."""

PRIOR_STRENGTH = 0.5
"""What the pseudo-observation 0 weighs in the Bayesian test, where every cell weighs 1."""

LEAST_CELLS = 10
"""With fewer cells the critical difference spans most of the ranks that there are."""

BLOCK = 2**20
"""Numbers that a bootstrap holds at once, in each of its few arrays."""


class Interval(NamedTuple):
    """A value and the bounds of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Friedman:
    """Friedman's ``chi_square``, the Iman-Davenport ``f``, its degrees of freedom and its p."""

    chi_square: float
    f: float
    degrees: tuple[int, int]
    p: float


@dataclass(frozen=True)
class SignedRank:
    """One label against the baseline: mean difference, cells that are better and worse, p."""

    mean: float
    better: int
    worse: int
    p: float
    holm_p: float


def rounded(values: ArrayLike, scale: float) -> np.ndarray:
    """``values`` rounded to 1e-12 of the power of ten above ``scale``.

    Equal scores are equal ranks, and a sum taken in another order must not part them.
    """
    values = np.asarray(values, dtype=np.float64)
    if not 0 < scale < math.inf:
        return values
    return np.round(values, 12 - math.ceil(math.log10(scale)))


def differences(scores: ArrayLike, baseline: int) -> np.ndarray:
    """``scores`` (N, k) minus the column ``baseline``: (N, k), rounded as `rounded` does."""
    scores = np.asarray(scores, dtype=np.float64)
    return rounded(scores - scores[:, [baseline]], np.abs(scores).max())


def ranks(scores: ArrayLike) -> np.ndarray:
    """The rank of every label in its cell: (N, k), 1 is the highest score, ties share their mean.

    The mean over axis 0 are the average ranks.
    """
    from scipy.stats import rankdata

    scores = np.asarray(scores, dtype=np.float64)
    return rankdata(-rounded(scores, np.abs(scores).max()), axis=1)


def friedman(scores: ArrayLike) -> Friedman:
    """Friedman's test that all labels rank alike, corrected for ties, on ``scores`` (N, k).

    chi^2 = N (k - 1) (sum_j S_j^2 / N - C) / (sum r^2 - C) with the rank sums S_j and
    C = N k (k + 1)^2 / 4; F = (N - 1) chi^2 / (N (k - 1) - chi^2) with k - 1 and (k - 1) (N - 1)
    degrees of freedom (Iman and Davenport 1980). If all cells rank alike, F is infinite and
    its p 0, which few cells cannot show: p is at least (k!)^(1 - N), the least that permuting
    the ranks inside the cells can give. If all labels tie in every cell, p is 1.
    """
    placed = ranks(scores)
    cells, labels = placed.shape
    centre = cells * labels * (labels + 1) ** 2 / 4
    spread = np.sum(placed**2) - centre
    degrees = (labels - 1, (labels - 1) * (cells - 1))
    if spread == 0:
        return Friedman(0.0, 0.0, degrees, 1.0)
    most = cells * (labels - 1)
    chi_square = most * (np.sum(placed.sum(axis=0) ** 2) / cells - centre) / spread
    rest = most - chi_square
    f = (cells - 1) * chi_square / rest if rest > 1e-9 else math.inf
    least = math.exp((1 - cells) * math.lgamma(labels + 1))
    return Friedman(
        float(chi_square), float(f), degrees, max(float(special.fdtrc(*degrees, f)), least)
    )


def signed_ranks(scores: ArrayLike, baseline: int) -> list[SignedRank]:
    """Wilcoxon's test of every label but ``baseline`` against it, Holm over them, in column order.

    ``scores`` is (N, k). The smallest p that N cells can give is 2^(1 - N), before Holm.
    """
    moved = np.delete(differences(scores, baseline), baseline, axis=1).T
    p_values = [wilcoxon_test(column) for column in moved]
    return [
        SignedRank(
            mean=float(column.mean()),
            better=int(np.count_nonzero(column > 0)),
            worse=int(np.count_nonzero(column < 0)),
            p=p,
            holm_p=float(adjusted),
        )
        for column, p, adjusted in zip(moved, p_values, holm(p_values), strict=True)
    ]


def critical_difference(labels: int, cells: int, alpha: float = ALPHA) -> float:
    """Nemenyi's q_alpha sqrt(k (k + 1) / (6 N)): average ranks further apart differ.

    q_alpha is the studentised range with infinite degrees of freedom, divided by sqrt(2).
    """
    from scipy.stats import studentized_range

    quantile = studentized_range.ppf(1 - alpha, labels, np.inf) / math.sqrt(2)
    return float(quantile * math.sqrt(labels * (labels + 1) / (6 * cells)))


def groups(average_ranks: ArrayLike, distance: float) -> list[tuple[int, ...]]:
    """The largest groups of labels whose ``average_ranks`` (k,) span less than ``distance``.

    Each group holds places of ``average_ranks``, best first; nobody forms a group alone.
    """
    average_ranks = np.asarray(average_ranks, dtype=np.float64)
    order = np.argsort(average_ranks, kind="stable")
    values = average_ranks[order]
    ends = np.searchsorted(values, values + distance, side="left")
    found = []
    reached = 0
    for start, end in enumerate(ends):
        if end - start > 1 and end > reached:
            found.append(tuple(int(place) for place in order[start:end]))
            reached = end
    return found


def interquartile_mean(values: ArrayLike) -> np.ndarray:
    """The mean of the middle half of ``values`` (..., n): floor(n / 4) are cut off at each end."""
    values = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    cut = values.shape[-1] // 4
    return values[..., cut : values.shape[-1] - cut].mean(axis=-1)


def interquartile_mean_interval(
    runs: np.ndarray, name: str, repetitions: int = REPETITIONS
) -> Interval:
    """Interquartile mean over all ``runs`` (N, seeds; NaN: no run), 95 % percentile interval.

    Stratified bootstrap: each cell's runs are drawn anew from that cell's. ``name`` names the draw.
    """
    found = [interquartile_mean(block) for block in _resamples(runs, repetitions, "iqm", name)]
    low, high = _percentiles(np.concatenate(found))
    return Interval(float(interquartile_mean(runs[~np.isnan(runs)])), float(low), float(high))


def performance_profile(
    runs: np.ndarray, thresholds: np.ndarray, name: str, repetitions: int = REPETITIONS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The share of ``runs`` (N, seeds; NaN: no run) above each of ``thresholds`` (t, ascending).

    Returns share, low and high, each (t,); the bounds are pointwise 95 % percentiles of the
    stratified bootstrap.
    """
    bins = len(thresholds) + 1
    # how many thresholds lie below a run: it is above exactly those
    passed = np.searchsorted(thresholds, runs, side="left").astype(np.float64)
    passed[np.isnan(runs)] = np.nan

    def shares(sample: np.ndarray) -> np.ndarray:
        rows = np.arange(len(sample))[:, None] * bins
        counts = np.bincount((rows + sample.astype(np.int64)).ravel(), minlength=len(sample) * bins)
        above = counts.reshape(-1, bins)[:, :0:-1].cumsum(axis=1)[:, ::-1]
        return above / sample.shape[1]

    found = [shares(block) for block in _resamples(passed, repetitions, "profile", name)]
    low, high = _percentiles(np.concatenate(found))
    return shares(passed[~np.isnan(passed)][None])[0], low, high


def probability_of_improvement(
    runs: np.ndarray, others: np.ndarray, name: str, repetitions: int = REPETITIONS
) -> Interval:
    """P(X > Y) + P(X = Y) / 2 over all pairs of a run X and another Y, averaged over cells.

    ``runs`` and ``others`` are both (N, seeds) with NaN where there is no run. The 95 % percentile
    interval is that of a stratified bootstrap which draws both sides on their own.
    """
    gap = runs[:, :, None] - others[:, None, :]
    wins = np.where(np.isnan(gap), 0.0, (np.sign(gap) + 1) / 2)  # (N, seeds, seeds of others)
    sides = [~np.isnan(side) for side in (runs, others)]
    drawn = (
        _draws(side, repetitions, "improvement", name, role)
        for side, role in zip(sides, ("runs", "others"), strict=True)
    )

    def averages(*places: np.ndarray) -> np.ndarray:
        first, second = map(_shares, places, sides)
        return ((first @ wins) * second).sum(axis=2).mean(axis=0)

    found = [averages(*places) for places in zip(*drawn, strict=True)]
    low, high = _percentiles(np.concatenate(found))
    value = averages(*(np.flatnonzero(side)[None] for side in sides))[0]
    return Interval(float(value), float(low), float(high))


def bayesian_signed_rank(
    moved: ArrayLike, equivalence: float, repetitions: int = POSTERIOR_DRAWS
) -> np.ndarray:
    """The probabilities of better, equivalent and worse, (m, 3), for differences ``moved`` (N, m).

    With z_0 = 0 (weight 0.5) and the N differences z_i (weight 1 each), Dirichlet weights w are
    drawn; theta_better = sum_ij w_i w_j [z_i + z_j > 2 r], theta_worse the same below -2 r, with
    r = ``equivalence`` > 0, equality counted half, theta_equivalent is the rest. A probability is
    the share of the draws in which its theta is the largest.
    """
    moved = np.asarray(moved, dtype=np.float64)
    values = np.vstack([np.zeros(moved.shape[1]), moved]).T  # (m, N + 1)
    sums = values[:, :, None] + values[:, None, :]
    better = np.heaviside(sums - 2 * equivalence, 0.5)
    worse = np.heaviside(-sums - 2 * equivalence, 0.5)
    strengths = np.r_[PRIOR_STRENGTH, np.ones(len(moved))]
    draw = generator(0, "across", "bayesian signed rank")
    won = np.zeros((len(values), 3))
    size = max(1, BLOCK // len(strengths))
    for start in range(0, repetitions, size):
        weights = draw.dirichlet(strengths, size=min(size, repetitions - start))
        for place in range(len(values)):
            above = np.sum((weights @ better[place]) * weights, axis=1)
            below = np.sum((weights @ worse[place]) * weights, axis=1)
            largest = np.argmax([above, 1 - above - below, below], axis=0)
            won[place] += np.bincount(largest, minlength=3)
    return won / repetitions


def _resamples(runs: np.ndarray, repetitions: int, *names: str) -> Iterator[np.ndarray]:
    """The values of the runs that `_draws` draws."""
    for places in _draws(~np.isnan(runs), repetitions, *names):
        yield runs.ravel()[places]


def _draws(there: np.ndarray, repetitions: int, *names: str) -> Iterator[np.ndarray]:
    """Blocks (b, runs) of resamples, as places in ``there`` (N, seeds), which says what there is.

    Every run of a cell is replaced by one of that cell's.
    """
    counts = there.sum(axis=1)
    places = np.flatnonzero(there)  # cell by cell
    first = np.repeat(np.cumsum(counts) - counts, counts)
    count = np.repeat(counts, counts)
    draw = generator(0, "across", *names)
    size = max(1, BLOCK // there.size)
    for start in range(0, repetitions, size):
        uniform = draw.random((min(size, repetitions - start), len(places)))
        yield places[first + (uniform * count).astype(np.int64)]


def _shares(places: np.ndarray, there: np.ndarray) -> np.ndarray:
    """How often each run was drawn, as a share of its cell's: (N, b, seeds)."""
    rows = np.arange(len(places))[:, None] * there.size
    counts = np.bincount((rows + places).ravel(), minlength=len(places) * there.size)
    shares = counts.reshape(len(places), *there.shape) / there.sum(axis=1, keepdims=True)
    return shares.transpose(1, 0, 2)


def _percentiles(found: np.ndarray) -> np.ndarray:
    """The ends of the percentile interval over axis 0: (2, ...)."""
    return np.quantile(found, [ALPHA / 2, 1 - ALPHA / 2], axis=0)
