"""What a sweep says before and after: the plan, and every failure."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from lossbench.records.study import PLAN, look
from lossbench.sweeps.plan import Planned
from lossbench.sweeps.sealing import seal_notes


def overview(
    planned: Sequence[Planned], origins: Sequence[str], exclude: Sequence[str], time: str
) -> Iterator[str]:
    """Runs, already done, to do; then arms, cells and seeds, the data, what is left out, the time.

    ``origins`` say where the data comes from, ``exclude`` what is left out, ``time`` how long the
    sweep will take; what is empty is not said.
    """
    runs = [entry.run for entry in planned]
    done = sum(entry.state.state == "done" and not entry.to_do for entry in planned)
    failed = sum(entry.state.state == "failed" and not entry.to_do for entry in planned)
    to_do = sum(entry.to_do for entry in planned)
    begun = Counter(entry.state.state for entry in planned)
    parts = [f"{begun[state]} {state}" for state in ("interrupted", "running") if begun[state]]
    words = [f"{len(runs)} runs", f"{done} already done", f"{to_do} to do"]
    words[-1] += f" ({', '.join(parts)})" if parts else ""
    if failed:
        words.insert(2, f"{failed} failed before (retry_failed=true repeats them)")
    yield f"study {runs[0].study}: {', '.join(words)}"
    for name, values in (
        ("arms", [run.arm for run in runs]),
        ("cells", [run.cell for run in runs]),
        ("seeds", [str(run.seed) for run in runs]),
        ("without", exclude),
        ("data", origins),
        ("time", [time]),
    ):
        if any(values):
            yield f"  {name:7} {'; '.join(dict.fromkeys(values))}"
    for note in seal_notes((entry.run, entry.state.record) for entry in planned):
        yield f"  {note}"


def given_up(planned: Sequence[Planned], before: Collection[str]) -> str:
    """That earlier sweeps planned runs that this one leaves out; "" if all of them have ended.

    ``before`` are the folders that they planned.
    """
    mine = {entry.run.folder.name for entry in planned}
    study = planned[0].run.folder.parent
    others = [study / name for name in before if name not in mine]
    pending = sum(look(folder).state not in ("done", "failed") for folder in others)
    if not pending:
        return ""
    runs = "run is" if pending == 1 else "runs are"
    return (
        f"{pending} {runs} planned by earlier sweeps of this study and not done; to forget "
        f"plans, remove {study / PLAN} before a sweep (and folders of runs you have given up)"
    )


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
        now = [(entry.run, look(entry.run.folder).record) for entry in planned]
        sealed = any(record.sealed for _, record in now if record)
        for note in seal_notes(now):
            say(f"  {note}")
        on, metric = (" on validation", " metric=val/cls/balanced_accuracy") if sealed else ("", "")
        told = f"compare them{on} with: lossbench compare study={run.study}{place}{metric}"
        say(f"{told}{baseline_words(planned)}")
    return len(failures) + unfinished


def baseline_words(planned: Sequence[Planned]) -> str:
    """``baseline=ARM``, where the arms are not compared with the one that the config names."""
    runs = [entry.run for entry in planned]
    known = {name for run in runs for name in (run.arm, run.loss)}
    named = runs[0].config.get("baseline") or "cross_entropy"
    return "" if named.partition(" + ")[0] in known else f' baseline="{runs[0].arm}"'


def say(line: str) -> None:
    """A line for the user, at once also when the output is a file."""
    print(line, file=sys.stderr, flush=True)
