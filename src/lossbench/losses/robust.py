"""Losses that bound what one mislabelled sample can do."""

from __future__ import annotations

import torch
from torch import Tensor

from lossbench.losses.closed_form import closed_form, through_log_softmax
from lossbench.losses.contract import Loss
from lossbench.losses.likelihood import cross_entropy, miss


def mae(logits: Tensor, target: Tensor) -> Tensor:
    """`MAE` per sample."""
    return miss(cross_entropy(logits, target))


class MAE(Loss):
    """`mae`; the catalogue's text takes the place of this line."""

    key = "mae"

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return mae(logits, target)


def gce(logits: Tensor, target: Tensor, q: float = 0.7) -> Tensor:
    """`GCE` per sample: −expm1(q log p_y)/q, which p_y = 0 does not trouble."""
    return miss(q * cross_entropy(logits, target)) / q


class GCE(Loss):
    """`gce`; the catalogue's text takes the place of this line."""

    key = "gce"
    q: float

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return gce(logits, target, self.q)


def reverse_ce(logits: Tensor, target: Tensor, log_zero: float = -4.0) -> Tensor:
    """`ReverseCE` per sample."""
    return -log_zero * mae(logits, target)


class ReverseCE(Loss):
    """`reverse_ce`; the catalogue's text takes the place of this line."""

    key = "reverse_ce"
    log_zero: float

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return reverse_ce(logits, target, self.log_zero)


def sce(
    logits: Tensor, target: Tensor, alpha: float = 0.1, beta: float = 1.0, log_zero: float = -4.0
) -> Tensor:
    """`SCE` per sample."""
    nll = cross_entropy(logits, target)
    return alpha * nll - beta * log_zero * miss(nll)


class SCE(Loss):
    """`sce`; the catalogue's text takes the place of this line."""

    key = "sce"
    alpha: float
    beta: float
    log_zero: float

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return sce(logits, target, self.alpha, self.beta, self.log_zero)


def _normalised(nll: Tensor, logits: Tensor, target: Tensor) -> Tensor:
    """log p_y / Σ_k log p_k, where −Σ_k log p_k = C·logsumexp(z) − Σ_k z_k ≥ C log C."""
    true = logits.gather(1, target[:, None])[:, 0]
    return nll / (logits.shape[-1] * (nll + true) - logits.sum(1))


def nce(logits: Tensor, target: Tensor) -> Tensor:
    """`NCE` per sample."""
    return _normalised(cross_entropy(logits, target), logits, target)


class NCE(Loss):
    """`nce`; the catalogue's text takes the place of this line."""

    key = "nce"

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return nce(logits, target)


def nce_mae(logits: Tensor, target: Tensor, alpha: float = 1.0, beta: float = 1.0) -> Tensor:
    """`NCEMAE` per sample."""
    nll = cross_entropy(logits, target)
    return alpha * _normalised(nll, logits, target) + beta * miss(nll)


class NCEMAE(Loss):
    """`nce_mae`; the catalogue's text takes the place of this line."""

    key = "nce_mae"
    alpha: float
    beta: float

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return nce_mae(logits, target, self.alpha, self.beta)


def nce_rce(
    logits: Tensor, target: Tensor, alpha: float = 1.0, beta: float = 1.0, log_zero: float = -4.0
) -> Tensor:
    """`NCERCE` per sample."""
    return nce_mae(logits, target, alpha, -log_zero * beta)


class NCERCE(Loss):
    """`nce_rce`; the catalogue's text takes the place of this line."""

    key = "nce_rce"
    alpha: float
    beta: float
    log_zero: float

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return nce_rce(logits, target, self.alpha, self.beta, self.log_zero)


def normalized_focal(logits: Tensor, target: Tensor, gamma: float = 0.5) -> Tensor:
    """`NormalizedFocal` per sample.

    f(l) = (1−p)^γ l at l = log p has the slope (1−p)^γ − γ p f/(1−p), and p/(1−p) is 1/(1−p) − 1.
    """

    def work(z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        log_p, column = z.log_softmax(1), target[:, None]
        missed = torch.expm1(log_p).neg_().clamp_min(torch.finfo(log_p.dtype).tiny)
        slope = missed.pow(gamma)
        terms = slope * log_p
        ratio = terms / missed
        slope.add_(terms, alpha=gamma).sub_(ratio, alpha=gamma)
        total = terms.sum(1, keepdim=True)
        losses, own = terms.gather(1, column) / total, slope.gather(1, column)
        slope = (-losses * slope).scatter_add(1, column, own).div_(total)
        return losses[:, 0], through_log_softmax(log_p.exp(), slope)

    return closed_form(logits, target, work)


class NormalizedFocal(Loss):
    """`normalized_focal`; the catalogue's text takes the place of this line."""

    key = "normalized_focal"
    gamma: float

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return normalized_focal(logits, target, self.gamma)


# Five are too few for the references in tests/losses, eight suffice.
_NEWTON_STEPS = 12


def tempered_log_softmax(logits: Tensor, t2: float = 1.2) -> Tensor:
    """log exp_t2(z_j − λ), (N, C), with λ such that Σ_j exp_t2(z_j − λ) = 1, for t2 ≥ 1.

    exp_t(x) = (1 + (1−t)x)^{1/(1−t)}. With k = t2 − 1 and x_j = 1 + k(λ + max z − z_j) it is
    x_j^{−1/k}, and (Σ_j x_j^{−1/k})^{−k} is concave and rising in λ, so that Newton's steps from
    λ = max z approach its root at 1 from one side. The gradient goes through two last steps and not
    through the search: from the root, n steps have the first 2ⁿ − 1 derivatives right.
    """
    if t2 == 1:
        return logits.log_softmax(1)
    k = t2 - 1
    gap = logits.detach().amax(1, keepdim=True) - logits
    fixed, shift = gap.detach(), torch.zeros_like(gap[:, :1])
    for _ in range(_NEWTON_STEPS):
        p = _power(shift + fixed, k)
        total, rate = p.sum(1, keepdim=True), (p / (1 + k * (shift + fixed))).sum(1, keepdim=True)
        power = total.pow(-k)  # it shall be 1; its slope is k·power·rate/total
        shift = shift + (1 - power) * total / (k * power * rate)
    for _ in range(2):
        p = _power(shift + gap, k)
        shift = shift + (p.sum(1, keepdim=True) - 1) / p.pow(t2).sum(1, keepdim=True)
    return torch.log1p(k * (shift + gap)) / -k


def _power(x: Tensor, k: float) -> Tensor:
    """(1 + k x)^{−1/k}, also for small k."""
    return torch.exp(torch.log1p(k * x) / -k)


def bi_tempered(
    logits: Tensor, target: Tensor, t1: float = 0.8, t2: float = 1.2, smoothing: float = 0.0
) -> Tensor:
    """`BiTempered` per sample.

    With a = 1 − t1 it is Σ_j y_j (log_t1 y_j − log_t1 p_j) − (y_j^{1+a} − p_j^{1+a})/(1+a), where
    log_t1 x = (x^a − 1)/a.
    """
    a, classes = 1 - t1, logits.shape[-1]
    off = smoothing / (classes - 1)
    on = 1 - smoothing
    log_p = tempered_log_softmax(logits, t2)
    log_t1_p = torch.expm1(a * log_p) / a if a else log_p
    spent = torch.exp((1 + a) * log_p).sum(1) / (1 + a)
    if target.dim() == 2:
        target = off + (on - off) * target
        return _entropy(target, a).sum(1) - (target * log_t1_p).sum(1) + spent
    true = log_t1_p.gather(1, target[:, None])[:, 0]
    known = _entropy(logits.new_full((), on), a) + (classes - 1) * _entropy(
        logits.new_full((), off), a
    )
    others = off * (log_t1_p.sum(1) - true) if off else 0
    return known - on * true - others + spent


def _entropy(y: Tensor, a: float) -> Tensor:
    """y log_t1 y − y^{1+a}/(1+a), which is 0 at y = 0."""
    log_term = torch.xlogy(y, y) if a == 0 else (y.pow(1 + a) - y) / a
    return log_term - y.pow(1 + a) / (1 + a)


class BiTempered(Loss):
    """`bi_tempered`; the catalogue's text takes the place of this line."""

    key = "bi_tempered"
    t1: float
    t2: float
    smoothing: float

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return bi_tempered(logits, target, self.t1, self.t2, self.smoothing)

    def deployed(self, logits: Tensor) -> Tensor:
        """The log of the tempered softmax."""
        return tempered_log_softmax(logits, self.t2)
