"""`lossbench status`: what lies in the runs folder, in numbers."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from lossbench.arguments import read_settings
from lossbench.errors import unknown
from lossbench.records import RunState, run_folders, run_state, sealed_runs, studies
from lossbench.records.study import planned_folders

STATES = ("done", "failed", "running", "interrupted", "missing")


def status_command(arguments: list[str]) -> int:
    """Print the state of one study run by run, or of every study in a line each."""
    settings = read_settings(arguments, {"study": None, "runs_dir": "runs"}, "status")
    runs_dir = Path(settings["runs_dir"] or "runs")
    found = studies(runs_dir)
    if settings["study"] is not None:
        study = runs_dir / settings["study"]
        if study not in found:
            raise unknown(f"study in {runs_dir}", settings["study"], [path.name for path in found])
        print_study(study)
    elif not found:
        print(f"no studies in {runs_dir}; `lossbench train` or `lossbench sweep` makes one")
    else:
        for path in found:
            print(f"{path.name:30} {counts(study_states(path))}")
    return 0


def study_states(study: Path) -> dict[str, RunState]:
    """The state of every run of ``study`` by folder name: those planned, and those recorded."""
    names = dict.fromkeys([*planned_folders(study), *(path.name for path in run_folders(study))])
    return {name: run_state(study / name) for name in names}


def counts(states: dict[str, RunState]) -> str:
    """How many runs are in which state, as in ``3 done, 1 running; test is sealed in 3``."""
    numbers = Counter(state.state for state in states.values())
    told = ", ".join(f"{numbers[name]} {name}" for name in STATES if numbers[name])
    sealed = len(sealed_runs(state.record for state in states.values() if state.record))
    return f"{told}; test is sealed in {sealed}" if sealed else told


def print_study(study: Path) -> None:
    """A summary line, then a line for every run that is not done."""
    states = study_states(study)
    print(f"{study.name}: {counts(states)}")
    for name, state in states.items():
        if state.state != "done":
            print(f"  {state.state:12} {name}{detail(state)}")


def detail(state: RunState) -> str:
    """Who runs it and how far it is, or why it failed."""
    if state.state == "failed" and state.record is not None:
        return f": {state.record.reason}"
    if state.state != "running" or state.holder is None:
        return ""
    holder = state.holder
    words = f": process {holder.get('process')} on {holder.get('host')}"
    if "epoch" in holder:
        since = time.time() - float(holder["time"])
        words += f", epoch {holder['epoch']} of {holder['epochs']}, {since:.0f} s ago"
    return words
