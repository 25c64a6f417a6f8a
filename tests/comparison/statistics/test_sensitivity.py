from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import astuple

import numpy as np
import pytest
from scipy import stats

from lossbench.comparison.statistics import (
    bootstrap_interval,
    hodges_lehmann,
    hodges_lehmann_interval,
    paired_t_test,
    probability_interval,
    probability_of_improvement,
    sensitivity_of,
    sign_flip_test,
    wilcoxon_test,
)
from lossbench.seeding import generator

# Fisher (1935), The Design of Experiments, section 21: Darwin's maize, in eighths of an inch
MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
# Hollander and Wolfe (1973), Table 3.1: Hamilton's depression scale, after minus before
BEFORE = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
AFTER = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])
# as metrics give them: hundredths that a subtraction left rounding errors on, with ties and zeros
TIED = np.array([0.83, 0.71, 0.64, 0.90, 0.35, 0.52, 0.47, 0.61]) - np.array(
    [0.81, 0.69, 0.65, 0.90, 0.28, 0.53, 0.42, 0.59]
)


def drawn(n: int, *, tied: bool = False) -> np.ndarray:
    values = np.random.default_rng(n).normal(0.4, 1, n)
    return np.round(2 * values) if tied else values


def test_sign_flip_on_fishers_count() -> None:
    # "in 863 cases out of 32768" the sum is 314 or more: 5.267 %, where the t-test says 4.970 %
    assert sign_flip_test(MAIZE) == 2 * 863 / 32768
    assert paired_t_test(MAIZE).p == pytest.approx(0.0497, abs=5e-5)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("n", [2, 5, 10, 13])
def test_sign_flip_is_scipys_exact_permutation_test(n: int, tied: bool) -> None:
    values = drawn(n, tied=tied)
    expected = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=2**n, vectorized=True
    )
    assert sign_flip_test(values) == pytest.approx(expected.pvalue, rel=1e-12)


def test_drawn_sign_flips_come_near_the_count() -> None:
    values = drawn(30, tied=True).astype(int)
    sums = {0: 1}  # how many of the 2^30 patterns have each sum
    for value in values:
        following: dict[int, int] = {}
        for total, count in sums.items():
            for flipped in (total + value, total - value):
                following[flipped] = following.get(flipped, 0) + count
        sums = following
    exact = sum(count for total, count in sums.items() if abs(total) >= abs(values.sum())) / 2**30
    assert 0.005 < exact < 0.2
    assert sign_flip_test(values) == pytest.approx(exact, abs=4 * math.sqrt(exact / 20_000))
    assert sign_flip_test(values) == sign_flip_test(values)
    assert sign_flip_test([1.0] * 30) == 1 / 20_001  # the one seen is counted: never 0


@pytest.mark.parametrize("n", [1, 4, 9, 20, 40])
def test_wilcoxon_is_scipys_exact_one(n: int) -> None:
    expected = stats.wilcoxon(drawn(n), method="exact").pvalue
    assert wilcoxon_test(drawn(n)) == pytest.approx(expected, rel=1e-9)


def test_wilcoxon_stays_exact_with_ties_and_zeros() -> None:
    every_pattern = stats.PermutationMethod(n_resamples=np.inf)
    for seed in range(4):
        values = np.random.default_rng(seed).integers(-2, 5, 8).astype(float)
        expected = stats.wilcoxon(values, method=every_pattern).pvalue  # drops zeros, as Wilcoxon
        assert wilcoxon_test(values) == pytest.approx(expected, rel=1e-9)


def test_rounding_errors_break_no_tie() -> None:
    exact = np.round(100 * TIED)
    assert len(np.unique(np.abs(TIED))) > len(np.unique(np.abs(exact)))
    assert wilcoxon_test(TIED) == wilcoxon_test(exact)
    assert sign_flip_test(TIED) == sign_flip_test(exact)
    assert probability_of_improvement(TIED) == pytest.approx((5 + 0.5) / 8)


def test_hodges_lehmann_on_hollander_and_wolfe() -> None:
    # their section 3.2 and 3.3: -0.46 and, at 96.1 %, (-0.786, -0.010)
    assert hodges_lehmann(AFTER - BEFORE) == pytest.approx(-0.46)
    assert hodges_lehmann_interval(AFTER - BEFORE) == pytest.approx((-0.786, -0.010))
    assert wilcoxon_test(AFTER - BEFORE) == pytest.approx(1 - 0.9609, abs=5e-5)


@pytest.mark.parametrize("n", [6, 9, 17])
def test_hodges_lehmann_interval_inverts_the_test(n: int) -> None:
    values = drawn(n)
    low, high = hodges_lehmann_interval(values)
    for bound, inwards in ((low, 1e-9), (high, -1e-9)):
        assert stats.wilcoxon(values - bound - inwards, method="exact").pvalue > 0.05
        assert stats.wilcoxon(values - bound + inwards, method="exact").pvalue <= 0.05
    assert np.isnan(hodges_lehmann_interval(values[:5])).all()


@pytest.mark.parametrize(("n", "improved"), [(3, 3), (5, 0), (6, 6), (12, 7)])
def test_probability_interval_is_clopper_pearsons(n: int, improved: int) -> None:
    values = [1.0] * improved + [-2.0] * (n - improved)
    exact = stats.binomtest(improved, n)
    expected = exact.proportion_ci(0.95, method="exact")
    low, high = probability_interval(values)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert probability_of_improvement(values) == improved / n
    assert (low > 0.5 or high < 0.5) == (exact.pvalue < 0.05)  # the sign test


@pytest.mark.parametrize("better", [0.1, 0.45, 0.75])
@pytest.mark.parametrize("equal", [0.0, 0.2])
def test_probability_interval_covers_with_ties(better: float, equal: float) -> None:
    truth, n, covered = better + equal / 2, 7, 0.0
    for above, zero in itertools.product(range(n + 1), repeat=2):
        below = n - above - zero
        if below >= 0:
            low, high = probability_interval([1.0] * above + [0.0] * zero + [-1.0] * below)
            chance = stats.multinomial.pmf(
                [above, zero, below], n, [better, equal, 1 - better - equal]
            )
            covered += chance * (low <= truth <= high)
    assert covered >= 0.95


@pytest.mark.parametrize("n", [8, 10, 40])
def test_bootstrap_is_scipys_bca(n: int) -> None:
    values = np.exp(drawn(n))  # skewed, so that the acceleration matters
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=9999, method="BCa", rng=generator(0, "bootstrap over seeds")
    ).confidence_interval
    assert bootstrap_interval(values) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert np.isnan(bootstrap_interval(values[:7])).all()


@pytest.mark.parametrize(
    ("values", "p", "interval"),
    [
        ([0.0] * 9, 1.0, (0.0, 0.0)),
        ([0.1] * 9, 2 / 2**9, (0.1, 0.1)),
        ([0.1], 1.0, (np.nan, np.nan)),
        ([], np.nan, (np.nan, np.nan)),
        ([0.1, np.nan, *[0.2] * 7], np.nan, (np.nan, np.nan)),
        ([0.1, np.inf, *[0.2] * 7], np.nan, (np.nan, np.nan)),
    ],
)
def test_degenerate_differences(values: list[float], p: float, interval: tuple) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = sensitivity_of(values, higher_is_better=True)
        paired = paired_t_test(values)
    assert (found.sign_flip_p, found.wilcoxon_p) == pytest.approx((p, p), nan_ok=True)
    assert found.bootstrap == pytest.approx(interval, nan_ok=True)
    assert found.hodges_lehmann_interval == pytest.approx(interval, nan_ok=True)
    if np.isnan(p):
        assert np.isnan(np.hstack(astuple(found))).all()
        assert np.isnan([paired.mean, paired.p]).all()


def test_an_improvement_follows_the_metrics_direction() -> None:
    up = sensitivity_of(TIED, higher_is_better=True)
    down = sensitivity_of(-TIED, higher_is_better=False)
    assert up.probability_of_improvement == down.probability_of_improvement > 0.5
    assert up.probability_interval == down.probability_interval
    assert up.hodges_lehmann == -down.hodges_lehmann > 0  # the difference itself keeps its sign
