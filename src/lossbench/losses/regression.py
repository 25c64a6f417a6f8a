"""Regression losses on d = p − t, softmax probabilities less the target."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from torch import Tensor

from lossbench.losses.closed_form import closed_form
from lossbench.losses.contract import Loss
from lossbench.losses.likelihood import cross_entropy, miss, over_classes

ValueAndSlope = Callable[[Tensor], tuple[Tensor, Tensor]]


def over_deviations(logits: Tensor, target: Tensor, measure: ValueAndSlope) -> Tensor:
    """Σ_j φ(p_j − t_j), (N,).

    ``measure`` gives φ and φ' elementwise; it may overwrite its input.
    """

    def work(z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        p = z.softmax(1)
        if target.dim() == 2:
            d = p - target
        else:
            column = target[:, None]
            d = p.scatter_add(1, column, p.new_full((), -1).expand_as(column))
        values, slope = measure(d)
        through = (p * slope).sum(1, keepdim=True)
        return values.sum(1), slope.sub_(through).mul_(p)  # ∂/∂z_j = p_j (φ'_j − Σ_k p_k φ'_k)

    return closed_form(logits, target, work)


def l1(logits: Tensor, target: Tensor, class_reduction: str = "sum") -> Tensor:
    """`L1` per sample; 2(1−p_y) for a class index."""
    if target.dim() == 2:
        losses = over_deviations(logits, target, lambda d: (d.abs(), d.sign()))
    else:
        losses = 2 * miss(cross_entropy(logits, target))
    return over_classes(losses, logits, class_reduction)


class L1(Loss):
    """`l1`; the catalogue's text takes the place of this line."""

    key = "l1"
    class_reduction: str

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return l1(logits, target, self.class_reduction)


def mse(logits: Tensor, target: Tensor, class_reduction: str = "sum") -> Tensor:
    """`MSE` per sample."""
    losses = over_deviations(logits, target, lambda d: (d.square(), d.mul_(2)))
    return over_classes(losses, logits, class_reduction)


class MSE(Loss):
    """`mse`; the catalogue's text takes the place of this line."""

    key = "mse"
    class_reduction: str

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return mse(logits, target, self.class_reduction)


def smooth_l1(
    logits: Tensor, target: Tensor, beta: float = 0.1, class_reduction: str = "sum"
) -> Tensor:
    """`SmoothL1` per sample."""

    def measure(d: Tensor) -> tuple[Tensor, Tensor]:
        slope = (d / beta).clamp(-1, 1)  # d/β where |d| < β, else ±1
        return d.sub_(slope, alpha=beta / 2).mul_(slope), slope

    return over_classes(over_deviations(logits, target, measure), logits, class_reduction)


class SmoothL1(Loss):
    """`smooth_l1`; the catalogue's text takes the place of this line."""

    key = "smooth_l1"
    beta: float
    class_reduction: str

    def prepare(self) -> None:
        _warn_where_it_is_mse("beta", self.beta, f"mse/{2 * self.beta:g}")

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return smooth_l1(logits, target, self.beta, self.class_reduction)


def huber(
    logits: Tensor, target: Tensor, delta: float = 0.1, class_reduction: str = "sum"
) -> Tensor:
    """`Huber` per sample; δ times `smooth_l1` with β = δ."""
    return delta * smooth_l1(logits, target, delta, class_reduction)


class Huber(Loss):
    """`huber`; the catalogue's text takes the place of this line."""

    key = "huber"
    delta: float
    class_reduction: str

    def prepare(self) -> None:
        _warn_where_it_is_mse("delta", self.delta, "mse/2")

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return huber(logits, target, self.delta, self.class_reduction)


def _warn_where_it_is_mse(name: str, value: float, equal: str) -> None:
    if value >= 1:
        warnings.warn(
            f"loss.{name}={value:g} makes this loss {equal}, because |p − t| is at most 1: give "
            f"a {name} below 1",
            stacklevel=5,
        )
