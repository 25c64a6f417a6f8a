"""The processes of a run on several ranks: rank 0 leads, the others are its children.

Rank 0 is the process that was asked for the run. Its children come from a server that has imported
torch once; they end when rank 0 ends, however it ends, and what one of them raises is raised in
rank 0.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from lossbench.errors import MACHINE_FAULTS
from lossbench.training.distributed import LostRankError, Ranks, Seat, abort

READY = "ready"
GRACE_SECONDS = 1.0  # in which all ranks that a failure ends have ended
LONGEST_REPORT = 20_000  # characters, which a pipe holds without a reader


class RankError(RuntimeError):
    """A rank failed; the message names it and what it raised."""


class RankKilledError(SystemExit):
    """A rank was killed by the signal ``number``, and this process ends with it.

    Nothing is known against the run: it stays unfinished, as if rank 0 had been killed.
    """

    def __init__(self, who: str, number: int) -> None:
        super().__init__(
            f"lossbench: {who} was killed by signal {number}; the same command goes on from the "
            "last epoch"
        )
        self.number = number


@contextmanager
def lead(task: Callable[[Seat], None], size: int, device: torch.device) -> Iterator[Ranks]:
    """Start the ranks after the first, join them as rank 0, and end them.

    Each child calls ``task(seat)``, which can be pickled and takes its seat. An exception in a
    child ends all ranks and raises `RankError` here, one of the machine (`MACHINE_FAULTS`) an
    OSError, a signal `RankKilledError`; an exception here ends the children.
    """
    with tempfile.TemporaryDirectory(prefix="lossbench-") as folder:
        children = _Children(task, size, Path(folder) / "meeting")
        try:
            children.wait_until_ready()
            children.watch()
            with Seat(0, size, children.meeting).taken(device) as ranks:
                yield ranks
        except (LostRankError, dist.DistError) as error:
            raise children.failure() or error from error
        finally:
            children.end()


@dataclass(frozen=True)
class Report:
    """What a child raised; ``lost`` if it was only left alone by another rank."""

    line: str
    traceback: str
    lost: bool
    errno: int | None


class _Children:
    """The processes of ranks 1, 2, ..."""

    def __init__(self, task: Callable[[Seat], None], size: int, meeting: Path) -> None:
        self.size = size
        self.meeting = meeting
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["lossbench.training.run"])
        # never written to: it closes when rank 0 ends, however it ends, and they end with it
        lifeline, self._lifeline = context.Pipe(duplex=False)
        self._processes, self._connections = [], []
        for rank in range(1, size):
            ours, theirs = context.Pipe(duplex=False)
            # the server has the environment of its own start, which may name other GPUs
            arguments = (task, Seat(rank, size, meeting), theirs, lifeline, dict(os.environ))
            process = context.Process(target=_follow, args=arguments, daemon=True)
            with _ctrl_c_ignored():
                process.start()
            theirs.close()
            self._processes.append(process)
            self._connections.append(ours)
        lifeline.close()
        self._over = threading.Event()
        self._first: set[int] = set()  # the ranks that ended by themselves
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def wait_until_ready(self) -> None:
        """Return once every child has built its run; raises `RankError` if one cannot."""
        for place, (process, connection) in enumerate(
            zip(self._processes, self._connections, strict=True)
        ):
            wait([connection, process.sentinel])
            said = _last_word(connection)
            if said != READY:
                raise self._error(place, said)

    def watch(self) -> None:
        """End all ranks as soon as one ends."""
        self._watcher.start()

    def failure(self) -> BaseException | None:
        """What ended the first rank that ended; None if all of them live."""
        self._watcher.join(timeout=30)
        said = {place: _last_word(self._connections[place]) for place in self._first}
        lost = [place for place, word in said.items() if isinstance(word, Report) and word.lost]
        causes = [place for place in said if place not in lost] or lost
        return self._error(causes[0], said[causes[0]]) if causes else None

    def end(self) -> None:
        """Let go of them; they end by themselves, or are made to."""
        self._over.set()
        self._lifeline.close()
        for process in self._processes:
            process.join(timeout=5)
            if process.is_alive():
                process.kill()
                process.join()

    def _watch(self) -> None:
        sentinels: list[Any] = [process.sentinel for process in self._processes]
        while not wait(sentinels, timeout=0.2):
            if self._over.is_set():
                return
        if self._over.wait(GRACE_SECONDS):
            return
        self._first = {sentinels.index(ended) for ended in wait(sentinels, timeout=0)}
        for process in self._processes:
            process.kill()
        abort()

    def _error(self, place: int, said: Any) -> BaseException:
        who = f"rank {place + 1} of {self.size}"
        if isinstance(said, Report):
            if said.errno in MACHINE_FAULTS:
                return OSError(said.errno, f"{who}: {said.line}")
            error = RankError(f"{who}: {said.line}")
            error.add_note(said.traceback)
            return error
        self._processes[place].join(timeout=5)
        code = self._processes[place].exitcode
        if code is not None and code < 0:
            return RankKilledError(who, -code)
        return RankError(f"{who} ended with exit code {code}")


def _last_word(connection: Connection) -> Any:
    """The last thing that a child has said, or None."""
    said = None
    with suppress(EOFError, OSError):
        while connection.poll():
            said = connection.recv()
    return said


def _follow(
    task: Callable[[Seat], None],
    seat: Seat,
    connection: Connection,
    lifeline: Connection,
    environment: Mapping[str, str],
) -> None:
    """What a child does: its task, and then nothing until rank 0 lets go."""
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 decides what Ctrl-C means
    signal.signal(signal.SIGTERM, _end_by)  # or Lightning makes an exception of the run of it
    multiprocessing.current_process().daemon = False  # which may start processes: for image files
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    try:
        task(replace(seat, ready=lambda: connection.send(READY)))
    except BaseException as error:
        lines = str(error).strip().splitlines()
        line = f"{type(error).__name__}: {lines[0] if lines else ''}"
        trace = traceback.format_exc()[-LONGEST_REPORT:]
        with suppress(OSError):
            lost, errno = isinstance(error, LostRankError), getattr(error, "errno", None)
            connection.send(Report(line, trace, lost, errno))
        os._exit(1)
    while True:
        time.sleep(3600)


def _end_by(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _end_with(lifeline: Connection) -> None:
    try:
        lifeline.recv()
    except (EOFError, OSError):
        os._exit(1)


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    # what is started in here ignores Ctrl-C from its first instruction on: rank 0 answers it
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
