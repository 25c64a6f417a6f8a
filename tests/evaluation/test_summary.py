from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import special, stats
from sklearn import metrics as sklearn_metrics

from lossbench.errors import InputError
from lossbench.evaluation import Evaluation, evaluate

CALIBRATION = (
    "negative_log_likelihood",
    "brier_score",
    "expected_calibration_error",
    "classwise_calibration_error",
)


def names(count: int) -> list[str]:
    return [f"class {c}" for c in range(count)]


def drawn(samples: int = 200, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes, samples)
    logits = generator.normal(size=(samples, classes), scale=2)
    logits[np.arange(samples), targets] += 2
    return logits.astype(np.float32), targets


def evaluated(logits, targets, **options) -> Evaluation:
    classes = np.shape(logits)[1]
    defaults = {"class_names": names(classes), "train_counts": np.arange(classes, 0, -1)}
    return evaluate(logits, targets, **(defaults | options))


def test_tags_and_keys_are_those_of_the_record():
    logits, targets = drawn(classes=3)
    result = evaluated(logits, targets, class_names=["T-shirt/top", "a b", "é"])
    assert set(result.metrics) == {
        "loss/cross_entropy",
        *(
            f"cls/{name}"
            for name in (
                "accuracy",
                "balanced_accuracy",
                "macro_f1",
                "geometric_mean",
                "worst_class_recall",
                "head_recall",
                "mid_recall",
                "tail_recall",
            )
        ),
        "recall/T-shirt_top",
        "recall/a b",
        "recall/é",
        *(f"{group}/{name}" for group in ("cal", "cal_adjusted") for name in CALIBRATION),
    }
    assert all(type(value) is float for value in result.metrics.values())
    json.dumps(result.metrics, allow_nan=False)
    described = {key: (array.shape, array.dtype.name) for key, array in result.arrays.items()}
    assert described == {
        "confusion": ((3, 3), "int64"),
        "histogram/cross_entropy": ((3, 102), "int64"),
        "reliability/raw": ((15, 3), "float64"),
        "reliability/adjusted": ((15, 3), "float64"),
    }


def test_numbers_against_sklearn():
    logits, targets = drawn()
    result = evaluated(logits, targets)
    predictions = logits.argmax(axis=1)
    probabilities = special.softmax(logits.astype(np.float64), axis=1)
    expected = {
        "cls/accuracy": sklearn_metrics.accuracy_score(targets, predictions),
        "cls/balanced_accuracy": sklearn_metrics.balanced_accuracy_score(targets, predictions),
        "cls/macro_f1": sklearn_metrics.f1_score(targets, predictions, average="macro"),
        "loss/cross_entropy": sklearn_metrics.log_loss(targets, probabilities),
        "cal/negative_log_likelihood": sklearn_metrics.log_loss(targets, probabilities),
        "cal/brier_score": sklearn_metrics.brier_score_loss(targets, probabilities),
    }
    recalls = sklearn_metrics.recall_score(targets, predictions, average=None)
    expected |= {f"recall/class {c}": recalls[c] for c in range(4)}
    expected |= {"cls/head_recall": recalls[0], "cls/tail_recall": recalls[3]}
    expected |= {"cls/mid_recall": (recalls[1] + recalls[2]) / 2}
    for tag, value in expected.items():
        assert result.metrics[tag] == pytest.approx(value), tag
    np.testing.assert_array_equal(
        result.arrays["confusion"], sklearn_metrics.confusion_matrix(targets, predictions)
    )


def test_arrays_agree_with_the_metrics():
    logits, targets = drawn()
    result = evaluated(logits, targets)
    assert result.arrays["histogram/cross_entropy"].sum(axis=1).tolist() == (
        np.bincount(targets).tolist()
    )
    for view, group in (("raw", "cal"), ("adjusted", "cal_adjusted")):
        count, confidence, accuracy = result.arrays[f"reliability/{view}"].T
        gaps = np.nan_to_num(np.abs(confidence - accuracy))
        assert result.metrics[f"{group}/expected_calibration_error"] == pytest.approx(
            (count * gaps).sum() / 200
        )


def test_logits_that_lie_in_0_1_are_still_logits():
    """torchmetrics takes them for probabilities: its error here would be 0."""
    logits, targets = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1])
    result = evaluated(logits, targets)
    confidence = math.e / (1 + math.e)
    assert result.metrics["cal/expected_calibration_error"] == pytest.approx(1 - confidence)
    assert result.metrics["loss/cross_entropy"] == pytest.approx(-math.log(confidence))


def test_an_absent_class_is_undefined_and_left_out_of_means():
    logits = 9 * np.eye(3)[[0, 2, 1, 1]]
    result = evaluated(logits, np.array([0, 0, 1, 1]))
    assert result.metrics["cls/balanced_accuracy"] == 0.75
    assert math.isnan(result.metrics["recall/class 2"])
    assert math.isnan(result.metrics["cls/tail_recall"])
    defined = {k: v for k, v in result.metrics.items() if k not in ("recall/class 2",)}
    assert [k for k, v in defined.items() if math.isnan(v)] == ["cls/tail_recall"]
    # The adjusted view knows that class 2 does not occur: only 0 and 1 share the probability, each
    # weighted by its samples in the split over those in training.
    weight = np.exp(logits[:, :2]) * [2 / 3, 2 / 2]
    posterior = weight / weight.sum(axis=1, keepdims=True)
    assert result.metrics["cal_adjusted/negative_log_likelihood"] == pytest.approx(
        sklearn_metrics.log_loss([0, 0, 1, 1], posterior)
    )


def test_neither_order_nor_a_constant_per_sample_matters():
    logits, targets = drawn()
    order = np.random.default_rng(1).permutation(len(targets))
    shifted = logits.astype(np.float64) + np.linspace(-50, 50, len(targets))[:, None]
    first = evaluated(logits, targets)
    second = evaluated(shifted[order], targets[order])
    for tag, value in first.metrics.items():
        assert second.metrics[tag] == pytest.approx(value, rel=1e-9), tag


MEANS = np.array([[0.0, 0.0], [1.5, 0.0], [0.0, 1.5]])
TRAIN_PRIOR = np.array([0.9, 0.09, 0.01])


def gaussian_problem(prior: np.ndarray, samples: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """``log p(x | c)`` (N, 3) and the classes of samples drawn under ``prior``."""
    generator = np.random.default_rng(0)
    targets = generator.choice(3, size=samples, p=prior)
    x = MEANS[targets] + generator.normal(size=(samples, 2))
    density = np.stack([stats.multivariate_normal(mean).logpdf(x) for mean in MEANS], axis=1)
    return density, targets


# Where probabilities are true, a bin of n_b samples is off by at most 0.5 / sqrt(n_b) in the root
# mean square, so the expected error is at most sum_b n_b / N * 0.5 / sqrt(n_b), and that is at most
# 0.5 * sqrt(bins / N) (Cauchy and Schwarz).
SAMPLING_ERROR = 0.5 * math.sqrt(15 / 20_000)


def test_adjustment_makes_the_true_training_posterior_calibrated_on_a_balanced_split():
    balanced = np.full(3, 1 / 3)
    log_density, targets = gaussian_problem(balanced)
    logits = log_density + np.log(TRAIN_PRIOR)  # what cross-entropy would learn from endless data
    result = evaluated(logits, targets, train_counts=10_000 * TRAIN_PRIOR)
    assert result.metrics["cal_adjusted/expected_calibration_error"] < SAMPLING_ERROR
    assert result.metrics["cal_adjusted/classwise_calibration_error"] < SAMPLING_ERROR
    assert result.metrics["cal/expected_calibration_error"] > 3 * SAMPLING_ERROR
    true_posterior = special.softmax(log_density, axis=1)
    assert result.metrics["cal_adjusted/negative_log_likelihood"] == pytest.approx(
        sklearn_metrics.log_loss(targets, true_posterior), abs=1e-3
    )


def test_adjustment_starts_from_the_prior_that_the_loss_aims_at():
    """A logit-adjusted model knows the balanced posterior; the split has the training prior."""
    log_density, targets = gaussian_problem(TRAIN_PRIOR)
    result = evaluated(
        log_density,
        targets,
        train_counts=10_000 * TRAIN_PRIOR,
        log_prior_model=np.zeros(3),
        log_prior_split=np.log(TRAIN_PRIOR),
    )
    assert result.metrics["cal_adjusted/expected_calibration_error"] < SAMPLING_ERROR
    assert result.metrics["cal/expected_calibration_error"] > 3 * SAMPLING_ERROR
    assert result.metrics["cal_adjusted/negative_log_likelihood"] == pytest.approx(
        sklearn_metrics.log_loss(
            targets, special.softmax(log_density + np.log(TRAIN_PRIOR), axis=1)
        )
    )


def test_equal_priors_leave_nothing_to_adjust():
    logits, targets = drawn()
    result = evaluated(logits, targets, train_counts=7 * np.bincount(targets))
    for name in CALIBRATION:
        assert result.metrics[f"cal_adjusted/{name}"] == pytest.approx(
            result.metrics[f"cal/{name}"]
        )


def test_a_class_never_trained_on_makes_the_adjusted_view_undefined():
    logits, targets = drawn()
    result = evaluated(logits, targets, train_counts=[5, 4, 3, 0])
    assert all(math.isnan(result.metrics[f"cal_adjusted/{name}"]) for name in CALIBRATION)
    assert not any(math.isnan(result.metrics[f"cal/{name}"]) for name in CALIBRATION)
    table = result.arrays["reliability/adjusted"]
    assert (table[:, 0] == 0).all()
    assert np.isnan(table[:, 1:]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_counted(value):
    logits, targets = drawn()
    logits[[3, 8], 1] = value
    with pytest.raises(ValueError, match=r"2 of 200 rows of logits are not finite \(first: row 3"):
        evaluated(logits, targets)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": np.zeros((4, 3))}, r"logits have shape \(4, 3\); they must be \(N, 2\)"),
        ({"logits": np.zeros((0, 2))}, r"logits have shape \(0, 2\)"),
        ({"targets": np.zeros(3, dtype=int)}, r"targets are int64 of shape \(3,\)"),
        ({"targets": np.zeros(4)}, "targets are float64"),
        ({"targets": np.array([0, 1, 2, 0])}, r"targets go from 0 to 2; .* \[0, 1\]"),
        ({"targets": np.array([0, 1, -1, 0])}, "targets go from -1 to 1"),
        ({"train_counts": [1, 2, 3]}, "train_counts is .* give 2 numbers"),
        ({"log_prior_model": [0.0]}, "log_prior_model is"),
        ({"log_prior_split": [0.0, math.nan]}, "log_prior_split is"),
        ({"class_names": ["a/b", "a_b"]}, r"class names \['a_b'\] occur twice"),
    ],
)
def test_bad_input_is_named(change, message):
    good = {
        "logits": np.zeros((4, 2)),
        "targets": np.array([0, 1, 1, 0]),
        "class_names": ["a", "b"],
        "train_counts": [3, 1],
    }
    with pytest.raises(InputError, match=message):
        evaluate(**(good | change))


def test_evaluation_imports_neither_torch_nor_sklearn():
    code = (
        "import sys, lossbench.evaluation;"
        "print([m for m in ('torch', 'sklearn', 'pandas') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
