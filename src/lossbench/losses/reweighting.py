"""Losses that weight each class by its frequency."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lossbench.losses.contract import Loss
from lossbench.losses.likelihood import cross_entropy


def class_balanced_weight(class_counts: Tensor, beta: float) -> Tensor:
    """w_c ∝ (1−β)/(1−β^{n_c}), summing to C; (C,) float64 from (C,) counts, for β in [0, 1).

    1−β^n is −expm1(n log β) in float64: written plainly it loses all digits for β near 1.
    Cui et al., CVPR 2019.
    """
    log_beta = math.log(beta) if beta > 0 else -math.inf
    weight = -1 / torch.expm1(class_counts.double() * log_beta)
    return weight * (len(weight) / weight.sum())


def class_balanced(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """w_y CE with the weights of `class_balanced_weight`; for (N, C) targets −Σ_j t_j w_j log p_j.

    ``logits`` (N, C), ``target`` (N,) int64 or (N, C), ``weight`` (C,), all floats of one dtype;
    gives (N,). Cui et al., CVPR 2019.
    """
    return cross_entropy(logits, target, weight)


class ClassBalanced(Loss):
    """`class_balanced`; needs class counts."""

    key = "class_balanced"
    beta: float
    weight: Tensor

    def prepare(self) -> None:
        self.register_buffer("weight", class_balanced_weight(self.class_counts, self.beta))

    @property
    def class_weight(self) -> Tensor | None:
        return self.weight

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return class_balanced(logits, target, self.weight.to(logits.dtype))
