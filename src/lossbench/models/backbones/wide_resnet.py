"""Wide residual networks for small images (Zagoruyko & Komodakis, BMVC 2016)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lossbench.errors import InputError
from lossbench.models.backbones.shape import image_shape

STAGE_WIDTHS = (16, 32, 64)  # times the widen factor


class PreActivationBlock(nn.Module):
    """BatchNorm, ReLU, 3x3 convolution, dropout, BatchNorm, ReLU, 3x3 convolution, plus a shortcut.

    Where the width or the resolution changes, the shortcut is a 1x1 convolution of the activated
    input; elsewhere it is the input itself.
    """

    def __init__(self, fan_in: int, fan_out: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(fan_in)
        self.conv1 = nn.Conv2d(fan_in, fan_out, 3, stride, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.norm2 = nn.BatchNorm2d(fan_out)
        self.conv2 = nn.Conv2d(fan_out, fan_out, 3, padding=1, bias=False)
        changes = fan_in != fan_out or stride != 1
        self.shortcut = nn.Conv2d(fan_in, fan_out, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """``(N, fan_in, H, W)`` to ``(N, fan_out, ceil(H / stride), ceil(W / stride))``."""
        activated = F.relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        residual = self.dropout(self.conv1(activated))
        return self.conv2(F.relu(self.norm2(residual))) + shortcut


class WideResNet(nn.Module):
    """WRN-depth-widen_factor: a 3x3 convolution, three stages of n blocks, the global average.

    Stages have 16k, 32k and 64k channels for the widen factor k; the second and third halve the
    image. Convolutions start from ``kaiming_normal_``. The paper's WRN-28-10 has 36.5 million
    parameters, WRN-40-4 8.9 million. Any input size and number of channels works.

    Args:
        input_shape: channels, height, width of an image.
        depth: 6n + 4 (16, 22, 28, 40 in the paper): all convolutions with those of the three
            widening shortcuts, n blocks of two in each stage.
        widen_factor: k, 1 or more; ``out_features`` is 64 k.
        dropout: the probability of dropping a value between the convolutions of a block, in
            [0, 1); the paper takes 0.3 on CIFAR and 0.4 on SVHN where it takes any.

    Raises:
        InputError: if an argument is outside of these, or if the samples are not images.
    """

    channels_last = True

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        depth: int = 16,
        widen_factor: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        channels, _, _ = image_shape(input_shape, "WideResNet")
        blocks_per_stage, remainder = divmod(depth - 4, 6)
        if remainder or blocks_per_stage < 1:
            raise InputError(f"model.depth is {depth}; it must be 6n + 4, such as 16, 28 or 40")
        if widen_factor < 1:
            raise InputError(
                f"model.widen_factor is {widen_factor}; it must be 1 or more, such as 4"
            )
        if not 0 <= dropout < 1:
            raise InputError(f"model.dropout is {dropout}; it must be in [0, 1), such as 0.3")
        fan_in = STAGE_WIDTHS[0]
        self.conv = nn.Conv2d(channels, fan_in, 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        for stage, base_width in enumerate(STAGE_WIDTHS):
            for index in range(blocks_per_stage):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(
                    PreActivationBlock(fan_in, base_width * widen_factor, stride, dropout)
                )
                fan_in = base_width * widen_factor
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(fan_in)
        self.out_features = fan_in
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(N, out_features)`` of images ``(N, C, H, W)``."""
        x = self.blocks(self.conv(images))
        return F.relu(self.norm(x)).mean(dim=(2, 3))
