"""What every loss of the catalogue must do, whatever its formula."""

from __future__ import annotations

import io
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import (
    CASES,
    CLASSES,
    EVERY_CASE,
    EVERY_LOSS,
    TAKE_PROBABILITIES,
    batch_for,
    build,
    head,
    probabilities,
)
from torch._subclasses.fake_tensor import FakeTensorMode

from lossbench.errors import InputError
from lossbench.losses import list_losses
from lossbench.losses.catalogue import facts
from lossbench.losses.contract import Loss

NOT_LINEAR_IN_THE_TARGET = {"l1", "mse", "smooth_l1", "huber", "bi_tempered"}
NOT_SHIFT_INVARIANT = {
    *("binary_cross_entropy", "sigmoid_focal", "asymmetric_ovr", "class_balanced_bce"),
    *("class_balanced_focal", "logit_norm", "vs", "cdt", "arcface", "sphereface"),
}


def rows_of(key, logits, target, extras=None, **parameters):
    """The losses (N,) of a fresh loss in evaluation mode."""
    return build(key, reduction="none", **parameters).eval()(logits, target, **(extras or {}))


@EVERY_CASE
def test_reductions(key, parameters):
    logits, target, extras = batch_for(key)
    rows, total, mean = (
        build(key, reduction=reduction, **parameters).eval()(logits, target, **extras)
        for reduction in ("none", "sum", "mean")
    )
    assert rows.shape == (12,)
    assert total.shape == mean.shape == ()
    torch.testing.assert_close(total, rows.sum())
    weight = build(key, **parameters).class_weight
    by_weight = weight is not None and parameters.get("normalizer") != "batch"
    count = sum(weight[y].item() for y in target.tolist()) if by_weight else 12
    torch.testing.assert_close(mean, rows.sum() / count)


@EVERY_CASE
def test_a_mean_over_nothing_is_zero(key, parameters):
    empty = torch.zeros(0, dtype=torch.int64)
    extras = head(0, dtype=torch.float32)
    logits = torch.zeros(0, CLASSES, requires_grad=True)
    value = build(key, **parameters)(logits, empty, **extras)
    value.backward()
    assert value.item() == 0
    assert rows_of(key, logits, empty, extras, **parameters).shape == (0,)


@EVERY_CASE
def test_ignored_samples_have_no_part(key, parameters):
    logits, target, extras = batch_for(key)
    ignored = torch.tensor([0, 3, 11])
    kept = [i for i in range(12) if i not in ignored]
    marked = target.clone()
    marked[ignored] = -100
    fewer = {**extras, "features": extras["features"][kept]} if extras else {}
    for reduction in ("mean", "sum"):
        part = build(key, reduction=reduction, **parameters)(logits[kept], target[kept], **fewer)
        given = logits.clone().requires_grad_()
        value = build(key, reduction=reduction, **parameters)(given, marked, **extras)
        torch.testing.assert_close(value, part)
        (slope,) = torch.autograd.grad(value, given)
        assert (slope[ignored] == 0).all()
    none = build(key, **parameters)(logits, torch.full_like(target, -100), **extras)
    assert none.item() == 0


@EVERY_LOSS
def test_a_class_can_be_ignored(key):
    logits, target, extras = batch_for(key)
    kept = target != 2
    fewer = {**extras, "features": extras["features"][kept]} if extras else {}
    loss, all_of_them = build(key, ignore_index=2), build(key)
    torch.testing.assert_close(
        loss(logits, target, **extras), all_of_them(logits[kept], target[kept], **fewer)
    )


@EVERY_CASE
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_logits_are_computed_in_float32(key, parameters, dtype):
    logits, target, extras = batch_for(key, dtype=dtype)
    loss = build(key, **parameters).eval()
    wide = {name: part.float() for name, part in extras.items()}
    assert loss(logits, target, **extras).dtype == torch.float32
    assert torch.equal(loss(logits, target, **extras), loss(logits.float(), target, **wide))
    assert loss(logits.double(), target, **extras).dtype == torch.float64
    assert loss.decode(logits, **extras).dtype == torch.float32


@EVERY_CASE
def test_autocast_changes_nothing(key, parameters):
    loss = build(key, **parameters).eval()
    logits, target, extras = batch_for(key, dtype=torch.float32)
    outside = loss(logits, target, **extras)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = torch.nn.functional.linear(logits, torch.eye(CLASSES))
        inside, from_low = loss(logits, target, **extras), loss(low, target, **extras)
    assert low.dtype == torch.bfloat16
    assert torch.equal(inside, outside)
    assert torch.equal(from_low, loss(low.float(), target, **extras))


def test_autocast_does_not_reach_a_matrix_product_inside_a_loss():
    class SquaredNorm(Loss):
        key = "focal"

        def per_sample(self, logits, target):
            return (logits @ logits.T).diagonal()

    logits, target, _ = batch_for("focal", dtype=torch.float32)
    outside = SquaredNorm()(logits, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(SquaredNorm()(logits, target), outside)


@EVERY_CASE
@pytest.mark.parametrize(("n", "classes"), [(1, 2), (1, 5), (7, 2), (3, 1000)])
def test_any_batch_and_number_of_classes(key, parameters, n, classes):
    logits, target, extras = batch_for(key, n, classes)
    rows = build(key, classes, reduction="none", **parameters).eval()(logits, target, **extras)
    assert rows.isfinite().all()
    if "batch" in facts(key).needs:
        return
    loss = build(key, classes, reduction="sum", **parameters).eval()
    for i in range(n):
        one = {**extras, "features": extras["features"][i : i + 1]} if extras else {}
        alone = loss(logits[i : i + 1], target[i : i + 1], **one)
        torch.testing.assert_close(alone, rows[i])


@EVERY_LOSS
def test_a_large_batch_is_worked_on_in_parts(key):
    """closed_form splits what has more entries than its block; the values must not tell."""
    logits, target, extras = batch_for(key, 300, 700, dtype=torch.float32)
    if "batch" in facts(key).needs:
        pytest.skip("couples the samples of a batch")
    slopes, values = [], []
    for parts in (1, 10):
        given = logits.clone().requires_grad_()
        loss = build(key, 700, reduction="none").eval()
        rows = [
            loss(z, y, **({**extras, "features": h} if extras else {}))
            for z, y, h in zip(
                given.chunk(parts),
                target.chunk(parts),
                extras.get("features", target).chunk(parts),
                strict=True,
            )
        ]
        values.append(torch.cat(rows).detach())
        slopes.append(torch.autograd.grad(values[-1].sum() * 0 + torch.cat(rows).sum(), given)[0])
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(slopes[0], slopes[1])


@EVERY_CASE
def test_order_of_samples_and_of_classes_does_not_matter(key, parameters):
    logits, target, extras = batch_for(key)
    rows = rows_of(key, logits, target, extras, **parameters)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    shuffled = {**extras, "features": extras["features"][order]} if extras else {}
    again = rows_of(key, logits[order], target[order], shuffled, **parameters)
    torch.testing.assert_close(again, rows[order])
    mirrored = build(key, order=-1, reduction="none", **parameters).eval()
    flipped = {**extras, "weight": extras["weight"].flip(0)} if extras else {}
    torch.testing.assert_close(mirrored(logits.flip(1), CLASSES - 1 - target, **flipped), rows)


@EVERY_CASE
def test_a_constant_added_to_all_logits_changes_nothing_where_softmax_rules(key, parameters):
    logits, target, extras = batch_for(key)
    rows = rows_of(key, logits, target, extras, **parameters)
    moved = rows_of(key, logits + 0.25, target, extras, **parameters)
    if key in NOT_SHIFT_INVARIANT and parameters.get("activation") != "softmax":
        changed = (moved - rows).abs().max() > 1e-6
        neutral = {"gamma": (0,), "margin": (0, 1 if key == "sphereface" else 0)}
        assert changed or any(parameters.get(name) in values for name, values in neutral.items())
    else:
        torch.testing.assert_close(moved, rows)


@EVERY_CASE
def test_input_is_left_alone(key, parameters):
    logits, target, extras = batch_for(key)
    before = [part.clone() for part in (logits, target, *extras.values())]
    value = build(key, **parameters)(logits.requires_grad_(), target, **extras)
    value.backward()
    after = (logits, target, *extras.values())
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


@EVERY_CASE
def test_state_survives_saving_and_loading(key, parameters):
    logits, target, extras = batch_for(key)
    saved = build(key, **parameters)
    saved.set_epoch(7, 10)
    saved(logits, target, **extras)  # what counts the samples has counted
    with torch.no_grad():
        for parameter in saved.parameters():
            parameter.add_(0.3)
    file = io.BytesIO()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    loaded = build(key, order=-1, **parameters)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for name, value in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    assert torch.equal(loaded(logits, target, **extras), saved(logits, target, **extras))


@EVERY_CASE
def test_class_statistics_keep_their_precision_when_the_module_is_cast(key, parameters):
    logits, target, extras = batch_for(key)
    loss = build(key, **parameters).eval()
    exact = {name: buffer.clone() for name, buffer in loss.named_buffers()}
    loss.to(torch.bfloat16).half().float()
    assert all(torch.equal(buffer, exact[name]) for name, buffer in loss.named_buffers())
    if not parameters.get("learnable"):
        fresh = build(key, **parameters).eval()
        assert torch.equal(loss(logits, target, **extras), fresh(logits, target, **extras))


@EVERY_CASE
def test_vmap_and_per_sample_gradients_of_the_core(key, parameters):
    """`per_sample` is the functional core with the parameters and class statistics of the loss."""
    if "batch" in facts(key).needs:
        pytest.skip("couples the samples of a batch")
    logits, target, extras = batch_for(key)
    loss = build(key, **parameters).eval()
    weight = extras.get("weight")
    features = extras.get("features", torch.zeros(len(logits), 1))

    def core(z, t, h):
        more = (h[None], weight) if extras else ()
        return loss.per_sample(z[None], t[None], *more)[0]

    rows = rows_of(key, logits, target, extras, **parameters)
    torch.testing.assert_close(torch.func.vmap(core)(logits, target, features), rows)
    if key not in ("cross_entropy", "label_smoothing"):  # torch's smoothing cannot do it
        every_target = torch.arange(CLASSES)  # one sample's logits, shared
        shared = torch.func.vmap(core, (None, 0, None))(logits[0], every_target, features[0])
        one_by_one = [core(logits[0], y, features[0]) for y in every_target]
        torch.testing.assert_close(shared, torch.stack(one_by_one))
    slopes = torch.func.vmap(torch.func.grad(core))(logits, target, features)
    given = logits.clone().requires_grad_()
    losses = rows_of(key, given, target, extras, **parameters)
    torch.testing.assert_close(slopes, torch.autograd.grad(losses.sum(), given)[0])


@EVERY_CASE
def test_one_hot_and_mixed_targets(key, parameters):
    logits, target, extras = batch_for(key)
    other = target.roll(1)
    loss = build(key, reduction="none", **parameters).eval()
    if key not in TAKE_PROBABILITIES:
        with pytest.raises(InputError, match="takes class indices"):
            loss(logits, probabilities(), **extras)
        return
    first, second = (torch.eye(CLASSES, dtype=torch.float64)[t] for t in (target, other))
    torch.testing.assert_close(loss(logits, first), loss(logits, target))
    if key not in NOT_LINEAR_IN_THE_TARGET:
        mixed = 0.3 * loss(logits, target) + 0.7 * loss(logits, other)
        torch.testing.assert_close(loss(logits, 0.3 * first + 0.7 * second), mixed)
    # torch divides by N for probabilities, whatever the weights.
    mean = build(key, **parameters)(logits, first)
    torch.testing.assert_close(mean, loss(logits, first).sum() / len(logits))


@pytest.mark.parametrize("key", TAKE_PROBABILITIES)
def test_low_precision_probabilities_are_welcome(key):
    logits, _, extras = batch_for(key, dtype=torch.float32)
    soft = probabilities()
    expected = build(key)(logits, soft.float(), **extras)
    torch.testing.assert_close(build(key)(logits, soft.half()), expected, rtol=1e-2, atol=1e-4)
    torch.testing.assert_close(build(key)(logits, soft), expected)


@EVERY_CASE
def test_nothing_waits_for_the_gpu(key, parameters):
    """Fake CUDA tensors hold no values: whatever would read one raises."""
    loss = build(key, **parameters)
    loss(*batch_for(key)[:2], **batch_for(key)[2])  # what is sized by the first batch is sized
    target, extras = torch.tensor([0, 1, 2]), head(3)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        loss = loss.to("cuda")
        extras = {name: part.to("cuda") for name, part in extras.items()}
        logits = torch.zeros(3, CLASSES, device="cuda", dtype=torch.bfloat16)
        value = loss(logits, target.to("cuda"), **extras)
        assert (value.device.type, value.dtype) == ("cuda", torch.float32)
        if key in TAKE_PROBABILITIES:
            assert loss(logits, logits.softmax(dim=1)).device.type == "cuda"


@EVERY_LOSS
def test_the_module_names_its_parameters_and_knows_its_facts(key):
    loss = build(key)
    assert loss.facts is facts(key)
    for parameter in facts(key).parameters:
        if parameter.kind != "per_class":
            assert f"{parameter.name}={parameter.default!r}" in repr(loss)


@EVERY_LOSS
def test_epochs_change_nothing_unless_the_loss_needs_them(key):
    logits, target, extras = batch_for(key)
    loss = build(key).eval()
    before = loss(logits, target, **extras)
    loss.set_epoch(9, 10)
    same = torch.equal(loss(logits, target, **extras), before)
    assert same != ("epoch" in facts(key).needs)
    with pytest.raises(InputError, match=r"epoch=10 is not allowed: a whole number in \[0, 9\]"):
        loss.set_epoch(10, 10)


@EVERY_LOSS
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_any_logits_give_finite_losses_and_gradients(key, data):
    parameters = data.draw(st.sampled_from(CASES[key]))
    cosine = facts(key).heads == "cosine"
    numbers = st.floats(-1, 1, width=32) if cosine else st.floats(-1e4, 1e4, width=32)
    row = st.lists(numbers, min_size=CLASSES, max_size=CLASSES)
    logits = torch.tensor(data.draw(st.lists(row, min_size=1, max_size=3)), requires_grad=True)
    n = len(logits)
    target = torch.tensor(data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)))
    loss = build(key, **parameters)
    loss.set_epoch(data.draw(st.integers(0, 9)), 10)
    value = loss(logits, target, **head(n, dtype=torch.float32))
    (slope,) = torch.autograd.grad(value, logits)
    assert value.isfinite()
    assert slope.isfinite().all()
    if key not in NOT_SHIFT_INVARIANT:  # then the gradient has no part along (1, ..., 1)
        drift = slope.sum(1).abs()
        rounding = 1e-6 * getattr(loss, "scale", 1.0)  # which cosine losses multiply by
        assert (drift <= 1e-4 * slope.abs().amax(1) + rounding).all()


STATELESS = [key for key in list_losses() if "state" not in facts(key).needs]


def assert_compiled_agrees(key, backend):
    parameters = CASES[key][-1]
    logits, target, extras = batch_for(key, dtype=torch.float32)
    loss = build(key, **parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch._dynamo.reset()
        compiled = torch.compile(loss, fullgraph=True, backend=backend)
        plain, fast = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        expected = loss(plain, target, **extras)
        expected.backward()
        value = compiled(fast, target, **extras)
        value.backward()
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(fast.grad, plain.grad)
        with pytest.raises(RuntimeError):
            compiled(logits, target + CLASSES, **extras)


@pytest.mark.slow
@pytest.mark.parametrize("key", STATELESS)
def test_every_stateless_loss_is_one_graph(key):
    assert_compiled_agrees(key, "aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize("key", ["cross_entropy", "sigmoid_focal", "normalized_focal", "ldam"])
def test_compiled_loss_agrees(key):
    assert_compiled_agrees(key, "inductor")
