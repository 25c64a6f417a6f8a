"""A backbone of one's own, as the README shows."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Sequence

import torch
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


class KeepsStatistics(Dropout):
    """Keeps the mean of its batches in a buffer, as a BatchNorm of one's own would."""

    def __init__(self, input_shape: tuple[int, int, int], hidden: Sequence[int]) -> None:
        super().__init__(input_shape, hidden)
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * images.mean()
        return super().forward(images)


class OnlyInTheFirstProcess(Dropout):
    """Cannot be built in a process that another one started."""

    def __init__(self, input_shape: tuple[int, int, int], hidden: Sequence[int]) -> None:
        super().__init__(input_shape, hidden)
        if multiprocessing.parent_process() is not None:
            raise MemoryError("too many of them")
