"""How a sweep is going: a bar with the time left, or a line per run where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from lossbench.config import Run
from lossbench.errors import GO_ON
from lossbench.sweeps.estimate import duration


class SweepProgress:
    """A progress bar over epochs and runs; a context manager, fed by `Pool`'s notices."""

    def __init__(self, runs: int, workers: int, start: str | None = None) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.total = runs
        plural = "es" * (workers != 1)
        self.start = start or (
            f"starting {workers} worker process{plural}; importing torch takes a while"
        )
        self.finished = 0
        self._fraction: dict[str, float] = {}  # of the runs in hand
        self._began: dict[str, float] = {}
        self._said_locked: set[str] = set()
        self._said_fault = False
        self._start = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("runs"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=runs, left="")

    def __enter__(self) -> SweepProgress:
        self._bar.start()
        self._say(self.start)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):  # the terminal may be gone
            self._bar.stop()

    def notice(self, kind: str, run: Run | None, detail: Any) -> None:
        """Show what has happened to ``run``: started, epoch, ended; or that Ctrl-C was pressed."""
        answers: dict[str, Callable[..., None]] = {
            "started": self._started,
            "epoch": self._epoch,
            "locked": self._locked,
            "died": self._died,
            "ended": self._end,
            "interrupted": self._interrupted,
        }
        answers[kind](run, detail)
        self._bar.update(self._task, completed=self.finished, left=self._time_left())

    def _started(self, run: Run, detail: Any) -> None:
        self._began[run.identity] = time.monotonic()

    def _epoch(self, run: Run, detail: Any) -> None:
        self._fraction[run.identity] = detail[0] / run.config["trainer"]["max_epochs"]

    def _end(self, run: Run, outcome: dict[str, Any]) -> None:
        if outcome["state"] == "interrupted":
            self._fault(outcome["reason"])
            return
        self.finished += 1
        self._fraction.pop(run.identity, None)
        seconds = time.monotonic() - self._began.get(run.identity, self._start)
        words = f"{self.finished}/{self.total} {run.arm} seed {run.seed} ({run.cell})"
        if outcome["state"] in ("failed", "refused"):
            self._say(f"{words} {outcome['state'].upper()}: {outcome['reason']}")
        else:
            self._say(
                f"{words} {outcome['state']} in {seconds:.1f} s  {self._time_left()}".rstrip()
            )

    def _locked(self, run: Run, reason: str) -> None:
        if run.identity not in self._said_locked:
            self._said_locked.add(run.identity)
            self._say(f"waiting: {reason}")

    def _died(self, run: Run, how: str) -> None:
        self._say(f"{run.arm} seed {run.seed} ({run.cell}): {how}")

    def _fault(self, reason: str) -> None:
        if not self._said_fault:  # the others will say the same
            self._said_fault = True
            self._say(f"stopping: {reason}; {GO_ON}")

    def _interrupted(self, run: Run | None, detail: Any) -> None:
        self._say("stopping: the running ones are finished first; Ctrl-C again stops them now")

    def _time_left(self) -> str:
        done = self.finished + sum(self._fraction.values())
        if done == 0:
            return ""
        left = (time.monotonic() - self._start) * (self.total - done) / done
        return f"{duration(left)} left"

    def _say(self, line: str) -> None:
        with suppress(OSError):  # the terminal may be gone: the sweep goes on
            self.console.print(Text(line))  # Text: a label in brackets is not markup
