"""A backbone and a head, built so that neither's initial weights depend on the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lossbench.errors import InputError, unknown
from lossbench.models.backbones.shape import features_of_zeros
from lossbench.models.heads import HEADS
from lossbench.seeding import derive_seed


class Classifier(nn.Module):
    """``logits = head(backbone(images))``; both parts stay reachable by name.

    Attributes:
        backbone: images ``(N, C, H, W)``, or vectors, to features ``(N, F)``.
        head: features to logits ``(N, num_classes)``.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of images ``(N, C, H, W)``."""
        logits: Tensor = self.head(self.backbone(images))
        return logits

    def with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(N, num_classes)`` and the features ``(N, F)`` that the head made them of."""
        features: Tensor = self.backbone(images)
        return self.head(features), features


def build_classifier(
    backbone: Callable[[tuple[int, ...]], nn.Module],
    head: str,
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    seed: int,
) -> Classifier:
    """A classifier on the CPU whose initial weights depend on ``seed`` and its own parts only.

    Backbone and head are each drawn from their own seed, so another head leaves the backbone's
    weights as they are, and the global generator is left where it was. The backbone is tried out
    on two samples of zeros, so that what it cannot take is told before anything is trained.

    Args:
        backbone: called with ``input_shape``; the module it returns needs the attribute
            ``out_features`` and nothing else. If it has ``channels_last = True``, its convolutions
            compute in that layout (channels beside each other in memory), which is faster and
            changes results by rounding; a module that calls ``view`` on their outputs cannot.
        head: a name in `HEADS`.
        input_shape: channels, height, width of an image, or the length of a vector.
        num_classes: number of logits.
        seed: the seed of the run.

    Raises:
        InputError: if the head is unknown, or if the backbone does not say its ``out_features``,
            cannot take samples of ``input_shape``, or returns something else of them.
    """
    if head not in HEADS:
        raise unknown("model.head", head, HEADS)
    with _seeded(derive_seed(seed, "backbone")):
        body = backbone(input_shape)
    out_features = getattr(body, "out_features", None)
    if not isinstance(out_features, int) or out_features < 1:
        raise InputError(
            f"backbone {type(body).__name__} has out_features={out_features!r}; set "
            "self.out_features to the number of features (an int of 1 or more) that it returns"
        )
    if getattr(body, "channels_last", False):
        body.to(memory_format=torch.channels_last)  # the inputs follow the weights
    with _seeded(derive_seed(seed, "backbone")):
        features = features_of_zeros(body, input_shape, f"backbone {type(body).__name__}")
    shape = tuple(getattr(features, "shape", ()))
    if shape != (2, out_features):
        raise InputError(
            f"backbone {type(body).__name__} returned {shape or type(features).__name__} for 2 "
            f"samples of shape {tuple(input_shape)}; it must return features of shape (2, "
            f"{out_features}), which is its out_features"
        )
    with _seeded(derive_seed(seed, "head")):
        top = HEADS[head](out_features, num_classes)
    return Classifier(body, top)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Run with torch's CPU generator at ``seed``; put it back afterwards.

    ``torch.manual_seed`` would seed the generators of every GPU too, and leave them so.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
