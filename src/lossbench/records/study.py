"""A study is a folder of run folders; its state is what lies there, and nothing else."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossbench.errors import InputError, unknown
from lossbench.records.lock import holder_of
from lossbench.records.record import LOCK, RECORD, DamagedRecordError, Record, read_record

log = logging.getLogger("lossbench")

PLAN = "plan.json"
ASIDE = "damaged"


@dataclass(frozen=True)
class RunState:
    """Where one run stands: done, failed, running, interrupted (continues) or missing."""

    state: str
    record: Record | None = None
    holder: dict[str, Any] | None = None


def run_state(folder: Path) -> RunState:
    """Look at one run folder; a damaged one is named, moved aside and counts as missing."""
    try:
        record = read_record(folder)
    except (FileNotFoundError, NotADirectoryError):
        return RunState("missing")
    except DamagedRecordError as error:
        if holder_of(folder / LOCK) is None:
            try:
                set_aside(folder, str(error))
            except OSError as refused:  # a folder that may only be read
                log.warning("damaged record: %s; not moved aside: %s", error, refused)
        return RunState("missing")
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
    """The run folders that the newest sweep of ``study`` planned; none if there was no sweep."""
    try:
        plan = json.loads((study / PLAN).read_text())
        return [entry["folder"] for entry in plan["runs"]]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{study / PLAN} cannot be read ({error}); remove it, the records are not affected"
        ) from error


def studies(runs_dir: Path) -> list[Path]:
    """The study folders below ``runs_dir``: those with a plan or a record."""
    if not runs_dir.is_dir():
        return []
    return sorted(
        path
        for path in runs_dir.iterdir()
        if path.is_dir() and ((path / PLAN).is_file() or run_folders(path))
    )
