from __future__ import annotations

import math

import numpy as np
import pytest

from lossbench.evaluation.bootstrap import balanced_accuracy_interval

CONFUSION = np.array([[900, 80, 20], [30, 60, 10], [10, 15, 25]])


def test_against_resampling_the_examples_of_each_class():
    hits = [np.repeat([1, 0], [row[c], row.sum() - row[c]]) for c, row in enumerate(CONFUSION)]
    generator = np.random.default_rng(0)
    replicates = [
        np.mean([generator.choice(h, size=len(h)).mean() for h in hits]) for _ in range(4000)
    ]
    expected = np.quantile(replicates, [0.025, 0.975])
    found = balanced_accuracy_interval(CONFUSION, replicates=20_000)
    # the standard error of a 2.5 % quantile of 4000 replicates is about 2.7 SD / sqrt(4000)
    assert found == pytest.approx(expected, abs=3 * 2.7 * np.std(replicates) / math.sqrt(4000))


def test_it_covers_the_truth_about_as_often_as_it_says():
    truth, sizes = np.array([0.9, 0.7, 0.5, 0.3]), np.array([200, 200, 100, 100])
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        hits = generator.binomial(sizes, truth)
        confusion = np.diag(hits)
        confusion[:, 0] += sizes - hits
        confusion[0] = [hits[0], sizes[0] - hits[0], 0, 0]
        low, high = balanced_accuracy_interval(confusion, replicates=1000)
        covered += low <= truth.mean() <= high
    assert 0.90 < covered / 300 < 0.99


def test_same_outputs_same_interval_and_absent_classes_do_not_count():
    wider = np.zeros((5, 5), dtype=np.int64)
    wider[np.ix_([0, 2, 3], [0, 2, 3])] = CONFUSION
    assert balanced_accuracy_interval(wider) == balanced_accuracy_interval(CONFUSION)


def test_the_ends():
    assert balanced_accuracy_interval(np.diag([3, 4])) == (1.0, 1.0)
    assert balanced_accuracy_interval(np.array([[0, 3], [4, 0]])) == (0.0, 0.0)
    assert all(math.isnan(end) for end in balanced_accuracy_interval(np.zeros((2, 2), dtype=int)))
