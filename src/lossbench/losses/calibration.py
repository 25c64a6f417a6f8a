"""Losses that keep the logits from growing without bound, or the confidence honest."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lossbench.losses.closed_form import closed_form, largest, log_softmax_and_slope
from lossbench.losses.contract import Loss
from lossbench.losses.likelihood import cross_entropy


def mbls(
    logits: Tensor,
    target: Tensor,
    margin: float = 10.0,
    alpha: float = 0.1,
    class_reduction: str = "mean",
) -> Tensor:
    """`MbLS` per sample."""
    price = alpha / logits.shape[-1] if class_reduction == "mean" else alpha

    def work(z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        _, losses, slope = log_softmax_and_slope(z, target)
        top, share = largest(z)
        excess = (top - margin - z).clamp(min=0)
        over = excess.sign()  # 1 where a logit is too low, else 0
        slope = slope + share.mul_(over.sum(1, keepdim=True)).sub_(over).mul_(price)
        return losses + price * excess.sum(1), slope

    return closed_form(logits, target, work)


class MbLS(Loss):
    """`mbls`; the catalogue's text takes the place of this line."""

    key = "mbls"
    margin: float
    alpha: float
    class_reduction: str

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return mbls(logits, target, self.margin, self.alpha, self.class_reduction)


def confidence_penalty(logits: Tensor, target: Tensor, beta: float = 0.1) -> Tensor:
    """`ConfidencePenalty` per sample."""

    def work(z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        log_p, losses, slope = log_softmax_and_slope(z, target)
        p = log_p.exp()
        p_log_p = log_p.mul_(p)
        negative_entropy = p_log_p.sum(1, keepdim=True)
        slope = slope + p_log_p.sub_(p.mul_(negative_entropy)).mul_(beta)
        return losses + beta * negative_entropy[:, 0], slope

    return closed_form(logits, target, work)


class ConfidencePenalty(Loss):
    """`confidence_penalty`; the catalogue's text takes the place of this line."""

    key = "confidence_penalty"
    beta: float

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return confidence_penalty(logits, target, self.beta)


def maxsup(logits: Tensor, target: Tensor, alpha: float | Tensor = 0.1) -> Tensor:
    """`MaxSup` per sample, with the ``alpha`` of the moment."""

    def work(z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        _, losses, slope = log_softmax_and_slope(z, target)
        top, share = largest(z)
        slope = slope + alpha * (share - 1 / z.shape[-1])
        return losses + alpha * (top[:, 0] - z.mean(1)), slope

    return closed_form(logits, target, work)


class MaxSup(Loss):
    """`maxsup`; the catalogue's text takes the place of this line."""

    key = "maxsup"
    alpha: float
    alpha_end: float

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        reached = self.epoch / (self.max_epochs - 1).clamp_min(1)
        alpha = self.alpha + (self.alpha_end - self.alpha) * reached
        return maxsup(logits, target, alpha.to(logits.dtype))


def logit_norm(logits: Tensor, target: Tensor, temperature: float = 0.04) -> Tensor:
    """`LogitNorm` per sample."""

    def work(z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        norm = torch.linalg.vector_norm(z, dim=1, keepdim=True)
        factor = (temperature * (norm + 1e-7)).reciprocal()
        unit = z * factor
        _, losses, slope = log_softmax_and_slope(unit, target)
        along = (unit * slope).sum(1, keepdim=True)
        # at z = 0, where the direction is undefined, the slope of the norm is taken as 0
        along = along / (norm.clamp_min(torch.finfo(norm.dtype).tiny) * (norm + 1e-7))
        return losses, slope * factor - z * along

    return closed_form(logits, target, work)


def normalised(logits: Tensor, temperature: float) -> Tensor:
    """z / (T (‖z‖₂ + 1e-7))."""
    norm = torch.linalg.vector_norm(logits, dim=1, keepdim=True)
    return logits * (temperature * (norm + 1e-7)).reciprocal()


class LogitNorm(Loss):
    """`logit_norm`; the catalogue's text takes the place of this line."""

    key = "logit_norm"
    temperature: float

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return logit_norm(logits, target, self.temperature)

    def deployed(self, logits: Tensor) -> Tensor:
        """The normalised logits."""
        return normalised(logits, self.temperature)


def label_aware_spread(class_counts: Tensor, head: float, tail: float, shape: str) -> Tensor:
    """ε_c, (C,) float64: from ``tail`` at the rarest class to ``head`` at the most frequent."""
    counts = class_counts.double()
    span = counts.max() - counts.min()
    r = (counts - counts.min()) / span if span else torch.ones_like(counts)
    quarter = r * (math.pi / 2)
    rise = {"concave": quarter.sin(), "linear": r, "convex": 1 - quarter.cos()}
    return tail + (head - tail) * rise[shape]


def label_aware_smoothing(logits: Tensor, target: Tensor, spread: Tensor) -> Tensor:
    """`LabelAwareSmoothing` per sample; ``spread`` (C,) are the ε_c.

    (1−ε)(−log p_y) − ε mean_j log p_j is −log p_y + ε (z_y − mean z): no log-softmax is needed.
    """
    true = logits.gather(1, target[:, None])[:, 0]
    mean = logits.sum(1) / logits.shape[-1]
    return cross_entropy(logits, target) + spread[target] * (true - mean)


class LabelAwareSmoothing(Loss):
    """`label_aware_smoothing`; the catalogue's text takes the place of this line."""

    key = "label_aware_smoothing"
    smooth_head: float
    smooth_tail: float
    shape: str
    spread: Tensor

    def prepare(self) -> None:
        spread = label_aware_spread(
            self.class_counts, self.smooth_head, self.smooth_tail, self.shape
        )
        self.register_buffer("spread", spread)

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return label_aware_smoothing(logits, target, self.spread.to(logits.dtype))


def mmce_penalty(logits: Tensor, target: Tensor, kept: Tensor | None = None) -> Tensor:
    """Σ_ij (c_i−r_i)(c_j−r_j) e^{−|r_i−r_j|/0.4} / N², a scalar; r_i = max p, c_i whether right.

    ``kept`` (N,) bool: the samples that count, of which there are N.
    """
    confidence = logits.log_softmax(1).amax(1).exp()
    right = (logits.detach().argmax(1) == target).to(logits.dtype)
    off = right - confidence
    count = right.new_full((), len(target))
    if kept is not None:
        off, confidence, count = off.where(kept, 0), confidence.where(kept, 0), kept.sum()
    kernel = torch.exp((confidence[:, None] - confidence).abs() / -0.4)
    return (off @ kernel @ off) / count.clamp_min(1).square()


class MMCE(Loss):
    """`mmce`; the catalogue's text takes the place of this line."""

    key = "mmce"
    coefficient: float

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(logits, target)

    def batch_penalty(self, logits: Tensor, target: Tensor, kept: Tensor | None) -> Tensor:
        return self.coefficient * mmce_penalty(logits, target, kept)
