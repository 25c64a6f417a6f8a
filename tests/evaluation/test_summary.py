from __future__ import annotations

import json
import math
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from scipy import special, stats
from sklearn import metrics as sklearn_metrics

from lossbench.comparison import metrics
from lossbench.errors import InputError
from lossbench.evaluation import Evaluation, evaluate, probabilities
from lossbench.evaluation.histograms import LOG10_LOSS_EDGES

CALIBRATION = (
    "negative_log_likelihood",
    "brier_score",
    "expected_calibration_error",
    "classwise_calibration_error",
)

DETAIL = (
    "adaptive_calibration_error",
    "smooth_calibration_error",
    "kolmogorov_smirnov_calibration_error",
    "head_expected_calibration_error",
    "mid_expected_calibration_error",
    "tail_expected_calibration_error",
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
    options = {"class_names": ["T-shirt/top", "a b", "é"], "train_counts": [200, 50, 5]}
    result = evaluated(logits, targets, **options)
    always = {
        "loss/cross_entropy",
        *(
            f"cls/{name}"
            for name in (
                "accuracy",
                "balanced_accuracy",
                "macro_f1",
                "geometric_mean",
                "geometric_mean_floored",
                "prediction_prior_divergence",
                "absent_classes",
                "worst_class_recall",
                "head_recall",
                "mid_recall",
                "tail_recall",
                "many_recall",
                "medium_recall",
                "few_recall",
            )
        ),
        "recall/T-shirt_top",
        "recall/a b",
        "recall/é",
        *(f"{group}/{name}" for group in ("cal", "cal_adjusted") for name in CALIBRATION),
    }
    assert set(result.metrics) == always
    detailed = evaluated(logits, targets, **options, detail=True)
    assert set(detailed.metrics) - always == {
        "cls/balanced_accuracy_low",
        "cls/balanced_accuracy_high",
        *(f"{group}/{name}" for group in ("cal", "cal_adjusted") for name in DETAIL),
        "selective/area_under_risk_coverage_curve",
        "selective/excess_area_under_risk_coverage_curve",
        "selective/area_under_generalized_risk_coverage_curve",
        "ranking/macro_area_under_roc_curve",
        "ranking/macro_average_precision",
    }
    assert {tag: detailed.metrics[tag] for tag in always} == result.metrics
    assert all(type(value) is float for value in detailed.metrics.values())
    json.dumps(detailed.metrics, allow_nan=False)
    for tag in detailed.metrics:
        assert metrics.facts(f"test/{tag}").name
    described = {key: (array.shape, array.dtype.name) for key, array in result.arrays.items()}
    assert described == {
        "confusion": ((3, 3), "int64"),
        "histogram/cross_entropy": ((3, 102), "int64"),
        "histogram/cross_entropy_of_errors": ((3, 102), "int64"),
        "reliability/raw": ((15, 3), "float64"),
        "reliability/adjusted": ((15, 3), "float64"),
    }


def test_numbers_against_sklearn():
    logits, targets = drawn()
    result = evaluated(logits, targets, train_counts=[150, 100, 20, 19], detail=True)
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
    expected |= {"cls/many_recall": recalls[0], "cls/few_recall": recalls[3]}
    expected |= {"cls/medium_recall": (recalls[1] + recalls[2]) / 2, "cls/absent_classes": 0}
    shares, prior = (np.bincount(classes) / 200 for classes in (predictions, targets))
    expected["cls/prediction_prior_divergence"] = stats.entropy(shares, prior)
    expected["ranking/macro_area_under_roc_curve"] = sklearn_metrics.roc_auc_score(
        targets, probabilities, multi_class="ovr"
    )
    expected["ranking/macro_average_precision"] = sklearn_metrics.average_precision_score(
        np.eye(4)[targets], probabilities
    )
    accuracy, right = np.mean(predictions == targets), predictions == targets
    expected["selective/area_under_generalized_risk_coverage_curve"] = (
        1 - sklearn_metrics.roc_auc_score(right, probabilities.max(axis=1))
    ) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2
    for tag, value in expected.items():
        assert result.metrics[tag] == pytest.approx(value), tag
    low, high = (result.metrics[f"cls/balanced_accuracy_{end}"] for end in ("low", "high"))
    sampling_error = (
        math.sqrt(sum(r * (1 - r) / n for r, n in zip(recalls, prior * 200, strict=True))) / 4
    )
    assert (high - low) / 2 == pytest.approx(1.96 * sampling_error, rel=0.1)
    np.testing.assert_array_equal(
        result.arrays["confusion"], sklearn_metrics.confusion_matrix(targets, predictions)
    )


def test_arrays_agree_with_the_metrics():
    logits, targets = drawn()
    result = evaluated(logits, targets)
    assert result.arrays["histogram/cross_entropy"].sum(axis=1).tolist() == (
        np.bincount(targets).tolist()
    )
    wrong = targets[logits.argmax(axis=1) != targets]
    errors = result.arrays["histogram/cross_entropy_of_errors"]
    assert errors.sum(axis=1).tolist() == np.bincount(wrong, minlength=len(errors)).tolist()
    assert (errors <= result.arrays["histogram/cross_entropy"]).all()
    half = 1 + np.searchsorted(LOG10_LOSS_EDGES, np.log10(np.log(2)), side="right")
    assert errors[:, : half - 2].sum() == 0  # p_y > 1/2 is right
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
    result = evaluated(logits, np.array([0, 0, 1, 1]), train_counts=[300, 20, 10], detail=True)
    assert result.metrics["cls/balanced_accuracy"] == 0.75
    assert math.isnan(result.metrics["recall/class 2"])
    assert result.metrics["cls/absent_classes"] == 1
    undefined = {tag for tag, value in result.metrics.items() if math.isnan(value)}
    assert undefined == {
        "recall/class 2",
        "cls/tail_recall",
        "cls/few_recall",
        "cls/prediction_prior_divergence",  # class 2 was predicted: infinite
        "cal_adjusted/tail_expected_calibration_error",  # nobody predicts class 2 there
    }
    # The mean over classes 0 and 1. Of class 0 one sample is above all others, one ties with two.
    assert result.metrics["ranking/macro_area_under_roc_curve"] == pytest.approx((0.75 + 1) / 2)
    assert result.metrics["ranking/macro_average_precision"] == pytest.approx((0.75 + 1) / 2)
    # The adjusted view knows that class 2 does not occur: only 0 and 1 share the probability, each
    # weighted by its samples in the split over those in training.
    weight = np.exp(logits[:, :2]) * [2 / 300, 2 / 20]
    posterior = weight / weight.sum(axis=1, keepdims=True)
    assert result.metrics["cal_adjusted/negative_log_likelihood"] == pytest.approx(
        sklearn_metrics.log_loss([0, 0, 1, 1], posterior)
    )


def test_neither_order_nor_a_constant_per_sample_matters():
    logits, targets = drawn()
    order = np.random.default_rng(1).permutation(len(targets))
    shifted = logits.astype(np.float64) + np.linspace(-50, 50, len(targets))[:, None]
    options = {"train_counts": [200, 50, 30, 5], "detail": True}
    first = evaluated(logits, targets, **options)
    second = evaluated(shifted[order], targets[order], **options)
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
    counts = 7 * np.bincount(targets)
    result = evaluated(logits, targets, train_counts=counts, detail=True)
    for name in CALIBRATION + DETAIL:
        assert result.metrics[f"cal_adjusted/{name}"] == pytest.approx(
            result.metrics[f"cal/{name}"], rel=1e-6
        )


def test_a_class_never_trained_on_makes_the_adjusted_view_undefined():
    logits, targets = drawn()
    result = evaluated(logits, targets, train_counts=[5, 4, 3, 0], detail=True)
    everything = CALIBRATION + DETAIL
    assert all(math.isnan(result.metrics[f"cal_adjusted/{name}"]) for name in everything)
    assert not any(math.isnan(result.metrics[f"cal/{name}"]) for name in everything)
    table = result.arrays["reliability/adjusted"]
    assert (table[:, 0] == 0).all()
    assert np.isnan(table[:, 1:]).all()


def test_groups_of_predictions_are_calibrated_where_the_model_is():
    """Grouped by target a true posterior is not: given the class, its probability is too low."""
    log_density, targets = gaussian_problem(TRAIN_PRIOR)
    counts = 10_000 * TRAIN_PRIOR
    result = evaluated(log_density + np.log(TRAIN_PRIOR), targets, train_counts=counts, detail=True)
    predictions = (log_density + np.log(TRAIN_PRIOR)).argmax(axis=1)
    for c, group in enumerate(("head", "mid", "tail")):
        sampling_error = 0.5 * math.sqrt(15 / (predictions == c).sum())
        assert result.metrics[f"cal/{group}_expected_calibration_error"] < sampling_error


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_blocks_of_rows_are_the_whole(dtype, monkeypatch):
    logits, targets = drawn(classes=6)
    logits = logits.astype(dtype)
    whole = evaluated(logits, targets, detail=True)
    monkeypatch.setattr(probabilities, "BLOCK", 13 * 6)
    in_blocks = evaluated(logits, targets, detail=True)
    assert in_blocks.metrics == pytest.approx(whole.metrics, rel=1e-12, nan_ok=True)
    for key, array in whole.arrays.items():
        np.testing.assert_allclose(in_blocks.arrays[key], array, rtol=1e-12)


def test_memory_does_not_grow_with_the_logits():
    logits, targets = drawn(samples=20_000, classes=300)  # 24 MB as float32, 48 MB as float64
    evaluated(logits[:100], targets[:100], detail=True)  # imports
    tracemalloc.start()
    evaluated(logits, targets, detail=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24e6


@pytest.mark.parametrize("target", [0, 1])
def test_one_sample(target):
    result = evaluated(np.array([[1.0, 0.0, -1.0]]), np.array([target]), detail=True)
    confidence = math.e / (1 + math.e + 1 / math.e)
    for name in ("expected", "adaptive", "smooth", "kolmogorov_smirnov"):
        found = result.metrics[f"cal/{name}_calibration_error"]
        assert found == pytest.approx(abs((target == 0) - confidence), abs=1e-6)
    assert result.metrics["cls/absent_classes"] == 2
    assert result.metrics["selective/area_under_risk_coverage_curve"] == target
    assert math.isnan(result.metrics["ranking/macro_area_under_roc_curve"])
    assert result.metrics["ranking/macro_average_precision"] == 1


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
