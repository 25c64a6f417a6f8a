"""The one door: everything a record wants to know of one split, from its logits and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossbench.errors import InputError
from lossbench.evaluation import calibration, classification, ranking, selective
from lossbench.evaluation.bootstrap import balanced_accuracy_interval
from lossbench.evaluation.histograms import loss_histogram
from lossbench.evaluation.probabilities import Floats, Integers, blocks, prior_shift


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one split; tags and keys still lack the name of the split.

    Attributes:
        metrics: ``group/metric`` to number; NaN where undefined.
        arrays: ``confusion`` ``(C, C)`` int64, ``histogram/cross_entropy`` ``(C, 102)`` int64, and
            ``histogram/cross_entropy_of_errors``, the same of the misclassified samples alone,
            ``reliability/raw`` and ``reliability/adjusted`` ``(15, 3)`` float64.
    """

    metrics: dict[str, float]
    arrays: dict[str, NDArray[np.generic]]


def evaluate(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    class_names: Sequence[str],
    train_counts: ArrayLike,
    log_prior_model: ArrayLike | None = None,
    log_prior_split: ArrayLike | None = None,
    detail: bool = False,
) -> Evaluation:
    """Evaluate the deployed logits of a whole split at once.

    Always: ``loss/cross_entropy``, ``cls/``, ``recall/``, and of ``cal/`` what needs no sorting.
    With ``detail``, which takes longer and is meant for the end of a run, also the calibration
    errors without fixed bins and of class groups, ``selective/``, ``ranking/``, and
    ``cls/balanced_accuracy_low`` and ``_high``, the bootstrap interval over the examples.

    ``cal/`` takes the logits as they are; ``cal_adjusted/`` first moves them from the prior that
    they were trained for to the prior of the split (`adjust_prior`), which tells a model that is
    wrong about the prior from one that is wrong otherwise. Where the model's prior is 0 for a class
    that the split has, or is unknown, ``cal_adjusted/`` is undefined (NaN).

    Args:
        logits: ``(N, C)``, finite, N of 1 or more. Numbers are worked on in float64 whatever
            their type, in blocks, so that float32 logits are never copied as a whole.
        targets: ``(N,)``, integers in [0, C).
        class_names: C names for the tags ``recall/<name>``; a slash in a name becomes ``_``.
        train_counts: ``(C,)``, samples of each class in the training subset; they rank the classes
            into head, mid and tail, and split them into many, medium and few.
        log_prior_model: ``(C,)``, log of the class prior whose posterior the logits estimate, up to
            a constant; default the log of ``train_counts``. For a loss of this package that is the
            log of the training prior plus its ``log_prior_shift()``. NaN throughout: it is unknown.
        log_prior_split: ``(C,)``, log of the class prior of the split, up to a constant; default
            the log of the class counts in ``targets``.
        detail: also what is only wanted at the end.

    Raises:
        InputError: if shapes, classes or names do not fit.
        ValueError: if logits are not finite; the message says in how many rows.
    """
    names = _tag_names(class_names)
    z, y = _checked(logits, targets, len(names))
    counts = _of_classes(train_counts, "train_counts", len(names))
    groups = classification.rank_groups(counts)
    raw = calibration.reduce(z, y)
    confusion = classification.confusion_matrix(y, raw.predictions, len(names))
    unknown = log_prior_model is not None and np.isnan(np.asarray(log_prior_model)).all()
    log_model = _log_prior(None if unknown else log_prior_model, "log_prior_model", counts)
    log_split = _log_prior(log_prior_split, "log_prior_split", confusion.sum(axis=1))
    metrics = {"loss/cross_entropy": float(raw.losses.mean())}
    metrics |= _classification(confusion, counts, groups, log_split)
    for name, recall in zip(names, classification.recalls(confusion), strict=True):
        metrics[f"recall/{name}"] = float(recall)
    view, reliability = _calibration(raw, y, groups, detail)
    adjusted = dict.fromkeys(view, float("nan"))
    reliability_adjusted = np.tile([0.0, np.nan, np.nan], (calibration.BINS, 1))
    if not unknown and not (np.isneginf(log_model) & ~np.isneginf(log_split)).any():
        moved = calibration.reduce(z, y, prior_shift(log_model, log_split))
        adjusted, reliability_adjusted = _calibration(moved, y, groups, detail)
    metrics |= {f"cal/{name}": value for name, value in view.items()}
    metrics |= {f"cal_adjusted/{name}": value for name, value in adjusted.items()}
    if detail:
        metrics |= _interval(confusion) | _selective(raw, y) | _ranking(z, raw, y)
    wrong = raw.predictions != y
    arrays: dict[str, NDArray[np.generic]] = {
        "confusion": confusion,
        "reliability/raw": reliability,
        "reliability/adjusted": reliability_adjusted,
        "histogram/cross_entropy": loss_histogram(raw.losses, y, len(names)),
        "histogram/cross_entropy_of_errors": loss_histogram(
            raw.losses[wrong], y[wrong], len(names)
        ),
    }
    return Evaluation(metrics, arrays)


def _classification(
    confusion: Integers, train_counts: Floats, groups: Mapping[str, Integers], log_prior: Floats
) -> dict[str, float]:
    prior = np.exp(log_prior - log_prior.max())
    found = {
        "accuracy": classification.accuracy(confusion),
        "balanced_accuracy": classification.balanced_accuracy(confusion),
        "macro_f1": classification.macro_f1(confusion),
        "geometric_mean": classification.geometric_mean(confusion),
        "geometric_mean_floored": classification.geometric_mean(
            confusion, classification.RECALL_FLOOR
        ),
        "worst_class_recall": classification.worst_class_recall(confusion),
        "absent_classes": float(classification.absent_classes(confusion)),
        "prediction_prior_divergence": classification.prediction_prior_divergence(confusion, prior),
    }
    everyone = {**groups, **classification.shot_groups(train_counts)}
    recalls = classification.group_recalls(confusion, everyone)
    found |= {f"{group}_recall": value for group, value in recalls.items()}
    return {f"cls/{name}": value for name, value in found.items()}


def _calibration(
    view: calibration.Reduced, targets: Integers, groups: Mapping[str, Integers], detail: bool
) -> tuple[dict[str, float], Floats]:
    """The calibration metrics, without a group, and the reliability bins."""
    confidence, correct = view.confidence, view.predictions == targets
    reliability = calibration.reliability_bins(confidence, correct)
    metrics = {
        "negative_log_likelihood": float(view.losses.mean()),
        "brier_score": view.brier_score,
        "expected_calibration_error": calibration.expected_calibration_error(reliability),
        "classwise_calibration_error": calibration.classwise_calibration_error(
            view.classwise_gaps, len(targets)
        ),
    }
    if not detail:
        return metrics, reliability
    metrics |= {
        "adaptive_calibration_error": calibration.expected_calibration_error(
            calibration.adaptive_bins(confidence, correct)
        ),
        "smooth_calibration_error": calibration.smooth_calibration_error(confidence, correct),
        "kolmogorov_smirnov_calibration_error": calibration.kolmogorov_smirnov_calibration_error(
            confidence, correct
        ),
    }
    for group, classes in groups.items():
        # Groups of predictions: a calibrated model is calibrated among them, but not among targets,
        # which it does not know.
        inside = np.isin(view.predictions, classes)
        metrics[f"{group}_expected_calibration_error"] = calibration.expected_calibration_error(
            calibration.reliability_bins(confidence[inside], correct[inside])
        )
    return metrics, reliability


def _interval(confusion: Integers) -> dict[str, float]:
    low, high = balanced_accuracy_interval(confusion)
    return {"cls/balanced_accuracy_low": low, "cls/balanced_accuracy_high": high}


def _selective(view: calibration.Reduced, targets: Integers) -> dict[str, float]:
    errors = selective.errors_accepted(view.confidence, view.predictions == targets)
    names = (
        "area_under_risk_coverage_curve",
        "excess_area_under_risk_coverage_curve",
        "area_under_generalized_risk_coverage_curve",
    )
    return {f"selective/{name}": getattr(selective, name)(errors) for name in names}


def _ranking(
    logits: NDArray[np.floating], view: calibration.Reduced, targets: Integers
) -> dict[str, float]:
    area, precision = ranking.one_vs_rest(logits, view.log_normaliser, targets)
    return {
        "ranking/macro_area_under_roc_curve": classification.mean_of_defined(area),
        "ranking/macro_average_precision": classification.mean_of_defined(precision),
    }


def _checked(
    logits: ArrayLike, targets: ArrayLike, num_classes: int
) -> tuple[NDArray[np.floating], Integers]:
    z = np.asarray(logits)
    if not np.issubdtype(z.dtype, np.floating):
        z = z.astype(np.float64)
    y = np.asarray(targets)
    if z.ndim != 2 or z.shape[1] != num_classes or len(z) == 0:
        raise InputError(
            f"logits have shape {z.shape}; they must be (N, {num_classes}), N of 1 or more, with a "
            "column for each class name"
        )
    if y.shape != z.shape[:1] or not np.issubdtype(y.dtype, np.integer):
        raise InputError(
            f"targets are {y.dtype} of shape {y.shape}; give {len(z)} integers, one for each row "
            "of the logits"
        )
    classification.check_classes(y, "targets", num_classes)
    finite = np.concatenate([np.isfinite(z[rows]).all(axis=1) for rows in blocks(*z.shape)])
    if not finite.all():
        raise ValueError(
            f"{int((~finite).sum())} of {len(z)} rows of logits are not finite (first: row "
            f"{int(finite.argmin())}); the model has diverged"
        )
    return z, y.astype(np.int64)


def _tag_names(class_names: Sequence[str]) -> list[str]:
    """Class names as the last part of a tag: a slash would begin another part."""
    names = [name.replace("/", "_") for name in class_names]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise InputError(f"class names {twice} occur twice (a slash counts as _); rename one")
    return names


def _of_classes(values: ArrayLike, name: str, num_classes: int) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (num_classes,) or not (array < np.inf).all():
        raise InputError(
            f"{name} is {array.tolist()}; give {num_classes} numbers, one for each class"
        )
    return array


def _log_prior(given: ArrayLike | None, name: str, counts: Floats | Integers) -> Floats:
    """``given``, or else the log of ``counts``, up to a constant; -inf for an absent class."""
    if given is not None:
        return _of_classes(given, name, len(counts))
    log_counts = np.full(counts.shape, -np.inf)
    np.log(counts, out=log_counts, where=counts > 0)
    return log_counts
