"""Post-hoc methods against scikit-learn, brute force, and populations whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, roc_curve

from lossbench.comparison.posthoc import TAGS
from lossbench.evaluation import evaluate
from lossbench.evaluation.posthoc import (
    TAUS,
    Head,
    choose_tau,
    fit_temperature,
    fit_vector,
    logit_adjustment,
    posthoc_matrix,
    tau_normalization,
)
from lossbench.evaluation.thresholds import fit_thresholds
from lossbench.settings import POSTHOC

LONG_TAIL = np.array([0.6, 0.25, 0.1, 0.05])
UNIFORM = np.full(4, 0.25)


def population(prior: np.ndarray, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """``log p(x | y)`` for every y, up to a constant per x, and the labels: Gaussian classes."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(len(prior), size, p=prior)
    means = np.diag(np.linspace(2.2, 0.6, len(prior)))  # the rare classes are the hard ones
    x = means[labels] + generator.normal(size=(size, len(prior)))
    return -((x[:, None, :] - means) ** 2).sum(axis=2) / 2, labels


def nll(logits: np.ndarray, targets: np.ndarray, prior_model: np.ndarray) -> float:
    """Mean cross-entropy at the prior of ``targets``; classes that do not occur have prior 0."""
    counts = np.bincount(targets, minlength=logits.shape[1])
    with np.errstate(divide="ignore"):
        shift = np.log(counts) - np.log(prior_model)
    return -log_softmax(logits + shift, axis=1)[np.arange(len(targets)), targets].mean()


class Logits(ClassifierMixin, BaseEstimator):
    """A fitted classifier, for scikit-learn, whose decision function is its input."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> Logits:
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return x

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x.argmax(axis=1)


def test_temperature_is_scikit_learns_where_the_priors_agree() -> None:
    log_likelihood, targets = population(LONG_TAIL, 800, seed=0)
    logits = 3 * log_likelihood + np.log(LONG_TAIL)
    prior = np.bincount(targets) / len(targets)
    temperature = fit_temperature(logits, targets, np.log(prior))
    frozen = FrozenEstimator(Logits().fit(logits, targets))
    theirs = CalibratedClassifierCV(frozen, method="temperature").fit(logits, targets)
    expected = np.exp(log_softmax(logits / temperature, axis=1))
    np.testing.assert_allclose(theirs.predict_proba(logits), expected, atol=1e-5)


@pytest.mark.parametrize("prior_model", [UNIFORM, LONG_TAIL], ids=["balanced", "long-tailed"])
@pytest.mark.parametrize("prior_val", [UNIFORM, LONG_TAIL], ids=["on balanced", "on long-tailed"])
def test_the_true_temperature_is_found_whatever_the_priors(
    prior_model: np.ndarray, prior_val: np.ndarray
) -> None:
    """A model 2.5 times too sure of the posterior under its prior (uniform: balanced softmax)."""
    log_likelihood, targets = population(prior_val, 20_000, seed=1)
    logits = 2.5 * (log_likelihood + np.log(prior_model))
    found = fit_temperature(logits, targets, np.log(prior_model))
    assert found == pytest.approx(2.5, rel=0.02)
    if prior_model is not prior_val:  # the trap: taken as they are, the logits mislead the fit
        own_prior = np.log(np.bincount(targets) / len(targets))
        assert fit_temperature(logits, targets, own_prior) != pytest.approx(2.5, rel=0.06)


def test_vector_scaling_of_two_classes_is_logistic_regression() -> None:
    log_likelihood, targets = population(np.array([0.8, 0.2]), 500, seed=2)
    logits = log_likelihood * [3.0, 0.5] + [1.0, 0.0]
    log_prior = np.log([0.5, 0.5])
    found = fit_vector(logits, targets, log_prior)
    # the log-odds are scale_1 z_1 - scale_0 z_0 + offset_1 - offset_0 + log of the share of each
    theirs = LogisticRegression(C=np.inf, tol=1e-8).fit(logits * [-1, 1], targets)
    np.testing.assert_allclose(found.scale, theirs.coef_[0], rtol=1e-3)
    odds = np.log((targets == 1).sum() / (targets == 0).sum())
    difference = found.offset[1] - found.offset[0]
    assert difference + odds == pytest.approx(theirs.intercept_[0], abs=1e-3)


def test_vector_scaling_is_at_the_minimum_and_spares_absent_classes() -> None:
    log_likelihood, targets = population(np.array([0.5, 0.3, 0.0, 0.2]), 2000, seed=3)
    logits = 2 * log_likelihood + [0.0, 1.0, 0.0, -1.0]
    found = fit_vector(logits, targets, np.log(LONG_TAIL))
    best = nll(found(logits), targets, LONG_TAIL)
    assert best < nll(logits / 2, targets, LONG_TAIL) - 0.01
    generator = np.random.default_rng(0)
    for _ in range(100):  # convex: a local minimum is the global one
        scale = found.scale + 0.02 * generator.normal(size=4)
        offset = found.offset + 0.02 * generator.normal(size=4)
        assert nll(logits * scale + offset, targets, LONG_TAIL) > best
    assert found.scale[2] == pytest.approx(found.scale[[0, 1, 3]].mean())
    assert found.offset[2] == 0
    assert found.offset.sum() == pytest.approx(0)


@pytest.mark.parametrize("case", ["noise", "separable", "one class", "constant", "large"])
def test_fits_are_never_worse_on_their_own_data(case: str) -> None:
    generator = np.random.default_rng(4)
    targets = generator.integers(0, 4, 60)
    logits = generator.normal(size=(60, 4))
    if case == "separable":
        logits[np.arange(60), targets] += 20
    if case == "one class":
        targets[:] = 2
    if case == "constant":
        logits[:] = 1.5
    if case == "large":
        logits *= 1000
    prior = LONG_TAIL
    before = nll(logits, targets, prior)
    temperature = fit_temperature(logits, targets, np.log(prior))
    assert 0.01 <= temperature <= 100
    assert nll(logits / temperature, targets, prior) <= before
    assert nll(fit_vector(logits, targets, np.log(prior))(logits), targets, prior) <= before
    moved = logits + fit_thresholds(logits, targets)
    assert recall_mean(moved, targets) >= recall_mean(logits, targets)


def recall_mean(logits: np.ndarray, targets: np.ndarray) -> float:
    """Balanced accuracy the obvious way."""
    predicted = logits.argmax(axis=1)
    return float(np.mean([(predicted[targets == c] == c).mean() for c in np.unique(targets)]))


def test_logit_adjustment_corrects_once() -> None:
    log_likelihood, targets = population(UNIFORM, 2000, seed=5)
    cross_entropy = log_likelihood + np.log(LONG_TAIL)
    adjusted = logit_adjustment(np.log(LONG_TAIL), 1.0).map(cross_entropy)
    assert np.array_equal(adjusted.argmax(axis=1), log_likelihood.argmax(axis=1))
    # a model of balanced softmax answers for the uniform prior already
    for tau in (1.0, 2.7):
        again = logit_adjustment(np.log(UNIFORM), tau).map(log_likelihood)
        np.testing.assert_array_equal(again, log_likelihood)


def test_tau_is_the_best_on_the_grid_and_of_equals_the_nearest_to_1() -> None:
    log_likelihood, targets = population(UNIFORM, 300, seed=6)
    logits = log_likelihood + 1.8 * np.log(LONG_TAIL)
    recalls = {
        tau: balanced_accuracy_score(targets, (logits - tau * np.log(LONG_TAIL)).argmax(axis=1))
        for tau in np.round(np.arange(0, 3.05, 0.1), 1)
    }
    best = [tau for tau, value in recalls.items() if value > max(recalls.values()) - 1e-9]
    found = choose_tau(lambda tau: logit_adjustment(np.log(LONG_TAIL), tau).map(logits), targets)
    assert found == min(best, key=lambda tau: abs(tau - 1))
    assert 1.3 < found < 2.3
    assert choose_tau(lambda tau: logits, targets) == 1.0
    assert TAUS[[0, 13, 30]].tolist() == [0.0, 1.3, 3.0]


def test_tau_normalization_is_another_head_without_bias() -> None:
    generator = np.random.default_rng(7)
    features = generator.normal(size=(50, 8))
    weight = generator.normal(size=(4, 8)) * np.array([[3.0], [1.0], [0.5], [0.1]])
    bias = generator.normal(size=4)
    raw = features @ weight.T + bias
    for tau in (0.0, 0.7, 2.0):
        expected = features @ (weight / np.linalg.norm(weight, axis=1, keepdims=True) ** tau).T
        np.testing.assert_allclose(tau_normalization(Head(weight, bias), tau)(raw), expected)


def test_thresholds_of_two_classes_are_the_best_cut_of_the_roc_curve() -> None:
    log_likelihood, targets = population(np.array([0.9, 0.1]), 400, seed=8)
    logits = log_likelihood + np.array([2.0, 0.0])
    false_positives, true_positives, _ = roc_curve(targets, logits[:, 1] - logits[:, 0])
    best = (1 + (true_positives - false_positives).max()) / 2
    assert recall_mean(logits + fit_thresholds(logits, targets), targets) == pytest.approx(best)


@pytest.mark.parametrize("decimals", [6, 0])  # 0: many ties, as in half precision
@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_of_a_single_class_can_be_bettered(seed: int, decimals: int) -> None:
    prior = np.array([0.3, 0.2, 0.2, 0.0, 0.1, 0.1, 0.05, 0.05])
    log_likelihood, targets = population(prior, 80, seed=seed)
    logits = np.round(log_likelihood + 40 * prior, decimals)  # rare classes start far behind
    offsets = fit_thresholds(logits, targets)
    reached = recall_mean(logits + offsets, targets)
    assert reached >= recall_mean(logits, targets)
    assert offsets[3] == 0  # it has no samples
    for label in (0, 1, 2, 4, 5, 6, 7):
        for change in np.arange(-8, 8, 0.04):
            other = offsets + change * np.eye(8)[label]
            assert recall_mean(logits + other, targets) <= reached + 1e-12


@pytest.fixture(scope="module")
def splits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    found = {}
    for split, prior, seed in (("val", UNIFORM, 10), ("test", LONG_TAIL[::-1], 11)):
        log_likelihood, targets = population(prior, 500, seed)
        found[split] = 2 * (log_likelihood + np.log(LONG_TAIL)), targets
    return found


FACTS = {"train_counts": 1000 * LONG_TAIL, "log_prior_model": np.log(LONG_TAIL)}


def test_the_matrix_is_what_scale_and_offset_do_to_both_splits(splits) -> None:
    head = Head(np.diag([2.0, 1.0, 0.5, 0.3]), np.array([0.3, 0.0, 0.0, -0.3]))
    metrics, arrays = posthoc_matrix(splits["val"], splits["test"], head=head, **FACTS)
    methods = {tag.split("/")[1].removeprefix("posthoc_") for tag in metrics}
    assert methods == set(POSTHOC)
    for method in methods:
        named = {tag.split("/")[2] for tag in metrics if f"test/posthoc_{method}/" in tag}
        hidden = {"thresholds": ("adjusted", "cross", "brier", "expected")}
        hidden["tau_normalization"] = ("adjusted",)
        assert named == {name for name in TAGS if not name.startswith(hidden.get(method, "?"))}
        scale, offset = (arrays[f"posthoc/{method}/{part}"] for part in ("scale", "offset"))
        for split, (logits, targets) in splits.items():
            outputs = logits * scale + offset
            as_trained = evaluate(
                outputs,
                targets,
                class_names=list("abcd"),
                train_counts=FACTS["train_counts"],
                log_prior_model=FACTS["log_prior_model"],
            ).metrics
            group = f"{split}/posthoc_{method}"
            predicted = outputs.argmax(axis=1)
            f1 = f1_score(targets, predicted, average="macro")
            assert metrics[f"{group}/macro_f1"] == pytest.approx(f1)
            recall = balanced_accuracy_score(targets, predicted)
            assert metrics[f"{group}/balanced_accuracy"] == pytest.approx(recall)
            same_prior = ("temperature", "vector")
            for name in named:
                if not name.startswith("adjusted") or method in same_prior:
                    assert metrics[f"{group}/{name}"] == pytest.approx(as_trained[TAGS[name]])
            if method != "thresholds":
                entropy = log_loss(targets, np.exp(log_softmax(outputs, axis=1)))
                assert metrics[f"{group}/cross_entropy"] == pytest.approx(entropy)
                count, confidence, right = arrays[f"posthoc/{method}/reliability/{split}"].T
                assert count.sum() == len(targets)
                assert np.nansum(count * right) == (predicted == targets).sum()
                top = np.exp(log_softmax(outputs, axis=1)).max(axis=1).sum()
                assert np.nansum(count * confidence) == pytest.approx(top)
    assert metrics["val/posthoc_temperature/temperature"] == pytest.approx(2, rel=0.2)
    assert arrays["posthoc/temperature/scale"] == pytest.approx(
        1 / metrics["val/posthoc_temperature/temperature"]
    )
    # adjusting the prior takes away what logit adjustment did to it
    plain = evaluate(*splits["test"], class_names=list("abcd"), **FACTS).metrics
    for method in ("logit_adjustment", "logit_adjustment_tuned"):
        assert metrics[f"test/posthoc_{method}/adjusted_cross_entropy"] == pytest.approx(
            plain["cal_adjusted/negative_log_likelihood"]
        )


def test_what_cannot_be_applied_is_left_out(splits) -> None:
    val, test = splits["val"], splits["test"]

    def methods(*given, **others) -> set[str]:
        metrics, _ = posthoc_matrix(*given, **FACTS | others)
        return {tag.split("/")[1].removeprefix("posthoc_") for tag in metrics}

    head = Head(np.eye(4), np.zeros(4))
    assert methods(None, test, head=head) == {"logit_adjustment"}
    assert methods(val, test) == set(POSTHOC) - {"tau_normalization"}
    # a class of weight 0 in training: the model's prior for it is 0
    with np.errstate(divide="ignore"):
        zero = np.log([0.5, 0.3, 0.2, 0.0])
    assert methods(val, test, log_prior_model=zero) == {"thresholds"}
    without = tuple(part[val[1] < 3] for part in val)
    assert methods(without, test, log_prior_model=zero) == {"thresholds", "temperature", "vector"}
    metrics, _ = posthoc_matrix(without, test, **FACTS | {"log_prior_model": zero})
    assert np.isnan(metrics["test/posthoc_temperature/adjusted_cross_entropy"])
    assert np.isfinite(metrics["val/posthoc_temperature/adjusted_cross_entropy"])


def test_tau_normalization_takes_the_raw_logits_and_then_only_decides(splits) -> None:
    head = Head(np.diag([2.0, 1.0, 0.5, 0.3]), np.array([4.0, 0.0, 0.0, -4.0]))
    raw = Head(head.weight, head.bias, {split: z for split, (z, _) in splits.items()})
    deployed = {split: (z / 7, y) for split, (z, y) in splits.items()}
    plain, _ = posthoc_matrix(splits["val"], splits["test"], head=head, **FACTS)
    found, _ = posthoc_matrix(deployed["val"], deployed["test"], head=raw, **FACTS)
    tags = {tag for tag in found if "tau_normalization" in tag}
    assert tags == {tag for tag in plain if "tau_n" in tag and "_e" not in tag and "bri" not in tag}
    assert all(found[tag] == plain[tag] for tag in tags)
