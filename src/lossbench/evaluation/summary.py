"""The one door: everything a record wants to know of one split, from its logits and targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossbench.errors import InputError
from lossbench.evaluation import calibration, classification
from lossbench.evaluation.histograms import loss_histogram
from lossbench.evaluation.probabilities import Floats, Integers, adjust_prior, log_softmax


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one split; tags and keys still lack the name of the split.

    Attributes:
        metrics: ``group/metric`` to number; NaN where undefined.
        arrays: ``confusion`` ``(C, C)`` int64, ``histogram/cross_entropy`` ``(C, 102)`` int64,
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
) -> Evaluation:
    """Evaluate the deployed logits of a whole split at once.

    ``cal/`` takes the logits as they are; ``cal_adjusted/`` first moves them from the prior that
    they were trained for to the prior of the split (`adjust_prior`), which tells a model that is
    wrong about the prior from one that is wrong otherwise. Where the model's prior is 0 for a class
    that the split has, ``cal_adjusted/`` is undefined (NaN).

    Args:
        logits: ``(N, C)``, finite, N of 1 or more.
        targets: ``(N,)``, integers in [0, C).
        class_names: C names for the tags ``recall/<name>``; a slash in a name becomes ``_``.
        train_counts: ``(C,)``, samples of each class in the training subset; they rank the classes
            into head, mid and tail.
        log_prior_model: ``(C,)``, log of the class prior whose posterior the logits estimate, up to
            a constant; default the log of ``train_counts``. For a loss of this package that is the
            log of the training prior plus its ``log_prior_shift()``.
        log_prior_split: ``(C,)``, log of the class prior of the split, up to a constant; default
            the log of the class counts in ``targets``.

    Raises:
        InputError: if shapes, classes or names do not fit.
        ValueError: if logits are not finite; the message says in how many rows.
    """
    names = _tag_names(class_names)
    z, y = _checked(logits, targets, len(names))
    confusion = classification.confusion_matrix(y, z.argmax(axis=1), len(names))
    counts = _of_classes(train_counts, "train_counts", len(names))
    log_model = _log_prior(log_prior_model, "log_prior_model", counts)
    log_split = _log_prior(log_prior_split, "log_prior_split", confusion.sum(axis=1))
    losses, raw, reliability = _calibration(z, y)
    if (np.isneginf(log_model) & ~np.isneginf(log_split)).any():
        adjusted = dict.fromkeys(raw, float("nan"))
        reliability_adjusted = np.tile([0.0, np.nan, np.nan], (calibration.BINS, 1))
    else:
        moved = adjust_prior(z, log_model, log_split)
        _, adjusted, reliability_adjusted = _calibration(moved, y)
    metrics = {"loss/cross_entropy": raw["negative_log_likelihood"]}
    metrics |= _classification(confusion, counts, names)
    metrics |= {f"cal/{name}": value for name, value in raw.items()}
    metrics |= {f"cal_adjusted/{name}": value for name, value in adjusted.items()}
    arrays: dict[str, NDArray[np.generic]] = {
        "confusion": confusion,
        "reliability/raw": reliability,
        "reliability/adjusted": reliability_adjusted,
        "histogram/cross_entropy": loss_histogram(losses, y, len(names)),
    }
    return Evaluation(metrics, arrays)


def _classification(
    confusion: Integers, train_counts: Floats, names: Sequence[str]
) -> dict[str, float]:
    metrics = {
        "cls/accuracy": classification.accuracy(confusion),
        "cls/balanced_accuracy": classification.balanced_accuracy(confusion),
        "cls/macro_f1": classification.macro_f1(confusion),
        "cls/geometric_mean": classification.geometric_mean(confusion),
        "cls/worst_class_recall": classification.worst_class_recall(confusion),
    }
    for group, value in classification.group_recalls(confusion, train_counts).items():
        metrics[f"cls/{group}_recall"] = value
    for name, value in zip(names, classification.recalls(confusion), strict=True):
        metrics[f"recall/{name}"] = float(value)
    return metrics


def _calibration(logits: Floats, targets: Integers) -> tuple[Floats, dict[str, float], Floats]:
    """The loss of each sample ``(N,)``, the four calibration metrics, the reliability bins."""
    rows = np.arange(len(targets))
    predictions = logits.argmax(axis=1)
    log_probabilities = log_softmax(logits)
    losses = -log_probabilities[rows, targets] + 0.0  # no -0.0
    probabilities = np.exp(log_probabilities)
    reliability = calibration.reliability_bins(
        probabilities[rows, predictions], predictions == targets
    )
    metrics = {
        "negative_log_likelihood": float(losses.mean()),
        "brier_score": calibration.brier_score(probabilities, targets),
        "expected_calibration_error": calibration.expected_calibration_error(reliability),
        "classwise_calibration_error": calibration.classwise_calibration_error(
            probabilities, targets
        ),
    }
    return losses, metrics, reliability


def _checked(logits: ArrayLike, targets: ArrayLike, num_classes: int) -> tuple[Floats, Integers]:
    z = np.asarray(logits, dtype=np.float64)
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
    finite = np.isfinite(z).all(axis=1)
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
