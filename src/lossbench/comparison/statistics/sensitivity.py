"""What stands beside the paired t-test: the same differences under other assumptions.

The t-test decides. These show whether the decision hangs on the normal distribution that it
assumes. None of them is adjusted for several comparisons: with n seeds a two-sided sign-flip or
signed-rank test cannot go below 2^(1 - n), so after Holm over nine labels eight seeds could never
show anything.

Differences come from metrics that are counts divided by counts, and subtraction leaves rounding
errors of 1e-16 on them. Sizes that agree to 12 digits of the largest one are therefore ties.
A NaN or infinite difference makes every result NaN; so does having no difference at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from lossbench.comparison.statistics.paired import ALPHA
from lossbench.seeding import generator

EXACT_SIGN_FLIPS = 18
SIGN_FLIPS = 20_000
BOOTSTRAP_SEEDS = 8
RESAMPLES = 9_999


@dataclass(frozen=True)
class Sensitivity:
    """One label's paired differences (label minus baseline) under other assumptions.

    The two p are two-sided and unadjusted, the intervals (low, high) cover one difference with
    95 %. ``bootstrap`` is NaN below 8 seeds, ``hodges_lehmann_interval`` below 6.
    ``probability_of_improvement`` counts a seed as improved where the label is the better one, by
    the direction of the metric.
    """

    sign_flip_p: float
    wilcoxon_p: float
    hodges_lehmann: float
    hodges_lehmann_interval: tuple[float, float]
    bootstrap: tuple[float, float]
    probability_of_improvement: float
    probability_interval: tuple[float, float]


def sensitivity_of(differences: ArrayLike, *, higher_is_better: bool) -> Sensitivity:
    """All of the module for paired ``differences`` (n,)."""
    values = np.asarray(differences, dtype=np.float64)
    improvements = values if higher_is_better else -values
    return Sensitivity(
        sign_flip_p=sign_flip_test(values),
        wilcoxon_p=wilcoxon_test(values),
        hodges_lehmann=hodges_lehmann(values),
        hodges_lehmann_interval=hodges_lehmann_interval(values),
        bootstrap=bootstrap_interval(values),
        probability_of_improvement=probability_of_improvement(improvements),
        probability_interval=probability_interval(improvements),
    )


def sign_flip_test(differences: ArrayLike) -> float:
    """Two-sided p of the sign-flip permutation test of the mean (Fisher 1935) of (n,) values.

    If a label changes nothing, each difference is as likely to have the other sign: p is the share
    of the 2^n sign patterns whose \\|sum\\| is at least the one seen, ties included. Up to 18 seeds
    all patterns are counted; above, 20,000 are drawn and the one seen is counted with them.
    It assumes symmetric differences, not normal ones. One seed gives 1.
    """
    units = _units(differences)
    n = len(units)
    if n == 0 or np.isnan(units).any():
        return np.nan
    seen = abs(units.sum()) - 1e-10  # sums of equal patterns differ by rounding
    if n <= EXACT_SIGN_FLIPS:
        sums = units[:1]  # one sign may stay: the other half of the patterns mirrors this one
        for unit in units[1:]:
            sums = np.concatenate([sums + unit, sums - unit])
        return float(np.mean(np.abs(sums) >= seen))
    signs = 2 * generator(0, "sign flips").integers(0, 2, (SIGN_FLIPS, n)) - 1
    reached = np.count_nonzero(np.abs(signs @ units) >= seen)
    return (1 + reached) / (1 + SIGN_FLIPS)


def wilcoxon_test(differences: ArrayLike) -> float:
    """Two-sided p of the signed-rank test (Wilcoxon 1945) of (n,) values, exact for every n.

    Differences of 0 are left out (Wilcoxon's rule); if all are, p is 1. Ties get the mean of their
    ranks, and p counts all sign patterns of exactly these ranks, so it stays exact with ties.
    """
    units = _units(differences)
    if len(units) == 0 or np.isnan(units).any():
        return np.nan
    units = units[units != 0]
    sizes = np.abs(units)
    smaller = (sizes < sizes[:, None]).sum(axis=1)
    tied = (sizes == sizes[:, None]).sum(axis=1)
    doubled = 2 * smaller + tied + 1  # twice the mean rank is whole
    shares = _rank_sums(doubled)
    positive = doubled[units > 0].sum()
    tail = min(shares[: positive + 1].sum(), shares[positive:].sum())
    return float(min(1.0, 2 * tail))


def hodges_lehmann(differences: ArrayLike) -> float:
    """Median of the Walsh averages (d_i + d_j) / 2, i <= j (Hodges and Lehmann 1963), of (n,).

    It estimates the centre of symmetric differences, and one wild seed hardly moves it.
    """
    walsh = _walsh_averages(differences)
    return float(np.median(walsh)) if len(walsh) else np.nan


def hodges_lehmann_interval(
    differences: ArrayLike, confidence: float = 1 - ALPHA
) -> tuple[float, float]:
    """The interval that inverts the signed-rank test: W_(c + 1) to W_(M - c) of M Walsh averages.

    c is the largest value with P(T <= c) <= (1 - confidence) / 2 for the statistic T of n
    differences without ties (Hollander and Wolfe 1999, section 3.3); ties and zeros only make it
    cover more. NaN where n is too small for such a c: below 6 at 95 %.
    """
    walsh = _walsh_averages(differences)
    n = len(np.asarray(differences))
    cumulative = np.cumsum(_rank_sums(np.arange(1, n + 1)))
    count = int(np.searchsorted(cumulative, (1 - confidence) / 2, side="right"))  # c + 1
    if count == 0 or np.isnan(walsh).any():
        return np.nan, np.nan
    return float(walsh[count - 1]), float(walsh[-count])


def probability_of_improvement(improvements: ArrayLike) -> float:
    """P(A > B) for a new seed: the share of (n,) values above 0, those that are 0 counted half.

    Bouthillier et al. (2021, MLSys) call A better in a way that matters from 0.75 on.
    """
    units = _units(improvements)
    if len(units) == 0 or np.isnan(units).any():
        return np.nan
    return float(np.mean((units > 0) + 0.5 * (units == 0)))


def probability_interval(
    improvements: ArrayLike, confidence: float = 1 - ALPHA
) -> tuple[float, float]:
    """Clopper-Pearson interval (1934) of `probability_of_improvement`: exact at every n.

    A seed that is 0 counts against the improvement in the lower bound and for it in the upper one,
    so the coverage holds with ties. Bouthillier et al. (2021) take a percentile bootstrap, which
    is [1, 1] when all of three seeds improved; this one is [0.29, 1], and excludes 0.5 exactly
    when the sign test rejects (6 of 6 seeds are the fewest).
    """
    units = _units(improvements)
    n = len(units)
    if n == 0 or np.isnan(units).any():
        return np.nan, np.nan
    tail = (1 - confidence) / 2
    above, not_below = np.count_nonzero(units > 0), np.count_nonzero(units >= 0)
    low = special.betaincinv(above, n - above + 1, tail) if above else 0.0
    high = special.betaincinv(not_below + 1, n - not_below, 1 - tail) if not_below < n else 1.0
    return float(low), float(high)


def bootstrap_interval(
    differences: ArrayLike, confidence: float = 1 - ALPHA
) -> tuple[float, float]:
    """BCa bootstrap interval (Efron 1987) of the mean of (n,) values, from 9,999 resamples.

    NaN below 8 seeds: resampling few seeds understates the spread, and a percentile interval of
    three of them is nothing but their minimum and maximum. Equal values give (value, value), as
    the t-interval does.
    """
    values = np.asarray(differences, dtype=np.float64)
    n = len(values)
    if n < BOOTSTRAP_SEEDS or not np.isfinite(values).all():
        return np.nan, np.nan
    centred = values - values.mean()
    if np.ptp(_units(values)) == 0:
        return float(values[0]), float(values[0])
    draws = generator(0, "bootstrap over seeds").integers(0, n, (RESAMPLES, n))
    means = values[draws].mean(axis=1)
    below = (np.mean(means < values.mean()) + np.mean(means <= values.mean())) / 2
    bias = special.ndtri(below)
    acceleration = np.sum(centred**3) / (6 * np.sum(centred**2) ** 1.5)  # of the jackknife
    normal = bias + special.ndtri([(1 - confidence) / 2, (1 + confidence) / 2])
    low, high = np.quantile(means, special.ndtr(bias + normal / (1 - acceleration * normal)))
    return float(low), float(high)


def _units(differences: ArrayLike) -> np.ndarray:
    """The differences divided by the largest size, to 12 decimals: ties and zeros are exact.

    All NaN if one of them is not finite.
    """
    values = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(values).all():
        return np.full(values.shape, np.nan)
    largest = np.abs(values).max(initial=0.0)
    return np.round(values / largest, 12) if largest else values


def _walsh_averages(differences: ArrayLike) -> np.ndarray:
    """All (d_i + d_j) / 2 with i <= j of (n,) values, sorted; (n (n + 1) / 2,)."""
    values = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(values).all():
        values = np.full(values.shape, np.nan)
    first, second = np.triu_indices(len(values))
    return np.sort((values[first] + values[second]) / 2)


def _rank_sums(ranks: np.ndarray) -> np.ndarray:
    """P(sum of the chosen ``ranks`` = i) for i = 0 ... their sum, each chosen with 1/2."""
    shares = np.zeros(int(ranks.sum()) + 1)
    shares[0] = 1.0
    for rank in ranks:
        shares = (shares + np.roll(shares, rank)) / 2  # nothing wraps: the end is still 0
    return shares
