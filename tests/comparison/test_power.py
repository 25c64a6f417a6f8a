from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lossbench.comparison.statistics import (
    ALPHA,
    holm,
    paired_t_test,
    power_of_all,
    power_of_t,
    seeds_needed,
    smallest_difference,
)
from lossbench.seeding import generator


@pytest.mark.parametrize(
    ("effect", "seeds", "power"),
    # pwr.t.test(type = "one.sample") of R's package pwr, as printed in statsmodels' tests;
    # the last is G*Power's example of a paired t-test (Faul et al. 2007)
    [(1, 30, 0.9995636009612725), (0.2, 20, 0.1359562887679666), (0.5, 34, 0.8077775)],
)
def test_power_is_that_of_other_programs(effect: float, seeds: int, power: float) -> None:
    assert power_of_t(effect, 1.0, seeds, 0.05) == pytest.approx(power, rel=1e-7)
    assert power_of_t(-0.01 * effect, 0.01, seeds, 0.05) == pytest.approx(power, rel=1e-7)


def test_power_is_that_of_scipys_noncentral_t() -> None:
    compared = 0
    for freedom in (1, 2, 4, 9, 29, 999):
        for level in (0.05, 0.05 / 6, 0.05 / 50):
            critical = stats.t.isf(level / 2, freedom)
            for noncentrality in (0.0, 0.1, 1.0, 3.0, 7.0, 15.0, 38.0, 100.0, 1000.0):
                spread = math.sqrt(freedom + 1)  # difference = noncentrality
                found = power_of_t(noncentrality, spread, freedom + 1, level)
                law = stats.nct(freedom, noncentrality)
                # the far tail is below 1e-12 from 7 on, where scipy's may be NaN
                expected = law.sf(critical) + (law.cdf(-critical) if noncentrality < 7 else 0.0)
                if math.isnan(expected):  # what is missed underflows
                    assert found == pytest.approx(1.0, abs=1e-12)
                    continue
                compared += 1
                assert found == pytest.approx(expected, abs=1e-10)
    assert compared > 80
    assert power_of_t(38.0, math.sqrt(10), 10, 0.05) == 1.0


def test_power_is_how_often_the_paired_test_finds_it() -> None:
    rng = generator(0, "power of the paired test")
    studies, seeds, level = 4000, 5, ALPHA / 6
    draws = rng.normal(1.5, 1.0, size=(studies, seeds))
    found = np.mean([paired_t_test(row).p < level for row in draws])
    expected = power_of_t(1.5, 1.0, seeds, level)
    assert 0.2 < expected < 0.8
    assert abs(found - expected) < 3 * math.sqrt(expected * (1 - expected) / studies)


@pytest.mark.parametrize("shared", [0.0, 0.5])  # the share of the baseline in the variance
def test_power_of_all_is_how_often_holm_finds_all(shared: float) -> None:
    rng = generator(0, "power of all", str(shared))
    studies, seeds, losses = 3000, 6, 4
    base = rng.normal(0, math.sqrt(shared), size=(studies, 1, seeds))
    draws = 1.6 + rng.normal(0, math.sqrt(1 - shared), size=(studies, losses, seeds)) - base
    p_values = stats.ttest_1samp(draws, 0, axis=2).pvalue
    found = np.mean([(holm(row) < ALPHA).all() for row in p_values])
    expected = power_of_all(1.6, 1.0, seeds, losses)
    error = 3 * math.sqrt(expected * (1 - expected) / studies)
    assert expected - error < found
    assert shared or found < expected + error
    assert power_of_all(1.6, 1.0, seeds, 1) == pytest.approx(power_of_t(1.6, 1.0, seeds, ALPHA))


@pytest.mark.parametrize("level", [0.05, 0.05 / 9])
@pytest.mark.parametrize("power", [0.8, 0.9])
def test_seeds_and_difference_are_the_power_solved_for_them(level: float, power: float) -> None:
    for seeds in (2, 3, 10, 200):
        difference = smallest_difference(0.02, seeds, level, power)
        assert power_of_t(difference, 0.02, seeds, level) == pytest.approx(power, abs=1e-7)
        assert seeds_needed(1.000001 * difference, 0.02, level, power) == seeds
        assert seeds_needed(0.999999 * difference, 0.02, level, power) == seeds + 1


def test_what_cannot_be_found_is_none_or_nan() -> None:
    assert seeds_needed(0.5, 1.0, 0.05) == 34
    assert seeds_needed(0.05, 1.0, 0.05) is None
    assert seeds_needed(0.05, 1.0, 0.05, most=5000) == 3142  # statsmodels: 3141.47
    assert seeds_needed(0.0, 1.0, 0.05) is None
    assert seeds_needed(math.nan, 1.0, 0.05) is None
    assert seeds_needed(0.1, math.nan, 0.05) is None
    assert math.isnan(power_of_t(0.1, 0.1, 1, 0.05))
    assert math.isnan(smallest_difference(0.1, 1, 0.05))
    assert (power_of_t(0.1, 0.0, 3, 0.05), power_of_t(0.0, 0.0, 3, 0.05)) == (1.0, 0.0)
    assert (smallest_difference(0.0, 3, 0.05), seeds_needed(0.1, 0.0, 0.05)) == (0.0, 2)
