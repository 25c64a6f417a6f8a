"""How long a sweep takes, against finished runs whose seconds are known."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lossbench.records import RunState
from lossbench.sweeps.estimate import duration, estimate
from lossbench.sweeps.listing import listing
from lossbench.sweeps.plan import Planned

CELL = "digits | exponential 10 | mlp | 20 epochs"


@dataclass(frozen=True)
class Stand:
    """What `estimate` and `listing` read of a `Run`."""

    arm: str
    seed: int
    folder: Path
    configuration: str = "unheard of"
    cell: str = CELL
    accelerator: str = "cpu"
    study: str = "s"
    epochs: int = 20
    rerun: bool = False
    retry_failed: bool = False

    @property
    def config(self) -> dict[str, Any]:
        trainer = {"accelerator": self.accelerator, "max_epochs": self.epochs}
        return {"trainer": trainer, "rerun": self.rerun, "retry_failed": self.retry_failed}


@dataclass
class RunsFolder:
    """A runs folder of records that hold only what an estimate reads."""

    place: Path
    number: Any = field(default_factory=itertools.count)

    def finished(self, arm: str, *seconds: float, **others: Any) -> None:
        for each in seconds:
            folder = self.place / "earlier" / f"run-{next(self.number)}"
            folder.mkdir(parents=True)
            known = {"status": "done", "configuration": "c", "hardware": {"device": "cpu"}}
            content = known | {"arm": arm, "cell": CELL, "seconds": each} | others
            (folder / "record.json").write_text(json.dumps(content))

    def planned(self, arm: str, number: int = 1, state: Any = None, **others: Any) -> list[Planned]:
        state = state or RunState("missing")
        return [
            Planned(Stand(arm, seed, self.place / "s" / f"{arm}-{seed}", **others), [], state)
            for seed in range(number)
        ]

    def said(self, planned: list[Planned], workers: int | None = 1) -> str:
        return estimate(planned, self.place, workers).sentence


@pytest.fixture
def runs(tmp_path: Path) -> RunsFolder:
    return RunsFolder(tmp_path)


def test_the_most_similar_finished_runs_count(runs: RunsFolder) -> None:
    """Each step adds runs that are more alike, and they alone count from then on."""
    mine = runs.planned("focal", 4)
    assert runs.said(mine) == "unknown, no finished run to go by"
    runs.finished("mae", 3.0, cell="mnist | exponential 10 | mlp | 20 epochs")
    runs.finished("mae", 3.0, cell="digits | exponential 10 | convnet | 20 epochs")
    runs.finished("focal", 3.0, status="failed")
    assert runs.said(mine) == "unknown, no finished run to go by"
    runs.finished("mae", 1.0, 3.0, cell="digits | none | mlp | 5 epochs")  # 4 and 12 s for 20
    assert runs.said(mine) == (
        "about 32 s with 1 worker, by 2 finished runs of the same data and model, scaled by epochs"
    )
    runs.finished("mae", 5.0)
    assert runs.said(mine) == "about 20 s with 1 worker, by 1 finished run of the same cell"
    runs.finished("focal", 6.0, 7.0, 100.0)  # the median: one that was disturbed does not count
    assert (
        runs.said(mine) == "about 28 s with 1 worker, by 3 finished runs of the same arm and cell"
    )
    runs.finished("renamed", 10.0, configuration="exactly this")
    same = runs.planned("focal", 4, configuration="exactly this")
    assert runs.said(same) == "about 40 s with 1 worker, by 1 finished run of the same arm and cell"


def test_what_is_unreadable_or_of_another_device_does_not_count(runs: RunsFolder) -> None:
    runs.finished("focal", 1.0, hardware={"device": "NVIDIA H100"})
    for name, text in (("a", "{"), ("b", "[]"), ("c", '{"status": "done"}')):
        (runs.place / "earlier" / name).mkdir()
        (runs.place / "earlier" / name / "record.json").write_text(text)
    assert runs.said(runs.planned("focal")) == "unknown, no finished run to go by"
    assert "about 1.0 s" in runs.said(runs.planned("focal", accelerator="gpu"))
    runs.finished("focal", 3.0)
    assert "about 3.0 s" in runs.said(runs.planned("focal"))
    assert "about 1.0 s" in runs.said(runs.planned("focal", accelerator="gpu"))
    assert "about 2.0 s" in runs.said(runs.planned("focal", accelerator="auto"))


@pytest.mark.parametrize(("workers", "seconds"), [(1, 80), (2, 40), (3, 30), (4, 30), (None, 80)])
def test_each_run_goes_to_the_first_free_worker(runs, workers, seconds) -> None:
    """30 + 5 x 10 s, the long one first: with three workers 30 | 10 10 10 | 10 10."""
    runs.finished("slow", 30.0)
    runs.finished("fast", 10.0)
    planned = runs.planned("slow") + runs.planned("fast", 5)
    assert estimate(planned, runs.place, workers).seconds == seconds
    elsewhere = "one run after the other (the launcher decides how many run at once)"
    assert (elsewhere in runs.said(planned, workers)) == (workers is None)


def test_only_what_is_left_of_half_trained_runs_counts(runs: RunsFolder) -> None:
    runs.finished("focal", 20.0)
    folder = runs.place / "s" / "focal-0"
    folder.mkdir(parents=True)
    (folder / "checkpoint.ckpt").touch()
    (folder / "history.csv").write_text("epoch,x\n" + "".join(f"{n},1\n" for n in range(1, 16)))
    at_15 = runs.planned("focal", state=RunState("interrupted"))
    at_5 = runs.planned("focal", state=RunState("running", holder={"epoch": 5, "epochs": 20}))
    done = runs.planned("focal", state=RunState("done"))
    failed = runs.planned("focal", state=RunState("failed"))
    assert estimate(at_15, runs.place, 1).seconds == 5
    assert estimate([*at_15, *at_5, *done, *failed], runs.place, 1).seconds == 20
    assert runs.said([*done, *failed]) == ""
    again = runs.planned("focal", state=RunState("done"), rerun=True)
    assert estimate(again, runs.place, 1).seconds == 20


def test_runs_of_which_nothing_is_known_are_named(runs: RunsFolder) -> None:
    runs.finished("focal", 10.0)
    planned = runs.planned("focal", 2) + runs.planned("mae", 3, cell="mnist | none | mlp | 1 epoch")
    assert runs.said(planned, 2) == (
        "about 10 s with 2 workers for 2 of 5 runs, by 1 finished run of the same arm and cell; "
        "the rest unknown, no finished run to go by"
    )


def test_few_runs_are_listed_and_many_are_counted(runs: RunsFolder) -> None:
    runs.finished("focal", 10.0)
    few = runs.planned("focal", 50)
    lines = list(listing(estimate(few, runs.place, 1)))
    assert [line.split() for line in lines if "focal-" in line] == [
        f"to do focal seed {seed} focal-{seed}".split() for seed in range(50)
    ]
    many = [
        *few,
        *runs.planned("mae", 3, state=RunState("done")),
        *runs.planned("gce", 2, state=RunState("running", holder={"epoch": 4, "epochs": 20})),
        *runs.planned("sce", 1, state=RunState("failed")),
    ]
    lines = listing(estimate(many, runs.place, 1))
    assert [" ".join(line.split()) for line in lines if line] == [
        CELL,
        "arm runs done failed running to do per run from finished runs of",
        "focal 50 50 10 s same arm and cell",
        "mae 3 3 10 s same cell",
        "gce 2 2 10 s same cell",
        "sce 1 1 10 s same cell",
        "running at epoch 4 of 20 gce seed 0 gce-0",
        "running at epoch 4 of 20 gce seed 1 gce-1",
        "failed sce seed 0 sce-0",
    ]
    broken = runs.planned("mae", 60, state=RunState("failed"))
    shown = list(listing(estimate(broken, runs.place, 1)))
    assert len([line for line in shown if "mae-" in line]) == 50
    assert shown[-1] == "  and 10 more that failed, run or were interrupted"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.3, "0.3 s"), (9.4, "9.4 s"), (45, "45 s"), (89, "89 s"), (90, "2 min"), (720, "12 min"),
        (5400, "1.5 h"), (40000, "11 h"), (172800, "2.0 days"),
    ],
)  # fmt: skip
def test_a_duration_has_two_figures(seconds: float, words: str) -> None:
    assert duration(seconds) == words
