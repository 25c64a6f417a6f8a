"""The size of a loss's gradient beside cross-entropy's, and the constant that makes them equal."""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from lossbench.losses import create_loss
from lossbench.records import read_record
from lossbench.training.gradients import GradientSize, matched_scale, watched_batches
from lossbench.training.run import Training, execute

SIZE, RELATIVE = "train/gradient/norm", "train/gradient/relative_to_cross_entropy"
FIRST, SCALE = f"{RELATIVE}_first_epoch", "train/gradient/loss_scale"
OWN = ("loss=custom", "loss._target_=tests.training.losses.{}")


def own(name: str) -> tuple[str, str]:
    """The overrides for a foreign loss of `tests.training.losses`."""
    return OWN[0], OWN[1].format(name)


def batches(seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Logits and targets of three batches of unequal size."""
    draws = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(size, 5, generator=draws, dtype=torch.float64),
            torch.randint(5, (size,), generator=draws),
        )
        for size in (8, 8, 3)
    ]


def watch(loss, decode, factor: float = 1.0, dtype: torch.dtype = torch.float64) -> GradientSize:
    sizes = GradientSize()
    for logits, targets in batches():
        z = logits.to(dtype).requires_grad_()
        value = loss(z, targets)
        sizes.watch(value, z, targets, decode)
        (factor * value).backward()
    return sizes


def sizes_by_hand(loss) -> list[float]:
    """The gradient's length of every sample taken by itself."""
    found = []
    for logits, targets in batches():
        for row, target in zip(logits, targets, strict=True):
            z = row[None].clone().requires_grad_()
            loss(z, target[None]).backward()
            found.append(float(z.grad.norm()))
    return found


@pytest.mark.parametrize("factor", [1.0, 1e-3, 2.0**16])
def test_the_size_is_that_of_each_sample_by_itself(factor: float) -> None:
    sizes = watch(cross_entropy, lambda z: z, factor)
    by_hand = [
        float((logits.softmax(1) - one_hot(targets, 5))[row].norm())
        for logits, targets in batches()
        for row in range(len(targets))
    ]
    assert sizes.norm == pytest.approx(np.mean(by_hand), rel=1e-12)
    assert sizes.relative_to_cross_entropy == pytest.approx(1, rel=1e-12)


def test_relative_is_the_ratio_of_the_sums() -> None:
    focal = create_loss("focal", gamma=2.0)
    expected = sum(sizes_by_hand(focal)) / sum(sizes_by_hand(cross_entropy))
    sizes = watch(focal, focal.decode, factor=7.0)
    assert sizes.relative_to_cross_entropy == pytest.approx(expected, rel=1e-9)
    assert sizes.norm == pytest.approx(np.mean(sizes_by_hand(focal)), rel=1e-9)


@pytest.mark.parametrize(("rescale", "expected"), [("none", 1), ("T", 4), ("T2", 16)])
def test_the_yardstick_is_cross_entropy_of_the_decoded_logits(rescale, expected) -> None:
    """At temperature 4 the gradient at the raw logits is a quarter, for both alike."""
    loss = create_loss("temperature_scaled", temperature=4.0, rescale=rescale)
    sizes = watch(loss, loss.decode)
    assert sizes.relative_to_cross_entropy == pytest.approx(expected, rel=1e-9)


def test_half_precision_is_measured_to_its_rounding() -> None:
    sizes = watch(cross_entropy, lambda z: z, factor=1024.0, dtype=torch.bfloat16)
    assert sizes.norm == pytest.approx(np.mean(sizes_by_hand(cross_entropy)), rel=0.02)
    assert sizes.relative_to_cross_entropy == pytest.approx(1, rel=0.02)


def test_what_is_not_there_is_undefined_and_what_is_zero_is_zero() -> None:
    empty = GradientSize()
    logits, targets = batches()[0]
    empty.watch(cross_entropy(logits, targets), logits, targets, lambda z: z)
    assert math.isnan(empty.norm)
    assert math.isnan(empty.relative_to_cross_entropy)
    ignorant = watch(lambda z, target: 0 * z.sum(), lambda z: z)
    assert (ignorant.norm, ignorant.relative_to_cross_entropy) == (0, 0)
    nothing_to_compare = GradientSize()
    z = logits.clone().requires_grad_()
    value = z.sum()
    nothing_to_compare.watch(value, z, targets, lambda x: 1e4 * one_hot(targets, 5) + 0 * x)
    value.backward()
    assert math.isnan(nothing_to_compare.relative_to_cross_entropy)
    assert nothing_to_compare.norm > 0


def test_at_most_eight_batches_spread_evenly() -> None:
    assert watched_batches(1) == {0}
    assert watched_batches(3) == {0, 1, 2}
    assert watched_batches(8) == set(range(8))
    assert watched_batches(107) == {0, 15, 30, 45, 61, 76, 91, 106}
    for count in (9, 1000, 12345):
        chosen = sorted(watched_batches(count))
        assert len(chosen) == 8
        assert (chosen[0], chosen[-1]) == (0, count - 1)
        assert max(np.diff(chosen)) - min(np.diff(chosen)) <= 1


def test_every_epoch_has_its_size_and_the_record_the_last_and_the_first(make_run) -> None:
    run = make_run(*own("times_1000"), "optimizer.lr=1e-5")
    assert execute(run).state == "done"
    rows = list(csv.DictReader((run.folder / "history.csv").open()))
    assert [float(row[RELATIVE]) for row in rows] == pytest.approx([1000] * 4, rel=1e-5)
    metrics = read_record(run.folder).metrics
    assert metrics[SIZE] == float(rows[-1][SIZE])
    assert metrics[RELATIVE] == float(rows[-1][RELATIVE])
    assert metrics[FIRST] == float(rows[0][RELATIVE])
    assert SCALE not in metrics
    # 10 classes, and steps too small to learn: |p - e_y| is about sqrt(0.9)
    assert float(rows[0][SIZE]) == pytest.approx(1000 * 0.9**0.5, rel=0.03)

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(run.folder / "tensorboard"))
    board.Reload()
    for tag in (SIZE, RELATIVE):
        written = [event.value for event in board.Scalars(tag)]
        assert written == pytest.approx([float(row[tag]) for row in rows])


@pytest.mark.parametrize(
    "overrides",
    [
        (*own("Drawing"), "model._target_=tests.training.models.Dropout"),
        ("loss=seesaw", "model=convnet", "model.width=4"),
    ],
    ids=["draws", "state"],
)
def test_measuring_changes_nothing(tmp_path: Path, monkeypatch, overrides) -> None:
    from tests.conftest import run_of

    measured, bare = (run_of(tmp_path / name, *overrides) for name in ("measured", "bare"))
    assert execute(measured).state == "done"
    monkeypatch.setattr(GradientSize, "watch", lambda self, *arguments: None)
    assert execute(bare).state == "done"
    metrics = [read_record(run.folder).metrics for run in (measured, bare)]
    assert metrics[1][SIZE] is None
    for found in metrics:
        for tag in (SIZE, RELATIVE, FIRST):
            del found[tag]
    assert metrics[0] == metrics[1]
    states = [
        torch.load(run.folder / "checkpoint.ckpt", weights_only=True)["state_dict"]
        for run in (measured, bare)
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_loss_without_a_gradient_at_the_logits_is_no_failure(make_run) -> None:
    run = make_run(*own("OfItsOwnParameter"), "trainer.max_epochs=1")
    outcome = execute(run)
    assert outcome.state == "done", outcome.reason
    assert read_record(run.folder).metrics[RELATIVE] == 0


def test_a_decode_without_gradients_is_no_failure(make_run) -> None:
    run = make_run(*own("DecodesWithoutGradient"), "trainer.max_epochs=1")
    outcome = execute(run)
    assert outcome.state == "done", outcome.reason
    metrics = read_record(run.folder).metrics
    assert metrics[RELATIVE] is None
    assert metrics[SIZE] is not None


def test_a_constant_factor_is_taken_out_bit_for_bit(make_run) -> None:
    """With SGD, 1024 times cross-entropy trains like cross-entropy itself."""
    plain = make_run("loss=custom", "loss._target_=torch.nn.functional.cross_entropy")
    large = make_run(*own("times_1024"), "loss_scale=match_ce")
    assert execute(plain).state == execute(large).state == "done"
    with np.load(plain.folder / "outputs.npz") as a, np.load(large.folder / "outputs.npz") as b:
        assert np.array_equal(a["logits/test"], b["logits/test"])
    first, second = (read_record(run.folder).metrics for run in (plain, large))
    assert second[SCALE] == 1 / 1024
    # what is reported is the loss itself
    for tag in ("test/loss/objective", FIRST):
        assert second[tag] == pytest.approx(1024 * first[tag], rel=1e-6)
    for run, factor in ((plain, 1), (large, 1024)):
        rows = list(csv.DictReader((run.folder / "history.csv").open()))
        found = float(rows[-1]["train/running/objective"])
        yardstick = float(rows[-1]["train/running/cross_entropy"])
        assert found == pytest.approx(factor * yardstick, rel=1e-4)


def test_any_constant_factor_is_taken_out_to_rounding(make_run) -> None:
    plain = make_run("loss=custom", "loss._target_=torch.nn.functional.cross_entropy")
    large = make_run(*own("times_1000"), "loss_scale=match_ce")
    untouched = make_run(*own("times_1000"))
    assert execute(plain).state == execute(large).state == "done"
    assert execute(untouched).state == "failed"  # SGD's steps are a thousand times too large
    assert read_record(large.folder).metrics[SCALE] == pytest.approx(1e-3, rel=1e-6)
    with np.load(plain.folder / "outputs.npz") as a, np.load(large.folder / "outputs.npz") as b:
        assert np.allclose(a["logits/test"], b["logits/test"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
def test_the_scale_makes_the_first_gradients_equal(make_run, precision: str) -> None:
    run = make_run(
        "loss=mae", "loss_scale=match_ce", f"trainer.precision={precision}",
        "model=convnet", "model.width=4",  # BatchNorm: in evaluation mode the logits are others
        "optimizer.lr=1e-9", "trainer.max_epochs=1", "data.batch_size=128",
    )  # fmt: skip
    outcome = execute(run)
    assert outcome.state == "done", outcome.reason
    metrics = read_record(run.folder).metrics
    assert metrics[SCALE] > 5  # at the start mae's gradient is p_y times cross-entropy's
    # five batches in the epoch: the same as for the scale, and hardly a step in between
    within = 1e-3 if precision == "bf16-mixed" else 1e-4
    assert metrics[SCALE] * metrics[FIRST] == pytest.approx(1, rel=within)


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=convnet", "model.width=4", "loss=seesaw"),
        ("model._target_=tests.training.models.Dropout", "loss=mae"),
        ("loss=temperature_scaled", "loss.learnable=true"),
        ("model.head=cosine", "loss=sphereface"),
    ],
    ids=["BatchNorm and running counts", "draws", "learnable", "features"],
)
def test_matching_changes_nothing(make_run, overrides) -> None:
    training = Training(make_run(*overrides, "loss_scale=match_ce"))
    module = training.module

    def state() -> dict[str, Tensor]:
        return {name: value.clone() for name, value in module.state_dict().items()}

    def generators() -> list[object]:
        name, keys, *rest = np.random.get_state()
        return [torch.get_rng_state().tolist(), random.getstate(), name, keys.tolist(), rest]

    loader = training.data.train_dataloader()
    scales = set()
    for seed in (5, 6):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        before = state(), generators(), module.model.training, module.running
        scales.add(matched_scale(module, loader, training.trainer, "x"))
        after = state(), generators(), module.model.training, module.running
        assert before[0].keys() == after[0].keys()
        assert all(torch.equal(before[0][key], after[0][key]) for key in before[0])
        assert all(p.grad is None for p in module.parameters())
        assert before[1:] == after[1:]
    assert len(scales) == 1  # nor does it depend on the generators


def test_a_run_with_scale_one_is_the_run_without(make_run) -> None:
    """Batch order, BatchNorm, augmentation and draws are those of the run that measures nothing."""
    overrides = (
        "loss=custom", "loss._target_=torch.nn.functional.cross_entropy",
        "model=convnet", "model.width=4", "data.augmentation.crop_padding=1",
    )  # fmt: skip
    one, other = make_run(*overrides), make_run(*overrides, "loss_scale=match_ce")
    assert execute(one).state == execute(other).state == "done"
    assert read_record(other.folder).metrics[SCALE] == 1
    assert (one.folder / "history.csv").read_bytes() == (other.folder / "history.csv").read_bytes()


@pytest.mark.parametrize(
    ("name", "size"), [("flat", "0"), ("OfItsOwnParameter", "0"), ("steep", "nan")]
)
def test_a_gradient_that_nothing_can_match_fails_the_run_in_one_line(make_run, name, size) -> None:
    run = make_run(*own(name), "loss_scale=match_ce")
    outcome = execute(run)
    assert outcome.state == "failed"
    assert outcome.reason == (
        f"loss_scale=match_ce: the gradient of the loss {name} at the initial weights is {size} "
        "times that of cross-entropy, and no factor matches that; use loss_scale=none"
    )


def test_the_schedule_is_at_its_start(make_run) -> None:
    """maxsup at alpha_end would have another gradient."""
    scales = []
    for end in ("0.2", "0.9"):
        training = Training(make_run("loss=maxsup", f"loss.alpha_end={end}"))
        training.loss.set_epoch(3, 4)
        loader = training.data.train_dataloader()
        scales.append(matched_scale(training.module, loader, training.trainer, "maxsup"))
    assert scales[0] == scales[1]


def test_the_scale_is_part_of_the_identity_and_of_the_label_and_none_is_not(make_run) -> None:
    plain, matched = make_run("loss=focal"), make_run("loss=focal", "loss_scale=match_ce")
    assert make_run("loss=focal", "loss_scale=none").folder == plain.folder
    assert matched.identity != plain.identity
    assert (plain.arm, matched.arm) == ("focal", "focal, matched scale")
    assert "matched-scale" in matched.folder.name
    without = {key: value for key, value in plain.config.items() if key != "loss_scale"}
    from lossbench.config import Run, digest, identity_of

    assert digest(identity_of(without)) == Run(plain.config).identity
