"""Suspicious labels: what a mixture per class finds, and how that is scored."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_fscore_support
from sklearn.mixture import GaussianMixture

from lossbench.evaluation.noise_detection import (
    label_noise_metrics,
    noise_probability,
    suspicious_order,
)


def two_modes(
    rng: np.random.Generator, clean: tuple[float, int], noisy: tuple[float, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Suspicions of clean and noisy samples around two means, and which are noisy."""
    parts = [rng.normal(mean, 0.3, count) for mean, count in (clean, noisy)]
    return np.concatenate(parts), np.arange(clean[1] + noisy[1]) >= clean[1]


def test_rare_classes_that_look_noisy_as_a_whole_are_judged_by_themselves() -> None:
    rng = np.random.default_rng(0)
    frequent = two_modes(rng, (0.5, 800), (3.0, 60))
    rare = two_modes(rng, (3.0, 30), (6.0, 90))  # its clean samples are like the noise above
    suspicion, noisy = (np.concatenate(parts) for parts in zip(frequent, rare, strict=True))
    targets = np.repeat([1, 0], [860, 120])
    shuffled = rng.permutation(980)
    suspicion, noisy, targets = suspicion[shuffled], noisy[shuffled], targets[shuffled]
    flagged = noise_probability(suspicion, targets) > 0.5
    assert (flagged == noisy).mean() > 0.99
    together = noise_probability(suspicion, np.zeros_like(targets)) > 0.5
    assert together[(targets == 0) & ~noisy].mean() > 0.9


def test_the_probability_is_the_mixtures_and_never_falls_where_the_suspicion_rises() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(5, 0.2, 300), rng.normal(8, 3, 100)])  # wide on both sides
    probability = noise_probability(values, np.zeros(400, dtype=np.int64))
    assert (np.diff(probability[values.argsort()]) >= -1e-12).all()
    scaled = ((values - values.min()) / np.ptp(values))[:, None]
    mixture = GaussianMixture(2, reg_covar=5e-4, random_state=0).fit(scaled)
    low, high = np.sort(mixture.means_[:, 0])
    between = ((scaled > low) & (scaled < high))[:, 0]
    posterior = mixture.predict_proba(scaled)[:, mixture.means_[:, 0].argmax()]
    np.testing.assert_allclose(probability[between], posterior[between])
    assert (posterior[values < 3] > 0.5).all()  # what would have been flagged
    assert (probability[values < 3] < 0.5).all()


def test_small_classes_share_a_mixture_with_the_next_larger_ones() -> None:
    rng = np.random.default_rng(2)
    suspicion, _ = two_modes(rng, (1, 300), (4, 100))
    targets = np.repeat(np.arange(6), [250, 60, 45, 20, 15, 10])[rng.permutation(400)]
    expected = np.empty(400)
    for together in ([0], [1], [2, 3, 4, 5]):  # 10 + 15 + 20 are below 50, so 45 joins them
        part = np.isin(targets, together)
        expected[part] = noise_probability(suspicion[part], np.zeros(part.sum(), dtype=np.int64))
    assert np.array_equal(noise_probability(suspicion, targets), expected)


@pytest.mark.parametrize("counts", [(20, 30, 30, 30, 40), (12, 12), (60, 20, 20, 5), (7,) * 9])
def test_no_class_is_left_out_however_small_they_all_are(counts: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(len(counts)), counts)
    noisy = np.arange(len(targets)) % 5 == 0
    suspicion = np.where(noisy, 5.0, 0.5) + rng.normal(0, 0.1, len(targets))
    assert np.array_equal(noise_probability(suspicion, targets) > 0.5, noisy)


@pytest.mark.parametrize("size", [1, 3, 60])
def test_equal_suspicions_flag_nothing(size: int) -> None:
    assert (
        noise_probability(np.full(size, 2.5), np.zeros(size, dtype=np.int64)).tolist()
        == [0.0] * size
    )


def test_metrics_against_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    noisy = rng.random(200) < 0.2
    suspicion = rng.normal(size=200) + noisy
    of_class = rng.normal(0, 0.5, 2)[rng.integers(0, 2, 200)]
    probability = np.clip((suspicion + of_class).round(1), 0, 1)
    found = label_noise_metrics(probability, suspicion, noisy)
    precision, recall, f1, _ = precision_recall_fscore_support(
        noisy, probability > 0.5, average="binary"
    )
    order = suspicious_order(probability, suspicion)
    by_hand = sorted(range(200), key=lambda i: (-probability[i], -suspicion[i]))
    assert order.tolist() == by_hand
    assert found == pytest.approx(
        {
            "share_flagged": (probability > 0.5).mean(),
            "share_noisy": noisy.mean(),
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "average_precision": average_precision_score(noisy[order], -np.arange(200)),
        }
    )
    assert label_noise_metrics(probability, suspicion, None) == {
        "share_flagged": found["share_flagged"]
    }


def test_without_noise_or_flags_what_is_undefined_is_nan() -> None:
    none = np.zeros(4, dtype=bool)
    found = label_noise_metrics(np.zeros(4), np.arange(4), none)
    assert found["share_flagged"] == found["share_noisy"] == 0
    undefined = ("precision", "recall", "f1", "average_precision")
    assert all(math.isnan(found[name]) for name in undefined)
