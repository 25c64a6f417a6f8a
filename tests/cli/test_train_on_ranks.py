"""`lossbench train trainer.devices=2`: killed in the middle, and the same command again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lossbench.records import read_record
from tests.cli.test_sweep_command import holders
from tests.conftest import run_of

SHARED = ("loss=class_balanced", "data.batch_size=31", "trainer.max_epochs=6")


def in_session(session: int) -> set[int]:
    """The living processes of ``session``."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = entry.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(of) == session and state != "Z":
            found.add(int(entry.parent.name))
    return found


def test_all_ranks_end_with_the_first_and_the_same_command_goes_on(tmp_path: Path) -> None:
    from lossbench.training.run import execute

    run = run_of(tmp_path / "two", *SHARED)
    command = [sys.executable, "-m", "lossbench", "train", "data=digits"]
    command += ["imbalance=exponential", "imbalance.factor=10", *SHARED, f"runs_dir={tmp_path}/two"]
    command += ["trainer.devices=2"]
    first = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    while not holders(run.folder.parent):
        assert first.poll() is None
        time.sleep(0.01)
    assert len(in_session(first.pid)) > 2
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    deadline = time.monotonic() + 30
    while in_session(first.pid):
        assert time.monotonic() < deadline, "a rank has outlived the first"
        time.sleep(0.05)
    assert read_record(run.folder).status == "running"

    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "epoch 6/6" in again.stderr
    assert "epoch 1/6" not in again.stderr
    assert "Gloo" not in again.stdout + again.stderr
    alone = run_of(tmp_path / "one", *SHARED)
    assert execute(alone).state == "done"
    one, two = read_record(alone.folder), read_record(run.folder)
    assert two.hardware["devices"] == 2
    for tag in ("test/cls/balanced_accuracy", "test/loss/cross_entropy", "val/loss/objective"):
        assert two.metrics[tag] == pytest.approx(one.metrics[tag], rel=1e-5), tag
