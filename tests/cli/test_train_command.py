"""`lossbench train` as a process: what it says, and what signals do to it."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lossbench.records import RunLock, read_study
from tests.cli.test_sweep_command import (
    _nothing_is_left_running,  # noqa: F401  a fixture
    command,
    holders,
    run_command,
    wait_for,
)

RUN = ("train", "data=digits", "trainer.max_epochs=25", "study=s")


@pytest.mark.slow
def test_interrupted_killed_and_started_again_it_ends_like_an_undisturbed_run(
    tmp_path: Path,
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    code, said = run_command(*RUN, where=tmp_path / "one")
    assert code == 0, said
    assert "cross_entropy on digits | none | mlp | 25 epochs, seed 0" in said
    assert "embedded in scikit-learn" in said
    assert "test balanced accuracy" in said

    study = tmp_path / "two" / "runs" / "s"
    process = command(*RUN, where=tmp_path / "two")
    wait_for(lambda: holders(study, at_epoch=2))
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from here" in said

    process = command(*RUN, where=tmp_path / "two")
    wait_for(lambda: holders(study, at_epoch=15))
    process.kill()
    process.communicate()
    code, said = run_command(*RUN, where=tmp_path / "two")
    assert code == 0, said
    assert "epoch 14/25" not in said
    (first,) = read_study(tmp_path / "one" / "runs" / "s")
    (second,) = read_study(study)
    assert first.metrics == second.metrics
    code, said = run_command(*RUN, where=tmp_path / "two")
    assert (code, "already done" in said) == (0, True)


@pytest.mark.slow
def test_a_run_that_another_process_writes_is_left_to_it(tmp_path: Path) -> None:
    assert run_command(*RUN, "trainer.max_epochs=1", where=tmp_path)[0] == 0
    (record,) = read_study(tmp_path / "runs" / "s")
    replace(record, status="running").write(record.folder)
    with RunLock(record.folder / "lock"):
        code, said = run_command(*RUN, "trainer.max_epochs=1", where=tmp_path)
        assert code == 1
        assert f"is being written by process {os.getpid()}" in said
        code, said = run_command("status", "study=s", where=tmp_path)
        assert "s: 1 running" in said


@pytest.mark.slow
def test_brackets_in_a_label_are_no_markup(tmp_path: Path) -> None:
    code, said = run_command(*RUN, "trainer.max_epochs=1", "arm='a[/b]'", where=tmp_path)
    assert code == 0, said
    assert "a[/b] on digits" in said


def test_a_run_that_diverges_names_loss_and_epoch(tmp_path: Path) -> None:
    code, said = run_command(*RUN, "loss=focal", "optimizer.lr=1e30", where=tmp_path)
    assert code == 1
    assert "the run failed: the loss focal became nan in epoch 1" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_multirun_is_the_sweep(tmp_path: Path) -> None:
    code, said = run_command(
        "train", "--multirun", "data=digits", "trainer.max_epochs=1", "seed=0,1", where=tmp_path
    )
    assert code == 0, said
    assert "2 runs, 0 already done, 2 to do" in said
    assert len(read_study(tmp_path / "runs" / "default")) == 2


def test_a_bug_in_ones_own_loss_is_one_line_with_its_place(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "broken.py").write_text("class Loss:\n    def __init__(self):\n        1 / 0\n")
    where = tmp_path / "work"
    where.mkdir()
    code, said = run_command(
        "train", "--config-dir", str(own), "loss=custom", "loss._target_=broken.Loss",
        "allow=[broken]", where=where,
    )  # fmt: skip
    assert code == 2
    assert said.count("\n") == 1
    assert "ZeroDivisionError: division by zero" in said
    assert "broken.py:3" in said
    assert not list(where.iterdir())


def test_help_says_what_the_loss_scale_does(tmp_path: Path) -> None:
    code, said = run_command("train", "--help", where=tmp_path)
    assert code == 0
    assert "loss_scale: none\n" in said
    for words in ("loss_scale=match_ce multiplies the loss by", "SGD", "AdamW hardly notices it"):
        assert words in said


@pytest.mark.slow
def test_arms_with_and_without_a_matched_scale_are_compared(tmp_path: Path) -> None:
    """The constant and the gradient at the start are in the report, one of the files written."""
    code, said = run_command(
        "sweep", "data=digits", "imbalance=exponential", "trainer.max_epochs=1", "study=s",
        "loss=mae", "loss_scale=none,match_ce", "seed=0,1", where=tmp_path,
    )  # fmt: skip
    assert code == 0, said
    records = read_study(tmp_path / "runs" / "s")
    assert {record.arm for record in records} == {"mae", "mae, matched scale"}
    code, said = run_command("compare", "study=s", "baseline=mae", where=tmp_path)
    assert code == 0, said
    scale = "train/gradient/loss_scale"
    scales = [r.metrics[scale] for r in records if r.arm == "mae, matched scale"]
    assert len(scales) == 2
    assert len({*scales}) == 2  # measured for each seed
    found = tmp_path / "runs" / "s" / "comparison"
    for text in ((found / name).read_text() for name in ("results.md", "report.html")):
        assert f"{sum(scales) / 2:.3g}" in text
        assert "loss scale" in text
    assert scale in (found / "results.csv").read_text()
    assert "mae, matched scale" in (found / "results.tex").read_text()
    pictures = sorted(path.stem for path in (found / "figures").glob("*.svg"))
    assert len(pictures) == len(list((found / "figures").glob("*.csv"))) > 5
    events = EventAccumulator(str(found / "tensorboard")).Reload()
    assert {*pictures, "digits-exponential-100-mlp-1-epoch/answer"} <= {*events.Tags()["tensors"]}
    for name in ("results.csv", "results.md", "report.html", "results.tex", "figures"):
        assert f"comparison/{name}" in said
