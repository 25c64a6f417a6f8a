"""`lossbench status` on another machine, on a folder that may only be read, and in time."""

from __future__ import annotations

import errno
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lossbench.cli import main
from lossbench.records import RunLock, lock, read_record
from lossbench.records import study as study_module
from tests.records.test_records import write_run


def study_of_each_state(study: Path) -> None:
    for name in ("done-1", "done-2"):
        write_run(study / name)
        replace(read_record(study / name), seconds=20.0).write(study / name)
    write_run(study / "failed", status="failed", reason="the loss became nan in epoch 2")
    cut = write_run(study / "cut", status="running")
    (cut / "history.csv").write_text("epoch,x\n1,0\n2,0\n3,0\n")
    (cut / "checkpoint.ckpt").touch()
    running = write_run(study / "running", status="running")
    facts = {"epoch": 2, "epochs": 6, "pace": 2.5}
    holder = {"host": "node17", "process": 4711, "token": "theirs"}
    (running / "lock").write_text(json.dumps(holder | facts))
    names = ("done-1", "done-2", "failed", "cut", "running", "missing")
    (study / "plan.json").write_text(json.dumps({"runs": [{"folder": name} for name in names]}))


def test_status_reads_another_machines_sweep_and_needs_no_right_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study_of_each_state(tmp_path / "s")
    write_run(tmp_path / "s" / "damaged-one")
    (tmp_path / "s" / "damaged-one" / "record.json").write_text("{")
    opened = os.open

    def refused(*given: Any, **named: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def only_reading(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            refused()
        return opened(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", only_reading)
    for name in ("mkdir", "rename", "replace", "unlink", "utime"):
        monkeypatch.setattr(os, name, refused)
    assert main(["status", f"runs_dir={tmp_path}", "study=s"]) == 0
    # 10 s of the running one, and two that wait at 20 s each, one after the other
    assert capsys.readouterr().out.splitlines() == [
        "s: 2 done, 1 failed, 1 running, 1 interrupted, 2 missing, 70 s left",
        "  failed       failed: the loss became nan in epoch 2",
        "  interrupted  cut: continues after epoch 3",
        "  running      running: process 4711 on node17, epoch 2 of 6, 10 s left",
        "  missing      missing",
        "  missing      damaged-one",
    ]
    assert main(["status", f"runs_dir={tmp_path}"]) == 0
    assert "2 done, 1 failed, 1 running" in capsys.readouterr().out


def test_a_run_that_ends_while_it_is_looked_at_is_not_called_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_run(tmp_path / "s" / "run", status="running")
    look_at_lock = study_module.holder_of

    def ends(path: Path) -> Any:  # after its record was read, and before its lock is
        replace(read_record(folder), status="done").write(folder)
        return look_at_lock(path)

    monkeypatch.setattr(study_module, "holder_of", ends)
    assert study_module.look(folder).state == "done"


def test_a_study_that_must_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = write_run(tmp_path / "s" / "run") / "record.json"
    read = Path.read_bytes

    def refused(path: Path) -> bytes:
        if path == record:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    monkeypatch.setattr(Path, "read_text", lambda path, *a, **k: refused(path).decode())
    assert main(["status", f"runs_dir={tmp_path}", "study=s"]) == 1
    assert f"lossbench: {record} may not be read or written" in capsys.readouterr().err


def test_a_study_that_is_being_tuned_is_shown_by_its_trials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study_of_each_state(tmp_path / "s" / "tuning")
    assert main(["status", f"runs_dir={tmp_path}"]) == 0
    trials = "trials of tuning: 2 done, 1 failed, 1 running, 1 interrupted, 1 missing, 50 s left"
    assert capsys.readouterr().out == f"{'s':30} {trials}\n"
    assert main(["status", f"runs_dir={tmp_path}", "study=s"]) == 0
    said = capsys.readouterr().out
    assert f"s: {trials}\n" in said
    assert "running      tuning/running: process 4711 on node17, epoch 2 of 6" in said
    write_run(tmp_path / "s" / "winner")
    assert main(["status", f"runs_dir={tmp_path}"]) == 0
    assert f"1 done; {trials}\n" in capsys.readouterr().out


def test_a_holder_that_vanished_is_shown_as_interrupted_and_one_of_this_host_as_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study_of_each_state(tmp_path / "s")
    old = time.time() - lock.EXPIRES_SECONDS - 1
    os.utime(tmp_path / "s" / "running" / "lock", (old, old))
    with RunLock(tmp_path / "s" / "cut" / "lock") as held:
        held.beat(epoch=3, epochs=4)
        assert main(["status", f"runs_dir={tmp_path}", "study=s"]) == 0
    said = capsys.readouterr().out
    assert "interrupted  running: starts over" in said
    assert f"running      cut: process {os.getpid()} on" in said
    assert "epoch 3 of 4\n" in said


@pytest.mark.slow
def test_a_thousand_runs_are_read_within_two_seconds(tmp_path: Path) -> None:
    metrics = {f"test/group/metric_{number}": number / 7 for number in range(600)}
    for number in range(1000):
        write_run(tmp_path / "s" / f"run-{number}", metrics=metrics)
    times = []
    for _ in range(3):
        began = time.process_time()
        assert main(["status", f"runs_dir={tmp_path}"]) == 0
        times.append(time.process_time() - began)  # other load counts not
    assert min(times) < 2, times
