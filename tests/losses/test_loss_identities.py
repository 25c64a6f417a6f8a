"""Losses against torch's cross-entropy, against each other, and against closed-form gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_references import class_balanced_weight as reference_weight
from loss_references import value_and_gradient

from lossbench.errors import InputError
from lossbench.losses import create_loss
from lossbench.losses.focusing import focal
from lossbench.losses.reweighting import class_balanced_weight

torch.set_num_threads(1)

COUNTS = [500, 120, 40, 9, 2]
WEIGHT = [0.25, 1.5, 1.0, 2.0, 3.25]
PRIOR = torch.tensor(COUNTS, dtype=torch.float64) / sum(COUNTS)


def batch(n=64, dtype=torch.float64):
    generator = torch.Generator().manual_seed(7)
    logits = 3 * torch.randn(n, 5, generator=generator, dtype=torch.float64)
    target = torch.randint(5, (n,), generator=generator)
    return logits.to(dtype).requires_grad_(), target


def value_and_slope(loss, logits, target):
    value = loss(logits, target)
    return value, torch.autograd.grad(value, logits)[0]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["hard", "ignore", "dense"])
def test_cross_entropy_is_torchs(reduction, weight, smoothing, kind):
    logits, target = batch()
    ignore_index = -100
    if kind == "ignore":
        ignore_index = 3
        assert (target == 3).any()
    elif kind == "dense":
        target = logits.detach().flip(0).softmax(dim=1)
    loss = create_loss(
        "cross_entropy",
        weight=weight,
        label_smoothing=smoothing,
        ignore_index=ignore_index,
        reduction=reduction,
    )
    torch.testing.assert_close(
        loss(logits, target),
        F.cross_entropy(
            logits,
            target,
            None if weight is None else torch.tensor(weight, dtype=torch.float64),
            ignore_index=ignore_index,
            label_smoothing=smoothing,
            reduction=reduction,
        ),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("name", "parameters", "counts"),
    [
        ("focal", {"gamma": 0}, COUNTS),
        ("temperature_scaled", {"temperature": 1}, COUNTS),
        ("temperature_scaled", {"temperature": 1, "rescale": "T2", "learnable": True}, COUNTS),
        ("label_smoothing", {"smoothing": 0}, COUNTS),
        ("label_smoothing", {"smoothing": 0, "variant": "off_target"}, COUNTS),
        ("class_balanced", {"beta": 0}, COUNTS),
        ("class_balanced", {}, [7] * 5),
        ("balanced_softmax", {}, [7] * 5),
        ("logit_adjusted", {"tau": 0}, COUNTS),
        ("logit_adjusted", {}, [7] * 5),
    ],
)
def test_where_a_loss_is_cross_entropy(name, parameters, counts, dtype):
    logits, target = batch(dtype=dtype)
    value, slope = value_and_slope(
        create_loss(name, class_counts=counts, **parameters), logits, target
    )
    expected, expected_slope = value_and_slope(F.cross_entropy, logits, target)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(slope, expected_slope)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("balanced_softmax", {}), ("logit_adjusted", {"tau": 1.0})),
        (
            ("label_smoothing", {"smoothing": 0.2, "weight": WEIGHT}),
            ("cross_entropy", {"label_smoothing": 0.2, "weight": WEIGHT}),
        ),
        (
            ("label_smoothing", {"smoothing": 0.2, "variant": "off_target"}),
            ("label_smoothing", {"smoothing": 0.25}),  # 0.2 · C/(C−1)
        ),
        (
            ("focal", {"gamma": 0, "alpha": WEIGHT}),
            ("cross_entropy", {"weight": WEIGHT}),
        ),
        (
            ("temperature_scaled", {"temperature": 3, "rescale": "T", "learnable": True}),
            ("temperature_scaled", {"temperature": 3, "rescale": "T"}),
        ),
    ],
)
def test_where_two_losses_are_one(first, second):
    logits, target = batch()
    values, slopes = zip(
        *(
            value_and_slope(create_loss(name, class_counts=COUNTS, **parameters), logits, target)
            for name, parameters in (first, second)
        ),
        strict=True,
    )
    torch.testing.assert_close(*values, rtol=1e-6, atol=0)
    torch.testing.assert_close(*slopes, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_ignored_samples_have_no_part_in_anything(smoothing, weight):
    logits, target = batch()
    target[::3] = -100
    loss = create_loss("cross_entropy", weight=weight, label_smoothing=smoothing)
    value, slope = value_and_slope(loss, logits, target)
    kept = target != -100
    torch.testing.assert_close(value, loss(logits[kept], target[kept]))
    assert (slope[~kept] == 0).all()
    assert (slope[kept].abs().sum(dim=1) > 0).all()


def test_a_batch_of_ignored_samples_is_zero_where_torch_has_nan():
    logits, target = batch()
    target[:] = -100
    assert F.cross_entropy(logits, target).isnan()
    value, slope = value_and_slope(create_loss("cross_entropy"), logits, target)
    assert value == 0
    assert (slope == 0).all()


def test_a_batch_of_weightless_samples_is_zero():
    logits, target = batch()
    loss = create_loss("cross_entropy", weight=[0, 1, 1, 1, 1])
    value, slope = value_and_slope(loss, logits, torch.zeros_like(target))
    assert value == 0
    assert (slope == 0).all()


def test_an_ignored_class_index_means_nothing_for_probabilities():
    logits, _ = batch()
    loss = create_loss("cross_entropy", ignore_index=3)
    with pytest.raises(InputError, match="ignore_index=3"):
        loss(logits, logits.softmax(dim=1))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("cross_entropy", {"weight": WEIGHT}),
        ("label_smoothing", {"weight": WEIGHT}),
        ("focal", {"alpha": WEIGHT}),
        ("class_balanced", {}),
    ],
)
def test_the_normalizer_is_all_that_differs(name, parameters):
    logits, target = batch()
    rows = create_loss(name, class_counts=COUNTS, reduction="none", **parameters)(logits, target)
    by_weight = create_loss(name, class_counts=COUNTS, **parameters)
    by_batch = create_loss(name, class_counts=COUNTS, normalizer="batch", **parameters)
    weight = by_weight.class_weight
    torch.testing.assert_close(by_batch(logits, target), rows.mean())
    torch.testing.assert_close(by_weight(logits, target), rows.sum() / weight[target].sum())
    with pytest.raises(InputError, match=r"loss.normalizer='sum' is not allowed"):
        create_loss(name, class_counts=COUNTS, normalizer="sum", **parameters)


def one_hot(target):
    return torch.eye(5, dtype=torch.float64)[target]


def focal_slope(z, t, gamma):
    """Lin et al., appendix: (1−p_y)^γ (γ p_y log p_y / (1−p_y) − 1) · (1_y − p)."""
    p = z.softmax(dim=1)
    p_y = (p * t).sum(dim=1, keepdim=True)
    return (1 - p_y) ** gamma * (gamma * p_y * p_y.log() / (1 - p_y) - 1) * (t - p)


@pytest.mark.parametrize(
    ("name", "parameters", "closed_form"),
    [
        ("cross_entropy", {}, lambda z, t: z.softmax(1) - t),
        ("label_smoothing", {}, lambda z, t: z.softmax(1) - (0.9 * t + 0.1 / 5)),
        (
            "label_smoothing",
            {"variant": "off_target"},
            lambda z, t: z.softmax(1) - (0.9 * t + 0.1 * (1 - t) / 4),
        ),
        ("temperature_scaled", {"temperature": 4}, lambda z, t: ((z / 4).softmax(1) - t) / 4),
        ("temperature_scaled", {"rescale": "T"}, lambda z, t: (z / 2).softmax(1) - t),
        ("temperature_scaled", {"rescale": "T2"}, lambda z, t: 2 * ((z / 2).softmax(1) - t)),
        ("focal", {}, lambda z, t: focal_slope(z, t, 2.0)),
        ("focal", {"gamma": 0.5}, lambda z, t: focal_slope(z, t, 0.5)),
        (
            "class_balanced",
            {"beta": 0.99},
            lambda z, t: (
                torch.tensor([float(w) for w in reference_weight(COUNTS, 0.99)]).double()[
                    t.argmax(1, keepdim=True)
                ]
                * (z.softmax(1) - t)
            ),
        ),
        ("balanced_softmax", {}, lambda z, t: (z + PRIOR.log()).softmax(1) - t),
        ("logit_adjusted", {"tau": 1.5}, lambda z, t: (z + 1.5 * PRIOR.log()).softmax(1) - t),
    ],
)
def test_gradients_have_their_closed_form(name, parameters, closed_form):
    logits, target = batch()
    loss = create_loss(name, class_counts=COUNTS, reduction="sum", **parameters)
    _, slope = value_and_slope(loss, logits, target)
    torch.testing.assert_close(
        slope, closed_form(logits.detach(), one_hot(target)), rtol=1e-6, atol=1e-7
    )


def test_gradient_norms_and_values_at_zero_logits_are_the_published_ones():
    """Ten classes, counts 500..5: value and gradient norm of one sample, to three digits."""
    counts = [round(500 * 100 ** (-i / 9)) for i in range(10)]
    logits = torch.zeros(10, 10, dtype=torch.float64, requires_grad=True)
    target = torch.arange(10)
    for name, parameters, value, norm in [
        ("cross_entropy", {}, 2.303, 0.949),
        ("temperature_scaled", {"temperature": 2}, 2.303, 0.474),
        ("focal", {"gamma": 2}, 1.865, 1.162),
    ]:
        loss = create_loss(name, class_counts=counts, reduction="none", **parameters)
        rows = loss(logits, target)
        (slope,) = torch.autograd.grad(rows.sum(), logits)
        assert rows.mean().item() == pytest.approx(value, abs=5e-4)
        assert slope.norm(dim=1).mean().item() == pytest.approx(norm, abs=5e-4)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    gap=st.floats(-1e4, 1e4),
    rest=st.lists(st.floats(-50, 0), min_size=1, max_size=4),
    gamma=st.floats(0, 8),
)
def test_focal_is_finite_and_right_from_p_0_to_p_1(gap, rest, gamma):
    z = [gap, 0.0, *rest]
    value, slope = value_and_gradient("focal", z, 0, gamma=gamma, alpha=None, normalizer="batch")
    for dtype, tolerance in ((torch.float64, 1e-13), (torch.float32, 3e-6)):
        logits = torch.tensor([z], dtype=dtype, requires_grad=True)
        loss = focal(logits, torch.tensor([0]), gamma)
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        # The gap itself is rounded to the dtype, and with it the loss.
        tolerance *= 1 + abs(gap)
        assert loss.item() == pytest.approx(value, abs=tolerance, rel=tolerance)
        np.testing.assert_allclose(gradient[0].tolist(), slope, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("gamma", [0.0, 1e-6, 0.01, 0.25, 0.5, 0.999, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_focal_has_no_nan_where_the_slope_of_the_power_is_infinite(gamma, dtype):
    rows = [[60.0, 0, 0], [17.0, 0, 0], [40.0, 0, 0], [1e4, -1e4, 0], [1e4, 0, 0], [90.0, 0, 0]]
    logits = torch.tensor(rows, dtype=dtype, requires_grad=True)
    loss = focal(logits, torch.zeros(6, dtype=torch.int64), gamma)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 1e-6


def test_focal_at_full_confidence_in_the_wrong_class_is_cross_entropy():
    logits = torch.tensor([[-1e4, 1e4, 0]], requires_grad=True)
    value, slope = value_and_slope(create_loss("focal", gamma=0.5), logits, torch.tensor([0]))
    assert value.item() == 2e4
    assert slope.tolist() == [[-1, 1, 0]]


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    counts=st.lists(st.integers(1, 10**7), min_size=2, max_size=6),
    beta=st.one_of(st.floats(0, 0.999999), st.sampled_from([0.9999, 1 - 1e-8, 1 - 1e-12])),
)
def test_class_balanced_weights_are_exact_and_sum_to_the_number_of_classes(counts, beta):
    weight = class_balanced_weight(torch.tensor(counts), beta)
    assert weight.dtype == torch.float64
    assert weight.sum().item() == pytest.approx(len(counts), rel=1e-12)
    # log β carries the rounding of its argument: 1e-16/(1−β) at worst.
    tolerance = max(1e-12, 4e-16 / (1 - beta))
    np.testing.assert_allclose(
        weight, [float(w) for w in reference_weight(counts, beta)], rtol=tolerance
    )
    order = np.argsort(counts)
    assert (np.diff(weight.numpy()[order]) <= 1e-12).all()


def test_class_balanced_weights_run_from_equal_to_inverse_frequency():
    counts = torch.tensor(COUNTS)
    inverse = 1 / counts.double()
    torch.testing.assert_close(class_balanced_weight(counts, 0.0), torch.ones(5).double())
    torch.testing.assert_close(
        class_balanced_weight(counts, 1 - 1e-12), 5 * inverse / inverse.sum(), rtol=1e-6, atol=0
    )


def test_two_classes_and_a_tenth_of_smoothing():
    """0.95 against 0.90 on the true class."""
    logits = torch.tensor([[math.log(0.7), math.log(0.3)]], dtype=torch.float64)
    for variant, share in (("uniform", 0.95), ("off_target", 0.90)):
        value = create_loss("label_smoothing", variant=variant)(logits, torch.tensor([0]))
        expected = -share * math.log(0.7) - (1 - share) * math.log(0.3)
        assert value.item() == pytest.approx(expected, rel=1e-12)


def test_off_target_smoothing_beyond_a_flat_target_is_refused():
    loss = create_loss("label_smoothing", smoothing=0.6, variant="off_target")
    loss(torch.zeros(1, 3), torch.tensor([0]))
    with pytest.raises(InputError, match=r"smoothing=0.6 .* 2 classes: at most 0.5"):
        loss(torch.zeros(1, 2), torch.tensor([0]))


@pytest.mark.parametrize(("rescale", "power"), [("none", 0), ("T", 1), ("T2", 2)])
def test_a_learned_temperature_gets_the_gradient_of_its_logarithm(rescale, power):
    logits, target = batch()
    loss = create_loss("temperature_scaled", temperature=3.0, learnable=True, rescale=rescale)
    (name, parameter), *others = loss.named_parameters()
    assert (name, others) == ("log_temperature", [])
    loss(logits, target).backward()

    def at(log_t):
        t = math.exp(log_t)
        return F.cross_entropy(logits.detach() / t, target).item() * t**power

    expected = (at(math.log(3) + 1e-5) - at(math.log(3) - 1e-5)) / 2e-5
    assert parameter.grad.item() == pytest.approx(expected, rel=1e-5)
    with torch.no_grad():
        parameter.fill_(math.log(0.5))
    torch.testing.assert_close(loss.decode(logits), 2 * logits)


def test_a_fixed_temperature_has_no_parameters():
    assert list(create_loss("temperature_scaled").parameters()) == []
