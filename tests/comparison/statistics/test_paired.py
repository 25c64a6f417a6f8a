from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from lossbench.comparison.statistics import (
    ALPHA,
    PairedTest,
    estimate,
    holm,
    holm_intervals,
    holm_levels,
    paired_t_test,
)

# differences as metrics give them: quantised, so ties, zeros and equal rows occur
quantised = st.integers(-30, 30).map(lambda count: count / 200)
families = st.integers(2, 8).flatmap(
    lambda seeds: st.lists(
        st.lists(quantised, min_size=seeds, max_size=seeds), min_size=1, max_size=7
    )
)


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_paired_test_is_scipys(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    first, second = rng.normal(0.5, 1, size=seeds), rng.normal(size=seeds)
    expected = stats.ttest_rel(first, second)
    found = paired_t_test(first - second)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.mean / found.standard_error == pytest.approx(expected.statistic)
    assert found.n == seeds


@pytest.mark.parametrize("seeds", [2, 5, 30])
def test_estimate_is_the_t_interval(seeds: int) -> None:
    values = np.random.default_rng(seeds).normal(3, 2, size=seeds)
    expected = stats.t.interval(0.95, seeds - 1, loc=values.mean(), scale=stats.sem(values))
    found = estimate(values)
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.standard_error == pytest.approx(stats.sem(values))  # ddof = 1


def test_one_value_has_no_error_and_none_has_no_mean() -> None:
    one, none = estimate([0.5]), estimate([])
    assert (one.mean, one.n) == (0.5, 1)
    assert np.isnan([one.standard_error, one.low, one.high, none.mean]).all()
    assert np.isnan(paired_t_test([0.5]).p)
    assert np.isnan(paired_t_test([]).mean)


def test_identical_runs_have_p_one_and_a_constant_difference_p_zero() -> None:
    identical, constant = paired_t_test([0.0] * 4), paired_t_test([0.1] * 3)
    assert (identical.p, identical.standard_error) == (1.0, 0.0)
    assert (constant.p, constant.standard_error, constant.mean) == (0.0, 0.0, 0.1)
    assert holm_intervals([identical, constant]) == [(0.0, 0.0), (0.1, 0.1)]


def test_holm_on_the_published_example() -> None:
    # Wikipedia, "Holm-Bonferroni method": H1 and H4 are rejected at 0.05, H2 and H3 are not
    adjusted = holm([0.01, 0.04, 0.03, 0.005])
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # tested at 0.05/4, 0.05/3, and stopped at 0.05/2
    levels = holm_levels([0.01, 0.04, 0.03, 0.005])
    assert levels == pytest.approx([0.05 / 3, 0.05 / 2, 0.05 / 2, 0.05 / 4])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_closed_testing_with_bonferroni(p_values: list[float]) -> None:
    # the definition: i is rejected if Bonferroni rejects every set of hypotheses that holds i
    places = range(len(p_values))
    sets = [s for size in places for s in itertools.combinations(places, size + 1)]
    for i, found in zip(places, holm(p_values), strict=True):
        expected = max(len(s) * min(p_values[j] for j in s) for s in sets if i in s)
        assert found == pytest.approx(min(1.0, expected))


def test_a_comparison_that_cannot_be_tested_does_not_count() -> None:
    assert holm([0.02, np.nan, 0.04]) == pytest.approx([0.04, np.nan, 0.04], nan_ok=True)
    assert holm_levels([0.02, np.nan, 0.04]) == pytest.approx([0.025, np.nan, 0.05], nan_ok=True)
    missing = PairedTest(0.1, np.nan, np.nan, 1)
    assert np.isnan(holm_intervals([missing])).all()


@given(families)
def test_an_interval_excludes_zero_exactly_when_holm_rejects(rows: list[list[float]]) -> None:
    tests = [paired_t_test(row) for row in rows]
    rejected = holm([test.p for test in tests]) < ALPHA
    for decision, (low, high) in zip(rejected, holm_intervals(tests), strict=True):
        assert decision == (low > 0 or high < 0)


@given(families)
def test_a_holm_interval_contains_the_ordinary_one(rows: list[list[float]]) -> None:
    tests = [paired_t_test(row) for row in rows]
    for row, (low, high) in zip(rows, holm_intervals(tests), strict=True):
        ordinary = estimate(row)
        assert low <= ordinary.low + 1e-12
        assert high >= ordinary.high - 1e-12


@given(families, st.floats(0.001, 1000))
def test_the_unit_of_the_metric_does_not_matter(rows: list[list[float]], unit: float) -> None:
    tests = [paired_t_test(row) for row in rows]
    assume(all(test.standard_error > 0 for test in tests))
    scaled = [paired_t_test(np.array(row) * unit) for row in rows]
    assert [test.p for test in scaled] == pytest.approx([test.p for test in tests], rel=1e-6)
    expected = np.array(holm_intervals(tests)) * unit
    assert np.array(holm_intervals(scaled)) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_false_exclusions_and_misses_are_rare() -> None:
    # 4 arms against one baseline, 2 of them truly equal to it: the module's two promises
    rng = np.random.default_rng(1)
    truth = np.array([0.0, 0.0, 2.0, 50.0])
    studies, false, missed = 2000, 0, np.zeros(4)
    for _ in range(studies):
        base, arms = rng.normal(size=5), rng.normal(truth[:, None], 1, size=(4, 5))
        bounds = np.array(holm_intervals([paired_t_test(arm - base) for arm in arms]))
        outside = (bounds[:, 0] > truth) | (bounds[:, 1] < truth)
        missed += outside
        false += outside[:2].any()
    slack = 3 * np.sqrt(0.05 * 0.95 / studies)
    assert false / studies <= 0.05 + slack
    assert (missed / studies <= 0.05 + slack).all()
