"""Runs as jobs of another system (Slurm, Ray): submitted there, followed in their records."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from lossbench.config import Config, Run
from lossbench.records import LockedError, RunState, run_state
from lossbench.sweeps.pool import Notice, Slot
from lossbench.training.outcome import record_failure

DEATHS = 3  # a run whose jobs die this often without a further epoch between them has failed


class Job(Protocol):
    """One submitted job."""

    def ended(self) -> bool:
        """Whether it will do nothing more."""
        ...

    def error(self) -> str | None:
        """Of an ended job: what it died of, in a line; None if it brought its run to an end."""
        ...

    def cancel(self) -> None:
        """Stop it at once, or take it out of the queue."""
        ...


Submit = Callable[[Sequence[tuple[Run, Slot]]], Sequence[Job]]


class RunJob:
    """What a job does, in a process of another system; can be pickled.

    The process goes where the sweep was started, so that relative paths mean the same everywhere,
    and imports from where the sweep does, so that the user's own losses are found.
    """

    def __init__(self) -> None:
        self.folder = os.getcwd()
        paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        self.paths = [os.path.abspath(path) for path in paths if path]

    def __call__(self, config: Config, slot: Slot) -> dict[str, Any]:
        os.environ.update(slot)
        os.chdir(self.folder)
        sys.path[:0] = [path for path in self.paths if path not in sys.path]
        stop_when_preempted()
        from lossbench.sweeps.worker import execute_reported

        return execute_reported(Run(config))

    def checkpoint(self, config: Config, slot: Slot) -> Any:
        """Submitit's hook for a job that is preempted or out of time: the same job once more.

        All that there is to keep is in the run's checkpoint already.
        """
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, config, slot)


def stop_when_preempted() -> None:
    """Let submitit's signal end this process in any case.

    Where submitit gives a job up (out of time too often) its handler raises an Exception in the
    middle of training, which would be taken for a failure of the run.
    """
    number = getattr(signal, "SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2"))
    handler = signal.getsignal(number)
    if not callable(handler):
        return

    def stop(received: int, frame: Any) -> None:
        try:
            handler(received, frame)
        except Exception as error:
            raise SystemExit(str(error)) from error

    signal.signal(number, stop)


class InHand:
    """A run whose job is submitted."""

    def __init__(self, run: Run, slot: Slot, job: Job) -> None:
        self.run = run
        self.slot = slot
        self.job = job
        self.epoch: int | None = None  # of the last sign of life; None before it trains


class Jobs:
    """Has runs done by ``submit``, one in each of the ``slots`` at a time.

    ``notice`` is called as by `Pool`. What is known of a run comes from its record and its lock, at
    each look (every ``seconds``); a job only says that it has ended, and what it died of. A run
    that another process writes is waited for.
    """

    def __init__(
        self, submit: Submit, slots: Sequence[Slot], notice: Notice, seconds: float
    ) -> None:
        self.submit = submit
        self.notice = notice
        self.seconds = seconds
        self.stopping = False
        self.died: list[str] = []
        self._free = list(slots)[::-1]
        self._waiting: list[Run] = []
        self._in_hand: list[InHand] = []
        self._deaths: dict[str, tuple[int | None, int]] = {}  # the epoch, and how many in it

    def run(self, runs: Iterable[Run]) -> list[str]:
        """Run all; returns what jobs died of whose runs are not finished, in a line each.

        The first Ctrl-C takes back the jobs that do not train yet and lets the others finish, the
        second stops those too; both end in KeyboardInterrupt.
        """
        self._waiting = list(runs)
        interrupted = False
        try:
            while True:
                try:
                    self._hand_out()
                    if not self._in_hand and not self._waiting:
                        break
                    time.sleep(self.seconds)
                    for entry in list(self._in_hand):
                        self._look(entry)
                except KeyboardInterrupt:
                    if interrupted:
                        raise
                    interrupted = True
                    self.notice("interrupted", None, None)
                    self._stop()
        finally:
            for entry in self._in_hand:
                entry.job.cancel()
        if interrupted:
            raise KeyboardInterrupt
        return self.died

    def _hand_out(self) -> None:
        chosen: list[tuple[Run, Slot]] = []
        for run in list(self._waiting):
            if not self._free:
                break
            state = run_state(run.folder)
            if state.state == "running":
                self.notice("locked", run, f"{run.folder.name} is being written: {who(state)}")
                continue
            self._waiting.remove(run)
            chosen.append((run, self._free.pop()))
        if chosen:
            jobs = self.submit(chosen)
            self._in_hand += [
                InHand(run, slot, job) for (run, slot), job in zip(chosen, jobs, strict=True)
            ]

    def _look(self, entry: InHand) -> None:
        ended = entry.job.ended()  # asked first: what it wrote last is read below
        state = run_state(entry.run.folder)
        if state.state == "running":
            epoch = int((state.holder or {}).get("epoch", 0))
            if entry.epoch is None:
                self.notice("started", entry.run, None)
            if epoch != entry.epoch:
                entry.epoch = epoch
                self.notice("epoch", entry.run, (epoch, {}))
        if ended:
            self._in_hand.remove(entry)
            self._free.append(entry.slot)
            self._end(entry, state)

    def _end(self, entry: InHand, state: RunState) -> None:
        run, error = entry.run, entry.job.error()
        if error is None and state.state in ("done", "failed"):
            self._report(run, state.state, state.record.reason if state.record else None)
        elif self.stopping:
            self._report(run, "interrupted", None)
        elif state.state == "running":  # by another process
            self._waiting.append(run)
        elif error is not None and self._may_go_on(entry, state):
            self.notice("again", run, error)
            self._waiting.append(run)
        elif error is not None and state.state == "interrupted":
            reason = f"its job died {DEATHS} times in epoch {(entry.epoch or 0) + 1}: {error}"
            with suppress(LockedError):
                self._report(run, "failed", record_failure(run, reason).reason)
        else:
            self.died.append(
                error or f"{run.folder.name} was not finished; the log of its job says why"
            )
            self._report(run, "interrupted", error)

    def _may_go_on(self, entry: InHand, state: RunState) -> bool:
        """Whether a run whose job has died is tried once more: it trained, and got further."""
        if entry.epoch is None or state.state != "interrupted":
            return False
        before, deaths = self._deaths.get(entry.run.identity, (None, 0))
        deaths = deaths + 1 if before == entry.epoch else 1
        self._deaths[entry.run.identity] = (entry.epoch, deaths)
        return deaths < DEATHS

    def _report(self, run: Run, state: str, reason: str | None) -> None:
        outcome: Mapping[str, Any] = {
            "state": state,
            "folder": str(run.folder),
            "reason": reason,
            "new": True,
        }
        self.notice("ended", run, outcome)
        if state == "failed" and run.config["on_error"] == "stop":
            self._stop()

    def _stop(self) -> None:
        self.stopping = True
        self._waiting.clear()
        for entry in self._in_hand:
            if run_state(entry.run.folder).state != "running":
                entry.job.cancel()


def who(state: RunState) -> str:
    """The process and host that hold a run."""
    holder = state.holder or {}
    return f"process {holder.get('process', '?')} on {holder.get('host', '?')}"
