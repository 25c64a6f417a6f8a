from __future__ import annotations

import math

import pytest
import torch

from lossbench.models import HEADS, CosineHead, LinearHead


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_names():
    assert {name: type(make(3, 2)) for name, make in HEADS.items()} == {
        "linear": LinearHead,
        "cosine": CosineHead,
    }


@pytest.mark.parametrize("name", HEADS)
def test_weight_has_a_row_per_class(name):
    head = HEADS[name](6, 4)
    assert head.weight.shape == (4, 6)
    assert head(normal(5, 6)).shape == (5, 4)


def test_linear_head_is_an_affine_map():
    head = LinearHead(6, 4)
    x = normal(5, 6)
    for i in range(5):
        for c in range(4):
            expected = sum(head.weight[c, f] * x[i, f] for f in range(6)) + head.bias[c]
            assert head(x)[i, c].item() == pytest.approx(expected.item(), abs=1e-6)


def test_cosine_head_returns_cosines_and_has_no_bias():
    head = CosineHead(6, 4)
    with torch.no_grad():
        head.weight.mul_(torch.tensor([[0.1], [1.0], [7.0], [100.0]]))
    assert [name for name, _ in head.named_parameters()] == ["weight"]
    x = normal(5, 6)
    for i in range(5):
        for c in range(4):
            a, b = x[i].tolist(), head.weight[c].tolist()
            dot = math.fsum(p * q for p, q in zip(a, b, strict=True))
            expected = dot / (math.hypot(*a) * math.hypot(*b))
            assert head(x)[i, c].item() == pytest.approx(expected, abs=1e-6)


def test_cosine_head_is_bounded_and_blind_to_scale():
    head = CosineHead(64, 10)
    x = torch.cat([normal(200, 64), head.weight.detach(), -head.weight.detach()])
    cosines = head(x)
    assert cosines.abs().max() <= 1 + 1e-6
    for scale in (1e-6, 3.0, 1e6):
        torch.testing.assert_close(head(scale * x), cosines, rtol=0, atol=1e-6)


def test_cosine_head_starts_with_directions_of_length_one():
    torch.testing.assert_close(CosineHead(64, 10).weight.norm(dim=1), torch.ones(10))


def test_cosine_head_of_no_features_is_zero_with_a_finite_gradient():
    head = CosineHead(6, 4)
    x = torch.zeros(2, 6, requires_grad=True)
    cosines = head(x)
    cosines.sum().backward()
    assert torch.equal(cosines.detach(), torch.zeros(2, 4))
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(head.weight.grad).all()


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_cosine_head_is_float32_under_autocast(half):
    head = CosineHead(64, 10)
    x = normal(8, 64)
    with torch.autocast("cpu", dtype=half):
        assert torch.nn.functional.linear(x, head.weight).dtype == half  # autocast is on
        cosines = head(x)
        from_half = head(x.to(half))
    assert cosines.dtype == from_half.dtype == torch.float32
    assert torch.equal(cosines, head(x))
    assert torch.equal(from_half, head(x.to(half).float()))


def test_cosine_head_keeps_float64():
    head = CosineHead(6, 4).double()
    assert head(normal(5, 6).double()).dtype == torch.float64
