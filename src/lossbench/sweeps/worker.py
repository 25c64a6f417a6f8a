"""A worker process: trains one run after the other until its parent has no more."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

from lossbench.config import Run
from lossbench.errors import CodeError, InputError, machine_fault

SHOWN = ("train/running/objective", "val/cls/balanced_accuracy")


def work(connection: Connection, lifeline: Connection, slot: Mapping[str, str]) -> None:
    """Serve ``connection``: receive configs, send what happens, stop at None.

    Sends ("ready",), then for each run any number of ("epoch", epoch, values) and one
    ("ended", outcome). ``lifeline`` is never written to: it closes when the parent dies, however it
    dies, and this process ends with it instead of training on as an orphan that holds the run's
    lock. ``slot`` is added to the environment: the server that this process was forked from has
    imported torch and never asked for a GPU, so it comes in time.
    """
    os.environ.update(slot)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))  # or Lightning does
    multiprocessing.current_process().daemon = False  # which may start processes: for image files
    threading.Thread(target=_die_with_parent, args=(lifeline,), daemon=True).start()
    # the slow imports, before the first run
    import lossbench.training.run  # noqa: F401
    from lossbench.training.rank_processes import RankKilledError

    connection.send(("ready",))
    try:
        while (config := connection.recv()) is not None:
            connection.send(("ended", execute_reported(Run(config), told(connection))))
    except RankKilledError as killed:  # a death of all ranks, as the parent counts deaths
        os.kill(os.getpid(), killed.number)


def told(connection: Connection) -> Callable[[int, Mapping[str, float]], None]:
    """What sends the progress of a run to the parent."""

    def progress(epoch: int, row: Mapping[str, float]) -> None:
        connection.send(("epoch", epoch, {key: row[key] for key in SHOWN if key in row}))

    return progress


def execute_reported(run: Run, progress: Any = None) -> dict[str, Any]:
    """Execute ``run`` and say how it ended, as plain values that any launcher can carry.

    ``state`` is done, failed (recorded with its reason), locked (another process writes the run),
    interrupted (the machine is at fault, such as a full disk: the run is as it was and continues
    when it is started again) or refused (bad input, such as an archive that this machine lacks:
    nothing is recorded); with it ``folder``, ``reason`` and ``new``. Raises no `Exception`; what
    asks the process to stop (KeyboardInterrupt, SystemExit) goes through.
    """
    from lossbench.records import LockedError, LostLockError
    from lossbench.training.outcome import Outcome, record_failure
    from lossbench.training.run import execute, one_line

    def ended(error: Exception) -> Outcome | None:
        if isinstance(error, LockedError):
            return Outcome("locked", run.folder, str(error))
        if isinstance(error, InputError) and not isinstance(error, CodeError):
            return Outcome("refused", run.folder, str(error))
        reason = str(error) if isinstance(error, LostLockError) else machine_fault(error)
        return None if reason is None else Outcome("interrupted", run.folder, reason)

    try:
        outcome = execute(run, progress)
    except Exception as error:
        try:
            outcome = ended(error) or record_failure(run, one_line(error))
        except Exception as unrecorded:
            reason = f"{one_line(error)}; not recorded: {one_line(unrecorded)}"
            outcome = ended(unrecorded) or Outcome("interrupted", run.folder, reason)
    return {
        "state": outcome.state,
        "folder": str(outcome.folder),
        "reason": outcome.reason,
        "new": outcome.new,
    }


def _die_with_parent(lifeline: Connection) -> None:
    try:
        lifeline.recv()
    except (EOFError, OSError):
        os._exit(1)
