"""Files whole or absent, one writer of a run at a time, damage named and moved aside."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lossbench.records import (
    DamagedRecordError,
    LockedError,
    Record,
    RunLock,
    files,
    holder_of,
    read_record,
    read_study,
    run_state,
    studies,
)

HOLD = """
import sys, time
from pathlib import Path
from lossbench.records import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.acquire()
lock.beat(epoch=3, epochs=9)
print("held", flush=True)
time.sleep(60)
"""


def record(**changes: object) -> Record:
    values: dict[str, object] = {
        "status": "done", "study": "s", "arm": "focal", "cell": "here", "identity": "ab",
        "seed": 1, "loss": "focal", "model": "mlp", "metrics": {"test/cls/accuracy": 0.5},
    }  # fmt: skip
    return Record(**(values | changes))  # type: ignore[arg-type]


def write_run(folder: Path, **changes: object) -> Path:
    """A run folder with all its files."""
    folder.mkdir(parents=True)
    record(**changes).write(folder)
    (folder / "config.yaml").write_text("seed: 1\n")
    (folder / "history.csv").write_text("epoch\n1\n")
    for name in ("arrays.npz", "outputs.npz"):
        files.write_arrays(folder / name, {"x": np.arange(3)})
    return folder


def test_an_error_while_writing_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_text(path, "old")

    def failing(temporary: Path) -> None:
        temporary.write_text("half of the ne")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        files.write_with(path, failing)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_the_old_file_and_its_rest_is_swept_away(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    files.write_text(path, "old")
    code = (
        "import os, sys; from pathlib import Path; from lossbench.records import files\n"
        "with files.replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    files.remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "x.json", {"metric": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "s" / "run", metrics={"a": 0.1 + 0.2, "b": None})
    read = read_record(folder)
    assert read == record(metrics={"a": 0.1 + 0.2, "b": None})
    assert read.folder == folder
    assert read.arrays()["x"].tolist() == [0, 1, 2]
    assert read.history()["epoch"].tolist() == [1.0]
    assert read.config() == {"seed": 1}


def test_one_process_holds_a_lock_and_a_dead_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    other.stdout.readline()
    with pytest.raises(LockedError, match=f"process {other.pid} on "):
        RunLock(path).acquire()
    holder = holder_of(path)
    assert holder is not None
    assert (holder["process"], holder["epoch"], holder["epochs"]) == (other.pid, 3, 9)
    other.send_signal(signal.SIGKILL)
    other.communicate()
    assert holder_of(path) is None
    with RunLock(path):
        assert holder_of(path)["process"] == os.getpid()  # type: ignore[index]
    assert not path.exists()


DAMAGES = {
    "half a record": ("record.json", b'{"schema": 1, "status": "do'),
    "not a record": ("record.json", b"[1, 2]"),
    "a status that is none": (
        "record.json",
        b'{"schema":1,"status":"x","study":"","arm":"","cell":"","identity":"","seed":0}',
    ),
    "half an archive": ("arrays.npz", b"PK\x03\x04half"),
    "no outputs": ("outputs.npz", None),
    "no history": ("history.csv", None),
    "no config": ("config.yaml", None),
}


@pytest.mark.parametrize(("name", "content"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_record_is_named_moved_aside_and_missing(
    tmp_path: Path, name: str, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_run(tmp_path / "s" / "run")
    sound = write_run(tmp_path / "s" / "sound")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(DamagedRecordError, match=str(folder)):
        read_record(folder)
    with caplog.at_level(logging.WARNING, logger="lossbench"):
        assert [entry.folder for entry in read_study(tmp_path / "s")] == [sound]
    aside = tmp_path / "s" / "damaged" / "run-1"
    assert str(folder) in caplog.text
    assert str(aside) in caplog.text
    assert not folder.exists()
    assert {path.name for path in aside.iterdir()} >= {"record.json"}
    assert run_state(folder).state == "missing"


def test_a_damaged_record_under_a_lock_is_left_alone(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "s" / "run")
    (folder / "record.json").write_text("{")
    with RunLock(folder / "lock"):
        assert run_state(folder).state == "missing"
        assert folder.exists()


def test_states(tmp_path: Path) -> None:
    assert run_state(tmp_path / "none").state == "missing"
    running = write_run(tmp_path / "s" / "run", status="running")
    assert run_state(running).state == "interrupted"
    with RunLock(running / "lock"):
        assert run_state(running).state == "running"
    failed = write_run(tmp_path / "s" / "failed", status="failed", reason="why")
    assert run_state(failed).state == "failed"
    assert [path.name for path in studies(tmp_path)] == ["s"]
    assert studies(tmp_path / "nowhere") == []


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EACCES])
def test_a_file_that_cannot_be_read_for_now_does_not_make_its_record_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A file server that was away must cost no run: what is damaged is moved aside."""
    folder = write_run(tmp_path / "s" / "run")
    found = read_record(folder)

    def away(path: Path, *given: object, **named: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(np, "load", away)
    with pytest.raises(OSError, match=os.strerror(number)):
        found.outputs()
    monkeypatch.setattr(Path, "open", away)
    with pytest.raises(OSError, match=os.strerror(number)):
        read_record(folder)
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["run"]
