"""Runs as jobs of another system (Slurm, Ray): submitted there, followed in their records."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from lossbench.config import Config, Run
from lossbench.records import LockedError, run_state
from lossbench.records.lock import sentence
from lossbench.records.record import LOCK, finished_epochs
from lossbench.stopping import StopNow
from lossbench.sweeps.deaths import Deaths
from lossbench.sweeps.pool import Notice, Slot
from lossbench.training.outcome import record_failure


class Job(Protocol):
    """One submitted job."""

    def ended(self) -> bool:
        """Whether it will do nothing more."""
        ...

    def answer(self) -> dict[str, Any]:
        """Of an ended job: what `execute_reported` said; of a dead one state, reason and log."""
        ...

    def cancel(self) -> None:
        """Stop it at once, or take it out of the queue."""
        ...


SHARED_SECONDS = 60.0  # within which a network file system shows what another machine has written
UNSHARED = (
    "its job trained the run, and {} is not there: all machines need runs_dir on a file system "
    "that they share"
)

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
        self.before = run_state(run.folder).record
        self.slot = slot
        self.job = job
        self.ended: float | None = None  # when that was first seen
        self.epoch: int | None = None  # of the last sign of life; None before it trains


class Jobs:
    """Has runs done by ``submit``, one in each of the ``slots`` at a time.

    ``notice`` is called as by `Pool`. How far a run is and how it ended comes from its lock and its
    record, which are looked at every ``seconds``; a job only says that it has ended, and what it
    died of. A run that another process writes is waited for.
    """

    def __init__(
        self, submit: Submit, slots: Sequence[Slot], notice: Notice, seconds: float
    ) -> None:
        self.submit = submit
        self.notice = notice
        self.seconds = seconds
        self.stopping = False
        self.died: list[dict[str, Any]] = []
        self._free = list(slots)[::-1]
        self._waiting: list[Run] = []
        self._in_hand: list[InHand] = []
        self._deaths = Deaths()

    def run(self, runs: Iterable[Run]) -> list[dict[str, Any]]:
        """Run all; returns the answers of the jobs that died before they began their runs.

        A run whose job dies in training continues in another job, as in `Pool`. The first Ctrl-C,
        and what makes `Pool` start no further run, takes back the jobs that do not train yet; the
        second and `StopNow` end all. Ctrl-C ends in KeyboardInterrupt.
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
                except KeyboardInterrupt as asked:
                    if interrupted or isinstance(asked, StopNow):
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
                self.notice("locked", run, sentence(run.folder / LOCK, state.holder or {}))
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
        if not ended:
            return
        entry.ended = entry.ended or time.monotonic()
        answer = entry.job.answer()
        if answer["state"] not in ("done", "failed"):
            over = state.record != entry.before and state.state in ("done", "failed")
        elif not (over := state.state == answer["state"]):
            if time.monotonic() - entry.ended < SHARED_SECONDS:
                return  # its folder may come later than its answer
            answer = {"state": "died", "reason": UNSHARED.format(answer["folder"]), "log": ""}
        self._in_hand.remove(entry)
        self._free.append(entry.slot)
        if over:
            self._report(entry.run, state.state, state.record.reason if state.record else None)
        elif not self.stopping:
            self._unfinished(entry.run, answer, state.state)

    def _unfinished(self, run: Run, answer: Mapping[str, Any], state: str) -> None:
        if state == "running" or answer["state"] == "locked":
            self._waiting.append(run)
        elif answer["state"] in ("interrupted", "refused"):  # the machine or the input is at fault
            self._report(run, answer["state"], answer["reason"])
        elif state == "interrupted":
            self._died(run, answer["reason"])
        else:
            self.died.append(dict(answer))

    def _died(self, run: Run, how: str) -> None:
        """It is handed out again, unless it kills whoever takes it."""
        how = f"its job died: {how}"
        reason = self._deaths.reason_to_give_up(run, how)
        if reason is None:
            self._waiting.insert(0, run)
            finished = finished_epochs(run.folder)
            self.notice("died", run, f"{how}; it goes on after epoch {finished}")
            return
        try:
            record_failure(run, reason)
        except LockedError:  # another sweep has taken it over already
            self._waiting.append(run)
        else:
            self._report(run, "failed", reason)

    def _report(self, run: Run, state: str, reason: str | None) -> None:
        outcome = {"state": state, "folder": str(run.folder), "reason": reason, "new": True}
        self.notice("ended", run, outcome)
        wrong = state in ("failed", "refused")
        if state == "interrupted" or (wrong and run.config["on_error"] == "stop"):
            self._stop()

    def _stop(self) -> None:
        self.stopping = True
        self._waiting.clear()
        for entry in self._in_hand:
            if run_state(entry.run.folder).state != "running":
                entry.job.cancel()
