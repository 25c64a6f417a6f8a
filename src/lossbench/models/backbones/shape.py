"""What a backbone can take: checked when it is made, before anything is trained or written."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lossbench.errors import InputError


def image_shape(input_shape: tuple[int, ...], model: str) -> tuple[int, int, int]:
    """Channels, height, width; ``model`` is the name for the message.

    Raises:
        InputError: if the samples are vectors.
    """
    if len(input_shape) != 3:
        raise InputError(
            f"{model} needs images (channels, height, width), and a sample of this data has shape "
            f"{tuple(input_shape)}; use model=mlp"
        )
    return input_shape


@torch.no_grad()
def features_of_zeros(backbone: nn.Module, input_shape: tuple[int, ...], model: str) -> Tensor:
    """What ``backbone`` returns in evaluation mode for two samples of zeros; its mode is put back.

    Raises:
        InputError: if it cannot take them; ``model`` is its name for the message.
    """
    training = backbone.training
    try:
        features: Tensor = backbone.eval()(torch.zeros(2, *input_shape))
    except Exception as error:  # the code of others can raise anything
        raise InputError(
            f"{model} cannot take samples of shape {tuple(input_shape)} ({first_line(error)}); "
            "use another model, or other images"
        ) from error
    finally:
        backbone.train(training)
    return features


def first_line(error: Exception) -> str:
    """The first line of what ``error`` says, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def unknown_architecture(name: str, names: Iterable[str], listing: str) -> InputError:
    """The error for an architecture that is not among ``names``: the nearest, and where all are."""
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.4)
    hint = f"; near it: {', '.join(near)}" if near else ""
    return InputError(f"unknown model.architecture {name!r}{hint} ({listing} has them all)")
