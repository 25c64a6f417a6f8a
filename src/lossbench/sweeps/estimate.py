"""How long a sweep will take, by the finished runs that lie in the runs folder."""

from __future__ import annotations

import csv
import heapq
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from lossbench.config import Run
from lossbench.records import RunState
from lossbench.records.record import HISTORY, RECORD
from lossbench.sweeps.plan import Planned

UNKNOWN = "unknown, no finished run to go by"


@dataclass(frozen=True)
class Finished:
    """What a finished run tells about the time of another."""

    configuration: str
    arm: str
    cell: str
    device: str
    seconds: float


@dataclass(frozen=True)
class RunTime:
    """Seconds that a run takes from its start, and those that are left of it; from what."""

    seconds: float
    left: float
    source: str
    runs: tuple[Finished, ...]


@dataclass(frozen=True)
class Estimate:
    """The time of every run of a sweep, in the order in which they are handed out.

    ``times`` has a `RunTime` for each planned run, None where nothing tells. ``workers`` is how
    many run at once; None: the launcher decides that elsewhere.
    """

    planned: Sequence[Planned]
    times: Sequence[RunTime | None]
    workers: int | None

    @cached_property
    def known(self) -> list[RunTime]:
        """The times of the runs to do, where they are known."""
        pairs = zip(self.planned, self.times, strict=True)
        return [time for entry, time in pairs if entry.to_do and time is not None]

    @property
    def seconds(self) -> float | None:
        """Of the whole sweep, each run going to the first free worker; None if unknown.

        Runs of which nothing is known are left out.
        """
        if not self.known:
            return None
        ends = [0.0] * (self.workers or 1)
        for run in self.known:
            heapq.heapreplace(ends, ends[0] + run.left)
        return max(ends)

    @property
    def sentence(self) -> str:
        """The estimate in a line; "" if there is nothing to do."""
        to_do = sum(entry.to_do for entry in self.planned)
        if not to_do:
            return ""
        if self.seconds is None:
            return UNKNOWN
        some = f" for {len(self.known)} of {to_do} runs" if len(self.known) < to_do else ""
        rest = f"; the rest {UNKNOWN}" if some else ""
        return f"about {duration(self.seconds)} {self._where}{some}, by {self._sources()}{rest}"

    @property
    def _where(self) -> str:
        if self.workers is None:
            return "one run after the other (the launcher decides how many run at once)"
        return f"with {self.workers} worker{'s' * (self.workers != 1)}"

    def _sources(self) -> str:
        used: dict[str, dict[Finished, None]] = {}
        for time in self.known:
            used.setdefault(time.source, {}).update(dict.fromkeys(time.runs))
        return " and ".join(
            f"{len(runs)} finished run{'s' * (len(runs) != 1)} of the {source}"
            for source, runs in used.items()
        )


def estimate(planned: Sequence[Planned], runs_dir: Path, workers: int | None) -> Estimate:
    """The `Estimate` for ``planned`` by the finished runs of all studies in ``runs_dir``."""
    finished = finished_runs(runs_dir)
    found: dict[tuple[str, str, str], tuple[float, str, tuple[Finished, ...]] | None] = {}
    times: list[RunTime | None] = []
    for entry in planned:
        run = entry.run
        key = (run.configuration, run.arm, run.cell)
        if key not in found:
            found[key] = whole_run(run, finished)
        whole = found[key]
        if whole is None:
            times.append(None)
            continue
        seconds, source, runs = whole
        left = 1 - epochs_done(entry) / run.config["trainer"]["max_epochs"]
        times.append(RunTime(seconds, seconds * max(0.0, left), source, runs))
    return Estimate(planned, times, workers)


def whole_run(
    run: Run, finished: Sequence[Finished]
) -> tuple[float, str, tuple[Finished, ...]] | None:
    """The seconds of ``run``: the median of the runs that are most like it, what they are, they.

    None if there is no such run, or none on such a device.
    """
    wanted = run.config["trainer"]["accelerator"]
    like = [
        past for past in finished if wanted == "auto" or (wanted == "cpu") == (past.device == "cpu")
    ]
    epochs = run.config["trainer"]["max_epochs"]
    same: list[tuple[str, Callable[[Finished], bool]]] = [
        ("same arm and cell", lambda past: past.configuration == run.configuration),
        ("same arm and cell", lambda past: (past.arm, past.cell) == (run.arm, run.cell)),
        ("same cell", lambda past: past.cell == run.cell),
        (
            "same data and model, by epochs",
            lambda past: place(past.cell) == place(run.cell) and epochs_in(past.cell) is not None,
        ),
    ]
    for source, fits in same:
        runs = tuple(past for past in like if fits(past))
        if runs:
            seconds = [past.seconds * epochs / (epochs_in(past.cell) or epochs) for past in runs]
            return median(seconds), source, runs
    return None


def finished_runs(runs_dir: Path) -> list[Finished]:
    """Every finished run of every study in ``runs_dir``; what cannot be read is passed over."""
    found = []
    for path in runs_dir.glob(f"*/*/{RECORD}"):
        try:
            record = json.loads(path.read_text())
            if record["status"] == "done" and record["seconds"] > 0:
                configuration, arm, cell = record["configuration"], record["arm"], record["cell"]
                device, seconds = record["hardware"].get("device", "cpu"), record["seconds"]
                found.append(Finished(configuration, arm, cell, device, float(seconds)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def place(cell: str) -> tuple[str, str]:
    """Data and model in the label of a cell."""
    parts = cell.split(" | ")
    return parts[0], parts[-2] if len(parts) > 1 else ""


def epochs_in(cell: str) -> int | None:
    """The epochs in the label of a cell."""
    number = cell.rpartition(" | ")[2].partition(" ")[0]
    return int(number) if number.isdecimal() else None


def epochs_done(entry: Planned) -> int:
    """The epochs that a half-trained run need not train again."""
    state: RunState = entry.state
    if state.state == "running" and state.holder is not None:
        return int(state.holder.get("epoch", 0))
    return epochs_written(entry.run.folder) if state.state == "interrupted" else 0


def epochs_written(folder: Path) -> int:
    """The last epoch in `history.csv`; 0 if there is none."""
    try:
        with (folder / HISTORY).open(newline="") as stream:
            rows: Iterable[dict[str, Any]] = csv.DictReader(stream)
            return max((int(row["epoch"]) for row in rows), default=0)
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def duration(seconds: float) -> str:
    """``seconds`` in words, such as ``45 s``, ``12 min``, ``3.4 h``, ``2.1 days``."""
    for unit, size, limit in (("s", 1, 90), ("min", 60, 90 * 60), ("h", 3600, 48 * 3600)):
        if seconds < limit:
            number = seconds / size
            return (
                f"{number:.1f} {unit}" if number < 10 and unit != "min" else f"{number:.0f} {unit}"
            )
    return f"{seconds / 86400:.1f} days"
