"""Losses that turn down the samples already predicted well."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lossbench.errors import InputError
from lossbench.losses.closed_form import (
    closed_form,
    of_nll,
    through_log_softmax,
)
from lossbench.losses.contract import Loss, cast
from lossbench.losses.likelihood import (
    ValueAndSlope,
    cross_entropy,
    mirrored,
    miss,
    one_vs_rest,
    over_classes,
    softplus,
)

# The CPU takes a hundred times as long for an exponential that underflows; this one does not.
_LOG_TINY = -87.0


def focal(
    logits: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    alpha: Tensor | None = None,
) -> Tensor:
    """`Focal` per sample.

    With u = −log p_y it is u·(1−e^−u)^γ: after one cross-entropy nothing more has C columns.
    """
    losses = of_nll(
        cross_entropy(logits, target), lambda nll: positive_power(miss(nll), gamma) * nll
    )
    return losses if alpha is None else alpha[target] * losses


def positive_power(x: Tensor, gamma: float | Tensor) -> Tensor:
    """x^γ for x ≥ 0 with a finite slope at 0.

    For γ < 1 the slope there is infinite, and 0·inf is NaN. Every use here multiplies the power by
    something that is 0 with x, so that the smallest normal number in place of 0 changes neither the
    value nor the limit of the gradient.
    """
    if isinstance(gamma, int | float) and gamma >= 1:
        return x.pow(gamma)
    return x.clamp_min(_tiny(x)).pow(gamma)


def _tiny(x: Tensor) -> float:
    """The smallest normal number of the dtype of ``x``."""
    return torch.finfo(x.dtype).tiny


class Focal(Loss):
    """`focal`; the catalogue's text takes the place of this line."""

    key = "focal"
    gamma: float
    alpha: Tensor | None

    @property
    def class_weight(self) -> Tensor | None:
        return self.alpha

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return focal(logits, target, self.gamma, cast(self.alpha, logits))


def modulated(gamma: float, detach_weight: bool = False) -> ValueAndSlope:
    """The focal loss of a negative, σ(z)^γ log(1 + e^z), and its slope.

    With ``detach_weight`` the slope is that of the logarithm alone.
    """

    def negative(z: Tensor) -> tuple[Tensor, Tensor]:
        loss = softplus(z)
        log_sigma = z - loss
        slope = log_sigma.exp()
        power = log_sigma.mul_(gamma).exp_()
        if not detach_weight:  # σ + γ (1−σ) loss
            rest = slope * loss
            slope.add_(loss, alpha=gamma).sub_(rest, alpha=gamma)
        return loss.mul_(power), slope.mul_(power)

    return negative


def sigmoid_focal(
    logits: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    alpha: float | None = 0.25,
    class_reduction: str = "sum",
) -> Tensor:
    """`SigmoidFocal` per sample; for (N, C) targets the expected loss, linear in the target."""
    negative = modulated(gamma)
    if alpha is None:
        losses = one_vs_rest(logits, target, mirrored(negative), negative)
    else:
        odds = logits.new_full((logits.shape[-1],), alpha / (1 - alpha))
        losses = (1 - alpha) * one_vs_rest(logits, target, mirrored(negative), negative, odds)
    return over_classes(losses, logits, class_reduction)


class SigmoidFocal(Loss):
    """`sigmoid_focal`; the catalogue's text takes the place of this line."""

    key = "sigmoid_focal"
    gamma: float
    alpha: float | None
    class_reduction: str

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return sigmoid_focal(logits, target, self.gamma, self.alpha, self.class_reduction)

    def deployed(self, logits: Tensor) -> Tensor:
        """log σ(z)."""
        return F.logsigmoid(logits)


def focal_flsd(
    logits: Tensor,
    target: Tensor,
    thresholds: Sequence[float] = (0.2,),
    gammas: Sequence[float] = (5.0, 3.0),
) -> Tensor:
    """`FocalFLSD` per sample; γ is the one of ``gammas`` for the number of thresholds ≤ p_y."""

    def measure(nll: Tensor) -> Tensor:
        p = torch.exp(-nll.detach())
        gamma = torch.full_like(p, gammas[0])
        for threshold, larger in zip(thresholds, gammas[1:], strict=True):
            gamma = gamma.where(p < threshold, larger)
        return positive_power(miss(nll), gamma) * nll

    return of_nll(cross_entropy(logits, target), measure)


class FocalFLSD(Loss):
    """`focal_flsd`; the catalogue's text takes the place of this line."""

    key = "focal_flsd"
    thresholds: list[float]
    gammas: list[float]

    def prepare(self) -> None:
        if len(self.gammas) != len(self.thresholds) + 1:
            raise InputError(
                f"loss.gammas={self.gammas} is not allowed for focal_flsd with thresholds "
                f"{self.thresholds}: give {len(self.thresholds) + 1} numbers, one more than "
                "thresholds"
            )
        if sorted(set(self.thresholds)) != self.thresholds:
            raise InputError(
                f"loss.thresholds={self.thresholds} is not allowed for focal_flsd: give ascending "
                "numbers"
            )

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return focal_flsd(logits, target, self.thresholds, self.gammas)


def dual_focal(logits: Tensor, target: Tensor, gamma: float = 5.0) -> Tensor:
    """`DualFocal` per sample; of runners-up that tie the first has the gradient."""
    z, column = logits.detach(), target[:, None]
    # Of the classes strictly below the target the nearest is that whose gap has the least
    # reciprocal; the target's own 1/0 is +inf, and so is a tie's. It needs no mask, which would
    # take longer than a cross-entropy.
    gap = z - z.gather(1, column) + 0.0  # a −0 is a 0
    least, runner_up = gap.reciprocal().min(1, keepdim=True)
    log_p = logits.log_softmax(1).gather(1, torch.cat([column, runner_up], 1))
    nll, p_runner_up = -log_p[:, 0], log_p[:, 1].exp().where(least[:, 0] < 0, 0)
    return positive_power(miss(nll) + p_runner_up, gamma) * nll


class DualFocal(Loss):
    """`dual_focal`; the catalogue's text takes the place of this line."""

    key = "dual_focal"
    gamma: float

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return dual_focal(logits, target, self.gamma)


def poly1(logits: Tensor, target: Tensor, epsilon: float = 2.0, gamma: float = 0.0) -> Tensor:
    """`Poly1` per sample."""

    def measure(nll: Tensor) -> Tensor:
        missed = miss(nll)
        losses = nll + epsilon * missed
        return positive_power(missed, gamma) * losses if gamma else losses

    return of_nll(cross_entropy(logits, target), measure)


class Poly1(Loss):
    """`poly1`; the catalogue's text takes the place of this line."""

    key = "poly1"
    epsilon: float
    gamma: float

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return poly1(logits, target, self.epsilon, self.gamma)


def asymmetric(
    logits: Tensor,
    target: Tensor,
    gamma_pos: float = 0.0,
    gamma_neg: float = 4.0,
    smoothing: float = 0.1,
) -> Tensor:
    """`Asymmetric` per sample."""
    if not smoothing:
        return focal(logits, target, gamma_pos)
    share = smoothing / logits.shape[-1]

    def work(z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        log_p, column = z.log_softmax(1), target[:, None]
        nll = -log_p.gather(1, column)
        missed = miss(nll)
        weight = (1 - smoothing + share) * positive_power(missed, gamma_pos)
        steeper = weight * gamma_pos * (1 - missed) * nll / missed.clamp_min(_tiny(missed))
        power = log_p.clamp(min=_LOG_TINY / max(gamma_neg, 1)).mul_(gamma_neg).exp_()
        losses = power * log_p
        others = losses.sum(1, keepdim=True) - losses.gather(1, column)
        slope = losses.mul_(gamma_neg).add_(power).mul_(-share)
        slope = slope.scatter(1, column, -weight - steeper)
        losses = weight * nll - share * others
        return losses[:, 0], through_log_softmax(log_p.exp(), slope)

    return closed_form(logits, target, work)


class Asymmetric(Loss):
    """`asymmetric`; the catalogue's text takes the place of this line."""

    key = "asymmetric"
    gamma_pos: float
    gamma_neg: float
    smoothing: float

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return asymmetric(logits, target, self.gamma_pos, self.gamma_neg, self.smoothing)


def asymmetric_ovr(
    logits: Tensor,
    target: Tensor,
    gamma_pos: float = 1.0,
    gamma_neg: float = 4.0,
    clip: float = 0.05,
    detach_weight: bool = False,
    class_reduction: str = "sum",
) -> Tensor:
    """`AsymmetricOVR` per sample; for (N, C) targets the expected loss, linear in the target."""

    def clipped(z: Tensor) -> tuple[Tensor, Tensor]:
        # where a class is clipped q is 0, and with it loss and gain
        rest = (-z).sigmoid_()  # 1−σ(z)
        left = (rest + clip).clamp(max=1)  # 1−q
        q = 1 - left
        loss = left.log().neg_()
        gain = q / left
        if not detach_weight:
            gain.add_(loss, alpha=gamma_neg)
        power = positive_power(q, gamma_neg - 1)
        gain.mul_(power).mul_(rest).mul_(rest.neg_().add_(1))
        return loss.mul_(power).mul_(q), gain

    positive = mirrored(modulated(gamma_pos, detach_weight=detach_weight))
    negative = clipped if clip else modulated(gamma_neg, detach_weight=detach_weight)
    losses = one_vs_rest(logits, target, positive, negative)
    return over_classes(losses, logits, class_reduction)


class AsymmetricOVR(Loss):
    """`asymmetric_ovr`; the catalogue's text takes the place of this line."""

    key = "asymmetric_ovr"
    gamma_pos: float
    gamma_neg: float
    clip: float
    detach_weight: bool
    class_reduction: str

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return asymmetric_ovr(
            logits,
            target,
            self.gamma_pos,
            self.gamma_neg,
            self.clip,
            self.detach_weight,
            self.class_reduction,
        )

    def deployed(self, logits: Tensor) -> Tensor:
        """log σ(z)."""
        return F.logsigmoid(logits)
