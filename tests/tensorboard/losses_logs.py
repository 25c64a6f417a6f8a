"""Event files for the tab "Losses", written as a run writes them, and what was written."""

from __future__ import annotations

import json
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from tensorboard import default, program

from lossbench.tensorboard.labels import RunLabels
from lossbench.tensorboard.plugin.plugin import LossesPlugin
from lossbench.tensorboard.writer import RunWriter

EDGES = np.linspace(-8, 2, 101)
HOSTILE = '<img src=x onerror="window.broken=1">&amp;'
VAL = "val/log10_loss/cross_entropy"
TEST = "test/log10_loss/cross_entropy"
TRAIN = "train/log10_loss/cross_entropy"
TAIL = "val/log10_loss_tail/cross_entropy"
OBJECTIVE = "val/log10_loss/objective"
EPOCHS = 4

Written = dict[tuple[str, int, str, int], np.ndarray]
"""(arm, seed, tag, epoch) -> counts (102,)."""


@dataclass(frozen=True)
class Logs:
    """A folder for ``--logdir``; ``written`` has what the runs of the place MAIN hold."""

    folder: Path
    written: Written
    runs: int


MAIN = "study | digits | mlp"


def labels(arm: str, seed: int, *, study: str = "study", group: str = "") -> RunLabels:
    grid = (float(EDGES[0]), float(EDGES[-1]), len(EDGES) - 1)
    name = group or f"{arm} 0123abcd"
    return RunLabels(study, arm, "digits | mlp", seed, f"c-{name}", f"{name} {study}", grid, 10)


def counts(*name: object) -> np.ndarray:
    """Counts (102,), other ones for another name; some bins at both ends are empty or not."""
    draw = np.random.default_rng([*map(ord, repr(name))])
    losses = draw.normal(draw.uniform(-3, 0.5), draw.uniform(0.2, 4), size=400)
    return np.histogram(losses, [-np.inf, *EDGES, np.inf])[0]


def write(folder: Path) -> Logs:
    """Three arms, of which focal lacks seed 2 and stops after epoch 2 in seed 1.

    Training has epochs 1 and 4 only, the hostile arm no training at all. Beside the place MAIN:
    another study, a run without labels, one with other buckets, and one without histograms.
    """
    written: Written = {}
    runs = [("cross_entropy", seed) for seed in range(3)]
    runs += [("focal", 0), ("focal", 1), (HOSTILE, 0)]
    for place, (arm, seed) in enumerate(runs):
        with RunWriter(folder / f"run-{place}" / "tensorboard") as writer:
            writer.labels(labels(arm, seed))
            last = 2 if (arm, seed) == ("focal", 1) else EPOCHS
            series = [
                (tag, epoch) for epoch in range(1, last + 1) for tag in (VAL, TAIL, OBJECTIVE)
            ]
            series += [(TRAIN, epoch) for epoch in (1, EPOCHS) if epoch <= last and arm != HOSTILE]
            series += [(TEST, EPOCHS)] if last == EPOCHS else []
            for tag, epoch in series:
                written[arm, seed, tag, epoch] = counts(arm, seed, tag, epoch)
                writer.histogram(tag, written[arm, seed, tag, epoch], EDGES, epoch)
    with RunWriter(folder / "other") as writer:
        writer.labels(labels("focal", 0, study="another"))
        writer.histogram(VAL, counts("other"), EDGES, 1)
    with RunWriter(folder / "unlabelled") as writer:
        writer.histogram(VAL, counts("unlabelled"), EDGES, 1)
    with RunWriter(folder / "foreign") as writer:
        writer.histogram(VAL, np.ones(12), np.linspace(-8, 2, 11), 1)
    with RunWriter(folder / "comparison") as writer:
        writer.text("verdict", "cannot tell", 0)
    return Logs(folder, written, runs=len(runs) + 3)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a TensorBoard on ``folder`` that knows the plugin, loaded completely."""
    plugins = [plugin for plugin in default.get_plugins() if plugin is not LossesPlugin]
    board = program.TensorBoard(plugins=[*plugins, LossesPlugin])
    board.configure(logdir=str(folder), host="127.0.0.1", port=0, reload_interval=1)
    yield board.launch()


def get(url: str, route: str, **query: str) -> Any:
    with urllib.request.urlopen(f"{url}{route}?{urlencode(query)}") as answer:
        return json.load(answer)


def wait_for_runs(address: str, number: int) -> None:
    deadline = time.monotonic() + 30
    places = None
    while time.monotonic() < deadline:
        places = get(f"{address}data/plugin/lossbench/", "arms")["places"]
        if sum(arm["runs"] for place in places for arm in place["arms"]) == number:
            return
        time.sleep(0.1)
    raise AssertionError(f"TensorBoard did not load {number} runs: {places}")


def wait_for_all(address: str, logs: Logs) -> None:
    """TensorBoard lists a run before it has read all of it."""
    wait_for_runs(address, logs.runs)
    wanted = Counter(tag for _, _, tag, _ in logs.written)
    deadline = time.monotonic() + 30
    found = None
    while found != wanted and time.monotonic() < deadline:
        found = Counter()
        for tag in wanted:
            arms = get(f"{address}data/plugin/lossbench/", "histograms", place=MAIN, tag=tag)[
                "arms"
            ]
            found[tag] = sum(now["runs"] for epochs in arms.values() for now in epochs.values())
