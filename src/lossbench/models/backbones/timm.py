"""Any network of timm (pip install 'lossbench[timm]'), by its name there."""

from __future__ import annotations

from typing import Any

from torch import nn

from lossbench.errors import InputError
from lossbench.models.backbones.shape import (
    features_of_zeros,
    first_line,
    image_shape,
    unknown_architecture,
)
from lossbench.models.backbones.stem import fit_stem


def from_timm(
    input_shape: tuple[int, int, int], architecture: str, pretrained: bool = False
) -> nn.Module:
    """The network that timm calls ``architecture``, without its head.

    timm fits the first convolution to the channels, and networks of a fixed input size to the
    size of the image; the stem of the others, with drawn weights, keeps the resolution of small
    images (`fit_stem`). Pixels are normalised as the data says, trained weights or not.

    Args:
        input_shape: channels, height, width of an image.
        architecture: a name such as resnet18 or vit_tiny_patch16_224, with trained weights also
            resnet18.a1_in1k.
        pretrained: download trained weights, once, to the cache of the Hugging Face hub.

    Raises:
        InputError: if timm is not installed, for an unknown name, for samples that are not
            images or that the network cannot take, and if trained weights cannot be had.
    """
    label = f"model.architecture={architecture}"
    channels, height, width = image_shape(input_shape, label)
    try:
        import timm
    except ImportError as error:
        raise InputError(
            "model=timm needs the package timm; install it with pip install 'lossbench[timm]', "
            "or use model=torchvision"
        ) from error

    name = architecture.partition(".")[0]
    if not timm.is_model(name):
        raise unknown_architecture(architecture, timm.list_models(), "timm.list_models()")
    config = timm.models.get_pretrained_cfg(name)
    fixed = config is not None and config.fixed_input_size
    arguments: dict[str, Any] = {"img_size": (height, width)} if fixed else {}
    try:
        model: Any = timm.create_model(
            architecture, pretrained=pretrained, num_classes=0, in_chans=channels, **arguments
        )
    except Exception as error:
        what = "pretrained=true" if pretrained else f"images of shape {tuple(input_shape)}"
        raise InputError(f"{label} cannot be built for {what}: {first_line(error)}") from error
    if not (pretrained or fixed):
        fit_stem(model, input_shape)
    model.out_features = features_of_zeros(model, input_shape, label).shape[1]
    model.channels_last = True
    return model
