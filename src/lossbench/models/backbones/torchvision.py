"""Any classification network of torchvision, by its name there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from lossbench.errors import InputError, unknown
from lossbench.models.backbones.shape import first_line, image_shape, unknown_architecture
from lossbench.models.backbones.stem import fit_stem, fit_trained_channels

CLASSES = 1000  # outputs of the heads that torchvision builds, which are replaced

# What a family must be told of images of (height, width) when its weights are drawn.
ARGUMENTS: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "vit": lambda height, width: {"image_size": height},
    "maxvit": lambda height, width: {"input_size": (height, width)},
    "googlenet": lambda height, width: {"init_weights": True},
    "inception": lambda height, width: {"init_weights": True},
}


def from_torchvision(
    input_shape: tuple[int, int, int], architecture: str, weights: str | None = None
) -> nn.Module:
    """The network that ``torchvision.models`` calls ``architecture``, without its head.

    Features are what its last layer (linear, or the 1x1 convolution of SqueezeNet) was given.
    Auxiliary heads (GoogLeNet, Inception) are left out. With drawn weights the stem is fitted to
    channels and small images (`fit_stem`) and vision transformers are built for the image's size.
    With trained weights everything stays as it was trained, but for the channels
    (`fit_trained_channels`). Pixels are normalised as the data says, trained weights or not.

    Args:
        input_shape: channels, height, width of an image.
        architecture: a name such as resnet18, mobilenet_v3_small or vit_b_16.
        weights: None draws them; DEFAULT or one of the architecture's names, such as
            IMAGENET1K_V1, are downloaded once to torch's cache.

    Raises:
        InputError: for unknown names, for samples that are not images, for images that the
            network cannot be built for, and if the trained weights cannot be had.
    """
    from torchvision import models

    channels, height, width = image_shape(input_shape, f"model.architecture={architecture}")
    names = models.list_models(module=models)
    if architecture not in names:
        raise unknown_architecture(architecture, names, "torchvision.models.list_models()")
    family = architecture.partition("_")[0]
    arguments = ARGUMENTS[family](height, width) if family in ARGUMENTS and not weights else {}
    if weights is not None:
        known = ("DEFAULT", *(entry.name for entry in models.get_model_weights(architecture)))
        if weights not in known:
            raise unknown(f"model.weights of {architecture}", weights, known)
    try:
        with _weights_only():
            model = models.get_model(architecture, weights=weights, **arguments)
    except Exception as error:
        what = f"weights={weights}" if weights else f"images of shape {tuple(input_shape)}"
        raise InputError(
            f"model.architecture={architecture} cannot be built for {what}: {first_line(error)}"
        ) from error
    _drop_auxiliary_heads(model)
    model.out_features = _drop_head(model)
    if weights is None:
        fit_stem(model, input_shape)
    else:
        fit_trained_channels(model, channels)
    model.channels_last = True
    return model


def _drop_auxiliary_heads(model: Any) -> None:
    for name in ("aux1", "aux2", "AuxLogits"):
        if hasattr(model, name):
            setattr(model, name, None)
            model.aux_logits = False


def _drop_head(model: nn.Module) -> int:
    """Replace the last layer by the identity; returns the number of features that it was given."""
    heads = {
        path: layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
        for path, layer in model.named_modules()
        if (isinstance(layer, nn.Linear) and layer.out_features == CLASSES)
        or (isinstance(layer, nn.Conv2d) and layer.out_channels == CLASSES)
    }
    path = list(heads)[-1]
    model.set_submodule(path, nn.Identity())
    return heads[path]


@contextmanager
def _weights_only() -> Iterator[None]:
    """Let torch.load unpickle tensors and nothing else; torchvision does not ask it to."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
