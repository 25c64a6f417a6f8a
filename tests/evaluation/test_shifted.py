"""Shifted test priors against scikit-learn's sample weights and against drawn test sets."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss

from lossbench.errors import InputError
from lossbench.evaluation.classification import balanced_accuracy, confusion_matrix
from lossbench.evaluation.shifted import shifted_metrics, shifted_priors

CLASSES = 7
COUNTS = np.array([40, 500, 8, 120, 8, 900, 60])
RANKS = np.array([4, 1, 5, 2, 6, 0, 3])  # the two of 8 images by index
PRIORS = {"uniform": np.ones(CLASSES)} | {
    f"{name}_{factor}": float(factor) ** (sign * RANKS / 6)
    for factor in (50, 10, 2)
    for name, sign in (("forward", -1), ("backward", 1))
}


def outputs(sizes: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that know something of the targets, ``sizes[c]`` of class c, in mixed order."""
    draws = np.random.default_rng(seed)
    targets = draws.permutation(np.repeat(np.arange(len(sizes)), sizes))
    logits = draws.normal(size=(len(targets), len(sizes))) * 3
    logits[np.arange(len(targets)), targets] += 2
    return logits, targets


@pytest.mark.parametrize(
    "sizes", [[30] * 7, [5, 60, 11, 2, 90, 1, 33], [5, 60, 0, 2, 90, 0, 33]],
    ids=["balanced", "unbalanced", "absent classes"],
)  # fmt: skip
def test_every_number_is_that_of_weighted_samples(sizes: list[int]) -> None:
    logits, targets = outputs(sizes)
    present = np.flatnonzero(sizes)
    log_model = np.log(COUNTS) - np.linspace(0, 1, CLASSES)  # a loss with weights of its own
    found = shifted_metrics(logits, targets, class_counts=COUNTS, log_prior_model=log_model + 3)
    assert len(found) == 4 * len(PRIORS)
    for name, shares in PRIORS.items():
        prior = shares / shares[present].sum()
        weights = (prior / np.maximum(sizes, 1))[targets]
        adjusted = (logits - log_model + np.log(prior))[:, present]
        for kind, z, classes in (
            ("", logits, np.arange(CLASSES)),
            ("adjusted_", adjusted, present),  # what is known to be absent is never answered
        ):
            probabilities = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
            answers = classes[z.argmax(axis=1)]
            assert found[f"{kind}accuracy_{name}"] == pytest.approx(
                accuracy_score(targets, answers, sample_weight=weights), abs=1e-12
            )
            assert found[f"{kind}cross_entropy_{name}"] == pytest.approx(
                log_loss(targets, probabilities, sample_weight=weights, labels=classes), rel=1e-10
            )


def test_a_drawn_test_set_of_that_prior_gives_these_numbers() -> None:
    """400,000 samples drawn from the outputs; four standard errors."""
    logits, targets = outputs([40] * 7)
    found = shifted_metrics(logits, targets, class_counts=COUNTS, log_prior_model=np.log(COUNTS))
    draws = np.random.default_rng(1)
    correct = logits.argmax(axis=1) == targets
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(targets)), targets]
    for name in ("forward_50", "backward_10"):
        classes = draws.choice(CLASSES, 400_000, p=PRIORS[name] / PRIORS[name].sum())
        drawn = np.argsort(targets, kind="stable")[40 * classes + draws.integers(0, 40, 400_000)]
        for metric, values in (("accuracy", correct), ("cross_entropy", losses)):
            error = 4 * values[drawn].std() / np.sqrt(len(drawn))
            assert found[f"{metric}_{name}"] == pytest.approx(values[drawn].mean(), abs=error)


def test_the_uniform_prior_is_balanced_accuracy_and_stands_alone_without_imbalance() -> None:
    logits, targets = outputs([5, 60, 11, 2, 90, 0, 33])
    equal = np.full(CLASSES, 50)
    found = shifted_metrics(logits, targets, class_counts=equal, log_prior_model=np.log(equal))
    assert {name.rpartition("_")[2] for name in found} == {"uniform"}
    confusion = confusion_matrix(targets, logits.argmax(axis=1), CLASSES)
    assert found["accuracy_uniform"] == pytest.approx(balanced_accuracy(confusion))


def test_counts_that_are_nearly_equal_by_nature_have_no_direction() -> None:
    digits = [123, 126, 122, 127, 125, 126, 125, 124, 120, 124]
    assert list(shifted_priors(digits, (50,))) == ["uniform"]
    assert list(shifted_priors([149, 100], (50,))) == ["uniform"]
    assert list(shifted_priors([100, 150], (50,))) == ["uniform", "forward_50", "backward_50"]
    assert list(shifted_priors([7], (50,))) == ["uniform"]


def test_the_posterior_of_the_training_prior_gains_from_knowing_the_test_prior() -> None:
    """Bayes' rule on two Gaussians: the adjusted logits are the best there are, both ways."""
    draws = np.random.default_rng(0)
    counts, targets = np.array([990, 10]), np.repeat([0, 1], 20_000)
    x = draws.normal(np.where(targets == 0, -1.0, 1.0))
    logits = np.stack([np.log(counts[0]) - (x + 1) ** 2 / 2, np.log(counts[1]) - (x - 1) ** 2 / 2])
    found = shifted_metrics(
        logits.T, targets, class_counts=counts, log_prior_model=np.log(counts), factors=(99, 5)
    )
    # the training prior itself: nothing to adjust
    for metric in ("accuracy", "cross_entropy"):
        told = found[f"adjusted_{metric}_forward_99"]
        assert told == pytest.approx(found[f"{metric}_forward_99"], rel=1e-12)
    for prior in ("forward_5", "uniform", "backward_5", "backward_99"):
        assert found[f"adjusted_accuracy_{prior}"] > found[f"accuracy_{prior}"] + 0.01
        assert found[f"adjusted_cross_entropy_{prior}"] < found[f"cross_entropy_{prior}"] - 0.01


def test_lades_test_priors() -> None:
    """CIFAR-100-LT's ranks: the exponential profile itself, and its mirror image."""
    counts = np.arange(100, 0, -1)
    priors = shifted_priors(counts, (50, 25, 10, 5, 2))
    assert len(priors) == 11
    for factor in (50, 25, 10, 5, 2):
        forward = priors[f"forward_{factor}"]
        images = [factor ** (-i / 99) for i in range(100)]
        np.testing.assert_allclose(forward, np.array(images) / sum(images), rtol=1e-12)
        np.testing.assert_allclose(priors[f"backward_{factor}"], forward[::-1], rtol=1e-12)


def test_extreme_logits_blocks_and_what_a_model_never_met(monkeypatch) -> None:
    logits, targets = outputs([3] * 7)
    given = {"class_counts": COUNTS, "log_prior_model": np.log(COUNTS)}
    whole = shifted_metrics(logits, targets, **given)
    monkeypatch.setattr("lossbench.evaluation.probabilities.BLOCK", 4 * CLASSES)
    assert shifted_metrics(logits, targets, **given) == pytest.approx(whole, rel=1e-12)
    extreme = shifted_metrics(logits * 1e4, targets, **given)
    assert np.isfinite(list(extreme.values())).all()
    unmet = {"class_counts": COUNTS, "log_prior_model": np.log(np.maximum(COUNTS - 8, 1e-300))}
    unmet["log_prior_model"][2] = -np.inf
    found = shifted_metrics(logits, targets, **unmet)
    assert all(np.isnan(value) == name.startswith("adjusted") for name, value in found.items())
    with pytest.raises(InputError, match=r"logits have shape \(21, 7\).*must be \(21, 6\)"):
        shifted_metrics(logits, targets, class_counts=COUNTS[:6], log_prior_model=np.zeros(6))
