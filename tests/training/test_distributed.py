"""A run on several ranks ends like one on a single process; what befalls a rank is said."""

from __future__ import annotations

import csv
import multiprocessing
import signal
from multiprocessing import forkserver
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from lossbench.cli import main
from lossbench.config import Run
from lossbench.errors import InputError, machine_fault
from lossbench.records import read_record
from lossbench.sweeps import worker
from lossbench.training import build
from lossbench.training.distributed import Ranks
from lossbench.training.rank_processes import RankKilledError
from lossbench.training.run import execute
from tests.conftest import run_of
from tests.training.test_resume import (
    Stopped,
    assert_same_run,
    stop_after,
    stop_in_the_middle_of,
)

TWO = "trainer.devices=2"
# of 486 images: batches of 31, shared as 15 and 16, and a last one of 21, as 10 and 11
ODD = ("trainer.max_epochs=2", "data.batch_size=31", "optimizer.lr=0.02")
CASES = {
    "class weights": ("loss=class_balanced",),
    "a penalty on pairs, and a matched scale": ("loss=mmce", "loss_scale=match_ce"),
    "running counts, images mixed": ("loss=seesaw", "regime=mixup"),
    "features and a schedule": ("loss=influence_balanced", "loss.start_fraction=0.3"),
    "a margin on features": ("loss=sphereface", "model.head=cosine"),
    "a loss that learns, and draws": (
        "loss=custom", "loss._target_=tests.training.losses.LearnsAndDraws",
    ),
    "the backbone frozen in mid-run, averaged weights": (
        "regime=crt", "regime.start=0.5", "regime.ema_decay=0.9",
    ),
}  # fmt: skip


def trained(where: Path, *overrides: str) -> Run:
    """A run that has trained, stopped before its final evaluation, which is not at stake."""
    run = run_of(where, *overrides)
    with pytest.raises(Stopped):
        execute(run, stop_after(run.config["trainer"]["max_epochs"]))
    assert not dist.is_initialized()
    return run


def assert_close(one: Run, other: Run) -> None:
    """Equal up to rounding: all weights and the loss's state, and every number of the history."""
    states = [
        torch.load(run.folder / "checkpoint.ckpt", weights_only=True)["state_dict"]
        for run in (one, other)
    ]
    torch.testing.assert_close(states[1], states[0], rtol=1e-5, atol=1e-6)
    rows = []
    for run in (one, other):
        with open(run.folder / "history.csv", newline="") as lines:
            table = [[float(x or "nan") for x in row.values()] for row in csv.DictReader(lines)]
            rows.append(torch.tensor(table))
    torch.testing.assert_close(rows[1], rows[0], rtol=1e-4, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 31])
def test_every_sample_of_a_batch_is_in_one_share(size: int, count: int) -> None:
    shares = [list(range(count)[Ranks(rank, size).share(count)]) for rank in range(size)]
    assert [sample for share in shares for sample in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_train_like_one(name: str, tmp_path: Path) -> None:
    one = trained(tmp_path / "one", *CASES[name], *ODD)
    assert_close(one, trained(tmp_path / "two", *CASES[name], *ODD, TWO))


def test_a_rank_may_have_no_image_of_the_last_batch(tmp_path: Path) -> None:
    few = ("loss=class_balanced", *ODD, "data.batch_size=121")  # four batches, and one of two
    three = trained(tmp_path / "three", *few, "trainer.devices=3")
    assert_close(trained(tmp_path / "one", *few), three)


def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path: Path, monkeypatch) -> None:
    # both model and loss draw, the one for its share and the other for all
    overrides = (
        *("model._target_=tests.training.models.Dropout", "regime=crt", "optimizer=adamw"),
        *("loss=custom", "loss._target_=tests.training.losses.LearnsAndDraws"),
        *("loss_scale=match_ce", "data.batch_size=61"),
    )
    undisturbed = run_of(tmp_path / "undisturbed", *overrides, TWO)
    assert execute(undisturbed).state == "done"
    run = run_of(tmp_path / "interrupted", *overrides, TWO)
    stop_in_the_middle_of(run, 3, monkeypatch)
    assert not dist.is_initialized()
    assert execute(run).state == "done"
    assert_same_run(undisturbed.folder, run.folder)


def test_a_sealed_run_begun_by_one_process_goes_on_by_two(tmp_path: Path) -> None:
    overrides = (*ODD, "loss=custom", "loss._target_=tests.training.losses.WritesNothingOnRank1")
    begun = run_of(tmp_path / "two", *overrides, "study=s", "test=sealed")
    with pytest.raises(Stopped):
        execute(begun, stop_after(1))
    going_on = run_of(tmp_path / "two", *overrides, "study=s", TWO)
    assert going_on.folder == begun.folder
    assert execute(going_on).state == "done"
    sealed = read_record(going_on.folder)
    assert sealed.sealed
    assert not any(tag.startswith("test/") for tag in sealed.metrics)
    opened = main(["unseal", "study=s", f"runs_dir={tmp_path / 'two'}", "allow=[tests]"])
    assert opened == 0

    whole = run_of(tmp_path / "one", *overrides)
    assert execute(whole).state == "done"
    assert_close(whole, going_on)
    one, two = read_record(whole.folder), read_record(going_on.folder)
    assert two.hardware == one.hardware | {"devices": 2}
    assert one.metrics.keys() == two.metrics.keys()
    for tag, value in one.metrics.items():
        # a vector fitted on 100 validation images has a flat optimum
        if value is None or "/posthoc_vector/" not in tag:
            expected = None if value is None else pytest.approx(value, rel=1e-5, abs=1e-6)
            assert two.metrics[tag] == expected, tag


def test_what_a_rank_raises_is_the_reason_of_the_failure(make_run, monkeypatch) -> None:
    # the server that the ranks come from was started before, and knows nothing of the variable
    multiprocessing.get_context("forkserver").set_forkserver_preload(["lossbench.training.run"])
    forkserver.ensure_running()
    monkeypatch.setenv("PLACE", "GPU 2,3")
    loss = ("loss=custom", "loss._target_=tests.training.losses.raising_on_rank_1")
    run = make_run(*loss, "trainer.devices=3")
    outcome = execute(run)
    assert outcome.state == "failed"
    assert outcome.reason == "rank 1 of 3: ZeroDivisionError: no such luck in GPU 2,3"
    assert "in raising_on_rank_1" in (run.folder / "traceback.txt").read_text()
    assert not dist.is_initialized()


def test_a_broken_disk_is_no_failure_of_the_run(make_run) -> None:
    loss = ("loss=custom", "loss._target_=tests.training.losses.of_a_broken_disk_on_rank_1")
    with pytest.raises(OSError, match=r"rank 1 of 2: OSError: .* Input/output error") as raised:
        execute(make_run(*loss, TWO))
    assert machine_fault(raised.value) == "the disk cannot be read or written"
    assert read_record(make_run(*loss).folder).status == "running"


def test_a_loss_that_is_nan_fails_as_in_one_process(make_run) -> None:
    run = make_run("loss=custom", "loss._target_=tests.training.losses.NanFromEpoch3", TWO)
    outcome = execute(run)
    assert outcome.state == "failed"
    assert "the loss NanFromEpoch3 became nan in epoch 3" in str(outcome.reason)


def test_a_killed_rank_leaves_the_run_unfinished(make_run) -> None:
    loss = ("loss=custom", "loss._target_=tests.training.losses.KilledOnRank1")
    with pytest.raises(RankKilledError, match="rank 1 of 2 was killed by signal 9; the same"):
        execute(make_run(*loss, TWO))
    run = make_run(*loss)
    assert read_record(run.folder).status == "running"
    epochs: list[int] = []
    assert execute(run, lambda epoch, row: epochs.append(epoch)).state == "done"
    assert epochs == [0, 3, 4]


def test_a_worker_of_a_sweep_dies_of_what_killed_its_rank(monkeypatch) -> None:
    def killed(run: Run, progress: object) -> None:
        raise RankKilledError("rank 1 of 2", signal.SIGKILL)

    monkeypatch.setattr(worker, "execute_reported", killed)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    lifeline, held = context.Pipe(duplex=False)
    process = context.Process(target=worker.work, args=(theirs, lifeline, {}))
    process.start()
    ours.send({})
    process.join(timeout=30)
    assert process.exitcode == -signal.SIGKILL  # which the pool counts, and tries again
    held.close()


def test_a_rank_that_cannot_be_built_is_named(make_run) -> None:
    model = "model._target_=tests.training.models.OnlyInTheFirstProcess"
    outcome = execute(make_run(model, TWO))
    assert str(outcome.reason).startswith(
        "rank 1 of 2: CodeError: model: tests.training.models.Only"
    )
    assert "MemoryError: too many of them" in str(outcome.reason)


def test_a_model_with_statistics_of_its_own_is_told_from_a_shared_one(make_run) -> None:
    outcome = execute(make_run("model._target_=tests.training.models.KeepsStatistics", TWO))
    assert outcome.state == "failed"
    assert "model.backbone.mean differs between the 2 ranks" in str(outcome.reason)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("model=convnet", TWO), "BatchNorm on the CPU"),
        (("trainer.devices=9", "data.batch_size=8"), "data.batch_size=8"),
    ],
)
def test_what_cannot_be_shared_is_refused(overrides, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        execute(run_of(tmp_path, *overrides))
    assert not list(tmp_path.iterdir())


def test_more_devices_than_there_are_gpus_are_refused(make_run, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="there is 1 GPU here; use trainer"):
        execute(make_run("trainer=gpu", TWO))


def test_batch_norm_is_shared_by_gpus() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()))
    build.share_batch_norm(model, on_gpu=True)
    assert [type(module) for module in model[1]] == [nn.SyncBatchNorm, nn.ReLU]

    class Activated(nn.BatchNorm2d):
        """A BatchNorm that does more, which a plain `SyncBatchNorm` would not do."""

    with pytest.raises(InputError, match="not possible with Activated"):
        build.share_batch_norm(nn.Sequential(Activated(2)), on_gpu=True)
