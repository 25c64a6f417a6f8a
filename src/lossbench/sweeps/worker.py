"""A worker process: trains one run after the other until its parent has no more."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from lossbench.config import Config, Run

SHOWN = ("train/running/objective", "val/cls/balanced_accuracy")


def work(connection: Connection, lifeline: Connection, slot: Mapping[str, str]) -> None:
    """Serve ``connection``: receive configs, send what happens, stop at None.

    Sends ("ready",), then for each run any number of ("epoch", epoch, values) and one
    ("ended", outcome) or ("locked", reason). ``lifeline`` is never written to: it closes when the
    parent dies, however it dies, and this process ends with it instead of training on as an
    orphan that holds the run's lock. ``slot`` is added to the environment: the server that this
    process was forked from has imported torch and never asked for a GPU, so it comes in time.
    """
    os.environ.update(slot)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    multiprocessing.current_process().daemon = False  # which may start processes: for image files
    threading.Thread(target=_die_with_parent, args=(lifeline,), daemon=True).start()
    import lossbench.training.run  # noqa: F401  the slow imports, before the first run

    connection.send(("ready",))
    while (config := connection.recv()) is not None:
        connection.send(run_one(config, connection))


def run_one(config: Config, connection: Connection) -> tuple[str, Any]:
    """Run ``config``; returns ("ended", outcome) or ("locked", reason)."""
    from lossbench.records import LockedError

    def progress(epoch: int, row: Mapping[str, float]) -> None:
        connection.send(("epoch", epoch, {key: row[key] for key in SHOWN if key in row}))

    try:
        return ("ended", execute_reported(Run(config), progress))
    except LockedError as error:
        return ("locked", str(error))


def execute_reported(run: Run, progress: Any = None) -> dict[str, Any]:
    """Execute ``run``; whatever goes wrong becomes a failed record. Returns plain values.

    Raises only `LockedError`, when another process writes the run.
    """
    from lossbench.records import LockedError
    from lossbench.training.outcome import record_failure
    from lossbench.training.run import execute, one_line

    try:
        outcome = execute(run, progress)
    except LockedError:
        raise
    except Exception as error:
        outcome = record_failure(run, one_line(error))
    return outcome_values(outcome)


def outcome_values(outcome: Any) -> dict[str, Any]:
    """An `Outcome` as plain values, for any launcher to carry."""
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
