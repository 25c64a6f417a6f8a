"""From images ``(N, C, H, W)`` to features ``(N, out_features)``; one module per architecture."""

from __future__ import annotations

from lossbench.models.backbones.convnet import ConvNet
from lossbench.models.backbones.mlp import MLP
from lossbench.models.backbones.resnet_cifar import CifarResNet

__all__ = ["MLP", "CifarResNet", "ConvNet"]
