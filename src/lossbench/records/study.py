"""A study is a folder of run folders; its state is what lies there, and nothing else."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lossbench.errors import InputError, unknown
from lossbench.records import files
from lossbench.records.lock import EXPIRES_SECONDS, LockedError, RunLock, holder_of
from lossbench.records.record import LOCK, RECORD, DamagedRecordError, Record, read_record

log = logging.getLogger("lossbench")

PLAN, PLAN_LOCK = "plan.json", "plan.lock"
PLAN_SCHEMA = 2  # 1 held the newest sweep only; it is read alike
PLAN_WAIT_SECONDS = EXPIRES_SECONDS + 30  # by then the lock of a vanished host is nobody's
ASIDE = "damaged"
TRIALS = "tuning"  # in it the trials of a study's search are a study of their own


@dataclass(frozen=True)
class RunState:
    """Where one run stands: done, failed, running, interrupted (continues) or missing."""

    state: str
    record: Record | None = None
    holder: dict[str, Any] | None = None
    damage: str | None = None  # why a record that is there counts as missing


def run_state(folder: Path) -> RunState:
    """Look at one run folder; a damaged one is named, moved aside and counts as missing."""
    state = look(folder)
    if state.damage is not None and state.holder is None:
        try:
            set_aside(folder, state.damage)
        except OSError as refused:  # a folder that may only be read
            log.warning("damaged record: %s; not moved aside: %s", state.damage, refused)
    return state


def look(folder: Path) -> RunState:
    """The state of one run folder; changes nothing there, a damaged record is only named."""
    state = _look(folder)
    # a run that ended between the looks at its record and at its lock is not interrupted
    return _look(folder) if state.state == "interrupted" else state


def _look(folder: Path) -> RunState:
    try:
        record = read_record(folder)
    except (FileNotFoundError, NotADirectoryError):
        return RunState("missing")
    except DamagedRecordError as error:
        return RunState("missing", holder=holder_of(folder / LOCK), damage=str(error))
    holder = holder_of(folder / LOCK)
    if holder is not None:
        return RunState("running", record, holder)
    if record.status == "running":
        return RunState("interrupted", record)
    return RunState(record.status, record)


def set_aside(folder: Path, reason: str) -> Path:
    """Move a damaged run folder into the study's folder `damaged`, and say so."""
    aside = folder.parent / ASIDE
    aside.mkdir(exist_ok=True)
    number = 1
    while (target := aside / f"{folder.name}-{number}").exists():
        number += 1
    os.rename(folder, target)
    log.warning("damaged record: %s; moved aside to %s, the run counts as missing", reason, target)
    return target


def read_study(folder: Path) -> list[Record]:
    """The records of one study, sorted by cell, arm and seed; damaged ones are moved aside."""
    states = [run_state(path) for path in run_folders(folder)]
    records = [state.record for state in states if state.record is not None]
    return sorted(records, key=lambda record: (record.cell, record.arm, record.seed))


def chosen_study(runs_dir: Path, study: str | None, command: str) -> Path:
    """The folder of ``study``; `InputError` if it is not given to ``command`` or not there."""
    names = [path.name for path in studies(runs_dir)]
    if study is None:
        raise InputError(
            f"say which study to {command}, as in lossbench {command} study=NAME "
            f"(in {runs_dir}: {', '.join(names) or 'none yet'})"
        )
    if study not in names:
        raise unknown(f"study in {runs_dir}", study, names)
    return runs_dir / study


def run_folders(study: Path) -> list[Path]:
    """The folders of ``study`` that hold a record."""
    if not study.is_dir():
        return []
    return sorted(path.parent for path in study.glob(f"*/{RECORD}"))


def planned_folders(study: Path) -> list[str]:
    """The run folders that the sweeps of ``study`` planned, of all sweeps since `plan.json` began.

    Empty if there was no sweep. Raises `InputError` for a file that cannot be read.
    """
    return list(planned_runs(study))


def planned_runs(study: Path) -> dict[str, dict[str, Any]]:
    """What `plan.json` says of each planned run, by folder. Raises `InputError`."""
    try:
        plan = json.loads((study / PLAN).read_text())
        runs = {str(entry["folder"]): dict(entry) for entry in plan["runs"]}
        for name in runs:  # commands look into these folders, and move damaged ones aside
            if Path(name).name != name or name == "..":
                raise ValueError(f"{name!r} is no folder of a run")
        return runs
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{study / PLAN} cannot be read ({error}); remove it, the records are not affected"
        ) from error


def add_to_plan(study: Path, runs: Iterable[Mapping[str, Any]]) -> None:
    """Add ``runs`` to `plan.json`, the union of all sweeps of ``study``; each has a ``folder``.

    A run that is there already is described anew. Two sweeps that start at once lose nothing: one
    waits for the other. Raises `InputError` for a file that cannot be read, and `LockedError` if
    somebody is at it for longer than `PLAN_WAIT_SECONDS`.
    """
    with _alone(study / PLAN_LOCK):
        files.remove_leftovers(study, of=PLAN)
        union = planned_runs(study) | {str(run["folder"]): dict(run) for run in runs}
        written = datetime.now(UTC).isoformat(timespec="seconds")
        content = {"schema": PLAN_SCHEMA, "written": written, "runs": list(union.values())}
        files.write_json(study / PLAN, content)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    lock = RunLock(path)
    end = time.monotonic() + PLAN_WAIT_SECONDS
    while True:
        try:
            lock.acquire()
            break
        except LockedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
    try:
        yield
    finally:
        lock.release()


def studies(runs_dir: Path) -> list[Path]:
    """The study folders below ``runs_dir``: those with a plan, a record, or trials of a search."""
    if not runs_dir.is_dir():
        return []
    return sorted(
        path
        for path in runs_dir.iterdir()
        if path.is_dir()
        and ((path / PLAN).is_file() or (path / TRIALS / PLAN).is_file() or run_folders(path))
    )
