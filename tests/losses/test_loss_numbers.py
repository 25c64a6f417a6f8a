"""Published numbers: what other libraries compute on one batch, and the losses at zero logits.

A comment names the library and version, or the repository and commit, that gave a number; those are
too heavy for a test to depend on. They were run in float64 on the batch below.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lossbench.losses import create_loss

torch.set_num_threads(1)

COUNTS = [500, 120, 40, 9, 2]
TARGET = torch.tensor([0, 1, 4, 3])
LOGITS = torch.tensor(
    [
        [2.0, -1.0, 0.5, 0.0, 1.0],
        [-0.5, 1.5, 3.0, -2.0, 0.0],
        [0.2, 0.1, -0.4, 0.6, -1.2],
        [4.0, -3.0, 1.0, 2.0, -6.0],
    ],
    dtype=torch.float64,
)
FEATURES = torch.tensor(
    [[1.0, -0.5, 2.0], [0.5, 1.5, -1.0], [-2.0, 0.3, 0.7], [0.1, -1.1, 0.4]], dtype=torch.float64
)
HEAD = torch.tensor(
    [[0.6, -0.2, 1.1], [-0.4, 0.9, -0.3], [1.0, 0.5, -0.8], [-0.2, -1.2, 0.1], [-0.7, 0.4, 0.2]],
    dtype=torch.float64,
)
COSINES = F.normalize(FEATURES) @ F.normalize(HEAD).T
LN_1E_4 = math.log(1e-4)
NOW = [0.0, 0.0, 0.0, 0.0]  # no annealing


def mean_loss(name, logits=LOGITS, epoch=0, max_epochs=100, **parameters):
    loss = create_loss(name, class_counts=COUNTS, **parameters)
    loss.set_epoch(epoch, max_epochs)
    return loss(logits, TARGET, features=FEATURES, weight=HEAD).item()


@pytest.mark.parametrize(
    ("name", "parameters", "published"),
    [
        # torch-uncertainty 0.13.0, imbalanced-losses 0.6.0
        ("focal", {"gamma": 2.0}, 1.3852989635776243),
        # imbalanced-losses 0.6.0, reduction "sum" over N
        ("sigmoid_focal", {}, 1.8964027321407109),
        # torch-uncertainty 0.13.0 with eps 1e-300; it adds β log C
        ("confidence_penalty", {}, 1.8990876750128702 - 0.1 * math.log(5)),
        # torrvision/focal_calibration 8239b9b, γ 3 from p = 0.5 on
        ("focal_flsd", {}, 1.0050994211331084),
        # torrvision/focal_calibration 8239b9b: CE + 2 MMCE
        ("mmce", {"coefficient": 2.0}, 2.0976002786331636),
        # Linwei94/ICML2023-DualFocalLoss 7adf771
        ("dual_focal", {}, 1.1298226094070416),
        # Alibaba-MIIL/ASL 05b193d, divided by N
        ("asymmetric_ovr", {}, 1.3998249415494304),
        # by-liu/MbLS 2c92990
        ("mbls", {"margin": 2.0}, 1.9395501947712708),
        # by-liu/MbLS 7236a9c, whose entropy is a mean over 5 classes: its α 1 is β 0.2
        ("confidence_penalty", {"beta": 0.2}, 1.6392375727676496),
        # hongxin001/logitnorm_ood ed1acb1
        ("logit_norm", {"temperature": 0.04}, 11.855871060209648),
        # zhangyongshun/BagofTricks-LT 65f704f
        ("label_aware_smoothing", {"smooth_tail": 0.1, "shape": "concave"}, 2.0332009595704186),
        ("label_aware_smoothing", {"smooth_tail": 0.1, "shape": "linear"}, 2.025269070273279),
        ("label_aware_smoothing", {"smooth_tail": 0.1, "shape": "convex"}, 2.0143452536647137),
        ("cdt", {}, 1.7363224245681441),
        # orparask/VS-Loss 7ade9c9
        ("vs", {}, 3.641367122541645),
        # vandit15/Class-balanced-loss-pytorch 5658546; its sigmoid loss times 5 classes
        ("class_balanced_focal", {"normalizer": "batch"}, 3.8575301049045874),
        ("class_balanced_bce", {"normalizer": "batch"}, 5.6748721780836195),
        # HanxunH/Active-Passive-Losses 0c207f7
        ("nce", {}, 0.14831639607721342),
        ("reverse_ce", {"log_zero": LN_1E_4}, 7.123515738411774),
        ("gce", {}, 0.9589092004253144),
        ("normalized_focal", {}, 0.14636791148280584),
        ("sce", {"log_zero": LN_1E_4}, 7.307220757888901),
        ("nce_rce", {"log_zero": LN_1E_4}, 7.271832134488987),
        ("nce_mae", {"alpha": 10.0}, 2.2565898550079346),
        # pytorch-toolbelt 0.8.0 with 100 iterations; it adds 1e-10 to the labels
        ("bi_tempered", {"t1": 0.8, "t2": 1.2}, 1.2291617888399526),
        ("bi_tempered", {"t1": 0.5, "t2": 2.0, "smoothing": 0.1}, 0.5442313450381747),
        ("bi_tempered", {"t1": 0.5, "t2": 4.0}, 0.7336791732639744),
    ],
)
def test_losses_on_logits(name, parameters, published):
    tolerance = 1e-9 if name == "bi_tempered" else 1e-12
    assert mean_loss(name, **parameters) == pytest.approx(published, rel=tolerance)


def test_maxsup_in_mid_training():
    """ZhouYuxuanYX/Maximum-Suppression-Regularization de6c4fd at epoch 50 of 101."""
    value = mean_loss("maxsup", epoch=50, max_epochs=101)
    assert value == pytest.approx(2.183550194771271, rel=1e-12)


def test_influence_balanced():
    """pseulki/IB-Loss e15d390, α 1000."""
    value = mean_loss("influence_balanced", epoch=50, normalizer="batch")
    assert value == pytest.approx(655.8896914867717, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "parameters", "published"),
    [
        # pytorch-metric-learning 2.9.0
        ("arcface", {"scale": 30.0, "margin": 0.5}, 3.391729029719071),
        ("am_softmax", {"scale": 30.0, "margin": 0.35}, 2.9692998732003324),
        ("norm_softmax", {"scale": 30.0}, 0.3906928104387085),
        ("sphereface", {"margin": 1, "annealing": NOW}, 0.5923423828440855),
        ("sphereface", {"margin": 2, "annealing": NOW}, 0.8750314476389356),
        ("sphereface", {"margin": 3, "annealing": NOW}, 1.2988789230867925),
        ("sphereface", {"margin": 4, "annealing": NOW}, 1.6879083413949756),
        # ronghuaiyang/arcface-pytorch 04ffdb3 at λ = 5
        ("sphereface", {"margin": 4, "annealing": [5.0, 0.0, 0.0, 5.0]}, 0.7328772107782301),
        # kaidic/LDAM-DRW 3193f05
        ("ldam", {}, 1.7491737733749806),
    ],
)
def test_losses_on_cosines(name, parameters, published):
    assert mean_loss(name, COSINES, **parameters) == pytest.approx(published, rel=1e-12)


@pytest.mark.parametrize(
    ("margin", "published"),
    [
        (1, 0.6367323872970023),
        (2, 0.9492649063724268),
        (3, 1.3936375986824179),
        (4, 1.7866626163121753),
    ],
)
def test_large_margin_softmax(margin, published):
    """pytorch-metric-learning 2.9.0."""
    value = mean_loss("large_margin_softmax", FEATURES @ HEAD.T, margin=margin, annealing=NOW)
    assert value == pytest.approx(published, rel=1e-12)


def test_seesaw_over_three_batches():
    """mmpretrain 1.2.0, whose counts and factors are float32."""
    loss = create_loss("seesaw", class_counts=COUNTS).train()
    for step, published in enumerate([4.237426327699113, 5.982824843870849, 17.960950410292803]):
        logits, target = LOGITS.roll(step, 1) * (1 + step), (TARGET * (step + 1) + step) % 5
        assert loss(logits, target).item() == pytest.approx(published, rel=1e-8)


# Ten classes, exponential profile with factor 100. The batch behind the published means of the
# class-dependent losses is not stated; these 26 targets give every one of them.
TEN_COUNTS = [int(500 * 100 ** (-i / 9)) for i in range(10)]
TEN_TARGETS = torch.arange(10).repeat_interleave(torch.tensor([3, 6, 2, 1, 2, 5, 0, 0, 7, 0]))


def digits(text):
    """A published number as the interval that rounds to it."""
    decimals = len(text.partition(".")[2])
    return pytest.approx(float(text), abs=0.5001 * 10**-decimals)


def value_and_norm(loss, **given):
    logits = torch.zeros(len(TEN_TARGETS), 10, dtype=torch.float64, requires_grad=True)
    rows = loss(logits, TEN_TARGETS, **given)
    (slope,) = torch.autograd.grad(rows.sum(), logits)
    return rows.mean().item(), slope.norm(dim=1).mean().item()


@pytest.mark.parametrize(
    ("name", "parameters", "value", "norm"),
    [
        ("cross_entropy", {}, "2.303", "0.949"),
        ("temperature_scaled", {"temperature": 2}, "2.303", "0.474"),
        ("binary_cross_entropy", {}, "0.693", "0.158"),
        ("binary_cross_entropy", {"class_reduction": "sum"}, "6.93", "1.58"),
        ("multi_margin", {}, "0.90", "0.949"),
        ("l1", {}, "1.80", "0.190"),
        ("mse", {}, "0.90", "0.190"),
        ("smooth_l1", {}, "1.30", "0.190"),
        ("huber", {}, "0.13", "0.019"),
        ("focal", {"gamma": 2}, "1.865", "1.162"),
        ("focal_flsd", {}, "1.360", "1.277"),
        ("poly1", {}, "4.10", "1.138"),
        ("asymmetric", {}, "2.10", "0.863"),
        ("class_balanced", {}, "1.89", "0.780"),
        ("ldam", {}, "10.7", "31.6"),
        ("ldam", {"scale": 1.0}, "2.56", "0.972"),
        ("balanced_softmax", {}, "2.93", "0.988"),
        ("logit_adjusted", {}, "2.93", "0.988"),
        ("vs", {}, "2.93", "0.668"),
        ("gce", {}, "1.14", "0.189"),
        ("mae", {}, "0.90", "0.095"),
        ("sce", {}, "3.83", "0.474"),
        ("nce", {}, "0.10", "0.041"),
        ("nce_rce", {}, "3.70", "0.421"),
        ("bi_tempered", {}, "1.54", "0.378"),
    ],
)
def test_value_and_gradient_norm_at_zero_logits(name, parameters, value, norm):
    loss = create_loss(name, class_counts=TEN_COUNTS, reduction="none", **parameters)
    assert value_and_norm(loss) == (digits(value), digits(norm))


def test_seesaw_at_zero_logits_once_it_has_seen_the_training_set():
    loss = create_loss("seesaw", class_counts=TEN_COUNTS, reduction="none").train()
    seen = np.repeat(np.arange(10), TEN_COUNTS - np.bincount(TEN_TARGETS, minlength=10))
    loss(torch.zeros(len(seen), 10), torch.from_numpy(seen))
    assert value_and_norm(loss) == (digits("1.77"), digits("0.876"))


def test_influence_balanced_at_zero_logits():
    """The features behind the numbers are not stated; ‖h‖₁ = 13.17 gives both."""
    loss = create_loss("influence_balanced", class_counts=TEN_COUNTS, reduction="none")
    loss.set_epoch(1, 2)
    features = torch.full((len(TEN_TARGETS), 1), 13.17, dtype=torch.float64)
    assert value_and_norm(loss, features=features) == (digits("79.8"), digits("24.5"))
