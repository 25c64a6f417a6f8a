"""Log-likelihood losses: cross-entropy, smoothed, tempered."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossbench.errors import InputError
from lossbench.losses.contract import Loss, cast

_RESCALE_POWER = {"none": 0, "T": 1, "T2": 2}


def cross_entropy(
    logits: Tensor, target: Tensor, weight: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """−Σ_j t_j w_j log p_j with p = softmax(z), and t = (1−ε)t + ε/C under label smoothing.

    ``logits`` (N, C), ``target`` (N,) int64 or (N, C) in the dtype of the logits, ``weight`` (C,)
    in that dtype; gives (N,). Good, JRSS B 1952.
    """
    return F.cross_entropy(
        logits, target, weight, reduction="none", label_smoothing=label_smoothing
    )


class CrossEntropy(Loss):
    """`cross_entropy`; class indices equal to ``ignore_index`` are left out."""

    key = "cross_entropy"
    weight: Tensor | None
    label_smoothing: float

    @property
    def class_weight(self) -> Tensor | None:
        return self.weight

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(logits, target, cast(self.weight, logits), self.label_smoothing)


def label_smoothing(
    logits: Tensor,
    target: Tensor,
    smoothing: float = 0.1,
    variant: str = "uniform",
    weight: Tensor | None = None,
) -> Tensor:
    """Cross-entropy with ε of the target spread over all classes, or over the C−1 others.

    "uniform" is t' = (1−ε)t + ε/C; "off_target" is t' = (1−ε)t + ε(1−t)/(C−1), which is uniform
    with ε·C/(C−1). Shapes and dtypes as `cross_entropy`. Raises `InputError` where off_target
    would leave the true class less than the others. Szegedy et al., CVPR 2016.
    """
    classes = logits.shape[-1]
    spread = smoothing * classes / (classes - 1) if variant == "off_target" else smoothing
    if spread > 1:
        raise InputError(
            f"loss.smoothing={smoothing:g} is not allowed for off_target with {classes} classes: "
            f"at most {(classes - 1) / classes:g}, where the target is flat"
        )
    return cross_entropy(logits, target, weight, spread)


class LabelSmoothing(Loss):
    """`label_smoothing`."""

    key = "label_smoothing"
    smoothing: float
    variant: str
    weight: Tensor | None

    @property
    def class_weight(self) -> Tensor | None:
        return self.weight

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        weight = cast(self.weight, logits)
        return label_smoothing(logits, target, self.smoothing, self.variant, weight)


def temperature_scaled(
    logits: Tensor, target: Tensor, temperature: float | Tensor = 2.0, rescale: str = "none"
) -> Tensor:
    """CE(z/T) times 1, T or T² (``rescale`` "none", "T", "T2").

    ``temperature`` is a positive number or a scalar tensor, which then gets a gradient. Shapes and
    dtypes as `cross_entropy`. Hinton et al. 2015.
    """
    losses = cross_entropy(logits / temperature, target)
    return losses * temperature ** _RESCALE_POWER[rescale]


class TemperatureScaled(Loss):
    """`temperature_scaled`; with ``learnable``, log T is a parameter of the module."""

    key = "temperature_scaled"
    temperature: float
    rescale: str
    learnable: bool

    def prepare(self) -> None:
        if self.learnable:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(self.temperature)))

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return temperature_scaled(logits, target, self._current(logits), self.rescale)

    def decode(self, logits: Tensor) -> Tensor:
        """z/T, with the T learned so far."""
        return logits / self._current(logits)

    def _current(self, logits: Tensor) -> float | Tensor:
        if self.learnable:
            return self.log_temperature.to(logits.dtype).exp()
        return self.temperature
