"""What a sweep says before and after: the plan, and every failure."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lossbench.records import run_state
from lossbench.sweeps.plan import Planned
from lossbench.sweeps.sealing import seal_notes


def print_plan(planned: Sequence[Planned], origins: Sequence[str]) -> None:
    """Runs, already done, to do; then the arms, cells and seeds, and where the data comes from."""
    runs = [entry.run for entry in planned]
    done = sum(entry.state.state == "done" and not entry.to_do for entry in planned)
    failed = sum(entry.state.state == "failed" and not entry.to_do for entry in planned)
    to_do = sum(entry.to_do for entry in planned)
    words = [f"{len(runs)} runs", f"{done} already done", f"{to_do} to do"]
    if failed:
        words.insert(2, f"{failed} failed before (retry_failed=true repeats them)")
    say(f"study {runs[0].study}: {', '.join(words)}")
    for name, values in (
        ("arms", [run.arm for run in runs]),
        ("cells", [run.cell for run in runs]),
        ("seeds", [str(run.seed) for run in runs]),
        ("data", origins),
    ):
        if values:
            say(f"  {name:6} {'; '.join(dict.fromkeys(values))}")
    for note in seal_notes((entry.run, entry.state.record) for entry in planned):
        say(f"  {note}")


def print_summary(planned: Sequence[Planned], outcomes: Sequence[Mapping[str, Any]]) -> int:
    """Every failure with its reason, old ones too, and where the results are; their number."""
    failures = [
        (entry.run.folder, entry.state.record.reason if entry.state.record else None)
        for entry in planned
        if entry.state.state == "failed" and not entry.to_do
    ]
    failures += [
        (outcome["folder"], outcome["reason"])
        for outcome in outcomes
        if outcome["state"] == "failed"
    ]
    states = Counter(outcome["state"] for outcome in outcomes)
    run = planned[0].run
    unfinished = sum(entry.to_do for entry in planned) - states["done"] - states["failed"]
    already = len(planned) - sum(entry.to_do for entry in planned)
    words = [f"{states['done']} trained", f"{already} from before", f"{len(failures)} failed"]
    if unfinished:
        words.append(f"{unfinished} not finished")
    say(f"study {run.study}: {', '.join(words)}; {run.folder.parent}")
    for folder, reason in failures:
        say(f"  failed: {folder}: {reason}")
    if not failures and not unfinished:
        place = "" if run.config["runs_dir"] == "runs" else f" runs_dir={run.config['runs_dir']}"
        now = [(entry.run, run_state(entry.run.folder).record) for entry in planned]
        sealed = any(record.sealed for _, record in now if record)
        for note in seal_notes(now):
            say(f"  {note}")
        on, metric = (" on validation", " metric=val/cls/balanced_accuracy") if sealed else ("", "")
        say(f"compare them{on} with: lossbench compare study={run.study}{place}{metric}")
    return len(failures) + unfinished


def say(line: str) -> None:
    """A line for the user, at once also when the output is a file."""
    print(line, file=sys.stderr, flush=True)
