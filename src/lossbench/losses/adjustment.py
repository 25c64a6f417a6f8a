"""Losses that move the logits by the class frequencies."""

from __future__ import annotations

from torch import Tensor

from lossbench.losses.contract import Loss
from lossbench.losses.likelihood import cross_entropy


def log_prior(class_counts: Tensor) -> Tensor:
    """log π_c = log(n_c/Σn), (C,) float64 from (C,) counts."""
    counts = class_counts.double()
    return (counts / counts.sum()).log()


def logit_adjusted(logits: Tensor, target: Tensor, log_prior: Tensor, tau: float = 1.0) -> Tensor:
    """CE(z + τ log π).

    ``logits`` (N, C), ``target`` (N,) int64 or (N, C), ``log_prior`` (C,), all floats of one dtype;
    gives (N,). Menon et al., ICLR 2021.
    """
    return cross_entropy(logits + tau * log_prior, target)


class LogitAdjusted(Loss):
    """`logit_adjusted`; needs class counts. The deployed logits are the bare ones."""

    key = "logit_adjusted"
    tau: float
    log_prior: Tensor

    def prepare(self) -> None:
        self.register_buffer("log_prior", log_prior(self.class_counts))

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return logit_adjusted(logits, target, self.log_prior.to(logits.dtype), self.tau)

    def log_prior_shift(self) -> Tensor | None:
        return -self.tau * self.log_prior


def balanced_softmax(logits: Tensor, target: Tensor, log_prior: Tensor) -> Tensor:
    """CE(z + log n), which is `logit_adjusted` with τ = 1: log π is log n up to a constant, which
    softmax does not see. Shapes and dtypes as there. Ren et al., NeurIPS 2020.
    """
    return logit_adjusted(logits, target, log_prior)


class BalancedSoftmax(Loss):
    """`balanced_softmax`; needs class counts. The deployed logits are the bare ones."""

    key = "balanced_softmax"
    log_prior: Tensor

    def prepare(self) -> None:
        self.register_buffer("log_prior", log_prior(self.class_counts))

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return balanced_softmax(logits, target, self.log_prior.to(logits.dtype))

    def log_prior_shift(self) -> Tensor | None:
        return -self.log_prior
