"""One pass over a split in evaluation mode: the one way in which outputs are collected."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from lossbench.losses.contract import at_least_float32
from lossbench.models import Classifier


@dataclass(frozen=True)
class Outputs:
    """What a model said of a split: raw logits (N, C) float32, targets (N,), sample ids (N,).

    ``head`` is what a loss that needs features is given beside the logits: ``features`` (N, F)
    and ``weight`` (C, F), float32; empty for all others.
    """

    logits: Tensor
    targets: Tensor
    ids: Tensor
    head: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Deployed(Outputs):
    """Outputs with the logits to deploy and to evaluate, ``decoded`` (N, C), not yet measured.

    ``log_prior`` (C,) float64 is that of the prior which the decoded logits answer for.
    """

    decoded: Tensor
    log_prior: np.ndarray


def outputs_of(
    model: nn.Module, images: Tensor, features: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """The logits of ``images`` and, with ``features``, what the head made them of (`head_of`)."""
    if not features:
        return model(images), {}
    assert isinstance(model, Classifier)
    logits, given = model.with_features(images)
    return logits, head_of(model, given)


def head_of(model: nn.Module, features: Tensor) -> dict[str, Tensor]:
    """What a loss that needs features is called with: these (N, F) and the head's weight (C, F)."""
    assert isinstance(model, Classifier)
    return {"features": features, "weight": model.head.weight}  # type: ignore[dict-item]


@torch.no_grad()
def collect(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor, Tensor]],
    context: AbstractContextManager[object] | None = None,
    features: bool = False,
) -> Outputs:
    """Run ``model`` over ``batches`` in evaluation mode, inside ``context`` (autocast, say).

    The outputs are on the CPU; the model's mode is put back. ``features`` says whether to keep
    what the head was given.
    """
    training = model.training
    model.eval()
    logits, given, targets, ids = [], [], [], []
    try:
        with context or nullcontext():
            for images, batch_targets, batch_ids in batches:
                output, head = outputs_of(model, images, features)
                logits.append(at_least_float32(output))
                given += [head["features"]] if features else []
                targets.append(batch_targets)
                ids.append(batch_ids)
    finally:
        model.train(training)
    head = head_of(model, torch.cat(given)) if features else {}
    return Outputs(
        torch.cat(logits).cpu(), torch.cat(targets).cpu(), torch.cat(ids).cpu(), stored(head)
    )


def stored(head: dict[str, Tensor]) -> dict[str, Tensor]:
    """``head`` in float32 or better on the CPU, as it is now: later steps do not change it."""
    return {name: at_least_float32(x.detach()).cpu().clone() for name, x in head.items()}
