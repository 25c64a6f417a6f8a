"""`trainer.devices=2` as a user drives it: sweeps, signals, and the same command again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from lossbench.records import read_record, read_study
from lossbench.training.run import execute
from tests.cli.test_sweep_command import command, holders, run_command, wait_for
from tests.conftest import run_of

BASE = ("data=digits", "imbalance=exponential", "imbalance.factor=10")
TWO = "trainer.devices=2"


def assert_close(two: dict[str, float | None], one: dict[str, float | None]) -> None:
    """All metrics equal up to rounding; a vector that is fitted has a flat optimum."""
    assert two.keys() == one.keys()
    for tag, value in one.items():
        if value is None:
            assert two[tag] is None, tag
        else:
            flat = "/posthoc_vector/" in tag
            relative, absolute = (0.1, 1e-2) if flat else (1e-5, 1e-6)
            assert two[tag] == pytest.approx(value, rel=relative, abs=absolute), tag


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


@pytest.mark.slow
def test_a_sweep_on_two_ranks_finds_what_one_process_finds(tmp_path: Path) -> None:
    shared = ("data.batch_size=50", "trainer.max_epochs=2")  # of 486 images: the last one has 36
    code, said = run_command(
        *("sweep", TWO, "workers=1", "loss=cross_entropy,focal", "seed=0", *BASE, *shared),
        *("study=s", f"runs_dir={tmp_path}/two"),
        where=tmp_path,
    )
    assert code == 0, said
    assert "2 trained" in said
    assert "Gloo" not in said
    found = {record.arm: record for record in read_study(tmp_path / "two" / "s")}
    assert found.keys() == {"cross_entropy", "focal"}
    for arm, record in found.items():
        run = run_of(tmp_path / "one", *shared, f"loss={arm}", "study=s")
        assert execute(run).state == "done"
        alone = read_record(run.folder)
        assert record.identity == alone.identity
        assert record.hardware == alone.hardware | {"devices": 2}
        assert record.fingerprints == alone.fingerprints
        assert_close(record.metrics, alone.metrics)


@pytest.mark.slow
def test_all_ranks_end_with_the_first_and_the_same_command_goes_on(tmp_path: Path) -> None:
    shared = ("loss=class_balanced", "data.batch_size=31", "trainer.max_epochs=60")
    train = ("train", *BASE, *shared, "study=s", f"runs_dir={tmp_path}/two", TWO)
    run = run_of(tmp_path / "two", *shared, "study=s")

    def ended_by(number: int, group: bool, at_epoch: int) -> tuple[int, str]:
        process = command(*train, where=tmp_path)
        wait_for(lambda: holders(run.folder.parent, at_epoch))
        assert len(in_session(process.pid)) > 2
        # a batch system tells all processes, a service manager the first
        (os.killpg if group else os.kill)(process.pid, number)
        said = process.communicate(timeout=60)[1]
        wait_for(lambda: not in_session(process.pid), seconds=30)
        assert read_record(run.folder).status == "running"
        return process.returncode, said

    for group, at_epoch in ((False, 1), (True, 4)):
        code, said = ended_by(signal.SIGTERM, group, at_epoch)
        assert code == 130, said
        assert said.endswith("lossbench: interrupted; the same command goes on from here\n")
        assert "Traceback" not in said
    ended_by(signal.SIGKILL, False, 7)

    code, said = run_command(*train, where=tmp_path)
    assert code == 0, said
    assert "epoch 60/60" in said
    assert "epoch 7/60" not in said
    assert "Gloo" not in said
    alone = run_of(tmp_path / "one", *shared, "study=s")
    assert execute(alone).state == "done"
    one, two = read_record(alone.folder), read_record(run.folder)
    assert two.hardware["devices"] == 2
    for tag in ("test/cls/balanced_accuracy", "test/loss/cross_entropy", "val/loss/objective"):
        assert two.metrics[tag] == pytest.approx(one.metrics[tag], rel=1e-4), tag


@pytest.mark.slow
def test_a_rank_that_is_killed_counts_as_a_death_of_the_worker(tmp_path: Path) -> None:
    code, said = run_command(
        *("sweep", TWO, "workers=1", "seed=0,1", *BASE, "study=s", "trainer.max_epochs=4"),
        *("allow=[tests]", "loss=custom", "loss._target_=tests.training.losses.KilledOnRank1"),
        where=tmp_path,
    )
    assert code == 1, said
    reason = "its worker process was killed by signal 9, 3 times in epoch 3; out of memory?"
    assert [record.reason for record in read_study(tmp_path / "runs" / "s")] == [reason] * 2
    assert said.count("was killed by signal 9; it goes on after epoch 2") == 4
    assert "Traceback" not in said
