"""Fully connected layers on the flattened image, or on the vector of a table's row."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from lossbench.errors import InputError


class MLP(nn.Module):
    """Flatten, then a linear layer and a ReLU for each entry of ``hidden``.

    No normalisation layers: every image is treated alone, whatever the batch it comes in.

    Args:
        input_shape: channels, height, width of an image, or the length of a vector.
        hidden: widths of the layers; the last one is ``out_features``.

    Raises:
        InputError: if ``hidden`` is empty or has a width below 1.
    """

    def __init__(self, input_shape: tuple[int, ...], hidden: Sequence[int] = (256, 128)) -> None:
        super().__init__()
        widths = list(hidden)
        if not widths or min(widths) < 1:
            raise InputError(
                f"model.hidden is {widths}; give one or more widths above 0, such as [256, 128]"
            )
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in zip([math.prod(input_shape), *widths], widths, strict=False):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.out_features = widths[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(N, out_features)`` of images ``(N, C, H, W)`` or vectors ``(N, F)``."""
        features: Tensor = self.layers(images)
        return features
