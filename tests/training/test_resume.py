"""An interrupted run goes on from its checkpoint, and ends bit for bit like an undisturbed one."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lossbench.config import Run
from lossbench.records import read_record
from lossbench.training.run import execute
from tests.conftest import run_of

CASES = {
    "mlp, SGD": (),
    "convnet with BatchNorm, AdamW, augmentation": (
        "model=convnet", "model.width=4", "optimizer=adamw", "data.augmentation.crop_padding=1",
    ),
    "dropout": (
        "model._target_=tests.training.models.Dropout", "schedule=warmup_step", "loss=focal",
    ),
    "a loss with a schedule": ("loss=custom", "loss._target_=tests.training.losses.Scheduled"),
    "features, a schedule and a matched scale": (
        "loss=large_margin_softmax", "loss_scale=match_ce", "model=convnet", "model.width=4",
    ),
    "running counts": ("loss=seesaw", "loss_scale=match_ce"),
    "learnable temperature": ("loss=temperature_scaled", "loss.learnable=true"),
}  # fmt: skip


class Stopped(BaseException):
    """Ends a run from outside, like a signal: nothing in the training handles it."""


def stop_after(epoch: int):
    def progress(now: int, row: object) -> None:
        if now == epoch:
            raise Stopped

    return progress


def stop_in_the_middle_of(run: Run, epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from lossbench.training.module import ClassificationModule

    step = ClassificationModule.training_step

    def stopping_step(self, batch, batch_idx):
        if self.current_epoch == epoch - 1 and batch_idx == 5:
            raise Stopped
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(ClassificationModule, "training_step", stopping_step)
        with pytest.raises(Stopped):
            execute(run)


def assert_same_run(one: Path, other: Path) -> None:
    first, second = read_record(one), read_record(other)
    assert first.status == second.status == "done"
    assert first.metrics == second.metrics
    assert first.fingerprints == second.fingerprints
    assert (one / "history.csv").read_bytes() == (other / "history.csv").read_bytes()
    for name in ("outputs.npz", "arrays.npz"):
        with np.load(one / name) as a, np.load(other / name) as b:
            assert a.files == b.files
            assert all(np.array_equal(a[key], b[key], equal_nan=True) for key in a.files)
    states = [
        torch.load(folder / "checkpoint.ckpt", weights_only=True)["state_dict"]
        for folder in (one, other)
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert events(one) == events(other)


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar and histogram of the TensorBoard file: (step, value or total count)."""
    accumulator = EventAccumulator(
        str(folder / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0, "histograms": 0}
    )
    accumulator.Reload()
    tags = accumulator.Tags()
    found = {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in tags["scalars"]}
    for tag in tags["histograms"]:
        entries = accumulator.Histograms(tag)
        found[tag] = [(e.step, e.histogram_value.num) for e in entries]
    for tag in tags["tensors"]:
        found[tag] = [(e.step, 0.0) for e in accumulator.Tensors(tag)]
    return found


@pytest.fixture(scope="module", params=CASES, ids=str)
def undisturbed(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, tuple[str, ...]]:
    overrides = CASES[request.param]
    run = run_of(tmp_path_factory.mktemp("undisturbed"), *overrides)
    assert execute(run).state == "done"
    return run, overrides


def test_stopped_between_epochs(undisturbed, tmp_path: Path) -> None:
    reference, overrides = undisturbed
    run = run_of(tmp_path, *overrides)
    for epoch in (1, 3, 4):
        with pytest.raises(Stopped):
            execute(run, stop_after(epoch))
        assert read_record(run.folder).status == "running"
    epochs: list[int] = []
    assert execute(run, lambda epoch, row: epochs.append(epoch)).state == "done"
    assert epochs == [0]  # nothing was left to train
    assert_same_run(reference.folder, run.folder)


def test_stopped_in_the_middle_of_an_epoch(undisturbed, tmp_path: Path, monkeypatch) -> None:
    reference, overrides = undisturbed
    run = run_of(tmp_path, *overrides)
    stop_in_the_middle_of(run, 3, monkeypatch)
    epochs: list[int] = []
    assert execute(run, lambda epoch, row: epochs.append(epoch)).state == "done"
    assert epochs == [0, 3, 4]
    assert_same_run(reference.folder, run.folder)


def test_a_checkpoint_that_cannot_be_read_is_named_and_the_run_starts_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reference = run_of(tmp_path / "one")
    execute(reference)
    run = run_of(tmp_path / "two")
    with pytest.raises(Stopped):
        execute(run, stop_after(2))
    checkpoint = run.folder / "checkpoint.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with caplog.at_level(logging.WARNING, logger="lossbench"):
        assert execute(run).state == "done"
    assert "checkpoint.ckpt cannot be read" in caplog.text
    assert (run.folder / "checkpoint.damaged").exists()
    assert_same_run(reference.folder, run.folder)
