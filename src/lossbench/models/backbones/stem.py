"""The first convolution of a network that was made for large colour images, fitted to the data."""

from __future__ import annotations

import torch
from torch import nn

SMALL = 64  # pixels: an image whose shorter side is no longer than this is small


def fit_stem(model: nn.Module, input_shape: tuple[int, int, int]) -> None:
    """Fit the drawn weights of ``model`` to ``input_shape``: channels, and small images.

    The first convolution takes the channels of the data. On small images (shorter side of at most
    64 pixels) the stem keeps the resolution, as the CIFAR forms of these networks do (He et al.,
    CVPR 2016): if the first convolution has a stride and a kernel larger than it, it becomes 3x3
    with stride 1, and a max-pool before the second convolution is left out. A patch embedding,
    whose kernel is its stride, stays what it is. A new convolution is drawn from a normal
    distribution by which its output has the variance that the old one's would have had: standard
    deviation that of the old weights, times sqrt(old fan-in / new fan-in).
    """
    channels, height, width = input_shape
    path, old = first_convolution(model)
    keeps = min(height, width) <= SMALL and old.kernel_size[0] > old.stride[0] > 1
    if keeps:
        _drop_early_pools(model)
    elif channels == old.in_channels:
        return
    new = nn.Conv2d(
        channels,
        old.out_channels,
        3 if keeps else old.kernel_size,  # type: ignore[arg-type]
        1 if keeps else old.stride,  # type: ignore[arg-type]
        padding=1 if keeps else old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    with torch.no_grad():
        shrink = (old.weight[0].numel() / new.weight[0].numel()) ** 0.5
        new.weight.copy_(torch.randn_like(new.weight) * old.weight.std() * shrink)
        if old.bias is not None and new.bias is not None:
            new.bias.copy_(old.bias)
    model.set_submodule(path, new)


def fit_trained_channels(model: nn.Module, channels: int) -> None:
    """Fit a trained first convolution to ``channels``: its mean over colours, on each channel.

    Scaled by colours / channels, so a grey image gives the same as it would in colour, whatever
    the number of channels that hold it. Nothing changes for as many channels as colours.
    """
    _, conv = first_convolution(model)
    if channels == conv.in_channels:
        return
    weight = conv.weight.detach().sum(1, keepdim=True) / channels
    conv.weight = nn.Parameter(weight.repeat(1, channels, 1, 1))
    conv.in_channels = channels


def first_convolution(model: nn.Module) -> tuple[str, nn.Conv2d]:
    """The first convolution of ``model``, with its path."""
    return next((path, m) for path, m in model.named_modules() if isinstance(m, nn.Conv2d))


def _drop_early_pools(model: nn.Module) -> None:
    """Replace the max-pools between the first and the second convolution by the identity."""
    convolutions = 0
    for path, module in list(model.named_modules()):
        convolutions += isinstance(module, nn.Conv2d)
        if convolutions == 1 and isinstance(module, nn.MaxPool2d):
            model.set_submodule(path, nn.Identity())
