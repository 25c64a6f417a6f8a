"""Every loss against its reference, in value and gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from loss_cases import (
    CASES,
    CLASSES,
    TAKE_PROBABILITIES,
    batch_for,
    build,
    cosine_ends,
    extremes_for,
    magnification,
    probabilities,
)
from loss_references import (
    BATCH_REFERENCES,
    REFERENCES,
    batch_value_and_gradient,
    feature_gradients,
    value_and_gradient,
)

from lossbench.losses import list_losses
from lossbench.losses.catalogue import check_parameters, facts

PER_SAMPLE = pytest.mark.parametrize(
    ("key", "parameters"),
    [
        pytest.param(key, case, id=f"{key}-{i}")
        for key in REFERENCES
        for i, case in enumerate(CASES[key])
    ],
)


def test_every_loss_has_a_reference_and_cases():
    assert {*REFERENCES, *BATCH_REFERENCES} == set(CASES) == set(list_losses())


def reference(key, parameters, logits, target, extras, progress=0.0):
    """Values (N,) and gradients (N, C) of the reference, and of what it was given."""
    dense = target.dim() == 2
    found = []
    for i, (z, y) in enumerate(zip(logits.tolist(), target.tolist(), strict=True)):
        given = dict(check_parameters(key, parameters))
        if extras:
            given["features"] = extras["features"][i].tolist()
            given["weight"] = extras["weight"].tolist()
        if "state" in facts(key).needs and not dense:
            given["seen"] = np.bincount(target.numpy(), minlength=CLASSES).tolist()
        if "epoch" in facts(key).needs:
            given["progress"] = progress
        found.append(value_and_gradient(key, z, y, **given))
    values, slopes = zip(*found, strict=True)
    return np.array(values), np.array(slopes)


def assert_agree(found, exact, relative, absolute):
    """|found − exact| ≤ absolute + relative·|exact|, the gradient by its largest entry."""
    values, slopes = exact
    errors = np.abs(found[0] - values)
    assert (errors <= absolute + relative * np.abs(values)).all()
    errors = np.abs(found[1] - slopes).max(axis=1)
    assert (errors <= absolute + relative * np.abs(slopes).max(axis=1)).all()


def call(loss, logits, target, extras):
    logits = logits.clone().requires_grad_()
    losses = loss(logits, target, **extras)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    return losses.detach().double().numpy(), gradient.double().numpy()


@PER_SAMPLE
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_value_and_gradient_are_those_of_the_reference(key, parameters, dtype):
    for logits, target, extras in (batch_for(key, 4, dtype=torch.float32), extremes_for(key)):
        logits = logits.to(dtype)  # numbers that both dtypes have
        extras = {name: part.float().to(dtype) for name, part in extras.items()}
        loss = build(key, reduction="none", **parameters)
        found = call(loss, logits, target, extras)
        exact = reference(key, parameters, logits.double(), target, extras)
        # -log p_y is exact to the epsilon of the largest logit, as in torch's cross-entropy. A
        # learned temperature is kept in float32.
        size = logits.abs().amax(dim=1).double().numpy() * magnification(key, parameters)
        if dtype == torch.float64 and not parameters.get("learnable"):
            assert_agree(found, exact, 1e-11, 1e-14 + 1e-15 * size)
        else:
            assert_agree(found, exact, 5e-6, 1e-5 + 1e-7 * size)


@pytest.mark.parametrize(
    ("key", "parameters"),
    [(key, case) for key in REFERENCES if "epoch" in facts(key).needs for case in CASES[key]],
)
@pytest.mark.parametrize("epoch", [1, 5, 9])
def test_every_epoch_is_that_of_the_reference(key, parameters, epoch):
    logits, target, extras = batch_for(key, 4)
    loss = build(key, reduction="none", **parameters)
    loss.set_epoch(epoch, 10)
    progress = epoch / 9 if key == "maxsup" else epoch / 10  # it ends in the last epoch
    exact = reference(key, parameters, logits, target, extras, progress)
    assert_agree(call(loss, logits, target, extras), exact, 1e-11, 1e-14)


@pytest.mark.parametrize(
    ("key", "parameters"), [(key, case) for key in TAKE_PROBABILITIES for case in CASES[key]]
)
def test_probabilities_as_target_match_the_reference(key, parameters):
    logits, _, extras = batch_for(key, 6)
    target = probabilities(6)
    found = call(build(key, reduction="none", **parameters), logits, target, extras)
    exact = reference(key, parameters, logits, target, extras)
    tolerance = 1e-6 if parameters.get("learnable") else 1e-11
    assert_agree(found, exact, tolerance, 1e-14)


@pytest.mark.parametrize(
    ("key", "parameters"),
    [
        (key, case)
        for key in REFERENCES
        if "features" in facts(key).needs
        for case in CASES[key]
        if not case.get("detach")
    ],
)
def test_gradients_of_features_and_head_are_those_of_the_reference(key, parameters):
    logits, target, extras = batch_for(key, 3)
    given = {name: part.clone().requires_grad_() for name, part in extras.items()}
    loss = build(key, reduction="sum", **parameters)
    loss.set_epoch(9, 10)
    parts = list(given.values())
    slopes = torch.autograd.grad(loss(logits, target, **given), parts, allow_unused=True)
    by_features, by_weight = np.zeros((3, parts[0].shape[1])), np.zeros(parts[1].shape)
    for i in range(3):
        of_features, of_weight = feature_gradients(
            key,
            logits[i].tolist(),
            target[i].item(),
            **check_parameters(key, parameters),
            features=extras["features"][i].tolist(),
            weight=extras["weight"].tolist(),
            progress=0.9,
        )
        by_features[i] = of_features
        if of_weight:
            by_weight += np.array(of_weight)
    for found, exact in zip(slopes, (by_features, by_weight), strict=True):
        found = np.zeros_like(exact) if found is None else found.numpy()
        np.testing.assert_allclose(found, exact, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("parameters", CASES["mmce"])
def test_a_loss_of_the_whole_batch_is_its_reference(parameters):
    logits, target, _ = batch_for("mmce", 5)
    logits.requires_grad_()
    value = build("mmce", **parameters)(logits, target)
    value.backward()
    given = check_parameters("mmce", parameters)
    exact, slopes = batch_value_and_gradient("mmce", logits.tolist(), target.tolist(), **given)
    assert value.item() == pytest.approx(exact, rel=1e-12)
    np.testing.assert_allclose(logits.grad.numpy(), slopes, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(
    ("key", "parameters"),
    [(key, case) for key in CASES if facts(key).heads == "cosine" for case in CASES[key]],
)
def test_nothing_is_infinite_at_the_ends_of_the_cosine(key, parameters):
    for dtype in (torch.float32, torch.float64):
        logits = cosine_ends().to(dtype)
        target = torch.arange(len(logits)) % CLASSES
        extras = {"features": torch.ones(len(logits), 3, dtype=dtype)}
        values, slopes = call(build(key, reduction="none", **parameters), logits, target, extras)
        assert np.isfinite(values).all()
        assert np.isfinite(slopes).all()


@pytest.mark.parametrize(
    ("key", "parameters"),
    [
        pytest.param(key, case, id=f"{key}-{i}")
        for key in CASES
        if "state" not in facts(key).needs  # which holds a part of its formula constant
        for i, case in enumerate(CASES[key])
        if not case.get("detach_weight") and not case.get("detach")
    ],
)
def test_gradcheck(key, parameters):
    logits, target, extras = batch_for(key, 4)
    loss = build(key, **parameters)
    assert torch.autograd.gradcheck(
        lambda z: loss(z, target, **extras), logits.clone().requires_grad_()
    )
    if key in TAKE_PROBABILITIES:
        dense = probabilities(4)
        assert torch.autograd.gradcheck(
            lambda z: loss(z, dense, **extras), logits.clone().requires_grad_()
        )
