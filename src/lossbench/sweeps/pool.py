"""Local worker processes: persistent, replaced when killed, gone with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from multiprocessing.connection import wait
from typing import Any

from lossbench.config import Run
from lossbench.records import LockedError
from lossbench.records.record import finished_epochs
from lossbench.stopping import StopNow
from lossbench.sweeps.deaths import Deaths
from lossbench.sweeps.worker import work
from lossbench.training.outcome import record_failure

RETRY_LOCKED_SECONDS = 1.0
STARTS = 3  # so often, in a row, the workers of all places may die before one of them is ready

Notice = Callable[[str, Run | None, Any], None]
Slot = Mapping[str, str]


class WorkerStartError(RuntimeError):
    """Worker processes die before they can take a run."""


class Worker:
    """One worker process and the run it has in hand."""

    def __init__(self, threads: int, slot: Slot) -> None:
        self.slot = slot
        # forked from a server that has imported torch and Lightning once: a further worker, or
        # the one that replaces a killed one, starts in milliseconds
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["lossbench.training.run"])
        self.connection, theirs = context.Pipe()
        lifeline, self._lifeline = context.Pipe(duplex=False)
        arguments = (theirs, lifeline, dict(slot))
        self.process = context.Process(target=work, args=arguments, daemon=True)
        with _environment(threads), _ctrl_c_ignored():
            forkserver.ensure_running()
        self.process.start()  # waits until the server has imported all that; Ctrl-C ends the wait
        theirs.close()
        lifeline.close()
        self.ready = False
        self.run: Run | None = None

    def give(self, run: Run | None) -> None:
        """Hand over a run, or None for the end."""
        self.run = run
        with suppress(BrokenPipeError, ConnectionResetError):  # just died: the loop sees that next
            self.connection.send(None if run is None else run.config)

    def messages(self) -> Iterator[tuple[Any, ...]]:
        """What the worker has said since the last look."""
        try:
            while self.connection.poll():
                yield self.connection.recv()
        except (EOFError, OSError):
            return

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.join()
        self.cut()

    def cut(self) -> None:
        """Close the pipes: a process that lives without its server, unseen from here, ends too."""
        self.connection.close()
        self._lifeline.close()


class Pool:
    """Runs many runs with ``threads`` torch threads each, one worker in each of the ``slots``.

    A slot is what its worker adds to its environment before it touches a GPU; the worker that
    replaces a dead one takes over its slot.

    ``notice(kind, run, detail)`` is called with "started", "epoch", "locked", "died", "ended", and
    with "interrupted" and no run.
    """

    def __init__(self, slots: Sequence[Slot], threads: int, notice: Notice) -> None:
        self._free = list(slots)[::-1]  # of which the last is given out next
        self._places = len(slots)
        self.threads = threads
        self.notice = notice
        self.stop_asked = False
        self._workers: list[Worker] = []
        self._waiting: deque[tuple[float, Run]] = deque()
        self._ended: dict[str, dict[str, Any]] = {}
        self._deaths = Deaths()
        self._stillborn = 0

    def run(self, runs: Iterable[Run]) -> dict[str, dict[str, Any]]:
        """Run all; returns the outcome of every run that ended, by identity.

        A run whose worker is killed continues on another one; only after `deaths.MOST` without
        a further epoch it is recorded as failed. An outcome "interrupted" (the machine is at fault)
        and, with on_error=stop, "failed" let the running ones finish and start no further one.
        The first Ctrl-C does so too, the second and `StopNow` end the workers; all of these end in
        KeyboardInterrupt. Raises `WorkerStartError`, and OSError where the machine is at fault.
        """
        source = iter(runs)
        interrupted = False
        try:
            while True:
                try:
                    self._hand_out(source)
                    if not any(worker.run for worker in self._workers) and not self._waiting:
                        break
                    self._listen()
                except KeyboardInterrupt as asked:
                    again, interrupted, self.stop_asked = interrupted, True, True
                    if again or isinstance(asked, StopNow):
                        raise
                    self.notice("interrupted", None, None)
        finally:
            self._close(patient=not interrupted)
        if interrupted:
            raise KeyboardInterrupt
        return self._ended

    def _hand_out(self, source: Iterator[Run]) -> None:
        if self.stop_asked:
            self._waiting.clear()
        for worker in self._workers:
            if worker.run is None and worker.ready:
                run = self._next(source)
                if run is None:
                    return
                worker.give(run)
                self.notice("started", run, None)
        if any(worker.run is None for worker in self._workers):
            return  # one that is starting, or has nothing to do
        while self._free:
            run = self._next(source)
            if run is None:
                return
            self._waiting.appendleft((0.0, run))  # for the new worker, once it is ready
            try:
                self._workers.append(Worker(self.threads, self._free[-1]))
            except (EOFError, ConnectionError):  # the server was killed, starting or just now
                self._not_started("the server that they are forked from ended")
                return
            self._free.pop()

    def _next(self, source: Iterator[Run]) -> Run | None:
        if self.stop_asked:
            return None
        if self._waiting and self._waiting[0][0] <= time.monotonic():
            return self._waiting.popleft()[1]
        return next(source, None)

    def _listen(self) -> None:
        sources: list[Any] = [worker.connection for worker in self._workers]
        sources += [worker.process.sentinel for worker in self._workers]
        if sources:
            wait(sources, timeout=0.5)
        else:
            time.sleep(0.1)
        for worker in list(self._workers):
            dead = not worker.process.is_alive()  # asked first: what it said is read below
            for message in worker.messages():
                self._handle(worker, message)
            if dead:
                self._bury(worker)

    def _handle(self, worker: Worker, message: tuple[Any, ...]) -> None:
        kind, *details = message
        if kind == "ready":
            worker.ready = True
            self._stillborn = 0
            return
        assert worker.run is not None
        if kind == "epoch":
            self.notice("epoch", worker.run, details)
        elif details[0]["state"] == "locked":
            self._retry(worker, details[0]["reason"])
        else:
            self._end(worker, details[0])

    def _retry(self, worker: Worker, reason: str) -> None:
        """Another process writes the run: ask again later, whether it has finished it."""
        run, worker.run = worker.run, None
        assert run is not None
        self._waiting.append((time.monotonic() + RETRY_LOCKED_SECONDS, run))
        self.notice("locked", run, reason)

    def _end(self, worker: Worker, outcome: dict[str, Any]) -> None:
        run, worker.run = worker.run, None
        assert run is not None
        self._ended[run.identity] = outcome
        self.notice("ended", run, outcome)
        wrong = outcome["state"] in ("failed", "refused")
        on_error_stop = wrong and run.config["on_error"] == "stop"
        if on_error_stop or outcome["state"] == "interrupted":
            self.stop_asked = True

    def _bury(self, worker: Worker) -> None:
        worker.process.join()
        worker.cut()
        self._workers.remove(worker)
        self._free.append(worker.slot)
        code = worker.process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        if not worker.ready:
            self._not_started(f"the last one {how}")
        if worker.run is not None:
            self._died(worker, worker.run, how)

    def _not_started(self, why: str) -> None:
        self._stillborn += 1
        # when the server dies, so do all workers that are starting: that is one time, not several
        if self._stillborn >= STARTS * self._places:
            raise WorkerStartError(
                f"{self._stillborn} worker processes in a row did not start: {why}"
            )

    def _died(self, worker: Worker, run: Run, how: str) -> None:
        """Its run is interrupted and goes on elsewhere, unless it kills whoever takes it."""
        how = f"its worker process {how}"
        reason = self._deaths.reason_to_give_up(run, how)
        if reason is None:
            worker.run = None
            self._waiting.appendleft((0.0, run))
            finished = finished_epochs(run.folder)
            self.notice("died", run, f"{how}; it goes on after epoch {finished}")
            return
        try:
            outcome = record_failure(run, reason)
        except LockedError as error:  # another sweep has taken it over already
            self._retry(worker, str(error))
        else:
            self._end(worker, {**vars(outcome), "folder": str(outcome.folder)})

    def _close(self, patient: bool) -> None:
        for worker in self._workers:
            if worker.run is None and patient:
                worker.give(None)
            else:
                worker.kill()
        for worker in self._workers:
            worker.process.join(timeout=5)
            if worker.process.is_alive():
                worker.kill()
            worker.cut()


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    # what is started in here ignores Ctrl-C from its first instruction on: the parent answers it
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    # a worker's libraries read these when they are imported; torch's own number is set per run
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
