from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn

from lossbench.errors import InputError
from lossbench.models import MLP, CifarResNet, ConvNet, LeNet, WideResNet, build_classifier

BACKBONES = {
    "mlp": MLP,
    "mlp_one_layer": partial(MLP, hidden=[7]),
    "convnet": ConvNet,
    "convnet_narrow": partial(ConvNet, width=4),
    "resnet_20": partial(CifarResNet, depth=20),
    "wide_resnet_10_2": partial(WideResNet, depth=10, widen_factor=2, dropout=0.3),
    "lenet": LeNet,
}
SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 17, 23), (2, 1, 1)]


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", BACKBONES)
def test_features_have_the_announced_width_and_every_parameter_gets_a_gradient(name, shape):
    backbone = BACKBONES[name](shape)
    images = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))
    features = backbone(images)
    assert features.shape == (5, backbone.out_features)
    assert features.dtype == torch.float32
    # Not the plain sum: BatchNorm has no gradient for the sum of its outputs.
    (features * torch.randn(features.shape)).sum().backward()
    for path, parameter in backbone.named_parameters():
        assert parameter.grad is not None, path
        assert torch.isfinite(parameter.grad).all(), path


@pytest.mark.parametrize("name", BACKBONES)
def test_in_evaluation_an_image_is_treated_alone(name):
    backbone = BACKBONES[name]((3, 9, 9)).eval()
    images = torch.randn(4, 3, 9, 9)
    with torch.no_grad():
        together = backbone(images)
        alone = torch.cat([backbone(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("depth", "published_millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)]
)
def test_resnet_has_the_parameters_of_the_paper(depth, published_millions):
    """He et al. (CVPR 2016), table 6; the paper rounds to as many digits as stand here."""
    model = build_classifier(
        partial(CifarResNet, depth=depth),
        "linear",
        input_shape=(3, 32, 32),
        num_classes=10,
        seed=0,
    )
    digits = 1 if depth == 110 else 2
    assert round(parameters(model) / 1e6, digits) == published_millions
    if depth == 32:
        assert parameters(model) == 464_154
    weighted_layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted_layers) == depth


@pytest.mark.parametrize(
    ("depth", "widen_factor", "published_millions"),
    [(28, 10, 36.5), (40, 4, 8.9), (40, 2, 2.2), (16, 8, 11.0), (22, 8, 17.2), (40, 1, 0.6)],
)
def test_wide_resnet_has_the_parameters_of_the_paper(depth, widen_factor, published_millions):
    """Zagoruyko & Komodakis (BMVC 2016), tables 3 and 4."""
    make = partial(WideResNet, depth=depth, widen_factor=widen_factor)
    with torch.device("meta"):
        model = build_classifier(make, "linear", input_shape=(3, 32, 32), num_classes=10, seed=0)
    assert round(parameters(model) / 1e6, 1) == published_millions
    widening = {f"backbone.blocks.{stage * (depth - 4) // 6}.shortcut" for stage in range(3)}
    layers = {p for p, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    # widened by 1, the first stage is as wide as the stem and needs no shortcut of its own
    expected = widening if widen_factor > 1 else widening - {"backbone.blocks.0.shortcut"}
    assert {p for p in layers if "shortcut" in p} == expected
    assert len(layers - expected) == depth - 3


def test_wide_resnet_block_is_the_formula_of_the_paper():
    block = WideResNet((3, 8, 8), depth=10, widen_factor=2).blocks[1].eval()
    x = torch.randn(2, 32, 7, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        a = nn.functional.relu(block.norm1(x))
        inner = nn.functional.relu(block.norm2(block.conv1(a)))
        expected = block.conv2(inner) + nn.functional.conv2d(a, block.shortcut.weight, stride=2)
        torch.testing.assert_close(block(x), expected)


def test_lenet_on_mnist_is_caffes():
    """520 + 25,050 + 400,500 + 5,010 parameters; a 28-pixel side becomes 24, 12, 8, 4."""
    model = build_classifier(LeNet, "linear", input_shape=(1, 28, 28), num_classes=10, seed=0)
    assert parameters(model) == 520 + 25_050 + 400_500 + 5_010
    weight = model.backbone.full.weight
    assert weight.var().item() == pytest.approx(1 / 800, rel=0.02)


def test_lenet_sees_a_small_image_in_a_frame_of_zeros():
    small = LeNet((1, 8, 11)).eval()
    image = torch.randn(2, 1, 8, 11)
    framed = nn.functional.pad(image, (2, 3, 4, 4))
    with torch.no_grad():
        whole = LeNet((1, 16, 16)).eval()
        whole.load_state_dict(small.state_dict())
        torch.testing.assert_close(small(image), whole(framed))


def test_resnet_shortcut_is_every_second_pixel_between_zero_channels():
    """With its last norm at zero, a block is the ReLU of its shortcut."""
    backbone = CifarResNet((3, 8, 8), depth=8)
    widening = backbone.blocks[1]
    nn.init.zeros_(widening.norm2.weight)
    x = torch.rand(2, 16, 5, 7)
    out = widening(x)
    assert out.shape == (2, 32, 3, 4)
    assert out[:, :8].abs().max() == 0
    assert out[:, 24:].abs().max() == 0
    for channel in range(16):
        for row in range(3):
            for column in range(4):
                assert torch.equal(
                    out[:, 8 + channel, row, column], x[:, channel, 2 * row, 2 * column]
                )


def test_resnet_convolutions_start_from_kaiming_normal():
    backbone = CifarResNet((3, 32, 32), depth=32)
    last = backbone.blocks[-1].conv2.weight
    expected = (2 / (64 * 9)) ** 0.5
    # The sample deviation of 36,864 normal draws is within 1.5 % of the true one (4 sigma).
    assert last.std().item() == pytest.approx(expected, rel=0.015)


def test_mlp_layers_are_the_widths_asked_for():
    model = MLP((1, 8, 8), hidden=[32, 16])
    assert parameters(model) == (64 * 32 + 32) + (32 * 16 + 16)
    assert parameters(MLP((2, 3, 5), hidden=(4,))) == 30 * 4 + 4


def test_convnet_counts():
    width = 16
    channels = [1, width, width, 2 * width, 2 * width, 4 * width]
    expected = sum(9 * before * after + 2 * after for before, after in pairwise(channels))
    assert parameters(ConvNet((1, 28, 28))) == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(CifarResNet, depth=33), "model.depth is 33"),
        (partial(CifarResNet, depth=2), "model.depth is 2"),
        (partial(WideResNet, depth=30), "model.depth is 30"),
        (partial(WideResNet, widen_factor=0), "model.widen_factor is 0"),
        (partial(WideResNet, dropout=1.0), "model.dropout is 1.0"),
        (partial(ConvNet, width=0), "model.width is 0"),
        (partial(MLP, hidden=[]), r"model.hidden is \[\]"),
        (partial(MLP, hidden=[8, 0]), r"model.hidden is \[8, 0\]"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make((1, 8, 8))


@pytest.mark.parametrize("make", [ConvNet, CifarResNet, WideResNet, LeNet])
def test_image_backbones_refuse_vectors_and_mlp_takes_them(make):
    with pytest.raises(InputError, match=r"sample of this data has shape \(30,\); use model=mlp"):
        make((30,))
    assert MLP((30,))(torch.zeros(2, 30)).shape == (2, 128)


@pytest.mark.parametrize("name", ["mlp", "convnet", "resnet_8", "lenet"])
def test_learns_digits(name):
    """The embedded digits: held-out accuracy above 0.9 after a few passes with plain SGD."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 8 - 1
    target = torch.tensor(labels, dtype=torch.int64)
    make = {
        "mlp": MLP,
        "convnet": ConvNet,
        "resnet_8": partial(CifarResNet, depth=8),
        "lenet": LeNet,
    }[name]
    model = build_classifier(make, "linear", input_shape=(1, 8, 8), num_classes=10, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    order = torch.Generator().manual_seed(0)
    for _ in range(8):
        for batch in torch.randperm(1200, generator=order).split(64):
            loss = nn.functional.cross_entropy(model(images[batch]), target[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        predicted = model(images[1200:]).argmax(dim=1)
    assert (predicted == target[1200:]).float().mean() > 0.9


def test_convnet_features_are_the_global_average():
    backbone = ConvNet((1, 8, 8), width=2).eval()
    images = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps, features = backbone.layers(images), backbone(images)
    for channel in range(8):
        expected = sum(maps[:, channel].flatten(1).unbind(dim=1)) / maps[0, channel].numel()
        torch.testing.assert_close(features[:, channel], expected)
