"""Values and gradients against torch, torchvision and timm, where they have the loss."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from loss_cases import WEIGHT, batch, build, probabilities
from torchvision.ops import sigmoid_focal_loss

torch.set_num_threads(1)

DENSE = "dense"


def one_hot(target):
    return F.one_hot(target, 5).double()


def inputs(kind="hard"):
    logits, target = batch(32)
    return logits, probabilities(32) if kind == DENSE else target


def assert_same(ours, theirs, logits, target, tolerance=1e-12):
    """Equal per-sample losses and equal gradients of their sum."""
    values, slopes = [], []
    for loss in (ours, theirs):
        z = logits.clone().requires_grad_()
        rows = loss(z, target)
        values.append(rows.detach().double())
        slopes.append(torch.autograd.grad(rows.sum(), z)[0])
    assert values[0].shape == (len(logits),)
    torch.testing.assert_close(*values, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(*slopes, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", ["hard", DENSE])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_label_smoothing_is_torchs(kind, smoothing):
    weight = torch.tensor(WEIGHT, dtype=torch.float64)
    assert_same(
        build("label_smoothing", reduction="none", smoothing=smoothing, weight=WEIGHT),
        lambda z, t: F.cross_entropy(z, t, weight, reduction="none", label_smoothing=smoothing),
        *inputs(kind),
    )


@pytest.mark.parametrize("kind", ["hard", DENSE])
@pytest.mark.parametrize("class_reduction", ["mean", "sum"])
@pytest.mark.parametrize("pos_weight", [None, WEIGHT])
def test_binary_cross_entropy_is_torchs(kind, class_reduction, pos_weight):
    positive = None if pos_weight is None else torch.tensor(pos_weight, dtype=torch.float64)

    def theirs(z, t):
        t = t if kind == DENSE else one_hot(t)
        terms = F.binary_cross_entropy_with_logits(z, t, pos_weight=positive, reduction="none")
        return getattr(terms, class_reduction)(dim=1)

    ours = build(
        "binary_cross_entropy",
        reduction="none",
        class_reduction=class_reduction,
        pos_weight=pos_weight,
    )
    assert_same(ours, theirs, *inputs(kind))


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("margin", [1.0, 0.3, 4.0])
def test_multi_margin_is_torchs(p, margin):
    assert_same(
        build("multi_margin", reduction="none", margin=margin, p=p),
        lambda z, t: F.multi_margin_loss(z, t, p=p, margin=margin, reduction="none"),
        *inputs(),
    )


@pytest.mark.parametrize("kind", ["hard", DENSE])
@pytest.mark.parametrize("class_reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    ("key", "parameters", "torchs"),
    [
        ("l1", {}, F.l1_loss),
        ("mse", {}, F.mse_loss),
        ("smooth_l1", {"beta": 0.3}, lambda p, t, **r: F.smooth_l1_loss(p, t, beta=0.3, **r)),
        ("huber", {"delta": 0.3}, lambda p, t, **r: F.huber_loss(p, t, delta=0.3, **r)),
    ],
)
def test_regression_losses_are_torchs_on_probabilities(
    key, parameters, torchs, kind, class_reduction
):
    def theirs(z, t):
        t = t if kind == DENSE else one_hot(t)
        terms = torchs(z.softmax(dim=1), t, reduction="none")
        return getattr(terms, class_reduction)(dim=1)

    ours = build(key, reduction="none", class_reduction=class_reduction, **parameters)
    assert_same(ours, theirs, *inputs(kind))


@pytest.mark.parametrize("kind", ["hard", DENSE])
@pytest.mark.parametrize("beta", [1.0, 5.0])
def test_smooth_l1_and_huber_at_torchs_default_are_half_of_mse(kind, beta):
    """Probabilities differ by at most 1, so the linear part is never reached."""
    logits, target = inputs(kind)
    with pytest.warns(UserWarning, match="mse"):
        smooth = build("smooth_l1", reduction="none", beta=beta)
    with pytest.warns(UserWarning, match="mse"):
        huber = build("huber", reduction="none", delta=beta)
    mse = build("mse", reduction="none")(logits, target)
    torch.testing.assert_close(smooth(logits, target), mse / (2 * beta))
    torch.testing.assert_close(huber(logits, target), mse / 2)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("alpha", [None, 0.25, 0.9])
def test_sigmoid_focal_is_torchvisions(gamma, alpha):
    def theirs(z, t):
        terms = sigmoid_focal_loss(z, one_hot(t), -1 if alpha is None else alpha, gamma)
        return terms.sum(dim=1)

    assert_same(
        build("sigmoid_focal", reduction="none", gamma=gamma, alpha=alpha), theirs, *inputs()
    )


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_class_balanced_focal_without_gamma_is_the_weighted_loss(activation):
    weight = build("class_balanced", beta=0.99).class_weight

    def theirs(z, t):
        if activation == "softmax":
            return F.cross_entropy(z, t, weight, reduction="none")
        terms = F.binary_cross_entropy_with_logits(z, one_hot(t), reduction="none")
        return weight[t] * terms.sum(dim=1)

    ours = build(
        "class_balanced_focal", reduction="none", beta=0.99, gamma=0.0, activation=activation
    )
    assert_same(ours, theirs, *inputs())


@pytest.fixture(scope="module")
def timm_loss():
    return pytest.importorskip("timm.loss")


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_label_smoothing_is_timms(timm_loss, smoothing):
    logits, target = inputs()
    theirs = timm_loss.LabelSmoothingCrossEntropy(smoothing)(logits, target)
    ours = build("label_smoothing", smoothing=smoothing)(logits, target)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


def test_soft_targets_are_timms(timm_loss):
    logits, target = inputs(DENSE)
    theirs = timm_loss.SoftTargetCrossEntropy()(logits, target)
    torch.testing.assert_close(build("cross_entropy")(logits, target), theirs, rtol=1e-12, atol=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("class_reduction", ["mean", "sum"])
def test_binary_cross_entropy_is_timms(timm_loss, smoothing, class_reduction):
    """timm smooths class indices only, and takes dense targets as they are."""
    theirs = timm_loss.BinaryCrossEntropy(smoothing, sum_classes=class_reduction == "sum")
    logits, target = inputs()
    ours = build("binary_cross_entropy", smoothing=smoothing, class_reduction=class_reduction)
    torch.testing.assert_close(ours(logits, target), theirs(logits, target), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("gamma_pos", "gamma_neg", "smoothing"), [(0, 4, 0.1), (1, 4, 0.1), (2, 1, 0.3), (1, 0, 0.2)]
)
def test_asymmetric_is_timms(timm_loss, gamma_pos, gamma_neg, smoothing):
    theirs = timm_loss.AsymmetricLossSingleLabel(gamma_pos, gamma_neg, smoothing, reduction="none")
    ours = build(
        "asymmetric",
        reduction="none",
        gamma_pos=gamma_pos,
        gamma_neg=gamma_neg,
        smoothing=smoothing,
    )
    assert_same(ours, theirs, *inputs(), tolerance=1e-10)


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize(("gamma_pos", "gamma_neg", "clip"), [(1, 4, 0.05), (0, 2, 0), (2, 1, 0.2)])
def test_asymmetric_one_against_rest_is_timms(timm_loss, gamma_pos, gamma_neg, clip, detach):
    """In float32, to which timm casts, and away from its clamp at 1e-8."""
    theirs = timm_loss.AsymmetricLossMultiLabel(
        gamma_neg, gamma_pos, clip, disable_torch_grad_focal_loss=detach, reduction="none"
    )
    ours = build(
        "asymmetric_ovr",
        reduction="none",
        gamma_pos=gamma_pos,
        gamma_neg=gamma_neg,
        clip=clip,
        detach_weight=detach,
    )
    assert_same(ours, lambda z, t: theirs(z, one_hot(t)).sum(1), *inputs(), tolerance=2e-5)


@pytest.mark.parametrize("epsilon", [-1.0, 0.0, 2.0])
def test_poly1_is_timms(timm_loss, epsilon):
    """In float32, to which timm casts."""
    theirs = timm_loss.PolyCrossEntropy(epsilon, reduction="none")
    ours = build("poly1", reduction="none", epsilon=epsilon)
    assert_same(ours, theirs, *inputs(), tolerance=5e-6)
