"""The arms of a tuning, the runs that their trials consist of, and what these were worth."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from lossbench.config import Config, Run
from lossbench.errors import InputError, unknown
from lossbench.losses.catalogue import LOSSES
from lossbench.records.study import TRIALS, look
from lossbench.sweeps.plan import Planned, plan_run, quoted
from lossbench.tuning.space import Space, space_of, value_at, with_values

if TYPE_CHECKING:
    from lossbench.tuning.store import ArmStudy

FOLDER = TRIALS


@dataclass(frozen=True)
class TunedArm:
    """One arm: the overrides that give it, its config, and what is tuned of it."""

    name: str  # as the user calls it
    given: Mapping[str, Any]  # its own overrides
    overrides: list[str]  # those that all arms have, then its own
    config: Config
    choices: Mapping[str, str]  # of Hydra's groups
    space: Space

    @property
    def label(self) -> str:
        """As in the tables of compare."""
        return Run(self.config).arm

    @property
    def file_name(self) -> str:
        """As in `+tuned=STUDY/NAME`."""
        return re.sub(r"[^A-Za-z0-9_.=+-]+", "-", self.name)

    @property
    def defaults(self) -> dict[str, Any]:
        """What trial 0 has."""
        return {path: value_at(self.config, path) for path in self.space}

    def run(self, values: Mapping[str, Any], seed: int, label: str, **places: Any) -> Planned:
        """The run of this arm with ``values``, as an entry of a sweep's plan.

        ``places`` are further keys of the config, such as the study.
        """
        keys = {**values, **places, "arm": label}
        overrides = [f"{key}={quoted(value)}" for key, value in keys.items()]
        config = with_values(self.config, keys)
        return plan_run(config, str(seed), [*self.overrides, *overrides, f"seed={seed}"])

    def trial(self, number: int, values: Mapping[str, Any], seed: int) -> Planned:
        """The run of trial ``number`` with ``seed``, in the study's folder `tuning`."""
        run = Run(self.config)
        runs_dir = str(Path(self.config["runs_dir"]) / run.study)
        label = f"{self.label}, trial {number}"
        places = {"runs_dir": runs_dir, "study": FOLDER, "test": "sealed"}
        return self.run(values, seed, label, **places)


Choose = Callable[[list[str]], tuple[Config, Mapping[str, str]]]


def choose_arms(
    names: Sequence[str] | None,
    listed: Mapping[str, Mapping[str, Any]],
    losses: Sequence[str],
    base: Sequence[str],
    compose: Choose,
    own: Path | None,
) -> list[TunedArm]:
    """The arms called ``names``: of those ``listed`` by the experiment, else of ``losses``.

    ``compose`` turns overrides into a checked config and the choices of its groups.
    """
    if names is None and not listed:
        raise InputError("say what to tune, as in arms=focal,cross_entropy or experiment=NAME")
    arms = []
    for name in listed if names is None else names:
        if name not in listed and name not in losses:
            raise unknown("arm", name, [*listed, *losses])
        given = dict(listed[name]) if name in listed else catalogue_arm(name)
        label = [f"arm={quoted(name)}"] if name in listed else []
        own_overrides = [f"{key}={quoted(value)}" for key, value in given.items()]
        overrides = [*base, *own_overrides, *label]
        config, choices = compose(overrides)
        space = space_of(choices["loss"], choices["optimizer"], config, own)
        arms.append(TunedArm(name, given, overrides, config, choices, space))
    seen: dict[str, str] = {}
    for arm in arms:
        first = seen.setdefault(Run(arm.config).configuration, arm.name)
        if first != arm.name:
            raise InputError(f"the arms {first!r} and {arm.name!r} have the same config; leave one")
    files: dict[str, str] = {}
    for arm in arms:
        first = files.setdefault(arm.file_name, arm.name)
        if first != arm.name:
            raise InputError(
                f"the values of the arms {first!r} and {arm.name!r} would both be called "
                f"{arm.file_name}; rename one"
            )
    return arms


def catalogue_arm(loss: str) -> dict[str, Any]:
    """The overrides of a loss by its name, with the head that it needs."""
    cosine = loss in LOSSES and LOSSES[loss].heads == "cosine"
    return {"loss": loss} | ({"model.head": "cosine"} if cosine else {})


@dataclass(frozen=True)
class Trial:
    """One trial: what it was trained with, and what the objective was for every seed."""

    number: int
    parameters: dict[str, Any]
    planned: list[Planned]
    values: list[float | None]

    @property
    def value(self) -> float | None:
        """The mean over the seeds; None if a run failed or its metric is undefined."""
        known = [value for value in self.values if value is not None]
        return fmean(known) if known and len(known) == len(self.values) else None

    def plain(self) -> dict[str, Any]:
        """As in tuning.json."""
        return {
            "number": self.number,
            "parameters": self.parameters,
            "values": self.values,
            "value": self.value,
            "folders": [entry.run.folder.name for entry in self.planned],
        }


def trial_of(arm: TunedArm, study: ArmStudy, number: int, seeds: Sequence[int]) -> Trial:
    """Trial ``number`` of ``arm``, as yet without values."""
    values = study.values(number)
    return Trial(number, values, [arm.trial(number, values, seed) for seed in seeds], [])


def judged(trial: Trial, objective: str) -> Trial | None:
    """``trial`` with the values in its records; None while a run has neither ended nor failed."""
    values = []
    for entry in trial.planned:
        state = look(entry.run.folder)
        if state.state not in ("done", "failed") or state.record is None:
            return None
        value = state.record.metrics.get(objective) if state.state == "done" else None
        values.append(value if value is not None and math.isfinite(value) else None)
    return Trial(trial.number, trial.parameters, trial.planned, values)


def best(trials: Sequence[Trial], higher_is_better: bool) -> Trial | None:
    """The trial with the best value, of equal ones the first; None if all have failed."""
    valued = [trial for trial in trials if trial.value is not None]
    sign = 1 if higher_is_better else -1
    return max(valued, key=lambda trial: sign * (trial.value or 0.0), default=None)
