"""How a run begins and ends in its folder; no torch, so that a sweep's parent can use it."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lossbench.config import Config, Run
from lossbench.errors import InputError, machine_fault
from lossbench.records import Record, RunLock, files, run_state
from lossbench.records.record import (
    ARRAYS,
    CHECKPOINT,
    CONFIG,
    HISTORY,
    LOCK,
    OUTPUTS,
    SAMPLE_HISTORY,
    SUSPICIOUS_LABELS,
    TENSORBOARD,
    TRACEBACK,
)


@dataclass(frozen=True)
class Outcome:
    """How a run ended: ``done``, ``failed``, or not yet: ``interrupted``, ``locked``, ``refused``.

    ``new`` is False if it had ended so before.
    """

    state: str
    folder: Path
    reason: str | None = None
    new: bool = True


def already_ended(run: Run) -> Outcome | None:
    """The outcome of ``run`` if it is done or has failed and is not to be repeated."""
    before = run_state(run.folder)
    if before.record is None or run.config["rerun"]:
        return None
    if before.record.status == "done":
        return Outcome("done", run.folder, new=False)
    if before.record.status == "failed" and not run.config["retry_failed"]:
        return Outcome("failed", run.folder, before.record.reason, new=False)
    return None


def make_folder(folder: Path) -> None:
    """Make the run's folder; raises `InputError` if it cannot be made or written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError as error:
        if error.errno != errno.EROFS and machine_fault(error):
            raise
        raise InputError(
            f"runs_dir: {folder} cannot be made ({error.strerror}); "
            "choose a folder that can be written with runs_dir=FOLDER"
        ) from error
    if not writable:
        raise InputError(
            f"runs_dir: {folder} cannot be written; choose another folder with runs_dir=FOLDER"
        )


def clear(folder: Path) -> None:
    """Remove the earlier result of a run that is repeated."""
    results = (CHECKPOINT, HISTORY, ARRAYS, OUTPUTS, TRACEBACK, SAMPLE_HISTORY, SUSPICIOUS_LABELS)
    for name in results:
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / TENSORBOARD, ignore_errors=True)


def record_failure(run: Run, reason: str) -> Outcome:
    """Record ``run`` as failed for a reason that its own process could not write down."""
    make_folder(run.folder)
    with RunLock(run.folder / LOCK):
        files.remove_leftovers(run.folder)
        before = run_state(run.folder).record
        if before is not None and before.status == "done":
            return Outcome("done", run.folder)  # it died after its last word was written
        files.write_text(run.folder / CONFIG, dump(run.config))
        replace(before or blank_record(run), status="failed", reason=reason).write(run.folder)
    return Outcome("failed", run.folder, reason)


def blank_record(run: Run) -> Record:
    """The record of ``run`` as far as its config tells."""
    return Record(
        status="running",
        study=run.study,
        arm=run.arm,
        cell=run.cell,
        identity=run.identity,
        configuration=run.configuration,
        seed=run.seed,
        loss=run.loss,
        model=run.model,
        sealed=run.sealed,
        started=time_ago(0.0),
    )


def time_ago(seconds: float) -> str:
    """The time ``seconds`` ago, as a record has it."""
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds")


def dump(config: Config) -> str:
    """``config`` as YAML."""
    import yaml

    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
