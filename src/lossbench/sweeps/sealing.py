"""What train and sweep say of test=sealed."""

from __future__ import annotations

from collections.abc import Iterable

from lossbench.config import Run
from lossbench.records import Record


def seal_notes(runs: Iterable[tuple[Run, Record | None]]) -> list[str]:
    """Where the seal of ``runs``, each with its record so far, is not what the reader may think.

    A finished run keeps the seal that it was trained under, whatever is asked for now.
    """
    known = list(runs)
    done = [(run, record) for run, record in known if record and record.status == "done"]
    sealed = sum(record.sealed for _, record in done)
    too_late = sum(is_sealed(run) and not record.sealed for run, record in done)
    opening = sum(
        not (is_sealed(run) or (record and record.sealed))
        for run, record in known
        if record is None or record.status != "done"
    )
    notes = []
    if sealed:
        study = known[0][0].study
        notes.append(
            f"{_runs(sealed)} sealed: nothing of test is measured; "
            f"lossbench unseal study={study} opens it"
        )
    if sealed and opening:
        notes.append(f"{_runs(opening)} to come and not sealed, unlike others: add test=sealed")
    if too_late:
        notes.append(f"{_runs(too_late)} open: finished without test=sealed, or unsealed since")
    return notes


def is_sealed(run: Run) -> bool:
    """Whether the config of ``run`` asks for a sealed test."""
    return run.config["test"] == "sealed"


def _runs(count: int) -> str:
    return "1 run is" if count == 1 else f"{count} runs are"
