"""Losses whose gradient is computed by hand, together with their value.

Autograd keeps every intermediate (N, C) matrix and walks it twice; for a loss with several passes
over the classes that costs four to nine times a cross-entropy (scripts/bench_losses.py). Here a
core works out the losses and their slope ∂loss_i/∂z_ij side by side, and the slope is all that is
kept. On the CPU it does so for a few rows at a time, whose intermediates stay in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lossbench.errors import InputError

_BLOCK = 2**17
"""Entries of the logits that are worked on at once."""


class _ClosedForm(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, losses: Tensor, slope: Tensor) -> Tensor:
        return losses.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        logits, _, slope = inputs
        ctx.save_for_backward(logits, slope)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        logits, slope = ctx.saved_tensors
        gradient = grad[:, None] * slope
        if torch.is_grad_enabled():  # somebody may ask for a second derivative
            gradient = _Refusal.apply(gradient, logits)
        return gradient, None, None


class _Refusal(torch.autograd.Function):
    """Marks a gradient whose own derivative, a constant's, autograd would take for 0."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, logits: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
        raise RuntimeError("this loss has no second derivative: its gradient is computed by hand")


def closed_form(
    logits: Tensor, target: Tensor, work: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
) -> Tensor:
    """The losses (N,) that ``work`` finds, with its slope as their gradient.

    ``work(z, target)`` gives losses (n,) and slope (n, C) for some of the samples, from logits
    without a graph. A second derivative raises RuntimeError; a target that wants a gradient, which
    would get none, `InputError`.
    """
    if target.requires_grad:
        raise InputError(
            "a target that requires a gradient is not allowed for this loss, whose gradient is "
            "computed by hand: give target.detach()"
        )
    z = logits.detach()
    rows = max(1, _BLOCK // logits.shape[-1])
    if z.is_cuda or torch.compiler.is_compiling() or len(z) <= rows:
        return _ClosedForm.apply(logits, *work(z, target))
    losses, slope = z.new_empty(len(z)), torch.empty_like(z)
    for start in range(0, len(z), rows):
        part = slice(start, start + rows)
        losses[part], slope[part] = work(z[part], target[part])
    return _ClosedForm.apply(logits, losses, slope)


def of_nll(nll: Tensor, measure: Callable[[Tensor], Tensor]) -> Tensor:
    """``measure``(nll), (N,) from (N,), elementwise.

    Left to itself, torch.compile moves the slope of ``measure`` into the backward's loop over the
    classes, and works it out C times for each sample. Here it crosses to the backward as a vector.
    """
    if not torch.compiler.is_compiling():
        return measure(nll)
    pair: Any = torch.func.vjp(measure, nll.detach())
    losses, pull_back = pair
    (slope,) = pull_back(torch.ones_like(losses))
    return _ClosedForm.apply(nll[:, None], losses, slope[:, None])


def log_softmax_and_slope(z: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log p (N, C), cross-entropy (N,) and its slope p − t (N, C)."""
    log_p = z.log_softmax(1)
    slope = log_p.exp()
    if target.dim() == 2:
        # p Σt − t: probabilities in low precision do not sum to 1 exactly
        slope = slope * target.sum(1, keepdim=True) - target
        return log_p, -(target * log_p).sum(1), slope
    column = target[:, None]
    slope = slope.scatter_add(1, column, slope.new_full((), -1).expand_as(column))
    return log_p, -log_p.gather(1, column)[:, 0], slope


def largest(z: Tensor) -> tuple[Tensor, Tensor]:
    """max_k z_k (N, 1) and its slope (N, C), which classes that tie for it share equally.

    A sign makes the mask: a comparison would take three times as long.
    """
    top = z.amax(1, keepdim=True)
    share = (z - top).sign_().add_(1)
    return top, share.div_(share.sum(1, keepdim=True))


def through_log_softmax(p: Tensor, slope: Tensor) -> Tensor:
    """∂/∂z from ∂/∂log p: slope_j − p_j Σ_k slope_k, (N, C)."""
    return slope - p * slope.sum(1, keepdim=True)
