"""Networks of torchvision and timm as backbones: fitted to the data, seeded, or refused."""

from __future__ import annotations

import os
import random
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from lossbench.errors import InputError
from lossbench.models import (
    MLP,
    CifarResNet,
    ConvNet,
    LeNet,
    WideResNet,
    build_classifier,
    from_timm,
    from_torchvision,
)

FAMILIES = {
    "resnet18": (3, 16, 16),
    "mobilenet_v3_small": (1, 28, 28),
    "shufflenet_v2_x0_5": (3, 32, 32),
    "squeezenet1_1": (1, 28, 28),
    "efficientnet_b0": (2, 16, 16),
    "convnext_tiny": (3, 32, 32),
    "googlenet": (1, 28, 28),
    "regnet_y_400mf": (3, 32, 32),
}


def build(backbone, shape, head="linear", seed=0):
    return build_classifier(backbone, head, input_shape=shape, num_classes=5, seed=seed)


def assert_trains(model, shape):
    images = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    logits = model.train()(images)
    assert logits.shape == (4, 5)
    (logits * torch.randn(4, 5)).sum().backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None, path
        assert torch.isfinite(parameter.grad).all(), path


@pytest.mark.parametrize("name", FAMILIES)
def test_a_torchvision_network_trains_on_the_data_it_was_fitted_to(name):
    shape = FAMILIES[name]
    assert_trains(build(partial(from_torchvision, architecture=name), shape, "cosine"), shape)


def test_without_its_fitted_parts_a_network_is_torchvisions_own():
    """On three channels of 65 pixels nothing is fitted: the logits under its own head agree."""
    from torchvision.models import mobilenet_v3_small

    model = build(partial(from_torchvision, architecture="mobilenet_v3_small"), (3, 65, 65))
    own = mobilenet_v3_small().eval()
    own.load_state_dict(model.backbone.state_dict(), strict=False)
    images = torch.randn(2, 3, 65, 65)
    with torch.no_grad():
        expected = own(images)
        actual = own.classifier[-1](model.eval().backbone(images))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [from_torchvision, from_timm])
def test_the_stem_keeps_the_resolution_of_small_images(make):
    def last_map(side):
        model = build(partial(make, architecture="resnet18"), (1, side, side)).eval()
        maps = []
        model.backbone.layer4.register_forward_hook(lambda *call: maps.append(call[2]))
        with torch.no_grad():
            model(torch.zeros(1, 1, side, side))
        return model.backbone.conv1, maps[0].shape[-1]

    conv, side = last_map(64)
    assert (conv.kernel_size, conv.stride, side) == ((3, 3), (1, 1), 8)
    conv, side = last_map(65)
    assert (conv.kernel_size, conv.stride, side) == ((7, 7), (2, 2), 3)


def test_resnet18_on_cifar_has_the_parameters_of_its_cifar_form():
    """The form of ResNet-18 that is usual on CIFAR-10 has 11,173,962, its head included."""
    model = build_classifier(
        partial(from_torchvision, architecture="resnet18"),
        "linear",
        input_shape=(3, 32, 32),
        num_classes=10,
        seed=0,
    )
    assert sum(p.numel() for p in model.parameters()) == 11_173_962


def test_a_fitted_stem_is_drawn_with_the_variance_that_keeps_its_outputs():
    """torchvision draws the 7x7 stem with variance 2 / (64 * 49); on 9 weights it is 147 / 9 of
    that for one channel."""
    conv = build(partial(from_torchvision, architecture="resnet18"), (1, 32, 32)).backbone.conv1
    assert conv.weight.var().item() == pytest.approx(2 / (64 * 49) * 147 / 9, rel=0.25)


@pytest.mark.parametrize("head", ["linear", "cosine"])
@pytest.mark.parametrize(
    "backbone",
    [
        *(MLP, ConvNet, LeNet, partial(CifarResNet, depth=20), partial(WideResNet, depth=10)),
        partial(from_torchvision, architecture="mobilenet_v3_small"),
        partial(from_timm, architecture="resnet10t"),
    ],
    ids=lambda made: getattr(made, "keywords", {}).get("architecture") or str(made),
)
def test_every_backbone_learns_under_either_head(backbone, head):
    model = build(backbone, (1, 16, 16), head).train()
    logits = model(torch.randn(4, 1, 16, 16))
    assert logits.shape == (4, 5)
    if head == "cosine":
        assert logits.abs().max() <= 1 + 1e-5
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert any(p.grad.any() for p in model.backbone.parameters())


@pytest.mark.parametrize(
    "backbone",
    [
        partial(from_torchvision, architecture="squeezenet1_1"),
        partial(from_timm, architecture="mobilenetv3_small_050"),
        partial(from_timm, architecture="vit_tiny_patch16_224"),
    ],
    ids=lambda made: made.keywords["architecture"],
)
def test_a_seed_fixes_every_weight_and_no_generator_moves(backbone):
    torch.manual_seed(1)
    first = build(backbone, (3, 32, 32), seed=3).state_dict()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    again = build(backbone, (3, 32, 32), seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()
    assert first.keys() == again.keys()
    assert all(torch.equal(first[key], again[key]) for key in first)
    other = build(backbone, (3, 32, 32), seed=4).state_dict()
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("resnet18", (1, 28, 28)), ("vit_tiny_patch16_224", (3, 32, 32)), ("resnet50d", (2, 16, 16))],
)
def test_a_timm_network_trains_on_the_data_it_was_fitted_to(name, shape):
    assert_trains(build(partial(from_timm, architecture=name), shape, "cosine"), shape)


@pytest.mark.parametrize(
    ("backbone", "shape", "message"),
    [
        (partial(from_torchvision, architecture="resnet17"), (3, 32, 32), "near it: resnet18"),
        (partial(from_torchvision, architecture="raft_large"), (3, 32, 32), "unknown model.arch"),
        (partial(from_timm, architecture="resnet17"), (3, 32, 32), "near it: resnet18"),
        (
            partial(from_torchvision, architecture="resnet18", weights="IMAGENET"),
            (3, 32, 32),
            "unknown model.weights of resnet18 'IMAGENET'; did you mean 'IMAGENET1K_V1'",
        ),
        (partial(from_torchvision, architecture="vit_b_16"), (1, 28, 28), "shape .1, 28, 28.: Inp"),
        (partial(from_torchvision, architecture="inception_v3"), (3, 32, 32), "shape .3, 32, 32."),
        (partial(from_timm, architecture="vit_tiny_patch16_224"), (3, 8, 8), "shape .3, 8, 8."),
        (partial(from_torchvision, architecture="resnet18"), (30,), "shape .30,.; use model=mlp"),
        (partial(from_timm, architecture="resnet18"), (30,), "shape .30,.; use model=mlp"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(backbone, shape, message):
    with pytest.raises(InputError, match=message) as refused:
        build(backbone, shape)
    assert "\n" not in str(refused.value)


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"pip install 'lossbench\[timm\]'"):
        build(partial(from_timm, architecture="resnet18"), (3, 32, 32))


@pytest.fixture
def downloaded(tmp_path, monkeypatch):
    """Where torch keeps the trained weights of torchvision's squeezenet1_1."""
    from torchvision.models import SqueezeNet1_1_Weights

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    path = tmp_path / "hub" / "checkpoints" / SqueezeNet1_1_Weights.DEFAULT.url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    return path


def test_trained_weights_are_kept_and_grey_images_see_what_colour_ones_saw(downloaded):
    from torchvision.models import squeezenet1_1

    trained = squeezenet1_1()
    torch.save(trained.state_dict(), downloaded)
    trained.classifier[1] = nn.Identity()
    trained.eval()
    make = partial(from_torchvision, architecture="squeezenet1_1", weights="DEFAULT")
    grey = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        expected = trained(grey.expand(-1, 3, -1, -1))
        for channels in (1, 2, 3, 4):
            model = build(make, (channels, 32, 32)).eval()
            actual = model.backbone(grey.expand(-1, channels, -1, -1))
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


class Evil:
    def __reduce__(self):
        return (os.putenv, ("LOSSBENCH_EVIL", "1"))


def test_trained_weights_unpickle_nothing_but_tensors(downloaded):
    torch.save({"weight": Evil()}, downloaded)
    make = partial(from_torchvision, architecture="squeezenet1_1", weights="DEFAULT")
    with pytest.raises(InputError, match=r"cannot be built for weights=DEFAULT: Weights only"):
        build(make, (3, 32, 32))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 64, 64)], ids=str)
def test_every_torchvision_network_is_built_or_refused_clearly(shape):
    """On the meta device, where shapes are computed and nothing else.

    RegNets compute their widths with tensors, so they cannot be built there.
    """
    from torchvision import models

    refused = {}
    for name in models.list_models(module=models, exclude="regnet*"):
        try:
            with torch.device("meta"):
                model = build(partial(from_torchvision, architecture=name), shape)
                assert model.train()(torch.zeros(4, *shape)).shape == (4, 5), name
        except InputError as error:
            refused[name] = str(error)
    assert all(str(shape) in line and "\n" not in line for line in refused.values())
    # Patches that do not fit, windows that do not divide the image, too many halvings.
    expected = {"convnext", "inception", "maxvit", "vgg", "vit"}
    assert {name.partition("_")[0].rstrip("0123456789") for name in refused} <= expected


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["model=torchvision", "model.architecture=resnet34"], "torchvision_resnet34"),
        (["model=timm"], "timm_resnet18"),
        (["model=wide_resnet", "model.depth=28"], "wide_resnet_28_4"),
        (["model=resnet56"], "resnet56"),
        (["model=lenet"], "lenet"),
    ],
)
def test_the_config_names_the_architecture_in_folder_and_cell(overrides, name):
    from lossbench.application import compose
    from lossbench.config import Run

    run = Run(compose(["data=digits", *overrides]))
    assert f"-{name}-" in run.folder.name
    assert f"| {name} |" in run.cell
