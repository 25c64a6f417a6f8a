"""Arms x cells x seeds: which runs a sweep consists of."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.config import Config, Run, arm_label
from lossbench.errors import InputError
from lossbench.records import RunState, files, run_state
from lossbench.records.study import PLAN

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

CELL_GROUPS = ("data", "imbalance", "label_noise", "model")
# what arm_label shows by itself
LABELLED = re.compile(r"loss(\..*)?|loss_scale|model\.head|regime(\..*)?")

Compose = Callable[[list[str]], Config]


@dataclass(frozen=True)
class Planned:
    """One run of a sweep, the overrides that give it, and where it stands."""

    run: Run
    overrides: list[str]
    state: RunState

    @property
    def to_do(self) -> bool:
        """Whether this sweep has to train it."""
        config = self.run.config
        if config["rerun"] or self.state.state not in ("done", "failed"):
            return True
        return self.state.state == "failed" and config["retry_failed"]


def make_plan(
    overrides: Sequence[Override], arms: Mapping[str, Any] | None, compose: Compose
) -> list[Planned]:
    """Every run of the sweep, in the order seeds, then cells, then arms.

    ``compose`` turns overrides into a checked config; it is called once for each arm and cell,
    for the seeds differ in nothing else. Seeds come first, so that a sweep that is stopped early
    leaves whole comparisons. Raises `InputError` for what cannot be run.
    """
    fixed, swept = split_overrides(overrides)
    seeds = swept.pop("seed", None) or ([fixed.pop("seed")] if "seed" in fixed else None)
    cells = {key: swept[key] for key in swept if is_cell(key)}
    ways = {key: swept[key] for key in swept if not is_cell(key)}
    if arms and ("loss" in fixed or "loss" in ways):
        raise InputError(
            "the experiment lists its arms, so loss= is ambiguous; add arms=null to replace them"
        )
    base = [f"{key}={value}" for key, value in fixed.items()]
    planned: list[Planned] = []
    for arm, cell in itertools.product(arm_choices(arms, ways), products(cells)):
        given = [*base, *cell, *arm.overrides]
        config = compose(given)
        label = arm.label(config)
        for seed in seeds or [str(config["seed"])]:
            single = [*given, *([f"arm={quoted(label)}"] if label else []), f"seed={seed}"]
            planned.append(plan_run(config | {"arm": label}, seed, single))
    planned.sort(key=lambda entry: entry.run.seed)
    refuse_twins(planned)
    return planned


def plan_run(config: Config, seed: str, overrides: list[str]) -> Planned:
    """The run of ``config`` with ``seed``, which must be a whole number of at least 0."""
    if not re.fullmatch(r"\d+", seed):
        raise InputError(f"seed={seed} is not allowed: a whole number, at least 0")
    run = Run(config | {"seed": int(seed)})
    return Planned(run, overrides, run_state(run.folder))


@dataclass(frozen=True)
class Arm:
    """One arm: its overrides, and the label given to it, if any."""

    overrides: list[str]
    name: str | None

    def label(self, config: Config) -> str | None:
        """The given name, extended by swept values that the loss's own label does not show."""
        unseen = [entry for entry in self.overrides if not LABELLED.fullmatch(entry.split("=")[0])]
        if self.name is not None or not unseen:
            return self.name
        return ", ".join([arm_label(config), *unseen])


def arm_choices(arms: Mapping[str, Any] | None, ways: dict[str, list[str]]) -> list[Arm]:
    """The arms that an experiment lists, or the product of the swept keys, or both."""
    named: list[tuple[str | None, list[str]]] = [
        (name, [f"{key}={quoted(value)}" for key, value in (chosen or {}).items()])
        for name, chosen in (arms or {}).items()
    ] or [(None, [])]
    found = []
    for (name, chosen), way in itertools.product(named, products(ways)):
        label = name if name is None or not way else ", ".join([name, *way])
        found.append(Arm([*chosen, *way], label))
    return found


def products(choices: dict[str, list[str]]) -> list[list[str]]:
    """Every combination of ``choices`` as lists of overrides."""
    columns = [[f"{key}={value}" for value in values] for key, values in choices.items()]
    return [list(row) for row in itertools.product(*columns)]


def is_cell(key: str) -> bool:
    """Whether a swept key says where the arms are compared, not what is compared."""
    group = key.lstrip("+").partition(".")[0].partition("@")[0]
    return (group in CELL_GROUPS and key != "model.head") or key == "trainer.max_epochs"


def split_overrides(
    overrides: Sequence[Override],
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Overrides with one value, and those with several; of the same key the last one counts."""
    fixed: dict[str, str] = {}
    swept: dict[str, list[str]] = {}
    for override in overrides:
        key = override.get_key_element()
        fixed.pop(key, None)
        swept.pop(key, None)
        if not override.is_sweep_override():
            fixed[key] = override.get_value_element_as_str()
        elif override.is_discrete_sweep():
            values = list(dict.fromkeys(map(str, override.sweep_string_iterator())))
            swept[key] = values
        else:
            raise InputError(
                f"{override.input_line} cannot be run as a grid; list the values, as in {key}=1,2"
            )
    return fixed, swept


def refuse_twins(planned: Sequence[Planned]) -> None:
    """Refuse two arms with the same config: they would be one run under two names."""
    seen: dict[str, str] = {}
    for entry in planned:
        first = seen.setdefault(entry.run.identity, entry.run.arm)
        if first != entry.run.arm:
            raise InputError(
                f"the arms {first!r} and {entry.run.arm!r} have the same config; remove one"
            )


def quoted(value: Any) -> str:
    """``value`` in Hydra's override grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(quoted, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{quoted(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./-]*", value):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"
    return str(value)


def write_plan(study: Path, planned: Sequence[Planned]) -> None:
    """`plan.json`: what the newest sweep of the study consists of, for `lossbench status`."""
    study.mkdir(parents=True, exist_ok=True)
    runs = [
        {
            "arm": entry.run.arm,
            "cell": entry.run.cell,
            "seed": entry.run.seed,
            "identity": entry.run.identity,
            "folder": entry.run.folder.name,
            "overrides": entry.overrides,
        }
        for entry in planned
    ]
    written = datetime.now(UTC).isoformat(timespec="seconds")
    files.write_json(study / PLAN, {"schema": 1, "written": written, "runs": runs})
