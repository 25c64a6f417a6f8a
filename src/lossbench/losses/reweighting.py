"""Losses that weight each class by its frequency."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lossbench.losses.contract import Loss
from lossbench.losses.focusing import focal, sigmoid_focal
from lossbench.losses.likelihood import binary_cross_entropy, cross_entropy, miss, softplus


def inverse_frequency_weight(class_counts: Tensor, power: float = 1.0) -> Tensor:
    """w_c ∝ n_c^−k, summing to C; (C,) float64 from (C,) counts."""
    # over the mean log: no count, however large, overflows
    log_count = class_counts.double().log()
    return summing_to_classes(torch.exp(-power * (log_count - log_count.mean())))


def class_balanced_weight(class_counts: Tensor, beta: float) -> Tensor:
    """w_c ∝ (1−β)/(1−β^{n_c}), summing to C; (C,) float64 from (C,) counts, for β in [0, 1).

    1−β^n is −expm1(n log β) in float64: written plainly it loses all digits for β near 1.
    """
    log_beta = math.log(beta) if beta > 0 else -math.inf
    return summing_to_classes(-1 / torch.expm1(class_counts.double() * log_beta))


def summing_to_classes(weight: Tensor) -> Tensor:
    """``weight`` (C,) scaled to the sum C."""
    return weight * (len(weight) / weight.sum())


class InverseFrequency(Loss):
    """`inverse_frequency`; the catalogue's text takes the place of this line."""

    key = "inverse_frequency"
    power: float
    weight: Tensor

    def prepare(self) -> None:
        self.register_buffer("weight", inverse_frequency_weight(self.class_counts, self.power))

    @property
    def class_weight(self) -> Tensor | None:
        return self.weight

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(logits, target, self.weight.to(logits.dtype))


class ClassBalanced(Loss):
    """`class_balanced`; the catalogue's text takes the place of this line."""

    key = "class_balanced"
    beta: float
    weight: Tensor

    def prepare(self) -> None:
        self.register_buffer("weight", class_balanced_weight(self.class_counts, self.beta))

    @property
    def class_weight(self) -> Tensor | None:
        return self.weight

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(logits, target, self.weight.to(logits.dtype))


def class_balanced_bce(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """`ClassBalancedBCE` per sample; for (N, C) targets the expected loss, Σ_c t_c w_c BCE(e_c)."""
    if target.dim() == 1:
        return weight[target] * binary_cross_entropy(logits, target, "sum")
    share = target * weight
    total = share.sum(1, keepdim=True)
    return total[:, 0] * binary_cross_entropy(logits, share / total, "sum")


class ClassBalancedBCE(ClassBalanced):
    """`class_balanced_bce`; the catalogue's text takes the place of this line."""

    key = "class_balanced_bce"

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return class_balanced_bce(logits, target, self.weight.to(logits.dtype))

    def deployed(self, logits: Tensor) -> Tensor:
        """log σ(z), which estimates log p(y|x) under the weighted prior."""
        return F.logsigmoid(logits)


def class_balanced_focal(
    logits: Tensor, target: Tensor, weight: Tensor, gamma: float = 1.0, activation: str = "sigmoid"
) -> Tensor:
    """`ClassBalancedFocal` per sample."""
    if activation == "softmax":
        return focal(logits, target, gamma, weight)
    return weight[target] * sigmoid_focal(logits, target, gamma, alpha=None)


class ClassBalancedFocal(ClassBalanced):
    """`class_balanced_focal`; the catalogue's text takes the place of this line."""

    key = "class_balanced_focal"
    gamma: float
    activation: str

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        weight = self.weight.to(logits.dtype)
        return class_balanced_focal(logits, target, weight, self.gamma, self.activation)

    def deployed(self, logits: Tensor) -> Tensor:
        """log σ(z), or z under softmax."""
        return logits if self.activation == "softmax" else F.logsigmoid(logits)


def influence_balanced(
    logits: Tensor,
    target: Tensor,
    features: Tensor,
    weight: Tensor,
    alpha: float = 1000.0,
    epsilon: float = 0.001,
    detach: bool = False,
) -> Tensor:
    """`InfluenceBalanced` per sample, once it has started; ``features`` (N, F), ``weight`` (C,).

    ‖p − e_y‖₁ is 2(1−p_y). The factor is up to α/ε near p_y = 1, so that −log p_y must have all
    digits there: it is softplus(logsumexp_{j≠y} (z_j − z_y)).
    """
    column = target[:, None]
    gaps = logits - logits.gather(1, column)
    nll = softplus(gaps.scatter(1, column, -torch.inf).logsumexp(1))
    influence = 2 * miss(nll) * features.abs().sum(1)
    factor = alpha / (influence + epsilon)
    return weight[target] * (factor.detach() if detach else factor) * nll


class InfluenceBalanced(Loss):
    """`influence_balanced`; the catalogue's text takes the place of this line."""

    key = "influence_balanced"
    alpha: float
    epsilon: float
    detach: bool
    start_fraction: float
    weight: Tensor

    def prepare(self) -> None:
        self.register_buffer("weight", inverse_frequency_weight(self.class_counts))

    @property
    def class_weight(self) -> Tensor | None:
        """1 before the start, then the weights."""
        return self.weight.where(self._started, 1)

    def per_sample(
        self,
        logits: Tensor,
        target: Tensor,
        features: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        assert features is not None
        by_class = self.weight.to(logits.dtype)
        late = influence_balanced(
            logits, target, features, by_class, self.alpha, self.epsilon, self.detach
        )
        return late.where(self._started, cross_entropy(logits, target))

    @property
    def _started(self) -> Tensor:
        return self.epoch / self.max_epochs >= self.start_fraction
