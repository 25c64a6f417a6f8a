"""Backbones, heads, and the classifier made of one of each. Models know nothing of losses.

A backbone maps images ``(N, C, H, W)``, or vectors, to features ``(N, out_features)`` and says
``out_features``; a head maps features to logits ``(N, num_classes)``.
"""

from __future__ import annotations

from lossbench.models.backbones import (
    MLP,
    CifarResNet,
    ConvNet,
    LeNet,
    WideResNet,
    from_timm,
    from_torchvision,
)
from lossbench.models.classifier import Classifier, build_classifier
from lossbench.models.heads import HEADS, CosineHead, LinearHead

__all__ = [
    "HEADS",
    "MLP",
    "CifarResNet",
    "Classifier",
    "ConvNet",
    "CosineHead",
    "LeNet",
    "LinearHead",
    "WideResNet",
    "build_classifier",
    "from_timm",
    "from_torchvision",
]
