"""One process writes a run.

The lock is a file that says who holds it, under an advisory lock of the operating system. The
operating system drops its lock the moment the process ends, however it ends, so on one host a
dead holder is never waited for and a recycled process number is never mistaken for a living one.

Other hosts may not see the operating system's lock, and some file systems have none. There a holder
is believed for `EXPIRES_SECONDS` after its last sign of life, which a thread of its gives every
`HEARTBEAT_SECONDS` by writing the file. What counts is the file's time of change, which the file
server sets, so clocks of hosts that differ do not matter. A holder that was believed dead and comes
back finds another token in the file: `RunLock.check` before it writes raises `LostLockError`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from lossbench.records.files import TEMPORARY

log = logging.getLogger("lossbench")

HEARTBEAT_SECONDS = 15.0
EXPIRES_SECONDS = 120.0
SETTLE_SECONDS = 0.5
"""Where no operating system's lock decides, the last of several writers at once holds the lock."""

UNSUPPORTED = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS}
"""How a file system says that it has no such locks, as NFS and Lustre do on some clusters."""

CONTENT_BYTES = 1024  # always the same: written over in one go, and on a full disk too


class LockedError(RuntimeError):
    """Another living process holds the lock of this run."""


class LostLockError(RuntimeError):
    """The lock was ours and is not any more: whoever holds it now writes the run."""


class RunLock:
    """The lock of one run folder; a context manager.

    >>> with RunLock(folder / "lock") as lock:   # LockedError if somebody else writes the run
    ...     lock.check()                         # LostLockError if it was taken from us meanwhile
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.token = secrets.token_hex(8)
        self._descriptor: int | None = None
        self._facts: dict[str, Any] = {}
        self._writing = threading.Lock()
        self._released = threading.Event()

    def acquire(self) -> None:
        """Take the lock or raise `LockedError`, which names the holder."""
        descriptor, exclusive = self._open()
        try:
            holder = _read(descriptor)
            if (
                _may_live(holder, exclusive)
                and _age(descriptor, self.path.parent) < EXPIRES_SECONDS
            ):
                raise LockedError(sentence(self.path, holder))
            os.pwrite(descriptor, self._content(), 0)
            if not exclusive:
                time.sleep(SETTLE_SECONDS)
                holder = _read_path(self.path)
                if holder.get("token") != self.token:
                    raise LockedError(sentence(self.path, holder))
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        self._released.clear()
        threading.Thread(target=self._heartbeat, args=(self._released,), daemon=True).start()

    def beat(self, **facts: Any) -> None:
        """Write a sign of life, with ``facts`` (such as the epoch) for `status` to show.

        A file that cannot be written ends no run: `check` asks what matters.
        """
        with self._writing:
            if self._descriptor is None:
                raise RuntimeError("beat() needs the lock: call acquire() first")
            self._facts |= facts
            self._write()

    def check(self) -> None:
        """Raise `LostLockError` if the lock is not ours any more; called before what is kept."""
        holder = _read_path(self.path)
        if holder.get("token") != self.token:
            whose = f"by {_name(holder)}" if holder else "or its folder removed"
            raise LostLockError(
                f"{self.path.parent.name} was taken over {whose} while this process was stopped "
                "or cut off"
            )

    def release(self) -> None:
        """Give the lock back; the file goes with it, unless it is another's by now."""
        with self._writing:
            if self._descriptor is None:
                return
            self._released.set()
            with contextlib.suppress(OSError):  # a file server that is gone: the lock expires
                if _read_path(self.path).get("token") == self.token:
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

    def _open(self) -> tuple[int, bool]:
        """The opened file, and whether the operating system's lock on it is ours."""
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                taken = _flock(descriptor)
                if taken is False:
                    raise LockedError(sentence(self.path, _read(descriptor)))
                if _same_file(descriptor, self.path):
                    return descriptor, taken is True
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # released and removed between open and lock: try the new file

    def _heartbeat(self, released: threading.Event) -> None:
        while not released.wait(HEARTBEAT_SECONDS):
            with self._writing:
                if self._descriptor is not None:
                    self._write()
                    with contextlib.suppress(OSError):
                        os.fsync(self._descriptor)  # to the file server, whose clock counts

    def _write(self) -> None:
        assert self._descriptor is not None
        try:
            if _read_path(self.path).get("token") == self.token:
                os.pwrite(self._descriptor, self._content(), 0)
        except OSError as error:
            log.debug("%s cannot be written: %s", self.path, error)
            with contextlib.suppress(OSError):
                os.utime(self._descriptor)  # which alone is a sign of life, and needs no room

    def _content(self) -> bytes:
        who = {"host": socket.gethostname(), "process": os.getpid(), "token": self.token}
        return json.dumps(who | self._facts).encode().ljust(CONTENT_BYTES)


def holder_of(path: Path) -> dict[str, Any] | None:
    """Who holds the lock at ``path`` (host, process and facts), or None if nobody living.

    Only reads, so that it may be asked of another user's folder. The age of a foreign holder is
    told by this host's clock here: a wrong clock shows a wrong state, and decides nothing.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        holder = _read(descriptor)
        exclusive = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                return holder
            exclusive = False
        fresh = time.time() - os.fstat(descriptor).st_mtime < EXPIRES_SECONDS
        return holder if fresh and _may_live(holder, exclusive) else None
    finally:
        os.close(descriptor)


def sentence(path: Path, holder: dict[str, Any]) -> str:
    """That the run whose lock is at ``path`` is being written, and by whom."""
    return f"{path.parent.name} is being written by {_name(holder)}"


def _flock(descriptor: int) -> bool | None:
    """Whether the operating system gave us its lock; None where the file system has none."""
    # a reader (`lossbench status`) holds its shared lock for microseconds: ask more than once
    for wait in (0.0, 0.01, 0.05, 0.1):
        time.sleep(wait)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # the second where NFS stands in for it
            continue
        except OSError as error:
            if error.errno in UNSUPPORTED:
                return None
            raise
        return True
    return False


def _may_live(holder: dict[str, Any], exclusive: bool) -> bool:
    """Whether ``holder`` may be alive although its lock, where there is one, could be taken."""
    if not holder:
        return False
    if holder.get("host") != socket.gethostname():
        return True
    return not exclusive and _process_exists(holder.get("process"))


def _process_exists(process: object) -> bool:
    if not isinstance(process, int) or process <= 0:  # not what we have written there
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _age(descriptor: int, folder: Path) -> float:
    """Seconds since the open file, in ``folder``, was changed; its file system tells both times."""
    probe = folder / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}-clock"
    # by its descriptor: who holds the lock may remove it as the leftover of a killed process
    opened = os.open(probe, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.utime(opened)  # without a time: the file server's own
        return os.fstat(opened).st_mtime - os.fstat(descriptor).st_mtime
    finally:
        os.close(opened)
        probe.unlink(missing_ok=True)


def _read(descriptor: int) -> dict[str, Any]:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _read_path(path: Path) -> dict[str, Any]:
    # opened anew: only so does a client of NFS look at what another host has written
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return {}
    try:
        return _read(descriptor)
    finally:
        os.close(descriptor)


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _name(holder: dict[str, Any]) -> str:
    return f"process {holder.get('process', '?')} on {holder.get('host', 'this host')}"
