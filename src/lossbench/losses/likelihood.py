"""Log-likelihood losses: cross-entropy, smoothed, tempered, one-vs-rest; and the hinge.

Here as in every family, a functional core takes ``logits`` (N, C) and ``target``, (N,) int64 or,
for losses that take them, (N, C) probabilities in the dtype of the logits; vectors with an entry
per class are (C,) in that dtype too. It checks nothing and gives (N,).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossbench.errors import InputError
from lossbench.losses.closed_form import closed_form
from lossbench.losses.contract import Loss, cast

_RESCALE_POWER = {"none": 0, "T": 1, "T2": 2}


def cross_entropy(
    logits: Tensor, target: Tensor, weight: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """`CrossEntropy` per sample."""
    return F.cross_entropy(
        logits, target, weight, reduction="none", label_smoothing=label_smoothing
    )


class CrossEntropy(Loss):
    """`cross_entropy`; the catalogue's text takes the place of this line."""

    key = "cross_entropy"
    weight: Tensor | None
    label_smoothing: float

    @property
    def class_weight(self) -> Tensor | None:
        return self.weight

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(logits, target, cast(self.weight, logits), self.label_smoothing)


def miss(nll: Tensor) -> Tensor:
    """1−p_y from −log p_y, with all the digits that −log p_y has; its gradient with all of p_y's.

    The gradient of expm1 is its result plus 1, in which a small p_y drowns: in float32 below 1e-7.
    So the value is expm1's and the gradient exp's. Near p_y = 1 the −log p_y of a log-softmax is
    exact to one rounding of 1, as torch's cross-entropy is; more digits take a pass of their own.
    """
    p = torch.exp(-nll)
    return (p.detach() - p) - torch.expm1(-nll.detach())


def label_smoothing(
    logits: Tensor,
    target: Tensor,
    smoothing: float = 0.1,
    variant: str = "uniform",
    weight: Tensor | None = None,
) -> Tensor:
    """`LabelSmoothing` per sample.

    Raises `InputError` where off_target would leave the true class less than the others.
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
    """`label_smoothing`; the catalogue's text takes the place of this line."""

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
    """`TemperatureScaled` per sample; a temperature that is a scalar tensor gets a gradient."""
    losses = cross_entropy(logits / temperature, target)
    return losses * temperature ** _RESCALE_POWER[rescale]


class TemperatureScaled(Loss):
    """`temperature_scaled`; the catalogue's text takes the place of this line."""

    key = "temperature_scaled"
    temperature: float
    rescale: str
    learnable: bool

    def prepare(self) -> None:
        if self.learnable:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(self.temperature)))

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return temperature_scaled(logits, target, self._current(logits), self.rescale)

    def deployed(self, logits: Tensor) -> Tensor:
        """z/T, with the T learned so far."""
        return logits / self._current(logits)

    def _current(self, logits: Tensor) -> float | Tensor:
        if self.learnable:
            return self.log_temperature.to(logits.dtype).exp()
        return self.temperature


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x) = −log σ(−x), exact: beyond 40 it is x to float64's last digit."""
    return F.softplus(x, threshold=40)


ValueAndSlope = Callable[[Tensor], tuple[Tensor, Tensor]]


def one_vs_rest(
    logits: Tensor,
    target: Tensor,
    positive: ValueAndSlope,
    negative: ValueAndSlope,
    positive_weight: Tensor | None = None,
) -> Tensor:
    """Σ_j t_j w_j positive(z_j) + (1−t_j) negative(z_j), (N,); w is ``positive_weight`` (C,).

    ``positive`` and ``negative`` give the loss of one class and its slope, elementwise.
    """

    def work(z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        losses, slope = negative(z)
        if target.dim() == 2:
            true, true_slope = weighted(*positive(z), positive_weight)
            return losses.lerp(true, target).sum(1), slope.lerp(true_slope, target)
        column = target[:, None]
        weight = None if positive_weight is None else positive_weight[column]
        true, true_slope = weighted(*positive(z.gather(1, column)), weight)
        return losses.scatter(1, column, true).sum(1), slope.scatter(1, column, true_slope)

    return closed_form(logits, target, work)


def weighted(losses: Tensor, slope: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Losses and slope times ``weight``, if there is one."""
    return (losses, slope) if weight is None else (losses * weight, slope * weight)


def log_loss(z: Tensor) -> tuple[Tensor, Tensor]:
    """−log(1 − σ(z)), the loss of a negative, and its slope σ(z)."""
    return softplus(z), z.sigmoid()


def mirrored(negative: ValueAndSlope) -> ValueAndSlope:
    """The loss of a positive, negative(−z), and its slope."""

    def positive(z: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = negative(-z)
        return value, -slope

    return positive


def over_classes(losses: Tensor, logits: Tensor, class_reduction: str) -> Tensor:
    """Sums over the classes, (N,), as they are ("sum") or divided by C ("mean")."""
    return losses / logits.shape[-1] if class_reduction == "mean" else losses


def binary_cross_entropy(
    logits: Tensor,
    target: Tensor,
    class_reduction: str = "mean",
    pos_weight: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """`BinaryCrossEntropy` per sample.

    It is linear in the target, so that smoothing mixes in the loss of the flat target.
    """
    positive = mirrored(log_loss)
    losses = one_vs_rest(logits, target, positive, log_loss, pos_weight)
    if smoothing:
        flat = torch.full_like(logits, 1 / logits.shape[-1])
        even = one_vs_rest(logits, flat, positive, log_loss, pos_weight)
        losses = losses.lerp(even, smoothing)
    return over_classes(losses, logits, class_reduction)


class BinaryCrossEntropy(Loss):
    """`binary_cross_entropy`; the catalogue's text takes the place of this line."""

    key = "binary_cross_entropy"
    class_reduction: str
    pos_weight: Tensor | None
    smoothing: float

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        pos_weight = cast(self.pos_weight, logits)
        return binary_cross_entropy(
            logits, target, self.class_reduction, pos_weight, self.smoothing
        )

    def deployed(self, logits: Tensor) -> Tensor:
        """log σ(z), which estimates log p(y|x)."""
        return F.logsigmoid(logits)

    def log_prior_shift(self) -> Tensor | None:
        return None if self.pos_weight is None else self.pos_weight.log()


def multi_margin(logits: Tensor, target: Tensor, margin: float = 1.0, p: int = 1) -> Tensor:
    """`MultiMargin` per sample."""

    def work(z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        column = target[:, None]
        lack = (margin + z - z.gather(1, column)).clamp(min=0).scatter(1, column, 0)
        losses, slope = (lack.sum(1), lack.sign()) if p == 1 else (lack.square().sum(1), 2 * lack)
        slope = slope.scatter(1, column, -slope.sum(1, keepdim=True)) / z.shape[-1]
        return losses / z.shape[-1], slope

    return closed_form(logits, target, work)


class MultiMargin(Loss):
    """`multi_margin`; the catalogue's text takes the place of this line."""

    key = "multi_margin"
    margin: float
    p: int

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return multi_margin(logits, target, self.margin, self.p)
