"""From images ``(N, C, H, W)`` to features ``(N, out_features)``; one module per architecture."""

from __future__ import annotations

from lossbench.models.backbones.convnet import ConvNet
from lossbench.models.backbones.lenet import LeNet
from lossbench.models.backbones.mlp import MLP
from lossbench.models.backbones.resnet_cifar import CifarResNet
from lossbench.models.backbones.timm import from_timm
from lossbench.models.backbones.torchvision import from_torchvision
from lossbench.models.backbones.wide_resnet import WideResNet

__all__ = [
    "MLP",
    "CifarResNet",
    "ConvNet",
    "LeNet",
    "WideResNet",
    "from_timm",
    "from_torchvision",
]
