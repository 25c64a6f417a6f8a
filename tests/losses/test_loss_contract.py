"""What every loss of the catalogue must do, whatever its formula."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import torch
from loss_cases import (
    CASES,
    CLASSES,
    COUNTS,
    EVERY_CASE,
    EVERY_LOSS,
    TAKE_PROBABILITIES,
    batch,
    build,
    probabilities,
)
from loss_references import REFERENCES, value_and_gradient
from torch._subclasses.fake_tensor import FakeTensorMode

from lossbench.errors import InputError
from lossbench.losses import adjustment, focusing, likelihood, list_losses, reweighting
from lossbench.losses.catalogue import check_parameters, facts
from lossbench.losses.contract import Loss


def extreme_logits():
    """Rows at p_y = 0, p_y = 1 and on the way there."""
    rows = [
        [0.0] * 5,
        [50.0, -50, 0, 0, 0],
        [-50.0, 50, 0, 0, 0],
        [60.0, 0, 0, 0, 0],
        [17.0, 0, 0, 0, 0],
        [20.0, 0, 0, 0, 0],
        [30.0, 0, 0, 0, 29],
        [1e4, -1e4, 0, 1, 2],
        [-1e4, 1e4, 0, 1, 2],
        [1e4, 1e4, 1e4, 1e4, 1e4],
    ]
    return torch.tensor([row for row in rows for _ in range(CLASSES)], dtype=torch.float64)


def test_every_loss_has_a_reference_and_cases():
    assert set(REFERENCES) == set(CASES) == set(list_losses())


@EVERY_CASE
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_value_and_gradient_are_those_of_the_reference(key, parameters, dtype):
    calm, _ = batch(4, dtype=torch.float32)  # the same numbers in both dtypes
    logits = torch.cat([calm.double(), extreme_logits()]).to(dtype).requires_grad_()
    target = torch.arange(len(logits)) % CLASSES
    losses = build(key, reduction="none", **parameters)(logits, target)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    exact = [
        value_and_gradient(key, z, y, **check_parameters(key, parameters))
        for z, y in zip(logits.tolist(), target.tolist(), strict=True)
    ]
    # -log p_y is exact to the epsilon of the largest logit, as in torch's cross-entropy. A learned
    # temperature is kept in float32.
    size = logits.detach().abs().amax(dim=1).double().numpy()
    double = dtype == torch.float64 and not parameters.get("learnable")
    relative, absolute = (1e-11, 1e-14) if double else (5e-6, 1e-5 + 1e-7 * size)
    values, slopes = (np.array(part) for part in zip(*exact, strict=True))
    errors = np.abs(losses.detach().double().numpy() - values)
    assert (errors <= absolute + relative * np.abs(values)).all()
    errors = np.abs(gradient.double().numpy() - slopes).max(axis=1)
    assert (errors <= absolute + relative * np.abs(slopes).max(axis=1)).all()


@pytest.mark.parametrize(
    ("key", "parameters"),
    [(key, case) for key in TAKE_PROBABILITIES for case in CASES[key]],
)
def test_probabilities_as_target_match_the_reference(key, parameters):
    logits, _ = batch(6)
    logits.requires_grad_()
    target = probabilities(6)
    losses = build(key, reduction="none", **parameters)(logits, target)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    exact = [
        value_and_gradient(key, z, y, **check_parameters(key, parameters))
        for z, y in zip(logits.tolist(), target.tolist(), strict=True)
    ]
    tolerance = 1e-6 if parameters.get("learnable") else 1e-12
    np.testing.assert_allclose(losses.tolist(), [v for v, _ in exact], rtol=tolerance)
    np.testing.assert_allclose(gradient.tolist(), [g for _, g in exact], rtol=tolerance, atol=1e-14)


@EVERY_CASE
def test_reductions(key, parameters):
    logits, target = batch()
    rows = build(key, reduction="none", **parameters)(logits, target)
    assert rows.shape == (12,)
    total = build(key, reduction="sum", **parameters)(logits, target)
    mean = build(key, **parameters)(logits, target)
    assert total.shape == mean.shape == ()
    torch.testing.assert_close(total, rows.sum())
    weight = build(key, **parameters).class_weight
    by_weight = weight is not None and parameters.get("normalizer") != "batch"
    count = sum(weight[y].item() for y in target.tolist()) if by_weight else 12
    torch.testing.assert_close(mean, rows.sum() / count)


@EVERY_CASE
def test_a_mean_over_nothing_is_zero(key, parameters):
    logits = torch.zeros(0, CLASSES, requires_grad=True)
    empty = torch.zeros(0, dtype=torch.int64)
    value = build(key, **parameters)(logits, empty)
    value.backward()
    assert value.item() == 0
    assert build(key, reduction="none", **parameters)(logits, empty).shape == (0,)


@EVERY_CASE
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_logits_are_computed_in_float32(key, parameters, dtype):
    logits, target = batch(dtype=dtype)
    loss = build(key, **parameters)
    assert loss(logits, target).dtype == torch.float32
    assert torch.equal(loss(logits, target), loss(logits.float(), target))
    assert loss(logits.double(), target).dtype == torch.float64


@EVERY_CASE
def test_autocast_changes_nothing(key, parameters):
    loss = build(key, **parameters)
    logits, target = batch(dtype=torch.float32)
    outside = loss(logits, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = torch.nn.functional.linear(logits, torch.eye(CLASSES))
        inside, from_low = loss(logits, target), loss(low, target)
    assert low.dtype == torch.bfloat16
    assert torch.equal(inside, outside)
    assert torch.equal(from_low, loss(low.float(), target))


def test_autocast_does_not_reach_a_matrix_product_inside_a_loss():
    class SquaredNorm(Loss):
        key = "focal"

        def per_sample(self, logits, target):
            return (logits @ logits.T).diagonal()

    logits, target = batch(dtype=torch.float32)
    outside = SquaredNorm()(logits, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(SquaredNorm()(logits, target), outside)


@EVERY_CASE
def test_gradcheck(key, parameters):
    logits, target = batch(4)
    loss = build(key, **parameters)
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits.requires_grad_())
    if key in TAKE_PROBABILITIES:
        dense = probabilities(4)
        assert torch.autograd.gradcheck(lambda z: loss(z, dense), logits)


@EVERY_CASE
@pytest.mark.parametrize(("n", "classes"), [(1, 2), (1, 5), (7, 2), (3, 1000)])
def test_any_batch_and_number_of_classes(key, parameters, n, classes):
    logits, target = batch(n, classes)
    rows = build(key, classes, reduction="none", **parameters)(logits, target)
    alone = [
        build(key, classes, reduction="sum", **parameters)(logits[i : i + 1], target[i : i + 1])
        for i in range(n)
    ]
    assert rows.isfinite().all()
    torch.testing.assert_close(rows, torch.stack(alone))


@EVERY_CASE
def test_order_of_samples_and_of_classes_does_not_matter(key, parameters):
    logits, target = batch()
    rows = build(key, reduction="none", **parameters)(logits, target)
    shuffle = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    loss = build(key, reduction="none", **parameters)
    torch.testing.assert_close(loss(logits[shuffle], target[shuffle]), rows[shuffle])
    mirrored = build(key, order=-1, reduction="none", **parameters)
    torch.testing.assert_close(mirrored(logits.flip(1), CLASSES - 1 - target), rows)


@EVERY_CASE
def test_input_is_left_alone(key, parameters):
    logits, target = batch()
    before = logits.clone(), target.clone()
    build(key, **parameters)(logits, target)
    assert torch.equal(logits, before[0])
    assert torch.equal(target, before[1])


@EVERY_CASE
def test_state_survives_saving_and_loading(key, parameters):
    logits, target = batch()
    saved = build(key, **parameters)
    with torch.no_grad():
        for parameter in saved.parameters():
            parameter.add_(0.3)
    file = io.BytesIO()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    loaded = build(key, order=-1, **parameters)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(loaded(logits, target), saved(logits, target))
    for name, value in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


@EVERY_CASE
def test_class_statistics_keep_their_precision_when_the_module_is_cast(key, parameters):
    logits, target = batch()
    loss = build(key, **parameters)
    exact = {name: buffer.clone() for name, buffer in loss.named_buffers()}
    loss.to(torch.bfloat16).half().float()
    assert all(torch.equal(buffer, exact[name]) for name, buffer in loss.named_buffers())
    if not parameters.get("learnable"):
        assert torch.equal(loss(logits, target), build(key, **parameters)(logits, target))


def functional(key, logits, target, **given):
    """Each functional core, called by hand."""
    p = check_parameters(key, given)
    counts = torch.tensor(COUNTS)
    prior = (counts / counts.double().sum()).log()
    weight = None if p.get("weight") is None else torch.tensor(p["weight"], dtype=torch.float64)
    alpha = None if p.get("alpha") is None else torch.tensor(p["alpha"], dtype=torch.float64)
    calls = {
        "cross_entropy": lambda: likelihood.cross_entropy(
            logits, target, weight, p["label_smoothing"]
        ),
        "label_smoothing": lambda: likelihood.label_smoothing(
            logits, target, p["smoothing"], p["variant"], weight
        ),
        "temperature_scaled": lambda: likelihood.temperature_scaled(
            logits, target, p["temperature"], p["rescale"]
        ),
        "focal": lambda: focusing.focal(logits, target, p["gamma"], alpha),
        "class_balanced": lambda: reweighting.class_balanced(
            logits, target, reweighting.class_balanced_weight(counts, p["beta"])
        ),
        "balanced_softmax": lambda: adjustment.balanced_softmax(logits, target, prior),
        "logit_adjusted": lambda: adjustment.logit_adjusted(logits, target, prior, p["tau"]),
    }
    return calls[key]()


@EVERY_CASE
def test_module_and_functional_core_agree(key, parameters):
    logits, target = batch()
    tolerance = 1e-6 if parameters.get("learnable") else 1e-14
    rows = build(key, reduction="none", **parameters)(logits, target)
    core = functional(key, logits, target, **parameters)
    torch.testing.assert_close(rows, core, rtol=tolerance, atol=tolerance)


@EVERY_CASE
def test_vmap_and_per_sample_gradients_of_the_core(key, parameters):
    logits, target = batch()

    def core(z, t):
        return functional(key, z[None], t[None], **parameters)[0]

    rows = functional(key, logits, target, **parameters)
    torch.testing.assert_close(torch.func.vmap(core)(logits, target), rows)
    slopes = torch.func.vmap(torch.func.grad(core))(logits, target)
    logits.requires_grad_()
    (expected,) = torch.autograd.grad(functional(key, logits, target, **parameters).sum(), logits)
    torch.testing.assert_close(slopes, expected)


@EVERY_CASE
def test_one_hot_and_mixed_targets(key, parameters):
    logits, target = batch()
    other = target.roll(1)
    loss = build(key, reduction="none", **parameters)
    if key not in TAKE_PROBABILITIES:
        with pytest.raises(InputError, match="mix two losses instead"):
            loss(logits, probabilities())
        return
    first, second = (torch.eye(CLASSES, dtype=torch.float64)[t] for t in (target, other))
    torch.testing.assert_close(loss(logits, first), loss(logits, target))
    mixed = 0.3 * loss(logits, target) + 0.7 * loss(logits, other)
    torch.testing.assert_close(loss(logits, 0.3 * first + 0.7 * second), mixed)
    # torch divides by N for probabilities, whatever the weights.
    mean = build(key, **parameters)(logits, first)
    torch.testing.assert_close(mean, loss(logits, first).sum() / len(logits))


@EVERY_LOSS
def test_low_precision_probabilities_are_welcome(key):
    if key not in TAKE_PROBABILITIES:
        pytest.skip("takes class indices")
    logits, _ = batch(dtype=torch.float32)
    soft = probabilities()
    expected = build(key)(logits, soft.float())
    torch.testing.assert_close(build(key)(logits, soft.half()), expected, rtol=1e-2, atol=0)
    torch.testing.assert_close(build(key)(logits, soft), expected)


@EVERY_CASE
def test_nothing_waits_for_the_gpu(key, parameters):
    """Fake CUDA tensors hold no values: whatever would read one raises."""
    loss = build(key, **parameters)
    target = torch.tensor([0, 1, 2])
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        loss = loss.to("cuda")
        logits = torch.zeros(3, CLASSES, device="cuda", dtype=torch.bfloat16)
        value = loss(logits, target.to("cuda"))
        assert (value.device.type, value.dtype) == ("cuda", torch.float32)
        if key in TAKE_PROBABILITIES:
            assert loss(logits, logits.softmax(dim=1)).device.type == "cuda"


@EVERY_CASE
def test_decode_keeps_the_shape_and_names_what_is_deployed(key, parameters):
    logits, _ = batch()
    loss = build(key, **parameters)
    divisor = check_parameters(key, parameters).get("temperature", 1.0)
    torch.testing.assert_close(loss.decode(logits), logits / divisor, rtol=1e-6, atol=1e-6)


@EVERY_LOSS
def test_the_module_names_its_parameters_and_knows_its_facts(key):
    loss = build(key)
    assert loss.facts is facts(key)
    for parameter in facts(key).parameters:
        if parameter.kind != "per_class":
            assert f"{parameter.name}={parameter.default!r}" in repr(loss)


@EVERY_LOSS
def test_epochs_change_nothing_unless_the_loss_needs_them(key):
    if "epoch" in facts(key).needs:
        pytest.skip("depends on the epoch")
    logits, target = batch()
    loss = build(key)
    before = loss(logits, target)
    loss.set_epoch(9, 10)
    assert torch.equal(loss(logits, target), before)


@pytest.mark.slow
@EVERY_LOSS
def test_compiled_loss_is_one_graph_and_agrees(key):
    parameters = CASES[key][-1]
    logits, target = batch(dtype=torch.float32)
    loss = build(key, **parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch._dynamo.reset()
        compiled = torch.compile(loss, fullgraph=True)
        plain, fast = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        loss(plain, target).backward()
        value = compiled(fast, target)
        value.backward()
        torch.testing.assert_close(value, loss(logits, target))
        torch.testing.assert_close(fast.grad, plain.grad)
        with pytest.raises(RuntimeError):
            compiled(logits, target + CLASSES)
