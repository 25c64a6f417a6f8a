"""Softmax losses with a margin on the angle between feature and class weight.

The logits of all but `large_margin_softmax` are the bare cosines of a cosine head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lossbench.errors import InputError
from lossbench.losses.adjustment import target_margin
from lossbench.losses.contract import Loss, at_least_float32, checked_head
from lossbench.losses.likelihood import cross_entropy


def norm_softmax(logits: Tensor, target: Tensor, scale: float = 30.0) -> Tensor:
    """`NormSoftmax` per sample."""
    return cross_entropy(scale * logits, target)


class NormSoftmax(Loss):
    """`norm_softmax`; the catalogue's text takes the place of this line."""

    key = "norm_softmax"
    scale: float

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return norm_softmax(logits, target, self.scale)

    def deployed(self, logits: Tensor) -> Tensor:
        """s·cos, without a margin."""
        return self.scale * logits


def am_softmax(logits: Tensor, target: Tensor, scale: float = 30.0, margin: float = 0.35) -> Tensor:
    """`AMSoftmax` per sample."""
    return cross_entropy(target_margin(logits, target, margin, scale), target)


class AMSoftmax(NormSoftmax):
    """`am_softmax`; the catalogue's text takes the place of this line."""

    key = "am_softmax"
    margin: float

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return am_softmax(logits, target, self.scale, self.margin)


def arcface(
    logits: Tensor,
    target: Tensor,
    scale: float = 30.0,
    margin: float = 0.5,
    fallback: str = "linear",
) -> Tensor:
    """`ArcFace` per sample; cos(θ+m) is cos θ cos m − sin θ sin m, with sin θ ≥ 0."""
    column = target[:, None]
    cos = logits.gather(1, column)
    # The slope of the root is infinite at |cos| = 1, which rounding can even pass: it is taken one
    # rounding away from there, the value where it is.
    nearly = 1 - torch.finfo(cos.dtype).eps
    near = (1 - cos.clamp(-nearly, nearly).square()).sqrt()
    sin = near + ((1 - cos.detach().square()).clamp(min=0).sqrt() - near.detach())
    moved = cos * math.cos(margin) - sin * math.sin(margin)
    if fallback == "linear":
        moved = moved.where(cos >= -math.cos(margin), cos - margin * math.sin(margin))
    elif fallback == "easy":
        moved = moved.where(cos > 0, cos)
    return cross_entropy((scale * logits).scatter_add(1, column, scale * (moved - cos)), target)


class ArcFace(NormSoftmax):
    """`arcface`; the catalogue's text takes the place of this line."""

    key = "arcface"
    margin: float
    fallback: str

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return arcface(logits, target, self.scale, self.margin, self.fallback)


def psi(cos: Tensor, margin: int) -> Tensor:
    """(−1)^k cos(mθ) − 2k with k = ⌊mθ/π⌋: falls from 1 to 1 − 2m as θ goes from 0 to π.

    cos(mθ) is Chebyshev's polynomial in cos θ, whose slope is finite everywhere.
    """
    before, polynomial = torch.ones_like(cos), cos
    for _ in range(margin - 1):
        before, polynomial = polynomial, 2 * cos * polynomial - before
    angle = cos.detach().clamp(-1, 1).acos()
    k = (margin * angle / math.pi).floor().clamp_max(margin - 1)
    return (1 - 2 * (k % 2)) * polynomial - 2 * k


def annealed(annealing: Sequence[float], progress: Tensor) -> Tensor:
    """λ = max(minimum, base (1 + rate·progress)^−power), from [base, rate, power, minimum]."""
    base, rate, power, minimum = annealing
    return (base * (1 + rate * progress).pow(-power)).clamp_min(minimum)


def _check_annealing(loss: str, annealing: Sequence[float]) -> None:
    if len(annealing) != 4 or min(annealing) < 0:
        raise InputError(
            f"loss.annealing={list(annealing)} is not allowed for {loss}: 4 numbers of at least 0, "
            "[base, rate, power, minimum]"
        )


def large_margin_softmax(
    logits: Tensor,
    target: Tensor,
    features: Tensor,
    weight: Tensor,
    margin: int = 2,
    annealed: float | Tensor = 0.0,
) -> Tensor:
    """`LargeMarginSoftmax` per sample; ``features`` (N, F), ``weight`` (C, F), ``annealed`` λ.

    The target's logit z_y gets ‖W_y‖‖x‖(ψ − cos)/(1+λ) on top: without a bias in the head that is
    the paper's ‖W_y‖‖x‖(λ cos + ψ)/(1+λ).
    """
    own = weight[target]
    dot = (features * own).sum(1)
    length = torch.linalg.vector_norm(features, dim=1) * torch.linalg.vector_norm(own, dim=1)
    cos = dot / length.clamp_min(torch.finfo(dot.dtype).tiny)
    lift = (length * psi(cos, margin) - dot) / (1 + annealed)
    return cross_entropy(logits.scatter_add(1, target[:, None], lift[:, None]), target)


class LargeMarginSoftmax(Loss):
    """`large_margin_softmax`; the catalogue's text takes the place of this line."""

    key = "large_margin_softmax"
    margin: int
    annealing: list[float]

    def prepare(self) -> None:
        _check_annealing(self.key, self.annealing)

    def per_sample(
        self,
        logits: Tensor,
        target: Tensor,
        features: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        assert features is not None
        if weight is None:
            raise InputError(
                f"{self.key} needs the weight of the head: call loss(logits, target, "
                "features=..., weight=...)"
            )
        moment = annealed(self.annealing, self.epoch / self.max_epochs).to(logits.dtype)
        return large_margin_softmax(logits, target, features, weight, self.margin, moment)


def sphereface(
    logits: Tensor,
    target: Tensor,
    features: Tensor,
    margin: int = 4,
    annealed: float | Tensor = 0.0,
) -> Tensor:
    """`SphereFace` per sample; ``logits`` are cosines, ``features`` (N, F), ``annealed`` λ."""
    column = target[:, None]
    cos = logits.gather(1, column)
    moved = (annealed * cos + psi(cos, margin)) / (1 + annealed)
    length = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return cross_entropy(length * logits.scatter(1, column, moved), target)


class SphereFace(Loss):
    """`sphereface`; the catalogue's text takes the place of this line."""

    key = "sphereface"
    margin: int
    annealing: list[float]

    def prepare(self) -> None:
        _check_annealing(self.key, self.annealing)

    def per_sample(
        self,
        logits: Tensor,
        target: Tensor,
        features: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        assert features is not None
        moment = annealed(self.annealing, self.epoch / self.max_epochs).to(logits.dtype)
        return sphereface(logits, target, features, self.margin, moment)

    def decode(
        self, logits: Tensor, features: Tensor | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """‖x‖·cos, without the margin."""
        logits = at_least_float32(logits)
        features, _ = checked_head(self.key, logits, features, weight)
        return torch.linalg.vector_norm(features, dim=1, keepdim=True) * logits
