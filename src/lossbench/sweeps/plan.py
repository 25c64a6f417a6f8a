"""Arms x cells x seeds: which runs a sweep consists of."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.config import Config, Run, arm_label
from lossbench.errors import InputError
from lossbench.records import RunState
from lossbench.records.study import add_to_plan, look
from lossbench.settings import check
from lossbench.sweeps.exclusion import excluded
from lossbench.sweeps.grid import axes, products, split_overrides

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

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
    overrides: Sequence[Override],
    arms: Mapping[str, Any] | None,
    compose: Compose,
    *,
    seeds: int | None = None,
    zips: Any = None,
    exclude: Any = None,
) -> list[Planned]:
    """Every run of the sweep, in the order seeds, then cells, then arms.

    ``compose`` turns overrides into a config; it is called once for each arm and cell, for the
    seeds differ in nothing else. Seeds come first, so that a sweep that is stopped early leaves
    whole comparisons. ``seeds`` is their number, from 0 on, in place of those in ``overrides``;
    ``zips`` (`grid.axes`) and ``exclude`` (`exclusion.excluded`) as the config has them. What is
    left out need not be a valid combination. Raises `InputError` for what cannot be run.
    """
    fixed, swept = split_overrides(overrides)
    seed_texts = swept.pop("seed", None) or ([fixed.pop("seed")] if "seed" in fixed else None)
    if seeds is not None:
        seed_texts = [str(seed) for seed in range(seeds)]
    if arms and ("loss" in fixed or "loss" in swept):
        raise InputError(
            "the experiment lists its arms, so loss= is ambiguous; add arms=null to replace them"
        )
    grid = axes(swept, zips)
    cells = products([axis for axis in grid if axis.is_cell])
    ways = products([axis for axis in grid if not axis.is_cell])
    base = [f"{key}={value}" for key, value in fixed.items()]
    candidates = []
    for cell, arm in itertools.product(cells, arm_choices(arms, ways)):
        candidates += candidates_of([*base, *cell, *arm.overrides], arm, compose, seed_texts)
    out = excluded([entry.run for entry in candidates], exclude)
    planned = []
    for candidate, left_out in zip(candidates, out, strict=True):
        if left_out:
            continue
        if candidate.problem is not None:
            raise candidate.problem
        planned.append(Planned(candidate.run, candidate.overrides, look(candidate.run.folder)))
    planned.sort(key=lambda entry: entry.run.seed)
    refuse_twins(planned)
    return planned


def plan_run(config: Config, seed: str, overrides: list[str]) -> Planned:
    """The run of ``config`` with ``seed``, which must be a whole number of at least 0."""
    run = Run(config | {"seed": whole(seed)})
    return Planned(run, overrides, look(run.folder))


def whole(seed: str) -> int:
    """``seed`` as a number; raises `InputError` for what is no whole number of at least 0."""
    if not re.fullmatch(r"\d+", seed):
        raise InputError(f"seed={seed} is not allowed: a whole number, at least 0")
    return int(seed)


@dataclass(frozen=True)
class Candidate:
    """A run that an exclusion may still leave out, and what is wrong with its config, if anything.

    So a combination that cannot be run, such as a margin loss on a linear head, can be excluded.
    """

    run: Run
    overrides: list[str]
    problem: InputError | None


def candidates_of(
    given: list[str], arm: Arm, compose: Compose, seeds: Sequence[str] | None
) -> list[Candidate]:
    """The runs of one arm in one cell, a run for each seed."""
    config = compose(given)
    problem, label = None, arm.name
    try:
        check(config)
        label = arm.label(config)
    except InputError as error:
        problem = error
    found = []
    for seed in dict.fromkeys(seeds or [str(config["seed"])]):
        single = [*given, *([f"arm={quoted(label)}"] if label else []), f"seed={seed}"]
        run = Run(config | {"arm": label, "seed": whole(seed)})
        found.append(Candidate(run, single, problem))
    return found


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


def arm_choices(arms: Mapping[str, Any] | None, ways: Sequence[list[str]]) -> list[Arm]:
    """The arms that an experiment lists, or the combinations of the swept keys, or both."""
    named: list[tuple[str | None, list[str]]] = [
        (name, [f"{key}={quoted(value)}" for key, value in (chosen or {}).items()])
        for name, chosen in (arms or {}).items()
    ] or [(None, [])]
    found = []
    for (name, chosen), way in itertools.product(named, ways):
        label = name if name is None or not way else ", ".join([name, *way])
        found.append(Arm([*chosen, *way], label))
    return found


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
    """Add ``planned`` to `plan.json`, for `lossbench status` and `lossbench compare`."""
    study.mkdir(parents=True, exist_ok=True)
    add_to_plan(
        study,
        [
            {
                "arm": entry.run.arm,
                "cell": entry.run.cell,
                "seed": entry.run.seed,
                "identity": entry.run.identity,
                "folder": entry.run.folder.name,
                "overrides": entry.overrides,
            }
            for entry in planned
        ],
    )
