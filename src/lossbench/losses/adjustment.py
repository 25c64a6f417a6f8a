"""Losses that move the logits by the class frequencies."""

from __future__ import annotations

import torch
import torch.distributed
from torch import Tensor

from lossbench.losses.contract import Loss, cast
from lossbench.losses.likelihood import cross_entropy


def log_prior(class_counts: Tensor) -> Tensor:
    """log π_c = log(n_c/Σn), (C,) float64 from (C,) counts."""
    counts = class_counts.double()
    return (counts / counts.sum()).log()


def logit_adjusted(logits: Tensor, target: Tensor, log_prior: Tensor, tau: float = 1.0) -> Tensor:
    """`LogitAdjusted` per sample; ``log_prior`` (C,)."""
    return cross_entropy(logits + tau * log_prior, target)


class LogitAdjusted(Loss):
    """`logit_adjusted`; the catalogue's text takes the place of this line."""

    key = "logit_adjusted"
    tau: float
    log_prior: Tensor

    def prepare(self) -> None:
        self.register_buffer("log_prior", log_prior(self.class_counts))

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return logit_adjusted(logits, target, self.log_prior.to(logits.dtype), self.tau)

    def log_prior_shift(self) -> Tensor | None:
        return -self.tau * self.log_prior


class BalancedSoftmax(LogitAdjusted):
    """`balanced_softmax`; the catalogue's text takes the place of this line."""

    key = "balanced_softmax"
    tau = 1.0  # log π is log n up to a constant, which softmax does not see


def class_factor(class_counts: Tensor, gamma: float) -> Tensor:
    """(n_c/n_max)^γ, (C,) float64 from (C,) counts: at most 1, and least for the rarest class."""
    counts = class_counts.double()
    return (counts / counts.max()).pow(gamma)


def vs(
    logits: Tensor, target: Tensor, factor: Tensor, log_prior: Tensor, tau: float = 1.0
) -> Tensor:
    """`VS` per sample; ``factor`` (C,) multiplies the logits."""
    return cross_entropy(torch.addcmul(tau * log_prior, logits, factor), target)


class VS(Loss):
    """`vs`; the catalogue's text takes the place of this line."""

    key = "vs"
    gamma: float
    tau: float
    factor: Tensor
    log_prior: Tensor

    def prepare(self) -> None:
        self.register_buffer("factor", class_factor(self.class_counts, self.gamma))
        self.register_buffer("log_prior", log_prior(self.class_counts))

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        factor, log_prior = self.factor.to(logits.dtype), self.log_prior.to(logits.dtype)
        return vs(logits, target, factor, log_prior, self.tau)

    def log_prior_shift(self) -> Tensor | None:
        return -self.tau * self.log_prior


def cdt(logits: Tensor, target: Tensor, factor: Tensor) -> Tensor:
    """`CDT` per sample; ``factor`` (C,) multiplies the logits."""
    return cross_entropy(logits * factor, target)


class CDT(Loss):
    """`cdt`; the catalogue's text takes the place of this line."""

    key = "cdt"
    gamma: float
    factor: Tensor

    def prepare(self) -> None:
        self.register_buffer("factor", class_factor(self.class_counts, self.gamma))

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return cdt(logits, target, self.factor.to(logits.dtype))


def target_margin(logits: Tensor, target: Tensor, margin: Tensor | float, scale: float) -> Tensor:
    """s(z − m_y e_y), (N, C), by an addition at the target's place; ``margin`` (C,) or a number."""
    column = target[:, None]
    scaled = logits * scale
    amount = margin[column] if isinstance(margin, Tensor) else scaled.new_full((), margin)
    return scaled.scatter_add(1, column, (-scale * amount).expand_as(column))


def ldam_margin(class_counts: Tensor, max_margin: float) -> Tensor:
    """m_c = m_max (n_min/n_c)^¼, (C,) float64 from (C,) counts."""
    counts = class_counts.double()
    return max_margin * (counts.min() / counts).pow(0.25)


def ldam(
    logits: Tensor,
    target: Tensor,
    margin: Tensor,
    scale: float = 30.0,
    weight: Tensor | None = None,
) -> Tensor:
    """`LDAM` per sample; ``margin`` (C,)."""
    return cross_entropy(target_margin(logits, target, margin, scale), target, weight)


class LDAM(Loss):
    """`ldam`; the catalogue's text takes the place of this line."""

    key = "ldam"
    max_margin: float
    scale: float
    weight: Tensor | None
    margin: Tensor

    def prepare(self) -> None:
        self.register_buffer("margin", ldam_margin(self.class_counts, self.max_margin))

    @property
    def class_weight(self) -> Tensor | None:
        return self.weight

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        margin, weight = self.margin.to(logits.dtype), cast(self.weight, logits)
        return ldam(logits, target, margin, self.scale, weight)

    def deployed(self, logits: Tensor) -> Tensor:
        """s·z, without the margin."""
        return self.scale * logits


def seesaw(
    logits: Tensor,
    target: Tensor,
    seen: Tensor,
    p: float = 0.8,
    q: float = 2.0,
    epsilon: float = 0.01,
) -> Tensor:
    """`Seesaw` per sample; ``seen`` (C,), the training samples seen of each class.

    log S is the sum of p·min(0, log n_j − log n_y) and q·max(0, log p_j − log max(p_y, ε)).
    """
    column = target[:, None]
    log_count = seen.clamp_min(1).log()
    mitigation = p * (log_count - log_count[column]).clamp_max(0)
    log_p = logits.detach().log_softmax(1)
    reached = torch.exp(log_p.gather(1, column)).clamp_min(epsilon).log()
    compensation = q * (log_p - reached).clamp_min(0)
    # at the target both are 0, but for p_y = ε rounded
    log_s = (mitigation + compensation).scatter(1, column, 0)
    return cross_entropy(logits + log_s, target)


class Seesaw(Loss):
    """`seesaw`; the catalogue's text takes the place of this line."""

    key = "seesaw"
    p: float
    q: float
    epsilon: float
    seen: Tensor

    def prepare(self) -> None:
        # Its length is the number of classes from the first training batch on.
        self.register_buffer("seen", torch.zeros(0, dtype=torch.int64))

    def observe(self, target: Tensor, classes: int, kept: Tensor | None) -> None:
        """Count the batch's targets, over all processes that have parts of it."""
        if not len(self.seen):
            self.seen.resize_(classes).zero_()
        each = torch.ones_like(target) if kept is None else kept.long()
        batch = torch.zeros_like(self.seen).scatter_add_(0, target, each)
        parallel = torch.distributed.is_available() and torch.distributed.is_initialized()
        if parallel and not self.whole_batches:
            torch.distributed.all_reduce(batch)
        self.seen += batch

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        seen = self.seen if len(self.seen) else self.seen.new_zeros(logits.shape[1])
        return seesaw(logits, target, seen.to(logits.dtype), self.p, self.q, self.epsilon)

    def _load_from_state_dict(self, state_dict, prefix, *arguments) -> None:  # type: ignore[no-untyped-def]
        saved = state_dict.get(f"{prefix}seen")
        if saved is not None:
            self.seen.resize_(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *arguments)
