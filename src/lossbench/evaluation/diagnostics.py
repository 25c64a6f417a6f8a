"""Over-fitting, seen in the losses: how far training samples can be told from test samples.

Training and test losses are compared class by class, and for groups of classes with the training
samples weighted to the test set's class shares, so that a shift of the prior is not read as
over-fitting. Differences are test minus training: above 0 where the model over-fits.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossbench.errors import InputError
from lossbench.evaluation.classification import rank_groups
from lossbench.evaluation.histograms import loss_histogram
from lossbench.evaluation.probabilities import Floats, Integers
from lossbench.evaluation.summary import Evaluation

COLUMNS = (
    "overlap_coefficient",
    "kolmogorov_smirnov_distance",
    "loss_threshold_auc",
    "mean_gap",
    "median_gap",
    "percentile_95_gap",
    "share_above_chance",
)
"""The metrics of `overfitting`, and the columns of ``overfitting/by_class``, in this order."""


def overfitting(
    train_losses: ArrayLike,
    train_targets: ArrayLike,
    test_losses: ArrayLike,
    test_targets: ArrayLike,
    *,
    class_counts: ArrayLike,
    num_classes: int,
) -> Evaluation:
    """Compare the training losses with the test losses, over all classes, per group, per class.

    The metrics are those of `COLUMNS`:

    - ``overlap_coefficient``: ``sum_b min(p_b, q_b)`` of the two shares in each bin of the grid of
      every loss histogram (`histograms.LOG10_LOSS_EDGES`: 100 bins of log10(loss) from -8 to 2,
      and a bin below and above); 1 if they are alike, 0 if they never meet.
    - ``kolmogorov_smirnov_distance``: ``max_t |F_train(t) - F_test(t)|`` over all values, exact.
    - ``loss_threshold_auc``: ``P(test loss > train loss) + P(equal) / 2``. It is the area under
      the ROC curve of guessing membership by a threshold on the loss (Yeom et al., CSF 2018): 0.5
      if training samples cannot be told from test samples, 1 if a threshold tells them all.
    - ``mean_gap``, ``median_gap``, ``percentile_95_gap`` in nats. A quantile is the smallest loss
      at or below which at least that share of the weight lies.
    - ``share_above_chance``: the share of test samples whose loss is above log C, that of a uniform
      guess.

    Only classes with training and test samples count. In a group each of its classes has the share
    that it has among the group's test samples, in both distributions: a training sample of class c
    weighs ``n_test_c / n_train_c``, a test sample 1. With few samples chance alone lowers the
    overlap and raises the distance; the area under the curve has no such bias.

    Args:
        train_losses: ``(N,)``, the cross-entropy of the deployed logits in nats, from a pass
            without augmentation.
        train_targets: ``(N,)``, the labels that were trained on; with label noise those with the
            noise, for they are what a model over-fits to. While wrong labels are not learnt, their
            high losses make the gaps negative and the area under the curve smaller than 0.5.
        test_losses: ``(M,)``.
        test_targets: ``(M,)``.
        class_counts: ``(C,)``, training samples per class; they rank the classes into head, mid and
            tail (`classification.rank_groups`).
        num_classes: C.

    Returns:
        Metrics ``overfitting/<metric>`` for all classes and ``overfitting_<group>/<metric>`` for
        head, mid and tail, NaN where a group is empty; array ``overfitting/by_class`` ``(C, 7)``
        float64, NaN for a class without training or test samples.

    Raises:
        InputError: if shapes or classes do not fit.
        ValueError: if a loss is NaN.
    """
    train = _checked("train", train_losses, train_targets, num_classes)
    test = _checked("test", test_losses, test_targets, num_classes)
    counts = np.asarray(class_counts)
    if counts.shape != (num_classes,):
        raise InputError(
            f"class_counts has shape {counts.shape}; give {num_classes} numbers, one for each class"
        )
    by_class = np.full((num_classes, len(COLUMNS)), np.nan)
    train_parts, test_parts = _by_class(*train, num_classes), _by_class(*test, num_classes)
    for label, (a, b) in enumerate(zip(train_parts, test_parts, strict=True)):
        by_class[label] = _compare([a], [b], num_classes)
    groups = {"": np.arange(num_classes)}
    groups |= {f"_{group}": classes for group, classes in rank_groups(counts).items()}
    metrics: dict[str, float] = {}
    for suffix, classes in groups.items():
        values = _compare(
            [train_parts[label] for label in classes],
            [test_parts[label] for label in classes],
            num_classes,
        )
        found = zip(COLUMNS, values, strict=True)
        metrics |= {f"overfitting{suffix}/{name}": value for name, value in found}
    return Evaluation(metrics, {"overfitting/by_class": by_class})


def _compare(
    train_parts: list[Floats], test_parts: list[Floats], num_classes: int
) -> tuple[float, ...]:
    """The numbers of `COLUMNS` for some classes, from the losses of each."""
    pairs = [
        (train, test)
        for train, test in zip(train_parts, test_parts, strict=True)
        if train.size and test.size
    ]
    if not pairs:
        return (math.nan,) * len(COLUMNS)
    train = np.concatenate([a for a, _ in pairs])
    test = np.concatenate([b for _, b in pairs])
    weights = np.concatenate([np.full(a.size, b.size / a.size) for a, b in pairs])
    values, places = np.unique(np.concatenate([train, test]), return_inverse=True)
    # the mass of each distinct loss in either distribution: whatever follows is exact, with ties
    train_mass = np.bincount(places[: train.size], weights, values.size) / test.size
    test_mass = np.bincount(places[train.size :], minlength=values.size) / test.size
    train_below, test_below = train_mass.cumsum(), test_mass.cumsum()
    chance = math.log(num_classes)
    return (
        _overlap(pairs, test.size),
        float(np.abs(train_below - test_below).max()),
        float(test_mass @ (train_below - train_mass / 2)),
        float(test.mean() - train_mass @ values),
        _quantile(values, test_below, 0.5) - _quantile(values, train_below, 0.5),
        _quantile(values, test_below, 0.95) - _quantile(values, train_below, 0.95),
        float((test > chance).mean()),
    )


def _overlap(pairs: list[tuple[Floats, Floats]], test_size: int) -> float:
    """``sum_b min(p_b, q_b)`` on the shared grid."""
    train_shares = sum(_histogram(a) * (b.size / a.size / test_size) for a, b in pairs)
    test_shares = sum(_histogram(b) / test_size for _, b in pairs)
    return float(np.minimum(train_shares, test_shares).sum())


def _histogram(losses: Floats) -> Integers:
    return loss_histogram(losses, np.zeros(losses.size, dtype=np.int64), 1)[0]


def _quantile(values: Floats, cumulative: Floats, level: float) -> float:
    """The smallest of the rising ``values`` whose ``cumulative`` share reaches ``level``."""
    # half of three times a third is below 0.5 by rounding
    place = int(np.searchsorted(cumulative, level - 1e-12))
    return float(values[min(place, values.size - 1)])


def _by_class(losses: Floats, targets: Integers, num_classes: int) -> list[Floats]:
    """The losses of each class: C arrays."""
    counts = np.bincount(targets, minlength=num_classes)
    order = np.argsort(targets, kind="stable")
    return np.split(losses[order], counts.cumsum()[:-1])


def _checked(
    name: str, losses: ArrayLike, targets: ArrayLike, num_classes: int
) -> tuple[Floats, NDArray[np.int64]]:
    values, labels = np.asarray(losses, dtype=np.float64), np.asarray(targets)
    whole = np.issubdtype(labels.dtype, np.integer)
    if values.ndim != 1 or labels.shape != values.shape or not whole:
        raise InputError(
            f"{name}_losses have shape {values.shape} and {name}_targets are {labels.dtype} of "
            f"shape {labels.shape}; give (N,) losses and (N,) integers"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise InputError(
            f"{name}_targets go from {labels.min()} to {labels.max()}; they must be in "
            f"[0, {num_classes - 1}]"
        )
    nans = int(np.isnan(values).sum())
    if nans:
        raise ValueError(f"{nans} of {values.size} {name} losses are NaN; the model diverged")
    return values, labels.astype(np.int64)
