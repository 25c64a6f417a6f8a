"""What needs only predictions, all of it from one confusion matrix.

A class without targets has no recall: NaN, and left out of every mean over recalls.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from lossbench.class_groups import (
    GROUPS as GROUPS,
)  # compare ranks classes too, without this package
from lossbench.class_groups import rank_groups as rank_groups
from lossbench.errors import InputError
from lossbench.evaluation.probabilities import Floats, Integers

SHOTS = ("many", "medium", "few")

RECALL_FLOOR = 1e-3


def confusion_matrix(targets: Integers, predictions: Integers, num_classes: int) -> Integers:
    """Counts ``(C, C)`` of targets ``(N,)``, the rows, and predictions ``(N,)``, the columns.

    Raises:
        InputError: if a class is not in ``[0, num_classes)``.
    """
    check_classes(targets, "targets", num_classes)
    check_classes(predictions, "predictions", num_classes)
    cells = targets.astype(np.int64) * num_classes + predictions
    flat = np.bincount(cells, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes).astype(np.int64)


def check_classes(classes: Integers, name: str, num_classes: int) -> None:
    """Raise `InputError` if one of ``classes`` is not in ``[0, num_classes)``."""
    if classes.size and not 0 <= classes.min() <= classes.max() < num_classes:
        raise InputError(
            f"{name} go from {classes.min()} to {classes.max()}; they must be in "
            f"[0, {num_classes - 1}]"
        )


def accuracy(confusion: Integers) -> float:
    """The share of samples on the diagonal (micro accuracy)."""
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total else float("nan")


def recalls(confusion: Integers) -> Floats:
    """``(C,)``: the share of each class's samples that was found; NaN for an absent class."""
    support = confusion.sum(axis=1)
    return _ratio(np.diagonal(confusion), support)


def balanced_accuracy(confusion: Integers) -> float:
    """Mean recall over the classes present in the targets.

    Predictions that hit an absent class count against the class they were taken from, not once more
    as a class of recall 0.
    """
    return mean_of_defined(recalls(confusion))


def macro_f1(confusion: Integers) -> float:
    """Mean over all C classes of ``F1_c = 2 TP / (2 TP + FP + FN)``.

    The label set is fixed: a class that is neither target nor prediction counts as 0, so that every
    model is averaged over the same classes. Left out, such a class would cost its whole share to
    the first model that predicts it once. Equal to ``sklearn.metrics.f1_score(labels=range(C),
    average="macro", zero_division=0)``. Where targets lack classes, the best possible value is
    their share that is present.
    """
    true_positives = np.diagonal(confusion)
    f1 = _ratio(2 * true_positives, confusion.sum(axis=0) + confusion.sum(axis=1))
    return float(np.nan_to_num(f1, nan=0.0).mean())


def geometric_mean(confusion: Integers, floor: float = 0.0) -> float:
    """``(prod_c recall_c)^(1 / number of present classes)``; 0 as soon as one recall is 0.

    With a ``floor`` above 0 (`RECALL_FLOOR`), recalls below it count as the floor, so that models
    that lose one class can still be told from those that lose many.
    """
    present = np.maximum(_defined(recalls(confusion)), floor)
    if not present.size:
        return float("nan")
    if present.min() == 0:
        return 0.0
    # The mean of logs: the product of many small recalls would underflow.
    return float(np.exp(np.log(present).mean()))


def worst_class_recall(confusion: Integers) -> float:
    """The lowest recall of a present class."""
    present = _defined(recalls(confusion))
    return float(present.min()) if present.size else float("nan")


def shot_groups(class_counts: ArrayLike) -> dict[str, Integers]:
    """The classes of ``many`` (over 100 training samples), ``medium`` (20 to 100), ``few`` (< 20).

    As in the code of OLTR (Liu et al., CVPR 2019), BALMS and LADE. A group may be empty.
    """
    counts = np.asarray(class_counts)
    few = counts < 20
    many = counts > 100
    parts = (many, ~few & ~many, few)
    return {name: np.flatnonzero(part) for name, part in zip(SHOTS, parts, strict=True)}


def group_recalls(confusion: Integers, groups: Mapping[str, Integers]) -> dict[str, float]:
    """Mean recall of the classes of each group; NaN for a group without a present class."""
    by_class = recalls(confusion)
    return {group: mean_of_defined(by_class[classes]) for group, classes in groups.items()}


def absent_classes(confusion: Integers) -> int:
    """How many classes have no targets, and so no recall."""
    return int((confusion.sum(axis=1) == 0).sum())


def prediction_prior_divergence(confusion: Integers, prior: ArrayLike) -> float:
    """``KL(q || prior) = sum_c q_c log(q_c / prior_c)`` in nats, q the shares of the predictions.

    In this direction, because imbalance makes models forget classes: one that is never predicted
    adds 0, so that a collapsed model still has a finite number, up to ``-log min_c prior_c``. A
    prediction of a class whose prior is 0 would make it infinite: NaN.

    Args:
        confusion: ``(C, C)``.
        prior: ``(C,)``, 0 or more, up to a factor.
    """
    predicted = confusion.sum(axis=0)
    expected = np.asarray(prior, dtype=np.float64)
    met = predicted > 0
    if not met.any() or (expected[met] == 0).any():
        return float("nan")
    share = predicted[met] / predicted.sum()
    divergence = (share * np.log(share / (expected[met] / expected.sum()))).sum()
    return max(0.0, float(divergence))


def _ratio(part: Integers, whole: Integers) -> Floats:
    """``part / whole``, NaN where ``whole`` is 0."""
    undefined = np.full(whole.shape, np.nan)
    return np.divide(part, whole, out=undefined, where=whole > 0)


def _defined(values: Floats) -> Floats:
    return values[~np.isnan(values)]


def mean_of_defined(values: Floats) -> float:
    """The mean of what is defined; NaN if nothing is."""
    defined = _defined(values)
    return float(defined.mean()) if defined.size else float("nan")
