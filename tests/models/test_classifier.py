from __future__ import annotations

import random
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from lossbench.errors import InputError
from lossbench.models import CifarResNet, Classifier, ConvNet, LinearHead, build_classifier

SHAPE = (1, 8, 8)
build = partial(build_classifier, ConvNet, input_shape=SHAPE, num_classes=10)


def equal(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_logits_are_the_head_of_the_backbone():
    model = build("linear", seed=0).eval()
    images = torch.randn(5, *SHAPE)
    assert isinstance(model, Classifier)
    assert model(images).shape == (5, 10)
    assert torch.equal(model(images), model.head(model.backbone(images)))


def test_a_seed_fixes_every_weight_whatever_the_global_generator():
    torch.manual_seed(1)
    first = build("linear", seed=3)
    torch.manual_seed(2)
    assert equal(first, build("linear", seed=3))
    other = build("linear", seed=4)
    assert not equal(first.backbone, other.backbone)
    assert not equal(first.head, other.head)


def test_the_head_never_moves_the_backbone():
    linear, cosine = build("linear", seed=3), build("cosine", seed=3)
    more = build_classifier(ConvNet, "linear", input_shape=SHAPE, num_classes=100, seed=3)
    assert equal(linear.backbone, cosine.backbone)
    assert equal(linear.backbone, more.backbone)
    assert type(linear.head) is not type(cosine.head)


def test_a_backbone_with_more_draws_never_moves_the_head():
    deep = partial(CifarResNet, depth=14)
    shallow = partial(CifarResNet, depth=8)
    make = partial(build_classifier, head="cosine", input_shape=SHAPE, num_classes=10, seed=0)
    assert equal(make(deep).head, make(shallow).head)


def test_building_leaves_the_global_generators_alone():
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    build("cosine", seed=0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert (np.random.get_state()[1] == before[2]).all()


def test_a_failing_backbone_leaves_the_global_generator_alone():
    def broken(input_shape):
        torch.randn(3)
        raise RuntimeError("no weights")

    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="no weights"):
        build_classifier(broken, "linear", input_shape=SHAPE, num_classes=2, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_head_is_named_with_the_nearest_one():
    with pytest.raises(InputError, match=r"unknown model\.head 'cosin'; did you mean 'cosine'\?"):
        build("cosin", seed=0)


class OwnBackbone(nn.Module):
    def __init__(self, input_shape: tuple[int, int, int], out_features: object = None) -> None:
        super().__init__()
        self.project = nn.Linear(64, 12)
        if out_features is not None:
            self.out_features = out_features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.project(images.flatten(1))


def test_a_users_backbone_needs_only_out_features():
    own = partial(OwnBackbone, out_features=12)
    model = build_classifier(own, "cosine", input_shape=SHAPE, num_classes=3, seed=0)
    assert model(torch.randn(2, *SHAPE)).shape == (2, 3)


@pytest.mark.parametrize("stated", [None, "twelve", 0])
def test_a_users_backbone_without_out_features_is_told_so(stated):
    own = partial(OwnBackbone, out_features=stated)
    with pytest.raises(InputError, match=r"OwnBackbone has out_features=.*set self\.out_features"):
        build_classifier(own, "linear", input_shape=SHAPE, num_classes=3, seed=0)


class Unfitting(OwnBackbone):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images)[:, :5]


@pytest.mark.parametrize(
    ("made", "shape", "message"),
    [
        (OwnBackbone, (1, 9, 9), r"cannot take samples of shape \(1, 9, 9\) \(mat1 and mat2"),
        (Unfitting, SHAPE, r"returned \(2, 5\) for 2 samples .* must .* of shape \(2, 12\)"),
    ],
)
def test_a_users_backbone_is_tried_out_before_anything_is_trained(made, shape, message):
    own = partial(made, out_features=12)
    with pytest.raises(InputError, match=f"backbone {made.__name__} {message}"):
        build_classifier(own, "linear", input_shape=shape, num_classes=3, seed=0)


def test_convolutions_compute_in_channels_last_and_only_rounding_changes():
    model = build("linear", seed=0).eval()
    maps = []
    model.backbone.layers.register_forward_hook(lambda *call: maps.append(call[2]))
    images = torch.randn(5, 1, 32, 32)
    with torch.no_grad():
        logits = model(images)
        plain = model.to(memory_format=torch.contiguous_format)(images)
    assert maps[0].is_contiguous(memory_format=torch.channels_last)
    assert maps[1].is_contiguous()
    torch.testing.assert_close(logits, plain, rtol=1e-4, atol=1e-5)


def test_models_know_nothing_of_losses_or_lightning_and_load_no_library_unasked():
    code = (
        "import sys, lossbench.models;"
        "print([m for m in sys.modules if m.startswith('lossbench.losses') or 'lightning' in m"
        " or m in ('torchvision', 'timm')])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


def test_linear_head_weights_are_those_of_the_head_seed_alone():
    from lossbench.seeding import derive_seed

    model = build("linear", seed=9)
    torch.manual_seed(derive_seed(9, "head"))
    assert equal(model.head, LinearHead(64, 10))
    torch.manual_seed(derive_seed(9, "backbone"))
    assert equal(model.backbone, ConvNet(SHAPE))


def test_logits_come_with_the_features_they_were_made_of_in_one_pass():
    model = build("cosine", seed=0).eval()
    passes = []
    model.backbone.register_forward_hook(lambda *call: passes.append(call))
    images = torch.randn(5, *SHAPE)
    logits, features = model.with_features(images)
    assert len(passes) == 1
    assert torch.equal(logits, model(images))
    assert torch.equal(features, model.backbone(images))
