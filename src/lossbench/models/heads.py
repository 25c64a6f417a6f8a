"""The last layer: from features ``(N, F)`` to logits ``(N, C)``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LinearHead(nn.Linear):
    """``z = W x + b``: ``weight`` ``(C, F)``, ``bias`` ``(C,)``, initialised as ``nn.Linear``."""

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes)


class CosineHead(nn.Module):
    """``z_c = <x / |x|, w_c / |w_c|>``: the bare cosines, no bias; the scale belongs to the loss.

    ``weight`` is ``(C, F)`` with rows that start as random directions of length 1. The arithmetic
    is float32 under autocast too (half precision is too coarse near 1), so the cosines are at least
    float32. Rounding can put a cosine slightly above 1. Features of length 0 have cosine 0.

    Source: the normalised classifier of Cao et al. (LDAM, NeurIPS 2019).
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.weight = nn.Parameter(F.normalize(torch.randn(num_classes, in_features)))

    def forward(self, features: Tensor) -> Tensor:
        """Cosines ``(N, C)`` of features ``(N, F)``."""
        with torch.autocast(features.device.type, enabled=False):
            directions = F.normalize(_at_least_float32(features))
            return F.linear(directions, F.normalize(_at_least_float32(self.weight)))


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


HEADS: dict[str, type[LinearHead] | type[CosineHead]] = {
    "linear": LinearHead,
    "cosine": CosineHead,
}
"""The heads by the names of ``model.head``; called with ``(in_features, num_classes)``."""
