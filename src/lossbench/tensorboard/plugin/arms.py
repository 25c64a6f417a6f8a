"""Which runs are seeds of the same arm, and which arms may be laid over each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from lossbench.tensorboard.labels import RunLabels

UNLABELLED = "runs without labels"
"""The place of runs whose logs do not say who they are."""

USUAL_BASELINE = "cross_entropy"
"""It comes first, in the colour that the report gives the baseline."""


@dataclass(frozen=True)
class Arm:
    """The runs that differ only in their seed.

    Attributes:
        key: tells it from every other arm of the logs.
        label: its name, that of the run for a run without labels.
        runs: run names, by seed.
        seeds: of these runs; empty for a run without labels.
        classes: their number, if the runs say it.
    """

    key: str
    label: str
    runs: tuple[str, ...]
    seeds: tuple[int, ...] = ()
    classes: int | None = None


def places(labels: Mapping[str, RunLabels | None]) -> dict[str, list[Arm]]:
    """The arms of every place, by its name: a study and a cell, for only there are they compared.

    Within a place the usual baseline comes first, then the others by name. Of two copies of a run
    the first by name counts. A run without labels is an arm of its own; they share a place, the
    last one.

    Args:
        labels: run name -> what its logs say, None if nothing.
    """
    found: dict[str, dict[str, dict[int, str]]] = {}
    known: dict[str, RunLabels] = {}
    alone: list[Arm] = []
    for run in sorted(labels):
        of_run = labels[run]
        if of_run is None:
            alone.append(Arm(key=f"run {run}", label=run, runs=(run,)))
            continue
        known.setdefault(of_run.group, of_run)
        groups = found.setdefault(f"{of_run.study} | {of_run.cell}", {})
        groups.setdefault(of_run.group, {}).setdefault(of_run.seed, run)
    arms = {place: _in_order(found[place], known) for place in sorted(found)}
    return arms | ({UNLABELLED: alone} if alone else {})


def _in_order(groups: Mapping[str, Mapping[int, str]], known: Mapping[str, RunLabels]) -> list[Arm]:
    """The arms of one place. Where two have the same name, it is followed by their hash."""
    times = Counter(known[group].arm for group in groups)
    arms = []
    for group, runs in groups.items():
        name = known[group].arm
        arms.append(
            Arm(
                key=group,
                label=name if times[name] == 1 else group,
                runs=tuple(runs[seed] for seed in sorted(runs)),
                seeds=tuple(sorted(runs)),
                classes=known[group].classes,
            )
        )
    return sorted(arms, key=lambda arm: (arm.label != USUAL_BASELINE, arm.label))
