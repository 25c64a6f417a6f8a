"""Statistics over cells against scipy, slow loops, and what others published or computed."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from lossbench.comparison.statistics import across

# Demsar (2006, JMLR 7:1-30), table 6: areas under the ROC curve of C4.5, C4.5+m, C4.5+cf and
# C4.5+m+cf on 14 data sets. The last two of row 13 are both printed as 0.975, but ranked 2 and 3.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def ragged(seed: int, cells: int = 4, seeds: int = 5) -> np.ndarray:
    """Runs (cells, seeds) with ties, some of them missing, at least one in a cell."""
    rng = np.random.default_rng(seed)
    runs = rng.integers(0, 12, size=(cells, seeds)) + 5.0 * np.arange(cells)[:, None]
    runs[:, 1:][rng.random((cells, seeds - 1)) < 0.3] = np.nan
    return runs


def present(cell: np.ndarray) -> list[float]:
    return [value for value in cell if not math.isnan(value)]


def test_the_worked_example_of_demsar() -> None:
    average = across.ranks(DEMSAR).mean(axis=0)
    assert average.round(3).tolist() == [3.143, 2.0, 2.893, 1.964]
    distance = across.critical_difference(4, 14)
    assert round(distance, 2) == 1.25
    assert across.groups(average, distance) == [(3, 1, 2, 0)]  # "not powerful enough"
    # the paper does not correct for ties: undo it (Conover 1999, section 5.8)
    tied = [np.unique(row, return_counts=True)[1] for row in DEMSAR]
    kept = 1 - sum(float(np.sum(t**3 - t)) for t in tied) / (14 * 4 * (4**2 - 1))
    plain = across.friedman(DEMSAR).chi_square * kept
    assert round(plain, 2) == 9.28
    assert round(13 * plain / (14 * 3 - plain), 2) == 3.69


@pytest.mark.parametrize(("cells", "labels", "seed"), [(6, 3, 0), (14, 4, 1), (40, 9, 2)])
def test_friedman_is_scipys_and_its_f_an_analysis_of_variance(
    cells: int, labels: int, seed: int
) -> None:
    scores = np.random.default_rng(seed).integers(0, 6, size=(cells, labels)) / 7  # with ties
    scores[:, 0] += 0.1
    found = across.friedman(scores)
    assert found.chi_square == pytest.approx(stats.friedmanchisquare(*scores.T).statistic)
    # two-way analysis of variance of the ranks: labels against what labels and cells leave
    ranks = np.array([stats.rankdata(-row) for row in scores])
    between = cells * np.sum((ranks.mean(axis=0) - ranks.mean()) ** 2)
    within = np.sum((ranks - ranks.mean(axis=1, keepdims=True)) ** 2)
    f = (between / (labels - 1)) / ((within - between) / ((labels - 1) * (cells - 1)))
    assert found.f == pytest.approx(f)
    assert found.p == pytest.approx(stats.f.sf(f, labels - 1, (labels - 1) * (cells - 1)))


def test_few_cells_that_agree_show_no_more_than_permutations_allow() -> None:
    agreeing = [[3.0, 2.0, 1.0], [0.3, 0.2, 0.1]]
    orders = list(itertools.permutations([1, 2, 3]))
    alike = sum(order == orders[0] for order in orders) / len(orders)  # of the second to the first
    assert across.friedman(agreeing).p == pytest.approx(alike)
    assert across.friedman(np.ones((5, 3))).p == 1


def test_equal_scores_tie_whatever_the_order_of_a_sum() -> None:
    scores = [[0.1 + 0.2, 0.3, 0.0], [(0.1 + 0.2) * 1e-6, 0.3e-6, 0.0]]
    assert across.ranks(scores).tolist() == [[1.5, 1.5, 3]] * 2
    assert across.differences(scores, 0)[0].tolist() == [0, 0, -0.3]


def test_signed_ranks_are_wilcoxons_with_holm() -> None:
    rng = np.random.default_rng(5)
    scores = rng.normal([0, 0.3, 0.8, -1.2], size=(12, 4))
    scores[3, 2] = scores[3, 0]  # a cell without a difference takes no part
    found = across.signed_ranks(scores, baseline=0)
    moved = [(scores - scores[:, [0]])[:, label] for label in (1, 2, 3)]
    p = [stats.wilcoxon(column[column != 0], method="exact").pvalue for column in moved]
    assert [test.p for test in found] == pytest.approx(p)
    order = sorted(range(3), key=lambda place: p[place])
    steps = [min(1, (3 - step) * p[place]) for step, place in enumerate(order)]
    adjusted = dict(zip(order, np.maximum.accumulate(steps), strict=True))
    assert [test.holm_p for test in found] == pytest.approx([adjusted[i] for i in range(3)])
    for test, column in zip(found, moved, strict=True):
        assert (test.better, test.worse) == (np.sum(column > 0), np.sum(column < 0))
        walsh = [(a + b) / 2 for a, b in itertools.combinations_with_replacement(column, 2)]
        assert test.centre == pytest.approx(np.median(walsh))
        signed = np.sign(column) @ stats.rankdata(np.where(column == 0, np.inf, abs(column)))
        assert test.rank_sum == pytest.approx(signed)


def test_critical_differences_are_those_of_the_tables() -> None:
    # q_0.05 in Demsar 2006, table 5a
    for labels, q in {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 8: 3.031, 10: 3.164}.items():
        expected = q * math.sqrt(labels * (labels + 1) / (6 * 20))
        assert across.critical_difference(labels, 20) == pytest.approx(expected, rel=5e-4)


def test_pairs_beyond_the_critical_difference_are_those_of_scikit_posthocs() -> None:
    scores = np.random.default_rng(3).normal(size=(15, 6)) + np.linspace(0, 2, 6)
    average = across.ranks(scores).mean(axis=0)
    distance = across.critical_difference(6, 15)
    pairs = list(itertools.combinations(range(6), 2))
    # posthoc_nemenyi_friedman(scores).to_numpy()[np.triu_indices(6, 1)] < 0.05, version 0.17.1
    significant = [bool(int(digit)) for digit in "000110011001000"]
    assert [abs(average[i] - average[j]) >= distance for i, j in pairs] == significant
    joined = across.groups(average, distance)
    together = [any(i in group and j in group for group in joined) for i, j in pairs]
    assert together == [not different for different in significant]
    assert not any(set(a) <= set(b) for a, b in itertools.permutations(joined, 2))


def test_the_interquartile_mean_is_scipys_trimmed_mean() -> None:
    for count in (1, 3, 4, 7, 60):
        values = np.random.default_rng(count).normal(size=(2, count))
        expected = stats.trim_mean(values, 0.25, axis=1)  # rliable's aggregate_iqm
        assert across.interquartile_mean(values) == pytest.approx(expected)


def test_its_interval_is_that_of_a_slow_stratified_bootstrap() -> None:
    runs = ragged(1)
    found = across.interquartile_mean_interval(runs, "slow", repetitions=20_000)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(3_000):
        values = sorted(
            float(v) for cell in runs for v in rng.choice(present(cell), len(present(cell)))
        )
        cut = len(values) // 4
        drawn.append(np.mean(values[cut : len(values) - cut]))
    assert found.value == pytest.approx(stats.trim_mean(runs[~np.isnan(runs)], 0.25))
    spread = float(np.std(drawn))
    assert found[1:] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.15 * spread)


def test_seeds_are_drawn_anew_and_cells_are_not() -> None:
    cells = np.repeat([[0.0], [0.5], [0.9]], 4, axis=1)  # cells differ, seeds do not
    found = across.interquartile_mean_interval(cells, "cells")
    assert found.low == found.high == found.value
    improvement = across.probability_of_improvement(
        cells, cells[:, ::-1] + [[0.1], [0], [-0.1]], ""
    )
    assert improvement == (0.5, 0.5, 0.5)  # lost, tied and won for certain
    share, low, high = across.performance_profile(cells, np.array([0.4, 0.5]), "")
    assert share == pytest.approx([2 / 3, 1 / 3])
    assert np.array_equal(low, share)
    assert np.array_equal(high, share)


def test_a_profile_counts_runs_above_and_its_band_is_binomial_in_one_cell() -> None:
    runs = ragged(2)
    thresholds = np.unique(runs[~np.isnan(runs)])
    share, _, _ = across.performance_profile(runs, thresholds, "ragged", repetitions=2)
    values = present(runs.ravel())
    slow = [sum(value > threshold for value in values) / len(values) for threshold in thresholds]
    assert share == pytest.approx(slow)
    one = np.arange(20.0)[None]
    share, low, high = across.performance_profile(one, np.array([3.5, 9.5, 14.0]), "one", 40_000)
    for place, above in enumerate((16, 10, 5)):
        assert share[place] == above / 20
        ends = stats.binom.ppf([0.025, 0.975], 20, above / 20) / 20
        assert (low[place], high[place]) == pytest.approx(ends, abs=0.051)  # one step of 1/20


def test_the_probability_of_improvement_is_rliables() -> None:
    runs, others = ragged(3), ragged(4) - 1

    def slow(first: list[list[float]], second: list[list[float]]) -> float:
        """rliable's probability_of_improvement: Mann-Whitney per cell, averaged over cells."""
        return float(
            np.mean(
                [
                    np.mean([(x > y) + (x == y) / 2 for x in left for y in right])
                    for left, right in zip(first, second, strict=True)
                ]
            )
        )

    left, right = [present(cell) for cell in runs], [present(cell) for cell in others]
    found = across.probability_of_improvement(runs, others, "slow", repetitions=20_000)
    assert found.value == pytest.approx(slow(left, right))
    rng = np.random.default_rng(0)
    drawn = [
        slow(*([rng.choice(cell, len(cell)).tolist() for cell in side] for side in (left, right)))
        for _ in range(3_000)
    ]
    spread = float(np.std(drawn))
    assert found[1:] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.2 * spread)


def test_the_bayesian_test_is_baycomps() -> None:
    # two_on_multiple(x, y, rope, nsamples=200000, random_state=1) of baycomp 1.0.3, turned round,
    # on Demsar's table in units of 0.0001, where equal differences are equal for baycomp too
    published = {
        (1, 0.01): (0.6714, 0.3286, 0.0),
        (2, 0.01): (0.1673, 0.7442, 0.0885),
        (2, 0.005): (0.4993, 0.1139, 0.3868),
        (3, 0.02): (0.4544, 0.5456, 0.0),
    }
    moved = across.differences(DEMSAR, 0)
    for (label, margin), expected in published.items():
        (found,) = across.bayesian_signed_rank(moved[:, [label]], margin)
        assert found == pytest.approx(expected, abs=0.011)  # three standard errors of 20,000 draws


def test_a_sum_on_the_edge_of_the_margin_is_counted_half_in_every_unit() -> None:
    moved = across.differences(DEMSAR, 0)  # 0.013 + 0.007 misses 2 * 0.01 by rounding
    whole = across.bayesian_signed_rank(np.rint(moved * 10_000), 100, repetitions=2_000)
    for sign in (1, -1):
        found = across.bayesian_signed_rank(sign * moved, 0.01, repetitions=2_000)
        assert np.array_equal(found[:, ::sign], whole)


def test_the_bayesian_test_of_one_cell_is_a_beta_distribution() -> None:
    # the weight w of the prior's 0 is Beta(0.5, 1), with P(w < x) = sqrt(x). Beyond twice the
    # margin, only 0 + 0 is equivalent: better if 1 - w^2 > w^2. Below twice, also 0 + z is:
    # better if (1 - w)^2 > 1 - (1 - w)^2.
    far, near = across.bayesian_signed_rank([[3.0, 1.5]], 1.0)
    assert far[0] == pytest.approx(math.sqrt(math.sqrt(0.5)), abs=0.008)
    assert near[0] == pytest.approx(math.sqrt(1 - math.sqrt(0.5)), abs=0.011)
    assert far[2] == near[2] == 0
    assert far.sum() == near.sum() == 1


def test_draws_are_the_same_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, others, moved = ragged(5), ragged(6), across.differences(DEMSAR, 0)

    def everything() -> list[np.ndarray]:
        return [
            np.array(across.interquartile_mean_interval(runs, "name", 50)),
            np.array(across.performance_profile(runs, np.array([5.0, 9.0]), "name", 50)),
            np.array(across.probability_of_improvement(runs, others, "name", 50)),
            across.bayesian_signed_rank(moved, 0.01, 50),
        ]

    whole = everything()
    monkeypatch.setattr(across, "BLOCK", 45)
    for found, expected in zip(everything(), whole, strict=True):
        assert np.array_equal(found, expected)
