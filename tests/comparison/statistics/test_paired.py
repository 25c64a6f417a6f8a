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
    equivalence_intervals,
    equivalence_test,
    estimate,
    holm,
    holm_intervals,
    holm_levels,
    not_distinguishable_from_best,
    paired_t_test,
    simultaneous_intervals,
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


def closed_testing(p_values: list[float]) -> list[float]:
    """Holm's p by definition: Bonferroni has to reject every set of hypotheses that holds one."""
    places = range(len(p_values))
    sets = [s for size in places for s in itertools.combinations(places, size + 1)]
    return [
        min(1.0, max(len(s) * min(p_values[j] for j in s) for s in sets if i in s)) for i in places
    ]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_closed_testing_with_bonferroni(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(closed_testing(p_values))


def test_a_comparison_that_cannot_be_tested_counts() -> None:
    never = [0.01, 1.0, 0.02]  # what it comes to: it is not rejected
    assert holm([0.01, np.nan, 0.02])[[0, 2]] == pytest.approx(holm(never)[[0, 2]])
    assert holm_levels([0.01, np.nan, 0.02])[[0, 2]] == pytest.approx([0.05 / 3, 0.05 / 2])
    assert np.isnan(holm([0.01, np.nan])[1])


def test_equal_p_are_judged_at_one_level() -> None:
    assert holm_levels([0.02, 0.001, 0.001, 0.04]) == pytest.approx(
        [0.05 / 2, 0.05 / 4, 0.05 / 4, 0.05]
    )
    assert holm_levels([0.02, 0.02]) == pytest.approx([0.025, 0.025])
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


# Student (1908), Biometrika 6:1-25: hours of sleep gained with one drug and with the other
SLEEP = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]) - np.array(
    [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
)


def test_students_sleep() -> None:
    # mean 1.58 and standard deviation 1.17 (with divisor n) are in the paper; R prints the rest
    found, bounds = paired_t_test(SLEEP), estimate(SLEEP)
    assert (found.mean, SLEEP.std()) == pytest.approx((1.58, 1.17), abs=0.005)
    assert found.mean / found.standard_error == pytest.approx(4.0621, abs=5e-5)
    assert found.p == pytest.approx(0.002833, abs=5e-7)
    assert (bounds.low, bounds.high) == pytest.approx((0.7001142, 2.4598858), abs=5e-8)
    assert found.spread == pytest.approx(SLEEP.std(ddof=1))


def test_rounding_errors_are_no_spread() -> None:
    constant = paired_t_test(np.array([0.3, 0.8, 0.2]) - np.array([0.2, 0.7, 0.1]))
    assert (constant.standard_error, constant.p) == (0.0, 0.0)


@given(families)
def test_simultaneous_intervals_are_bonferronis_and_the_widest(rows: list[list[float]]) -> None:
    tests = [paired_t_test(row) for row in rows]
    untested = PairedTest(0.1, np.nan, np.nan, 1)  # takes its share of alpha
    *found, missing = simultaneous_intervals([*tests, untested])
    for test, (low, high), holm_bounds in zip(tests, found, holm_intervals(tests), strict=True):
        half = stats.t.isf(ALPHA / (len(rows) + 1) / 2, test.n - 1) * test.standard_error
        assert (low, high) == pytest.approx((test.mean - half, test.mean + half))
        assert low <= holm_bounds[0] + 1e-12
        assert high >= holm_bounds[1] - 1e-12
    assert np.isnan(missing).all()


@pytest.mark.slow
def test_simultaneous_intervals_hold_all_true_values_together() -> None:
    # four huge differences and one of 0: where the Holm intervals, as the module says, do not
    rng = np.random.default_rng(5)
    truth = np.array([0.0, 50.0, 50.0, 50.0, 50.0])
    studies, together, holm_together = 5000, 0, 0
    for _ in range(studies):
        tests = [paired_t_test(rng.normal(mean, 1, size=5)) for mean in truth]
        for intervals, kind in ((simultaneous_intervals(tests), 0), (holm_intervals(tests), 1)):
            held = all(low <= t <= high for t, (low, high) in zip(truth, intervals, strict=True))
            together, holm_together = (
                together + (held and not kind),
                holm_together + (held and kind),
            )
    allowed = 0.95 - 2 * np.sqrt(0.05 * 0.95 / studies)
    assert together / studies >= allowed
    assert holm_together / studies == pytest.approx(0.91, abs=0.015)


@pytest.mark.parametrize("margin", [0.2, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("n", [2, 5, 12])
def test_equivalence_is_two_one_sided_tests(n: int, margin: float) -> None:
    values = np.random.default_rng(n).normal(0.3, 0.5, n)
    above = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(values, margin, alternative="less").pvalue
    found = equivalence_test(paired_t_test(values), margin)
    assert found == pytest.approx(max(above, below), rel=1e-9)
    inner = stats.t.interval(0.90, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert (found < 0.05) == (-margin < inner[0] and inner[1] < margin)


@given(families, st.floats(0.005, 0.2))
def test_an_equivalence_interval_and_its_verdict_never_contradict(
    family: list[list[float]], margin: float
) -> None:
    tests = [paired_t_test(values) for values in family]
    p_values = [equivalence_test(test, margin) for test in tests]
    intervals = equivalence_intervals(tests, p_values)
    for p, (low, high) in zip(holm(p_values), intervals, strict=True):
        if abs(p - ALPHA) > 1e-9:
            assert (p < ALPHA) == (-margin < low and high < margin)


def test_equivalence_without_a_spread_or_a_margin() -> None:
    constant = paired_t_test([-0.1] * 4)
    assert [equivalence_test(constant, margin) for margin in (0.2, 0.1, 0.05)] == [0.0, 1.0, 1.0]
    assert np.isnan(equivalence_test(constant, np.nan))
    assert np.isnan(equivalence_test(paired_t_test([0.1]), 0.2))


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_not_distinguishable_from_the_best(higher_is_better: bool) -> None:
    sizes = set()
    for study in range(20):
        rng = np.random.default_rng(study)
        runs = rng.normal(size=6) + rng.normal([[0.0], [0.2], [0.8], [1.5]], 0.5, size=(4, 6))
        best = int((np.argmax if higher_is_better else np.argmin)(runs.mean(axis=1)))
        others = [label for label in range(4) if label != best]
        p_values = [stats.ttest_rel(runs[label], runs[best]).pvalue for label in others]
        judged = zip(others, closed_testing(p_values), strict=True)
        expected = {str(label) for label, p in judged if p >= ALPHA}
        values = {str(label): dict(enumerate(row)) for label, row in enumerate(runs)}
        assert not_distinguishable_from_best(values, higher_is_better=higher_is_better) == expected
        sizes.add(len(expected))
    assert sizes >= {0, 1, 2}  # the draws show every kind of answer


def test_not_distinguishable_uses_shared_seeds_only() -> None:
    values = {
        "best": {0: 1.0, 1: 1.1, 2: 1.2, 3: np.nan},
        "other": {1: 0.1, 2: 0.21, 3: 5.0, 7: -9.0},  # shares seeds 1 and 2
        "one": {2: 0.0, 5: 0.1},
        "none": {9: np.nan},
    }
    shared = stats.ttest_rel([0.1, 0.21], [1.1, 1.2]).pvalue
    assert shared < 0.05
    assert not_distinguishable_from_best(values, higher_is_better=True) == {"one"}
    assert not_distinguishable_from_best({"a": {}}, higher_is_better=True) == set()


def test_a_small_spread_is_a_spread() -> None:
    assert paired_t_test([1.0, 1.0 + 1e-9, 1.0 - 1e-9]).standard_error > 0
    assert paired_t_test([1.0, 1.0 + 1e-15, 1.0 - 1e-15]).standard_error == 0
