"""One process writes a run.

The lock is a file that says who holds it, under an advisory lock of the operating system. The
operating system drops its lock the moment the process ends, however it ends, so on one host a
dead holder is never waited for and a recycled process number is never mistaken for a living one.
A holder on another host (a shared file system without lock propagation) is believed for
`EXPIRES_SECONDS` after its last sign of life.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

EXPIRES_SECONDS = 600.0


class LockedError(RuntimeError):
    """Another living process holds the lock of this run."""


class LostLockError(RuntimeError):
    """The lock was ours and is not any more: whoever holds it now writes the run."""


class RunLock:
    """The lock of one run folder; a context manager.

    >>> with RunLock(folder / "lock"):   # raises LockedError if somebody else writes the run
    ...     ...
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock or raise `LockedError`, which names the holder."""
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            if not _flock(descriptor):
                holder = _read(descriptor)
                os.close(descriptor)
                raise LockedError(_sentence(self.path, holder))
            if _same_file(descriptor, self.path):
                break
            os.close(descriptor)  # released and removed between open and lock: try the new file
        holder = _read(descriptor)
        if _foreign_and_fresh(holder):
            os.close(descriptor)
            raise LockedError(_sentence(self.path, holder))
        self._descriptor = descriptor
        self.beat()

    def beat(self, **facts: Any) -> None:
        """Write a sign of life, with ``facts`` (such as the epoch) for `status` to show."""
        if self._descriptor is None:
            raise RuntimeError("beat() needs the lock: call acquire() first")
        content = {"host": socket.gethostname(), "process": os.getpid(), "time": time.time()}
        encoded = json.dumps(content | facts).encode()
        os.pwrite(self._descriptor, encoded, 0)
        os.ftruncate(self._descriptor, len(encoded))

    def release(self) -> None:
        """Give the lock back; the file goes with it."""
        if self._descriptor is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def holder_of(path: Path) -> dict[str, Any] | None:
    """Who holds the lock at ``path`` (host, process, time and facts), or None if nobody living."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        holder = _read(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return holder
        return holder if _foreign_and_fresh(holder) else None
    finally:
        os.close(descriptor)


def _flock(descriptor: int) -> bool:
    # a reader (`lossbench status`) holds its shared lock for microseconds: ask more than once
    for wait in (0.0, 0.01, 0.05, 0.1):
        time.sleep(wait)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        return True
    return False


def _read(descriptor: int) -> dict[str, Any]:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return holder if isinstance(holder, dict) else {}
    except (ValueError, OSError):
        return {}


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _foreign_and_fresh(holder: dict[str, Any]) -> bool:
    host = holder.get("host")
    if host is None or host == socket.gethostname():
        return False
    return time.time() - float(holder.get("time", 0)) < EXPIRES_SECONDS


def _sentence(path: Path, holder: dict[str, Any]) -> str:
    who = f"process {holder.get('process', '?')} on {holder.get('host', 'this host')}"
    return f"{path.parent.name} is being written by {who}"
