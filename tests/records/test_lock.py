"""The lock where the operating system does not decide: other hosts and file systems."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lossbench.records import LockedError, LostLockError, RunLock, holder_of, lock

ELSEWHERE = {"host": "elsewhere", "process": 7, "token": "theirs"}


def foreign(path: Path, age: float = 0.0) -> None:
    path.write_text(json.dumps(ELSEWHERE))
    os.utime(path, (time.time() - age,) * 2)


def no_locks(number: int) -> Callable[..., None]:
    def flock(*given: Any) -> None:
        raise OSError(number, os.strerror(number))

    return flock


def test_a_lock_of_another_host_is_believed_until_it_expires(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    foreign(path, age=lock.EXPIRES_SECONDS - 5)
    with pytest.raises(LockedError, match="process 7 on elsewhere"):
        RunLock(path).acquire()
    assert holder_of(path) is not None
    foreign(path, age=lock.EXPIRES_SECONDS + 1)
    assert holder_of(path) is None
    with RunLock(path):
        assert holder_of(path)["process"] == os.getpid()  # type: ignore[index]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [-86400.0, 86400.0])
def test_a_wrong_clock_of_this_host_takes_no_lock_and_keeps_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    path = tmp_path / "lock"
    clock = time.time
    foreign(path)
    monkeypatch.setattr(time, "time", lambda: clock() + wrong)
    with pytest.raises(LockedError):
        RunLock(path).acquire()
    monkeypatch.undo()
    foreign(path, age=lock.EXPIRES_SECONDS + 1)
    monkeypatch.setattr(time, "time", lambda: clock() + wrong)
    with RunLock(path):
        pass


def test_the_age_of_a_lock_is_told_by_the_clock_of_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above it another file system may begin, with another clock: a study may be a link."""
    path = tmp_path / "study" / "run" / "lock"
    path.parent.mkdir(parents=True)
    foreign(path)
    opened, really_open = [], os.open
    monkeypatch.setattr(os, "open", lambda at, *rest: opened.append(at) or really_open(at, *rest))
    with pytest.raises(LockedError):
        RunLock(path).acquire()
    probes = [Path(at) for at in opened if str(at).endswith("-clock")]
    assert [probe.parent for probe in probes] == [path.parent]


@pytest.mark.parametrize("full_disk", [False, True])
def test_the_heart_beats_between_epochs_and_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_disk: bool
) -> None:
    path = tmp_path / "lock"
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.02)
    with RunLock(path) as held:
        held.beat(epoch=3)
        if full_disk:
            monkeypatch.setattr(os, "pwrite", no_locks(errno.ENOSPC))
            held.beat(epoch=4)
        os.utime(path, (0, 0))
        end = time.monotonic() + 10
        while os.stat(path).st_mtime == 0:
            assert time.monotonic() < end, "no sign of life"
            time.sleep(0.01)
        assert holder_of(path)["epoch"] == 3  # type: ignore[index]
        held.check()
    assert not path.exists()


def test_a_lock_that_was_taken_is_noticed_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    path.parent.mkdir()
    with RunLock(path) as held:
        held.check()
        foreign(path)
        with pytest.raises(LostLockError, match="run was taken over by process 7 on elsewhere"):
            held.check()
        held.beat(epoch=1)
        assert json.loads(path.read_text()) == ELSEWHERE
    assert json.loads(path.read_text()) == ELSEWHERE

    path.unlink()
    with RunLock(path) as held:
        path.unlink()
        with pytest.raises(LostLockError, match="removed"):
            held.check()


STOPPED = """
import sys
from pathlib import Path
from lossbench.records import RunLock, lock
import fcntl, socket, time
def unsupported(*given): raise OSError(95, "no locks here")
fcntl.flock = unsupported
socket.gethostname = lambda: "other"
lock.HEARTBEAT_SECONDS, lock.SETTLE_SECONDS = 0.1, 0.0
held = RunLock(Path(sys.argv[1]))
held.acquire()
held.check()
print("held", flush=True)
sys.stdin.readline()
try:
    held.check()
except lock.LostLockError as error:
    print(error)
"""


def test_a_process_that_was_stopped_finds_that_it_lost_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One on another host, on a file system without locks, for longer than it is believed."""
    monkeypatch.setattr(fcntl, "flock", no_locks(errno.ENOLCK))
    monkeypatch.setattr(lock, "EXPIRES_SECONDS", 1.0)
    path = tmp_path / "lock"
    other = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    time.sleep(1.2)
    with pytest.raises(LockedError, match=f"process {other.pid} on other"):  # it lives
        RunLock(path).acquire()
    other.send_signal(signal.SIGSTOP)
    time.sleep(1.2)
    with RunLock(path) as ours:
        other.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        said, _ = other.communicate("go\n", timeout=30)
        assert f"taken over by process {os.getpid()} on {socket.gethostname()}" in said
        ours.check()


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS])
def test_without_locks_of_the_file_system_signs_of_life_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "lock"
    monkeypatch.setattr(fcntl, "flock", no_locks(number))
    monkeypatch.setattr(lock, "SETTLE_SECONDS", 0.2)
    winners, losers = [], []

    def take() -> None:
        mine = RunLock(path)
        try:
            mine.acquire()
            winners.append(mine)
        except LockedError:
            losers.append(mine)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(winners), len(losers)) == (1, 3)
    assert holder_of(path)["token"] == winners[0].token  # type: ignore[index]
    winners[0].release()

    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    dead = {"host": socket.gethostname(), "process": int(gone.stdout), "token": "dead"}
    path.write_text(json.dumps(dead))
    assert holder_of(path) is None
    for nobody in (dead["process"], None, "x", 0, -1):
        path.write_text(json.dumps(dead | {"process": nobody}))
        assert holder_of(path) is None
    with RunLock(path) as taken:  # at once: a dead process of this host is waited for nowhere
        taken.check()


def test_another_error_of_the_file_system_is_not_taken_for_a_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", no_locks(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        RunLock(tmp_path / "lock").acquire()
