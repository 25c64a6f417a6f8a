"""Runs as jobs of another system, whatever becomes of the jobs. The jobs here are written out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lossbench.application import compose
from lossbench.config import Run
from lossbench.records import RunLock, read_record
from lossbench.records.record import ARRAYS, CHECKPOINT, CONFIG, HISTORY, LOCK, OUTPUTS
from lossbench.sweeps import jobs as module
from lossbench.sweeps.jobs import Jobs
from lossbench.training.outcome import blank_record

DIED = {"state": "died", "reason": "NODE_FAIL", "log": ""}
EMPTY_ZIP = b"PK\5\6" + bytes(18)

# a job tells its course: it does something between two looks, and its return value is its answer
Course = Callable[[Run], Iterator[None]]


class Told:
    """A job that follows a `Course`, a step at each look."""

    def __init__(self, course: Iterator[Any]) -> None:
        self.course = course
        self.said: dict[str, Any] | None = None

    def ended(self) -> bool:
        if self.said is None:
            try:
                next(self.course)
            except StopIteration as stop:
                self.said = stop.value
        return self.said is not None

    def answer(self) -> dict[str, Any]:
        assert self.said is not None
        return self.said

    def cancel(self) -> None:
        self.course.close()
        self.said = self.said or DIED


def write(run: Run, status: str, epochs: int = 0, reason: str | None = None) -> None:
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / CONFIG).write_text("seed: 0\n")
    (run.folder / HISTORY).write_text("epoch\n" + "1\n" * epochs)
    (run.folder / CHECKPOINT).touch()
    for name in (ARRAYS, OUTPUTS):
        (run.folder / name).write_bytes(EMPTY_ZIP)
    replace(blank_record(run), status=status, reason=reason, seconds=float(epochs)).write(
        run.folder
    )


def trains(run: Run, epochs: int = 3, state: str = "done") -> Iterator[None]:
    write(run, "running")
    with RunLock(run.folder / LOCK) as lock:
        for epoch in range(epochs):
            lock.beat(epoch=epoch, epochs=epochs)
            yield
        write(run, state, epochs, "became nan" if state == "failed" else None)
    return {"state": state, "folder": str(run.folder), "reason": None, "new": True}


def dies(run: Run, after: int) -> Iterator[None]:
    write(run, "running", after)
    with RunLock(run.folder / LOCK) as lock:
        lock.beat(epoch=after, epochs=3)
        yield
    return DIED


def never_begins(run: Run) -> Iterator[None]:
    yield
    return DIED | {"reason": "ModuleNotFoundError: No module named 'my_losses'"}


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    config = compose([f"runs_dir={tmp_path}", "trainer.max_epochs=3"])
    return [Run(config | {"seed": seed}) for seed in range(4)]


class Sweep:
    """`Jobs` with a list of courses for each seed: of its first job, its second, and so on."""

    def __init__(self, courses: dict[int, list[Course]], places: int = 2) -> None:
        self.courses = courses
        self.notices: list[tuple[str, int | None, Any]] = []
        self.submitted: list[list[int]] = []
        self.most = 0
        self.jobs: list[Told] = []
        self.follow = Jobs(self.submit, [{}] * places, self.notice, seconds=0.0)

    def submit(self, chosen: Sequence[tuple[Run, Any]]) -> list[Told]:
        self.submitted.append([run.seed for run, _ in chosen])
        new = [Told(self.courses[run.seed].pop(0)(run)) for run, _ in chosen]
        self.jobs += new
        self.most = max(self.most, sum(job.said is None for job in self.jobs))
        return new

    def notice(self, kind: str, run: Run | None, detail: Any) -> None:
        self.notices.append((kind, run.seed if run else None, detail))

    def ends(self) -> dict[int | None, str]:
        return {seed: detail["state"] for kind, seed, detail in self.notices if kind == "ended"}


def test_every_run_is_done_within_the_places_whichever_jobs_die(runs: list[Run]) -> None:
    sweep = Sweep(
        {
            0: [lambda run: dies(run, 1), lambda run: dies(run, 1), lambda run: dies(run, 2),
                lambda run: dies(run, 2), trains],
            1: [trains], 2: [lambda run: trains(run, state="failed")], 3: [trains],
        }
    )  # fmt: skip
    assert sweep.follow.run(runs) == []
    assert sweep.ends() == {0: "done", 1: "done", 2: "failed", 3: "done"}
    assert sweep.most == 2
    said = [detail for kind, seed, detail in sweep.notices if kind == "died"]
    assert said[0] == "its job died: NODE_FAIL; it goes on after epoch 1"
    assert len(said) == 4
    epochs = [detail[0] for kind, seed, detail in sweep.notices if (kind, seed) == ("epoch", 1)]
    assert epochs == [0, 1, 2]


def test_a_run_that_kills_its_jobs_in_the_same_epoch_has_failed(runs: list[Run]) -> None:
    sweep = Sweep({0: [lambda run: dies(run, 1)] * 3, 1: [trains]})
    assert sweep.follow.run(runs[:2]) == []
    assert sweep.ends() == {0: "failed", 1: "done"}
    reason = read_record(runs[0].folder).reason
    assert reason == "its job died: NODE_FAIL, 3 times in epoch 2"


def test_a_job_that_never_begins_is_named_and_does_not_take_the_others_along(
    runs: list[Run],
) -> None:
    write(runs[0], "failed", reason="of old")  # repeated here, and its job never comes to it
    sweep = Sweep({0: [never_begins], 1: [never_begins], 2: [trains]}, places=3)
    died = sweep.follow.run(runs[:3])
    assert [answer["reason"] for answer in died] == [
        "ModuleNotFoundError: No module named 'my_losses'"
    ] * 2
    assert sweep.ends() == {2: "done"}
    assert not runs[1].folder.exists()


def test_a_run_that_another_process_writes_is_waited_for(
    runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = trains(runs[0], epochs=5)
    next(other)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: next(other, None))

    def finds_it_done(run: Run) -> Iterator[None]:
        yield
        return {"state": "done", "folder": str(run.folder), "reason": None, "new": False}

    sweep = Sweep({0: [finds_it_done], 1: [trains]})
    sweep.follow.run(runs[:2])
    assert sweep.submitted == [[1], [0]]  # not before the other has let go of it
    assert sweep.ends() == {0: "done", 1: "done"}
    assert ("locked", 0) in [notice[:2] for notice in sweep.notices]


@pytest.mark.parametrize("how", ["on_error", "refused", "full disk", "Ctrl-C"])
def test_what_stops_a_sweep_takes_back_the_jobs_that_do_not_train_yet(
    runs: list[Run], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waits(run: Run) -> Iterator[None]:
        while True:
            yield

    def full_disk(run: Run) -> Iterator[None]:
        write(run, "running")
        yield
        return {"state": "interrupted", "folder": "", "reason": "the disk is full", "new": True}

    def refused(run: Run) -> Iterator[None]:
        yield
        return {"state": "refused", "folder": "", "reason": "archive=x is not there", "new": True}

    def ctrl_c(run: Run) -> Iterator[None]:
        yield
        raise KeyboardInterrupt

    runs = [Run(run.config | {"on_error": "stop"}) for run in runs]
    first: Course = {
        "on_error": lambda run: trains(run, epochs=1, state="failed"),
        "refused": refused,
        "full disk": full_disk,
        "Ctrl-C": ctrl_c,
    }[how]
    sweep = Sweep({0: [first], 1: [trains], 2: [waits], 3: [waits]}, places=3)
    if how == "Ctrl-C":
        with pytest.raises(KeyboardInterrupt):
            sweep.follow.run(runs)
    else:
        sweep.follow.run(runs)
    assert sweep.submitted == [[0, 1, 2]]
    assert sweep.ends()[1] == "done"
    assert all(job.said is not None or how == "Ctrl-C" for job in sweep.jobs)
    assert sweep.jobs[2].said == DIED  # cancelled


def test_files_that_are_not_shared_are_said_to_be_the_reason(
    runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(run: Run) -> Iterator[None]:
        yield
        return {"state": "done", "folder": str(run.folder), "reason": None, "new": True}

    monkeypatch.setattr(module, "SHARED_SECONDS", 0.01)
    (answer,) = Sweep({0: [elsewhere]}).follow.run(runs[:1])
    assert f"{runs[0].folder} is not there" in answer["reason"]
