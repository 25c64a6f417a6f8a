"""The residual network for small images (He et al., CVPR 2016, section 4.2)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lossbench.errors import InputError
from lossbench.models.backbones.shape import image_shape

STAGE_WIDTHS = (16, 32, 64)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut without parameters (option A of the paper).

    Where the block halves the image and widens the channels, the shortcut takes every second pixel
    and pads the new channels with zeros, half of them on each side.
    """

    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(fan_in, fan_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(fan_out)
        self.conv2 = nn.Conv2d(fan_out, fan_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(fan_out)
        self.stride = stride
        new_channels = fan_out - fan_in
        self.channel_padding = (new_channels // 2, new_channels - new_channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, fan_in, H, W)`` to ``(N, fan_out, ceil(H / stride), ceil(W / stride))``."""
        shortcut = x[:, :, :: self.stride, :: self.stride]
        shortcut = F.pad(shortcut, (0, 0, 0, 0, *self.channel_padding))
        residual = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(residual)) + shortcut)


class CifarResNet(nn.Module):
    """A 3x3 convolution, three stages of ``n = (depth - 2) / 6`` blocks, the global average.

    Stages have 16, 32 and 64 channels; the second and third halve the image. Convolutions start
    from ``kaiming_normal_``, as in the code of Cao et al. (LDAM, NeurIPS 2019), whose
    ResNet-32 this is: 464,154 parameters with 3 input channels and a linear head for 10 classes.
    Any input size and number of channels works.

    Args:
        input_shape: channels, height, width of an image.
        depth: layers with weights, the head included: 6n + 2 (20, 32, 44, 56, 110 in the paper).

    Raises:
        InputError: if ``depth`` is not 6n + 2 with n of 1 or more, or if the samples are not
            images.
    """

    channels_last = True

    def __init__(self, input_shape: tuple[int, int, int], depth: int = 32) -> None:
        super().__init__()
        blocks_per_stage, remainder = divmod(depth - 2, 6)
        if remainder or blocks_per_stage < 1:
            raise InputError(
                f"model.depth is {depth}; it must be 6n + 2, such as 20, 32, 44, 56 or 110"
            )
        channels, _, _ = image_shape(input_shape, "CifarResNet")
        fan_in = STAGE_WIDTHS[0]
        self.conv = nn.Conv2d(channels, fan_in, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(fan_in)
        blocks: list[nn.Module] = []
        for stage, width in enumerate(STAGE_WIDTHS):
            for index in range(blocks_per_stage):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(BasicBlock(fan_in, width, stride))
                fan_in = width
        self.blocks = nn.Sequential(*blocks)
        self.out_features = fan_in
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(N, 64)`` of images ``(N, C, H, W)``."""
        x = F.relu(self.norm(self.conv(images)))
        return self.blocks(x).mean(dim=(2, 3))
