"""What every loss refuses, and in what words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from loss_cases import COUNTS, EVERY_CASE, EVERY_LOSS, TAKE_PROBABILITIES, batch, build

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
        build(key)(logits, target)
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
    logits, target = batch()
    value = create_loss(key, class_counts=counts)(logits, target)
    assert torch.equal(value, build(key)(logits, target))


@EVERY_CASE
def test_numbers_per_class_must_fit_the_logits(key, parameters):
    loss = build(key, **parameters)
    if not list(loss.buffers()):
        return
    with pytest.raises(InputError, match=r"has 5 entries but the logits have 4 classes"):
        loss(torch.zeros(2, 4), torch.tensor([0, 1]))


@pytest.mark.parametrize("key", [key for key in list_losses() if key not in NEED_COUNTS])
def test_counts_that_are_not_needed_are_ignored(key):
    logits, target = batch()
    loss = create_loss(key, class_counts=[0, -1])
    assert torch.equal(loss(logits, target), create_loss(key)(logits, target))
    assert "class_counts" not in loss.state_dict()


@EVERY_LOSS
def test_an_unknown_reduction_is_refused(key):
    with pytest.raises(InputError, match="unknown reduction 'average'"):
        build(key, reduction="average")
