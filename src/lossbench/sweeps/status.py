"""`lossbench status`: what lies in the runs folder, in numbers.

It reads records and locks and asks no process, so it may be asked on any machine that sees the
folder, also where it may only read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from lossbench.arguments import read_settings
from lossbench.errors import unknown
from lossbench.records import RunState, run_folders, run_state, sealed_runs, studies
from lossbench.records.record import finished_epochs
from lossbench.records.study import TRIALS, planned_folders
from lossbench.sweeps.estimate import duration

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
            print(f"{path.name:30} {summary(study_states(path), path)}")
    return 0


def study_states(study: Path) -> dict[str, RunState]:
    """The state of every run of ``study`` by folder name: those planned, and those recorded."""
    names = dict.fromkeys([*planned_folders(study), *(path.name for path in run_folders(study))])
    return {name: run_state(study / name) for name in names}


def summary(states: dict[str, RunState], study: Path) -> str:
    """How many runs are in which state, and the time left, as in ``3 done, 1 running, 2:10 left``.

    Of a ``study`` that is being tuned, or was, the trials are told as well.
    The time is told while runs are running of which at least one has finished an epoch; for those
    that wait, once a run is done. A rough one: it takes the runs to be alike.
    """
    numbers = Counter(state.state for state in states.values())
    words = [f"{numbers[name]} {name}" for name in STATES if numbers[name]]
    left = time_left(states.values())
    told = [", ".join(words if left is None else [*words, f"{duration(left)} left"])]
    if sealed := len(sealed_runs(state.record for state in states.values() if state.record)):
        told.append(f"test is sealed in {sealed}")
    if trials := study_states(study / TRIALS):
        told.append(f"trials of tuning: {summary(trials, study / TRIALS)}")
    return "; ".join(filter(None, told))


def time_left(states: Collection[RunState]) -> float | None:
    """Seconds until the study is done with as many runs at once as now; None if it cannot be told.

    A run that waits takes what finished ones took on average.
    """
    running = [state.holder for state in states if state.state == "running" and state.holder]
    rest = [run_left(holder) for holder in running]
    known = [seconds for seconds in rest if seconds is not None]
    if not known:
        return None
    of_running = sum(known) / len(known) * len(rest)
    waiting = sum(state.state in ("interrupted", "missing") for state in states)
    took = [state.record.seconds for state in states if state.state == "done" and state.record]
    if not waiting:
        return max(known)
    return (of_running + waiting * sum(took) / len(took)) / len(rest) if took else None


def run_left(holder: Mapping[str, Any]) -> float | None:
    """Seconds that the run in hand still takes, from the pace of its epochs."""
    if "pace" not in holder:
        return None
    return float(holder["pace"]) * (holder["epochs"] - holder["epoch"])


def print_study(study: Path) -> None:
    """A summary line, then a line for every run that is not done."""
    states = study_states(study)
    print(f"{study.name}: {summary(states, study)}")
    states |= {f"{TRIALS}/{name}": state for name, state in study_states(study / TRIALS).items()}
    for name, state in states.items():
        if state.state != "done":
            print(f"  {state.state:12} {name}{detail(study / name, state)}")


def detail(folder: Path, state: RunState) -> str:
    """Who runs it, how far it is and how long it takes; where it continues; or why it failed."""
    if state.state == "failed" and state.record is not None:
        return f": {state.record.reason}"
    if state.state == "interrupted":
        epochs = finished_epochs(folder)
        return f": continues after epoch {epochs}" if epochs else ": starts over"
    if state.holder is None:
        return ""
    holder = state.holder
    words = f": process {holder.get('process')} on {holder.get('host')}"
    if "epoch" in holder:
        words += f", epoch {holder['epoch']} of {holder['epochs']}"
    left = run_left(holder)
    return words if left is None else f"{words}, {duration(left)} left"
