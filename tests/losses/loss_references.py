"""Slow, obvious references of every loss, one sample at a time, with 60 digits (mpmath).

A new loss adds one reference here and one line of cases in loss_cases; the contract tests do the
rest. A reference is called as ``name(z, y, counts, **every_parameter)``; if its signature has them,
it also gets ``at`` (the point at which constants are evaluated), ``features``, ``weight`` (of the
head), ``progress`` (epoch / max_epochs) and ``seen`` (the class counts after this batch).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import loss_references_classes as classes
import loss_references_softmax as softmax
from loss_cases import COUNTS
from loss_references_classes import class_balanced_weight
from mpmath import mp, mpf

__all__ = [
    "BATCH_REFERENCES",
    "REFERENCES",
    "batch_value_and_gradient",
    "class_balanced_weight",
    "feature_gradients",
    "value_and_gradient",
]

mp.dps = 60

REFERENCES: dict[str, Callable[..., Any]] = {
    reference.__name__: reference
    for reference in (
        # likelihood
        softmax.cross_entropy,
        softmax.label_smoothing,
        softmax.temperature_scaled,
        softmax.binary_cross_entropy,
        softmax.multi_margin,
        # regression
        softmax.l1,
        softmax.mse,
        softmax.smooth_l1,
        softmax.huber,
        # focusing
        softmax.focal,
        softmax.sigmoid_focal,
        softmax.focal_flsd,
        softmax.dual_focal,
        softmax.poly1,
        softmax.asymmetric,
        softmax.asymmetric_ovr,
        # calibration
        softmax.mbls,
        softmax.confidence_penalty,
        softmax.maxsup,
        softmax.logit_norm,
        softmax.label_aware_smoothing,
        # reweighting
        classes.inverse_frequency,
        classes.class_balanced,
        classes.class_balanced_bce,
        classes.class_balanced_focal,
        classes.influence_balanced,
        # adjustment
        classes.ldam,
        classes.balanced_softmax,
        classes.logit_adjusted,
        classes.vs,
        classes.cdt,
        classes.seesaw,
        # robust
        classes.mae,
        classes.gce,
        classes.reverse_ce,
        classes.sce,
        classes.nce,
        classes.nce_rce,
        classes.nce_mae,
        classes.normalized_focal,
        classes.bi_tempered,
        # margin
        classes.norm_softmax,
        classes.am_softmax,
        classes.arcface,
        classes.large_margin_softmax,
        classes.sphereface,
    )
}

BATCH_REFERENCES: dict[str, Callable[..., Any]] = {"mmce": softmax.mmce}
"""Losses that couple the samples: ``name(zs, ys, counts, **every_parameter)``, the mean."""

STEP = mpf(10) ** -22


def frozen(value: Any) -> Any:
    """A hashable copy: lists become tuples."""
    return tuple(frozen(x) for x in value) if isinstance(value, list | tuple) else value


def exact(value: Any) -> Any:
    """The same nested tuples of numbers, in 60 digits."""
    return tuple(exact(x) for x in value) if isinstance(value, tuple) else mpf(value)


def slopes(function: Callable[[tuple], Any], point: Sequence[Any]) -> list[Any]:
    """The gradient of ``function`` at ``point`` by central differences."""
    gradient = []
    for j in range(len(point)):
        up = tuple(x + STEP * (i == j) for i, x in enumerate(point))
        down = tuple(x - STEP * (i == j) for i, x in enumerate(point))
        gradient.append((function(up) - function(down)) / (2 * STEP))
    return gradient


def arguments(reference: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """``given``, without what the reference does not take of features, weight and progress."""
    known = inspect.signature(reference).parameters
    context = {"at", "features", "progress", "seen"} | (set() if "weight" in known else {"weight"})
    return {
        name: exact(value) if name in ("features", "weight") and value is not None else value
        for name, value in given.items()
        if name in known or name not in context
    }


def value_and_gradient(
    key: str, z: Sequence[float], y: int | Sequence[float], **parameters: Any
) -> tuple[float, list[float]]:
    """The loss of one sample and its gradient by central differences, correct to double."""
    return _exact(key, frozen(list(z)), frozen(y), frozen(sorted(parameters.items())))


@cache
def _exact(key, z, y, parameters):
    reference, point = REFERENCES[key], exact(z)
    given = arguments(reference, {**dict(parameters), "at": point})

    def loss(moved: Sequence[Any]) -> Any:
        return reference(moved, y, COUNTS, **given)

    return float(loss(point)), [float(slope) for slope in slopes(loss, point)]


def feature_gradients(
    key: str, z: Sequence[float], y: int, **parameters: Any
) -> tuple[list[float], list[list[float]]]:
    """The gradients with respect to ``features`` and to the head's ``weight``, z held fixed."""
    reference = REFERENCES[key]
    given = arguments(reference, {**frozen_items(parameters), "at": exact(tuple(z))})
    features, weight = given["features"], given.get("weight", ())

    def loss(**moved: Any) -> Any:
        return reference(exact(tuple(z)), y, COUNTS, **{**given, **moved})

    def row(c: int) -> list[Any]:
        def moved(w: tuple) -> Any:
            return loss(weight=(*weight[:c], w, *weight[c + 1 :]))

        return slopes(moved, weight[c])

    by_features = slopes(lambda h: loss(features=h), features)
    by_weight = [[float(x) for x in row(c)] for c in range(len(weight))]
    return [float(x) for x in by_features], by_weight


def frozen_items(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: frozen(value) for name, value in parameters.items()}


def batch_value_and_gradient(
    key: str, zs: Sequence[Sequence[float]], ys: Sequence[int], **parameters: Any
) -> tuple[float, list[list[float]]]:
    """The mean loss of a batch and its gradient, a row per sample."""
    points = [exact(tuple(z)) for z in zs]
    given = {**frozen_items(parameters), "at": points}

    def loss(i: int, row: Any) -> Any:
        rows = [*points[:i], row, *points[i + 1 :]]
        return BATCH_REFERENCES[key](rows, ys, COUNTS, **given)

    gradient = [
        [float(slope) for slope in slopes(lambda row, i=i: loss(i, row), point)]
        for i, point in enumerate(points)
    ]
    return float(loss(0, points[0])), gradient
