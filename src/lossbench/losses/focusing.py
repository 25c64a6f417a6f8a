"""Losses that turn down the samples already predicted well."""

from __future__ import annotations

import torch
from torch import Tensor

from lossbench.losses.contract import Loss, cast
from lossbench.losses.likelihood import cross_entropy


def focal(
    logits: Tensor, target: Tensor, gamma: float = 2.0, alpha: Tensor | None = None
) -> Tensor:
    """α_y (1−p_y)^γ (−log p_y), with p = softmax(z).

    ``logits`` (N, C), ``target`` (N,) int64, ``alpha`` (C,) in the dtype of the logits; gives (N,).
    Lin et al., ICCV 2017.
    """
    # With u = −log p_y the loss is u·(1−e^−u)^γ: after one cross-entropy nothing more has C
    # columns. expm1 keeps all digits of 1−p_y. For γ < 1 the slope of the power is infinite at
    # u = 0, and 0·inf is NaN; the smallest normal number in place of 0 keeps it finite, and as u
    # multiplies it, changes neither the value nor the gradient's limit.
    nll = cross_entropy(logits, target)
    miss = -torch.expm1(-nll.clamp_min(torch.finfo(nll.dtype).tiny))
    losses = miss.pow(gamma) * nll
    return losses if alpha is None else alpha[target] * losses


class Focal(Loss):
    """`focal`; ``alpha`` multiplies outside the probability."""

    key = "focal"
    gamma: float
    alpha: Tensor | None

    @property
    def class_weight(self) -> Tensor | None:
        return self.alpha

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return focal(logits, target, self.gamma, cast(self.alpha, logits))
