"""A small convolutional network that trains in seconds per epoch on one CPU thread."""

from __future__ import annotations

from torch import Tensor, nn

from lossbench.errors import InputError
from lossbench.models.backbones.shape import image_shape


class ConvNet(nn.Module):
    """Five 3x3 convolutions with BatchNorm and ReLU, then the global average.

    The strided convolutions come first in their stage, so nothing is computed at full resolution:
    that is what makes it fast. Channels: width, width, 2 width, 2 width, 4 width; the first, third
    and fifth halve height and width (rounding up), so any input size works.

    Args:
        input_shape: channels, height, width of an image.
        width: channels of the first stage; ``out_features`` is 4 times that.

    Raises:
        InputError: if ``width`` is below 1, or if the samples are not images.
    """

    channels_last = True

    def __init__(self, input_shape: tuple[int, int, int], width: int = 16) -> None:
        super().__init__()
        if width < 1:
            raise InputError(f"model.width is {width}; it must be 1 or more, such as 16")
        stages = [(width, 2), (width, 1), (2 * width, 2), (2 * width, 1), (4 * width, 2)]
        layers: list[nn.Module] = []
        fan_in = image_shape(input_shape, "ConvNet")[0]
        for fan_out, stride in stages:
            layers += [
                nn.Conv2d(fan_in, fan_out, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(fan_out),
                nn.ReLU(),
            ]
            fan_in = fan_out
        self.layers = nn.Sequential(*layers)
        self.out_features = fan_in

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(N, out_features)`` of images ``(N, C, H, W)``."""
        return self.layers(images).mean(dim=(2, 3))
