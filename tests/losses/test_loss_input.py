"""What every loss refuses, and in what words."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
import torch
from loss_cases import COUNTS, EVERY_CASE, EVERY_LOSS, TAKE_PROBABILITIES, batch_for, build, head

from lossbench.errors import InputError
from lossbench.losses import create_loss, list_losses
from lossbench.losses.catalogue import facts

NEED_COUNTS = [key for key in list_losses() if "class_counts" in facts(key).needs]


@EVERY_LOSS
@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (torch.zeros(4), torch.zeros(4).long(), r"logits of shape \(4,\)"),
        (torch.zeros(4, 5, 2), torch.zeros(4).long(), r"logits of shape \(4, 5, 2\)"),
        (torch.zeros(4, 1), torch.zeros(4).long(), "C at least 2"),
        (torch.zeros(4, 5).long(), torch.zeros(4).long(), "logits of torch.int64"),
        (torch.zeros(4, 5), torch.zeros(3).long(), r"target of shape \(3,\) does not fit"),
        (torch.zeros(4, 5), torch.zeros(4, 1).long(), r"target of shape \(4, 1\) does not fit"),
        (torch.zeros(4, 5), torch.tensor(0), r"target of shape \(\) does not fit"),
        (torch.zeros(4, 5), torch.zeros(4), "class indices of torch.float32.*target.long"),
        (torch.zeros(4, 5), torch.zeros(4).int(), "class indices of torch.int32"),
        (torch.zeros(4, 5), torch.tensor([0, 1, 5, 7]), "target 5 .* from 0 to 4"),
        (torch.zeros(4, 5), torch.tensor([0, 1, -1, 7]), "target -1 .* from 0 to 4"),
    ],
)
def test_bad_batches_are_refused_in_one_line(key, logits, target, message):
    with pytest.raises(InputError, match=message) as caught:
        build(key)(logits, target, **head(4, dtype=torch.float32))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", TAKE_PROBABILITIES)
@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.full((4, 5), 0.3), "sum to 1"),
        (torch.tensor([[0.6, 0.6, -0.2, 0, 0]]).expand(4, 5), r"target \[0\.6.*sum to 1"),
        (torch.full((4, 5), float("nan")), "sum to 1"),
        (torch.eye(5)[:4].long(), r"\(N, C\) targets of torch.int64"),
    ],
)
def test_bad_probabilities_are_refused(key, target, message):
    with pytest.raises(InputError, match=message):
        build(key)(torch.zeros(4, 5), target)


@pytest.mark.parametrize("key", NEED_COUNTS)
@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (None, "needs class_counts"),
        ([5, 0, 3], r"class_counts\[1\]=0 is not allowed: a positive integer"),
        ([5, 2, -3], r"class_counts\[2\]=-3"),
        ([5, 2.5, 3], r"class_counts\[1\]=2.5"),
        ([float("nan"), 2, 3], r"class_counts\[0\]=nan"),
        ([float("inf"), 2, 3], r"class_counts\[0\]=inf"),
        ([[5, 2, 3]], r"shape \(1, 3\)"),
        ([5], r"shape \(1,\)"),
        (7, r"shape \(\)"),
        ("many", "list of positive integers"),
        ([5, None, 3], "list of positive integers"),
        ([[5, 2], [3]], "list of positive integers"),
    ],
)
def test_bad_class_counts_are_refused(key, counts, message):
    with pytest.raises(InputError, match=message) as caught:
        create_loss(key, class_counts=counts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", NEED_COUNTS)
@pytest.mark.parametrize(
    "counts",
    [[500, 120, 40, 9, 2], (500, 120, 40, 9, 2.0), np.array(COUNTS), torch.tensor(COUNTS).float()],
)
def test_class_counts_come_in_any_container(key, counts):
    logits, target, extras = batch_for(key)
    value = create_loss(key, class_counts=counts)(logits, target, **extras)
    assert torch.equal(value, build(key)(logits, target, **extras))


@EVERY_CASE
def test_numbers_per_class_must_fit_the_logits(key, parameters):
    loss = build(key, **parameters)
    loss(*batch_for(key)[:2], **batch_for(key)[2])  # what counts classes has now seen five
    extras = head(2, classes=4, dtype=torch.float32)
    if not any(buffer.dim() == 1 for buffer in loss.buffers()):
        loss(torch.zeros(2, 4), torch.tensor([0, 1]), **extras)
        return
    with pytest.raises(InputError, match=r"has 5 entries but the logits have 4 classes"):
        loss(torch.zeros(2, 4), torch.tensor([0, 1]), **extras)


@pytest.mark.parametrize("key", [key for key in list_losses() if "features" in facts(key).needs])
@pytest.mark.parametrize(
    ("features", "weight", "message"),
    [
        (None, torch.ones(5, 3), "needs features: give features="),
        (torch.ones(3, 3), torch.ones(5, 3), r"features of shape \(3, 3\)"),
        (torch.ones(4), torch.ones(5, 3), r"features of shape \(4,\)"),
        (torch.ones(4, 3).long(), torch.ones(5, 3), "torch.int64"),
        (torch.ones(4, 3), torch.ones(5, 2), r"weight of shape \(5, 2\) .* give \(5, 3\)"),
        (torch.ones(4, 3), torch.ones(3, 5), r"weight of shape \(3, 5\)"),
    ],
)
def test_bad_features_are_refused(key, features, weight, message):
    with pytest.raises(InputError, match=message):
        build(key)(torch.zeros(4, 5), torch.zeros(4).long(), features=features, weight=weight)


def test_the_margin_on_a_linear_head_needs_its_weight():
    loss = create_loss("large_margin_softmax")
    with pytest.raises(InputError, match="needs the weight of the head"):
        loss(torch.zeros(4, 5), torch.zeros(4).long(), features=torch.ones(4, 3))


def test_sphereface_decodes_with_features_alone():
    with pytest.raises(InputError, match="sphereface needs features"):
        create_loss("sphereface").decode(torch.zeros(4, 5))


@pytest.mark.parametrize(
    ("key", "parameters", "message"),
    [
        ("focal_flsd", {"gammas": [5.0]}, r"gammas=\[5.0\] .* give 2 numbers"),
        ("focal_flsd", {"thresholds": [0.5, 0.2], "gammas": [1, 2, 3]}, "ascending"),
        ("sphereface", {"annealing": [1.0, 2.0]}, "4 numbers .*base, rate, power, minimum"),
        ("large_margin_softmax", {"margin": 0}, "a whole number, at least 1"),
        ("bi_tempered", {"t2": 0.9}, r"a finite number in \[1, 4\]"),
        ("sce", {"log_zero": 0.0}, "below 0"),
    ],
)
def test_parameters_that_do_not_fit_each_other_are_refused(key, parameters, message):
    with pytest.raises(InputError, match=message) as caught:
        create_loss(key, class_counts=COUNTS, **parameters)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("key", "name"), [("smooth_l1", "beta"), ("huber", "delta")])
def test_a_quadratic_part_that_never_ends_is_warned_of(key, name):
    with pytest.warns(UserWarning, match=f"loss.{name}=1 makes this loss mse/2"):
        loss = create_loss(key, **{name: 1.0})
    logits, target, _ = batch_for(key)
    torch.testing.assert_close(2 * loss(logits, target), create_loss("mse")(logits, target))


@pytest.mark.parametrize("key", [key for key in list_losses() if key not in NEED_COUNTS])
def test_counts_that_are_not_needed_are_ignored(key):
    logits, target, extras = batch_for(key)
    loss = create_loss(key, class_counts=[0, -1])
    assert torch.equal(loss(logits, target, **extras), create_loss(key)(logits, target, **extras))
    assert "class_counts" not in loss.state_dict()


@EVERY_LOSS
def test_an_unknown_reduction_is_refused(key):
    with pytest.raises(InputError, match="unknown reduction 'average'"):
        build(key, reduction="average")


@EVERY_LOSS
def test_class_weights_at_the_call_are_refused(key):
    logits, target, extras = batch_for(key)
    given = {**extras, "weight": torch.ones(5, dtype=torch.float64)}
    with pytest.raises(InputError, match=r"weight of shape \(5,\) is not allowed.*head"):
        build(key)(logits, target, **given)


@EVERY_LOSS
def test_what_is_no_tensor_is_refused(key):
    logits, target, extras = batch_for(key)
    for wrong in ((logits.tolist(), target), (logits.numpy(), target), (logits, target.tolist())):
        with pytest.raises(InputError, match="are not allowed: give a torch"):
            build(key)(*wrong, **extras)


@pytest.mark.parametrize("key", TAKE_PROBABILITIES)
def test_a_target_that_wants_a_gradient_gets_it_or_is_refused(key):
    logits, _, extras = batch_for(key)
    teacher = torch.zeros_like(logits).requires_grad_()
    target = teacher.softmax(1)
    with suppress(InputError):
        build(key)(logits, target, **extras).backward()
        assert teacher.grad.abs().max() > 0
        return
    with pytest.raises(InputError, match=r"give target.detach\(\)"):
        build(key)(logits, target, **extras)
