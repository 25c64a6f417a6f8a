from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from lossbench.errors import InputError
from lossbench.evaluation.probabilities import adjust_prior, cross_entropy, log_softmax


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_log_softmax_is_scipys_in_float64(dtype):
    logits = np.random.default_rng(0).normal(size=(50, 7), scale=20).astype(dtype)
    found = log_softmax(logits)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, special.log_softmax(logits.astype(np.float64), axis=1))


def test_log_softmax_neither_overflows_nor_rounds_early():
    found = log_softmax([[1e5, 0.0], [-1e5, -1e5], [18.0, 0.0], [0.0, -np.inf]])
    np.testing.assert_array_equal(found[0], [0.0, -1e5])
    np.testing.assert_allclose(found[1], [-np.log(2)] * 2)
    # In float32 this would be exactly 0.
    np.testing.assert_allclose(found[2, 0], -np.exp(-18.0), rtol=1e-7)
    np.testing.assert_array_equal(found[3], [0.0, -np.inf])


def test_log_softmax_leaves_its_input_alone():
    logits = np.arange(6.0).reshape(2, 3)
    before = logits.copy()
    log_softmax(logits)
    np.testing.assert_array_equal(logits, before)


def test_cross_entropy_is_sklearns_log_loss_sample_by_sample():
    from sklearn.metrics import log_loss

    generator = np.random.default_rng(0)
    logits, targets = generator.normal(size=(40, 5)), generator.integers(0, 5, 40)
    losses = cross_entropy(logits, targets)
    assert losses.shape == (40,)
    probabilities = special.softmax(logits, axis=1)
    for i in range(40):
        alone = log_loss(targets[i : i + 1], probabilities[i : i + 1], labels=range(5))
        assert losses[i] == pytest.approx(alone)


def test_adjust_prior_gives_the_posterior_of_the_other_population():
    """Bayes' rule on three normal densities, under each prior from scratch."""
    x = np.linspace(-4, 6, 50)
    density = np.stack([stats.norm.pdf(x, mean) for mean in (-1.0, 0.0, 2.0)], axis=1)
    train, goal = np.array([0.9, 0.09, 0.01]), np.array([0.2, 0.3, 0.5])
    posterior_train = density * train / (density * train).sum(axis=1, keepdims=True)
    posterior_goal = density * goal / (density * goal).sum(axis=1, keepdims=True)
    logits = np.log(posterior_train) + x[:, None]  # any constant per sample
    adjusted = adjust_prior(logits, np.log(train) + 3.0, np.log(goal) - 1.0)
    np.testing.assert_allclose(special.softmax(adjusted, axis=1), posterior_goal)


def test_adjust_prior_to_an_absent_class_is_probability_zero_without_nan():
    with np.errstate(divide="ignore"):
        train, goal = np.log([0.5, 0.5, 0.0]), np.log([0.3, 0.0, 0.0])
    logits = np.array([[1.0, 2.0, 3.0]])
    adjusted = adjust_prior(logits, train, goal)
    np.testing.assert_array_equal(np.exp(log_softmax(adjusted)), [[1.0, 0.0, 0.0]])


def test_adjust_prior_from_a_class_never_met_is_refused():
    with pytest.raises(InputError, match=r"classes \[1\] have prior 0 in log_prior_from"):
        adjust_prior(np.zeros((1, 2)), [0.0, -np.inf], [0.0, 0.0])
