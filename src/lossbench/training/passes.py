"""One pass over a split in evaluation mode: the one way in which outputs are collected."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Outputs:
    """What a model said of a split: raw logits (N, C) float32, targets (N,), sample ids (N,)."""

    logits: Tensor
    targets: Tensor
    ids: Tensor


@torch.no_grad()
def collect(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor, Tensor]],
    context: AbstractContextManager[object] | None = None,
) -> Outputs:
    """Run ``model`` over ``batches`` in evaluation mode, inside ``context`` (autocast, say).

    The outputs are on the CPU; the model's mode is put back.
    """
    training = model.training
    model.eval()
    logits, targets, ids = [], [], []
    try:
        with context or nullcontext():
            for images, batch_targets, batch_ids in batches:
                output = model(images)
                logits.append(output.double() if output.dtype == torch.float64 else output.float())
                targets.append(batch_targets)
                ids.append(batch_ids)
    finally:
        model.train(training)
    return Outputs(torch.cat(logits).cpu(), torch.cat(targets).cpu(), torch.cat(ids).cpu())
