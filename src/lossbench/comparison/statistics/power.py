"""What a number of seeds can find: the power of the two-sided paired t-test.

With n seeds, a true mean difference d and a standard deviation s of the paired differences, the
statistic T has a noncentral t distribution with n - 1 degrees of freedom and noncentrality
d sqrt(n) / s (Cohen 1988, *Statistical Power Analysis for the Behavioral Sciences*, chapter 2).
The power is the probability that |T| exceeds the critical value of the level. It rises with n and
with d, and never falls below the level.

Under Holm's rule with k comparisons a p below alpha / k, its first step, is rejected whatever the
others are: the power at that level is the least chance that one given difference has.
"""

from __future__ import annotations

import bisect
import math

import numpy as np
from scipy import special

from lossbench.comparison.statistics.paired import ALPHA

MOST_SEEDS = 1000

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(400)
_REACH = 9.0
"""Where a standard normal variable is taken to end: beyond it lies a probability of 2e-19."""


def power_of_t(difference: float, spread: float, seeds: int, level: float) -> float:
    """The probability that ``seeds`` paired differences show a true mean ``difference``.

    The test is two-sided at ``level`` (0 < level < 1). ``spread`` is the standard deviation of the
    paired differences, in the unit of ``difference``. Without a spread every difference is found,
    and none is where there is none, as `paired_t_test` decides. Fewer than 2 seeds and NaN: NaN.
    """
    if seeds < 2 or math.isnan(difference) or not spread >= 0:
        return math.nan
    if spread == 0:
        return float(difference != 0)
    return _power(abs(difference) / spread * math.sqrt(seeds), seeds - 1, level)


def power_of_all(
    difference: float, spread: float, seeds: int, comparisons: int, alpha: float = ALPHA
) -> float:
    """The probability that Holm's rule rejects all of k ``comparisons``, each of ``difference``.

    It does if for every i at least i of the p are below alpha / (k - i + 1). Exact for independent
    comparisons, by counting how many p fall between neighbouring levels (multinomial). Those that
    share a baseline are correlated positively, which rather raises it. NaN as `power_of_t`.
    """
    levels = alpha / np.arange(comparisons, 0, -1)
    below = [power_of_t(difference, spread, seeds, float(level)) for level in levels]
    masses = np.diff(below, prepend=0.0)
    counts = np.arange(comparisons + 1)
    factorials = special.factorial(counts)
    chance = np.zeros(comparisons + 1)  # of so many p below the level, over their factorials
    chance[0] = 1.0
    for step, mass in enumerate(masses, start=1):
        chance = np.convolve(chance, mass**counts / factorials)[: comparisons + 1]
        chance[:step] = 0.0
    return float(min(1.0, chance[-1] * factorials[-1]))


def seeds_needed(
    difference: float, spread: float, level: float, power: float = 0.8, most: int = MOST_SEEDS
) -> int | None:
    """The fewest seeds (2 to ``most``) with which `power_of_t` is at least ``power``.

    None if ``most`` seeds are not enough, as for a difference of 0, or if an argument is NaN.
    """
    if not power_of_t(difference, spread, most, level) >= power:
        return None
    counts = range(2, most + 1)
    place = bisect.bisect_left(
        counts, power, key=lambda seeds: power_of_t(difference, spread, seeds, level)
    )
    return counts[place]


def smallest_difference(spread: float, seeds: int, level: float, power: float = 0.8) -> float:
    """The difference that ``seeds`` show with probability ``power``, in the unit of ``spread``.

    `power_of_t` solved for the difference, to a relative 1e-9. Every larger difference is found
    more often. NaN for fewer than 2 seeds and for a NaN ``spread``.
    """
    if seeds < 2 or not spread >= 0:
        return math.nan
    low, high = 0.0, 1.0
    while _power(high, seeds - 1, level) < power:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        if _power(middle, seeds - 1, level) < power:
            low = middle
        else:
            high = middle
    return spread * high / math.sqrt(seeds)


def _power(noncentrality: float, freedom: int, level: float) -> float:
    """P(|T| > c) of the noncentral t, as E[F(freedom ((Z + noncentrality) / c)^2)].

    Z is standard normal, F the distribution function of chi-square, c the critical value:
    |T| = |Z + noncentrality| / sqrt(V / freedom) exceeds c where V is small enough. Written so
    because `scipy.special.nctdtr` is NaN for many large noncentralities (1.17: 9 degrees of
    freedom, 38). The integrand has its one kink at -noncentrality, where the range is split.
    """
    critical = -special.stdtrit(freedom, level / 2)
    kink = max(-_REACH, -noncentrality)
    found = 0.0
    for start, end in ((-_REACH, kink), (kink, _REACH)):
        half = (end - start) / 2
        z = start + half * (1 + _NODES)
        inside = special.chdtr(freedom, freedom * ((z + noncentrality) / critical) ** 2)
        found += half * float(_WEIGHTS @ (np.exp(-(z**2) / 2) * inside))
    return min(1.0, found / math.sqrt(2 * math.pi))
