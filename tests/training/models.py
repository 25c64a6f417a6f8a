"""A backbone of one's own, as the README shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn


class Dropout(nn.Module):
    """One hidden layer with dropout, which draws from the global generator at every step."""

    def __init__(self, input_shape: tuple[int, int, int], hidden: Sequence[int]) -> None:
        super().__init__()
        width = hidden[0]
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(math.prod(input_shape), width), nn.ReLU(), nn.Dropout(0.5)
        )
        self.out_features = width

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)
