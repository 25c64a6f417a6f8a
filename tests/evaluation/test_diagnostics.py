"""Over-fitting numbers against scipy, scikit-learn, numpy and loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score

from lossbench.errors import InputError
from lossbench.evaluation.diagnostics import COLUMNS, overfitting
from lossbench.evaluation.trajectories import (
    forgetting_events,
    margins,
    per_sample,
    trajectory_arrays,
)

EDGES = 10 ** np.linspace(-8, 2, 101)
TRAIN_COUNTS = np.array([300, 120, 60, 31, 30, 9, 1])


def losses(seed: int, targets: np.ndarray, spread: float) -> np.ndarray:
    """Rounded, so that many are equal, within and between the splits; some 0, some above 100."""
    draws = np.random.default_rng(seed).lognormal(-1, spread, targets.size)
    draws[::17] = 0
    draws[5::40] = 150
    return draws.round(2)


@pytest.fixture(scope="module")
def case():
    train = np.random.default_rng(0).permutation(np.repeat(np.arange(7), TRAIN_COUNTS))
    test = np.random.default_rng(1).permutation(
        np.repeat(np.arange(7), [50, 40, 50, 50, 10, 50, 3])
    )
    return losses(2, train, 1.5), train, losses(3, test, 2.5), test


def reference(
    a: np.ndarray, weights: np.ndarray, b: np.ndarray, num_classes: int
) -> dict[str, float]:
    """Training losses ``a`` with ``weights`` against test losses ``b``, slow and obvious."""
    members = np.concatenate([np.zeros(a.size), np.ones(b.size)])
    both = np.concatenate([weights, np.ones(b.size)])
    share = weights / weights.sum()
    outer = np.concatenate([[-1], EDGES, [np.inf]])
    p, q = (np.histogram(x, outer, weights=w)[0] for x, w in ((a, share), (b, np.ones(b.size))))
    inverse = {"method": "inverted_cdf"}
    quantiles = [
        np.quantile(b, level, **inverse) - np.quantile(a, level, weights=weights, **inverse)
        for level in (0.5 - 1e-12, 0.95 - 1e-12)  # half of 0.1 + 0.2 + 0.3 is not 0.3
    ]
    distances = [abs(share[a <= t].sum() - (b <= t).mean()) for t in np.union1d(a, b)]
    return {
        "overlap_coefficient": np.minimum(p, q / b.size).sum(),
        "kolmogorov_smirnov_distance": max(distances),
        "loss_threshold_auc": roc_auc_score(members, np.concatenate([a, b]), sample_weight=both),
        "mean_gap": b.mean() - np.average(a, weights=weights),
        "median_gap": quantiles[0],
        "percentile_95_gap": quantiles[1],
        "share_above_chance": np.mean(b > math.log(num_classes)),
    }


def test_each_class_against_scipy_and_scikit_learn(case) -> None:
    a, train, b, test = case
    table = overfitting(*case, class_counts=TRAIN_COUNTS, num_classes=7).arrays[
        "overfitting/by_class"
    ]
    assert table.shape == (7, len(COLUMNS))
    for label in range(7):
        x, y = a[train == label], b[test == label]
        expected = reference(x, np.ones(x.size), y, 7)
        np.testing.assert_allclose(table[label], [expected[name] for name in COLUMNS], atol=1e-12)
        assert table[label, 1] == pytest.approx(ks_2samp(x, y).statistic)


def test_groups_are_weighted_to_the_test_prior(case) -> None:
    a, train, b, test = case
    metrics = overfitting(*case, class_counts=TRAIN_COUNTS, num_classes=7).metrics
    groups = {"": range(7), "_head": (0, 1), "_mid": (2, 3, 4), "_tail": (5, 6)}
    assert len(metrics) == len(groups) * len(COLUMNS)
    for suffix, classes in groups.items():
        here, there = np.isin(train, classes), np.isin(test, classes)
        weights = (np.bincount(test, minlength=7) / TRAIN_COUNTS)[train[here]]
        expected = reference(a[here], weights, b[there], 7)
        for name in COLUMNS:
            assert metrics[f"overfitting{suffix}/{name}"] == pytest.approx(expected[name]), suffix


def test_a_shift_of_the_prior_alone_is_no_overfitting() -> None:
    of_class = [np.linspace(0.1, 1, 9), np.linspace(2, 9, 9)]
    a, train = np.concatenate([np.tile(of_class[0], 50), of_class[1]]), [0] * 450 + [1] * 9
    b, test = np.concatenate(of_class), [0] * 9 + [1] * 9
    metrics = overfitting(a, train, b, test, class_counts=[450, 9], num_classes=2).metrics
    expected = dict.fromkeys(COLUMNS, 0.0)
    above = float((b > math.log(2)).mean())
    expected |= {"overlap_coefficient": 1, "loss_threshold_auc": 0.5, "share_above_chance": above}
    for name, value in expected.items():
        assert metrics[f"overfitting/{name}"] == pytest.approx(value, abs=1e-12), name


def test_absent_classes_are_nan_and_count_in_no_group() -> None:
    a, train = np.array([0.1, 0.2, 0.3, 9.0]), np.array([0, 0, 1, 2])
    b, test = np.array([1.0, 2.0, 1e-3]), np.array([0, 1, 3])
    found = overfitting(a, train, b, test, class_counts=[2, 1, 1, 0], num_classes=4)
    assert (
        np.isnan(found.arrays["overfitting/by_class"]).all(axis=1).tolist()
        == [False] * 2 + [True] * 2
    )
    assert found.metrics["overfitting/loss_threshold_auc"] == 1
    assert found.metrics["overfitting/mean_gap"] == pytest.approx(1.5 - 0.225)
    assert math.isnan(found.metrics["overfitting_tail/mean_gap"])


def test_what_does_not_fit_is_refused(case) -> None:
    a, train, b, test = case
    options = {"class_counts": TRAIN_COUNTS, "num_classes": 7}
    with pytest.raises(InputError, match=r"train_losses have shape \(550,\)"):
        overfitting(a[1:], train, b, test, **options)
    with pytest.raises(InputError, match="test_targets go from 0 to 7"):
        overfitting(a, train, b, test + (test == 6), **options)
    with pytest.raises(InputError, match="class_counts has shape"):
        overfitting(a, train, b, test, class_counts=[1], num_classes=7)
    with pytest.raises(ValueError, match="1 of 253 test losses are NaN"):
        overfitting(a, train, np.where(np.arange(b.size) == 4, np.nan, b), test, **options)


def test_margins_and_trajectories() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(40, 3)).round(1), rng.integers(0, 3, 40)
    kept = logits.copy()
    expected = [row[y] - max(np.delete(row, y)) for row, y in zip(logits, targets, strict=True)]
    assert margins(logits, targets).tolist() == expected
    assert (logits == kept).all()
    many, labels = np.tile(logits, (3000, 1)), np.tile(targets, 3000)  # more than one block
    assert per_sample(margins, many, labels).tolist() == expected * 3000
    margin = np.array([[1, -1, 1], [-1, -1, 2], [0, -2, 3], [3, -1, -4], [-1, -1, 1.0]])
    assert forgetting_events(margin).tolist() == [2, -1, 1]
    assert forgetting_events(margin[:1]).tolist() == [0, -1, 0]
    arrays = trajectory_arrays(-np.log([[0.5], [1.0]]), [[3.0], [-1.0]])
    found = {name: float(array[0]) for name, array in arrays.items()}
    assert found == {
        "mean_margin": 1, "mean_probability": 0.75, "sd_probability": 0.25, "forgetting_events": 1,
    }  # fmt: skip
