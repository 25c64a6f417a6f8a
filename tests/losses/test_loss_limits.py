"""What a loss becomes at the ends of its parameters: another loss, to the last digits."""

from __future__ import annotations

import math

import pytest
import torch
from loss_cases import CLASSES, COUNTS, batch_for, head

from lossbench.losses import create_loss, list_losses
from lossbench.losses.catalogue import facts
from lossbench.losses.margin import psi

EQUAL = [40] * CLASSES
SHIFTED = {"rtol": 1e-10, "atol": 1e-12}

SAME = [
    ("poly1", {"epsilon": 0}, "cross_entropy", {}),
    ("poly1", {"epsilon": 0, "gamma": 2}, "focal", {}),
    ("dual_focal", {"gamma": 0}, "cross_entropy", {}),
    ("focal_flsd", {"gammas": [3, 3]}, "focal", {"gamma": 3}),
    ("focal_flsd", {"thresholds": [1], "gammas": [5, 0]}, "focal", {"gamma": 5}),
    ("sigmoid_focal", {"gamma": 0, "alpha": None}, "binary_cross_entropy", "sum"),
    ("asymmetric_ovr", {"gamma_pos": 0, "gamma_neg": 0, "clip": 0}, "binary_cross_entropy", "sum"),
    (
        "asymmetric_ovr",
        {"gamma_pos": 2, "gamma_neg": 2, "clip": 0},
        "sigmoid_focal",
        {"alpha": None},
    ),
    ("asymmetric", {"smoothing": 0, "gamma_pos": 2}, "focal", {}),
    ("asymmetric", {"gamma_pos": 0, "gamma_neg": 0}, "label_smoothing", {}),
    ("mbls", {"alpha": 0}, "cross_entropy", {}),
    ("mbls", {"margin": 1e3, "alpha": 5}, "cross_entropy", {}),
    ("confidence_penalty", {"beta": 0}, "cross_entropy", {}),
    ("maxsup", {"alpha": 0}, "cross_entropy", {}),
    ("label_aware_smoothing", {"smooth_head": 0}, "cross_entropy", {}),
    ("label_aware_smoothing", {"smooth_head": 0.1, "smooth_tail": 0.1}, "label_smoothing", {}),
    ("inverse_frequency", {"power": 0}, "cross_entropy", {}),
    ("class_balanced", {"beta": 0}, "cross_entropy", {}),
    ("class_balanced_bce", {"beta": 0}, "binary_cross_entropy", "sum"),
    ("class_balanced_focal", {"beta": 0, "gamma": 2}, "sigmoid_focal", {"alpha": None}),
    ("class_balanced_focal", {"gamma": 0}, "class_balanced_bce", {}),
    ("class_balanced_focal", {"gamma": 0, "activation": "softmax"}, "class_balanced", {}),
    ("influence_balanced", {}, "cross_entropy", {}),
    ("vs", {"gamma": 0}, "logit_adjusted", {}),
    ("vs", {"gamma": 0, "tau": 2}, "logit_adjusted", {"tau": 2}),
    ("vs", {"tau": 0, "gamma": 0.2}, "cdt", {}),
    ("cdt", {"gamma": 0}, "cross_entropy", {}),
    ("logit_adjusted", {"tau": 1}, "balanced_softmax", {}),
    ("logit_adjusted", {"tau": 0}, "cross_entropy", {}),
    ("seesaw", {"p": 0, "q": 0}, "cross_entropy", {}),
    ("gce", {"q": 1}, "mae", {}),
    ("sce", {"alpha": 1, "beta": 0}, "cross_entropy", {}),
    ("sce", {"alpha": 0}, "reverse_ce", {}),
    ("reverse_ce", {"log_zero": -1}, "mae", {}),
    ("reverse_ce", {"log_zero": -2}, "l1", {}),
    ("nce_rce", {"beta": 0}, "nce", {}),
    ("nce_mae", {"beta": 0}, "nce", {}),
    ("nce_mae", {"alpha": 0}, "mae", {}),
    ("nce_rce", {"log_zero": -1}, "nce_mae", {}),
    ("normalized_focal", {"gamma": 0}, "nce", {}),
    ("bi_tempered", {"t1": 1, "t2": 1}, "cross_entropy", {}),
    ("ldam", {"max_margin": 0}, "norm_softmax", {}),
    ("am_softmax", {"margin": 0}, "norm_softmax", {}),
    ("arcface", {"margin": 0}, "norm_softmax", {}),
    ("norm_softmax", {"scale": 4}, "temperature_scaled", {"temperature": 0.25}),
    ("large_margin_softmax", {"margin": 1}, "cross_entropy", {}),
    ("large_margin_softmax", {"annealing": [1e15, 0, 0, 0]}, "cross_entropy", {}),
]
WITH_EQUAL_COUNTS = [
    ("inverse_frequency", {}, "cross_entropy", {}),
    ("class_balanced", {}, "cross_entropy", {}),
    ("class_balanced_bce", {}, "binary_cross_entropy", "sum"),
    ("class_balanced_focal", {"activation": "softmax", "gamma": 2}, "focal", {}),
    ("balanced_softmax", {}, "cross_entropy", {}),
    ("logit_adjusted", {"tau": 3}, "cross_entropy", {}),
    ("vs", {"tau": 3, "gamma": 0.9}, "cross_entropy", {}),
    ("cdt", {"gamma": 0.9}, "cross_entropy", {}),
    ("ldam", {"max_margin": 0.35}, "am_softmax", {}),
    ("label_aware_smoothing", {"smooth_head": 0.1}, "label_smoothing", {}),
]


def value_and_slope(key, logits, target, extras, counts, parameters):
    if parameters == "sum":
        parameters = {"class_reduction": "sum"}
    loss = create_loss(key, class_counts=counts, reduction="none", **parameters)
    given = logits.clone().requires_grad_()
    losses = loss(given, target, **extras)
    return losses.detach(), torch.autograd.grad(losses.sum(), given)[0]


@pytest.mark.parametrize(
    ("counts", "first", "parameters", "second", "others"),
    [(COUNTS, *row) for row in SAME] + [(EQUAL, *row) for row in WITH_EQUAL_COUNTS],
)
def test_two_losses_are_the_same_there(counts, first, parameters, second, others):
    logits, target, _ = batch_for(first)
    extras = head(len(logits))
    found = value_and_slope(first, logits, target, extras, counts, parameters)
    expected = value_and_slope(second, logits, target, extras, counts, others)
    torch.testing.assert_close(found, expected, **SHIFTED)


def test_gce_nears_cross_entropy_and_smooth_l1_nears_l1():
    logits, target, _ = batch_for("gce")
    near = create_loss("gce", q=1e-7)(logits, target)
    torch.testing.assert_close(
        near, create_loss("cross_entropy")(logits, target), rtol=1e-5, atol=0
    )
    near = create_loss("smooth_l1", beta=1e-7)(logits, target)
    torch.testing.assert_close(near, create_loss("l1")(logits, target), rtol=1e-5, atol=0)


def test_sphereface_without_a_margin_is_cross_entropy_of_its_decoded_logits():
    logits, target, extras = batch_for("sphereface")
    loss = create_loss("sphereface", margin=1)
    decoded = loss.decode(logits, **extras)
    length = extras["features"].norm(dim=1, keepdim=True)
    torch.testing.assert_close(decoded, length * logits)
    expected = create_loss("cross_entropy")(decoded, target)
    torch.testing.assert_close(loss(logits, target, **extras), expected)


@pytest.mark.parametrize("key", list_losses())
def test_counts_from_one_to_a_million(key):
    counts = [1, 1_000_000, 1, 37, 999_999]
    logits, target, extras = batch_for(key, dtype=torch.float32)
    loss = create_loss(key, class_counts=counts)
    loss.set_epoch(9, 10)
    logits.requires_grad_()
    value = loss(logits, target, **extras)
    (slope,) = torch.autograd.grad(value, logits)
    assert value.isfinite()
    assert slope.isfinite().all()
    assert slope.abs().max() > 0
    weight = loss.class_weight
    if weight is not None and "class_counts" in facts(key).needs:
        assert weight.sum().item() == pytest.approx(CLASSES)
        assert weight[0] == weight[2] == weight.max()


@pytest.mark.parametrize("key", list_losses())
def test_a_batch_of_one_class_only(key):
    logits, _, extras = batch_for(key)
    target = torch.full((len(logits),), 4)
    loss = create_loss(key, class_counts=COUNTS)
    logits.requires_grad_()
    value = loss(logits, target, **extras)
    (slope,) = torch.autograd.grad(value, logits)
    assert value.isfinite()
    assert slope.isfinite().all()


def test_cross_entropy_has_the_gradient_of_the_textbook():
    logits, target, _ = batch_for("cross_entropy")
    logits.requires_grad_()
    (slope,) = torch.autograd.grad(create_loss("cross_entropy")(logits, target), logits)
    one_hot = torch.eye(CLASSES, dtype=torch.float64)[target]
    torch.testing.assert_close(slope, (logits.softmax(1) - one_hot) / len(logits))
    logits = logits.detach().requires_grad_()
    bce = create_loss("binary_cross_entropy", class_reduction="sum")
    (slope,) = torch.autograd.grad(bce(logits, target), logits)
    torch.testing.assert_close(slope, (logits.sigmoid() - one_hot) / len(logits))


HELD_CONSTANT = {"seesaw", "focal_flsd"}  # a part of the formula


@pytest.mark.parametrize("key", [key for key in list_losses() if key not in HELD_CONSTANT])
def test_a_second_derivative_is_right_or_refused(key):
    logits, target, extras = batch_for(key, 3)
    loss = create_loss(key, class_counts=COUNTS)
    weight = torch.eye(CLASSES, dtype=torch.float64, requires_grad=True)

    def value(matrix):  # the logits are no leaf, as in a network
        return loss(logits @ matrix, target, **extras)

    try:
        assert torch.autograd.gradgradcheck(value, weight)
    except RuntimeError as error:
        if "no second derivative" not in str(error):
            raise


def test_a_second_derivative_of_a_closed_form_is_refused_in_every_way():
    logits, target, _ = batch_for("mse")
    logits.requires_grad_()
    value = create_loss("mse")(logits, target)
    (slope,) = torch.autograd.grad(value, logits, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(slope.square().sum() + logits.square().sum(), logits)
    again = torch.func.grad(lambda z: create_loss("mse").per_sample(z, target).sum())
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.func.jacrev(again)(logits)


@pytest.mark.parametrize("margin", [1, 2, 3, 4])
def test_psi_falls_with_the_angle_to_its_very_end(margin):
    """From 1 at θ = 0 to 1 − 2m at π, where its slope over cos θ is m² as at 0 (Chebyshev)."""
    cos = torch.linspace(1, -1, 101, dtype=torch.float64, requires_grad=True)
    values = psi(cos, margin)
    assert values[0] == 1
    assert values[-1] == 1 - 2 * margin
    assert (values.diff() < 0).all()
    (slope,) = torch.autograd.grad(values.sum(), cos)
    assert slope[0] == slope[-1] == margin**2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_arcface_has_its_value_at_a_cosine_of_one(dtype):
    """cos(0 + m) = cos m: only the slope is taken a rounding away from there."""
    logits = torch.tensor([[1.0, 0.875, 0.0, 0.5, 0.25]], dtype=dtype)
    moved = logits.clone()
    moved[0, 0] = math.cos(0.5)
    expected = create_loss("norm_softmax")(moved, torch.tensor([0]))
    torch.testing.assert_close(create_loss("arcface")(logits, torch.tensor([0])), expected)


def test_a_negative_zero_ties_with_a_zero():
    target = torch.tensor([0])
    tied = create_loss("dual_focal")(torch.tensor([[0.0, 0.0, -3.0]]), target)
    same = create_loss("dual_focal")(torch.tensor([[0.0, -0.0, -3.0]]), target)
    assert torch.equal(tied, same)


def test_seesaw_counts_beyond_the_digits_of_float32():
    loss = create_loss("seesaw")
    logits, target, _ = batch_for("seesaw")
    loss(logits, target)
    loss.seen.fill_(2**24)
    loss(logits, target)
    assert torch.equal(loss.seen, 2**24 + torch.bincount(target, minlength=CLASSES))


def test_influence_has_its_digits_where_the_target_is_nearly_certain():
    """Its factor is 10⁶ there: −log p_y = 4e-8 is no rounding error."""
    logits = torch.tensor([[17.0, 0, 0, 0, 0]])
    features, target = torch.ones(1, 3), torch.tensor([0])
    loss = create_loss("influence_balanced", class_counts=EQUAL, start_fraction=0)
    exact = loss(logits.double(), target, features=features.double())
    torch.testing.assert_close(
        loss(logits, target, features=features).double(), exact, rtol=1e-5, atol=0
    )
    p_miss = 4 * math.exp(-17) / (1 + 4 * math.exp(-17))
    assert exact.item() == pytest.approx(1000 * -math.log1p(-p_miss) / (6 * p_miss + 1e-3))


def test_a_nan_in_an_ignored_row_stays_there():
    logits, target, _ = batch_for("mmce")
    rest = create_loss("mmce")(logits[1:], target[1:])
    logits[0], target[0] = float("nan"), -100
    torch.testing.assert_close(create_loss("mmce")(logits, target), rest)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["focal", "poly1", "focal_flsd", "mse", "cross_entropy"])
def test_a_compiled_loss_takes_any_batch_size_without_compiling_again(key):
    graphs = []

    def counting(graph, example):
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    compiled = torch.compile(create_loss(key), backend=counting, dynamic=True)
    for n in range(4, 14):
        logits, target, _ = batch_for(key, n)
        torch.testing.assert_close(compiled(logits, target), create_loss(key)(logits, target))
    assert len(graphs) <= 2


@pytest.mark.parametrize("gap", [10.0, 24.0, 60.0])
@pytest.mark.parametrize(("key", "power"), [("mae", 1.0), ("gce", 0.7)])
def test_the_gradient_of_a_very_unlikely_target_does_not_die(key, power, gap):
    """dL/dz_y = −p_y^q (1−p_y), with p_y far below the rounding of 1."""
    logits = torch.tensor([[-gap, 0.0, 0.0, 0.0, 0.0]], requires_grad=True)
    (slope,) = torch.autograd.grad(create_loss(key)(logits, torch.tensor([0])), logits)
    p = math.exp(-gap) / (4 + math.exp(-gap))
    assert slope[0, 0].item() == pytest.approx(-(p**power) * (1 - p), rel=1e-4)
