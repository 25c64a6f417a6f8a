"""`lossbench power`: before a sweep, how many seeds it takes; from a pilot or a stated spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from scipy import special

from lossbench.arguments import read_settings
from lossbench.comparison.formats import significant
from lossbench.comparison.statistics import (
    ALPHA,
    fewest_seeds,
    paired_t_test,
    power_of_all,
    power_of_t,
    seeds_needed,
    smallest_difference,
)
from lossbench.comparison.statistics.power import MOST_SEEDS
from lossbench.errors import InputError
from lossbench.parameters import Parameter

if TYPE_CHECKING:
    from rich.table import Table

    from lossbench.records import Record

DEFAULTS = dict.fromkeys(("study", "spread", "difference", "losses", "metric", "baseline"))
SEEDS = (3, 5, 8, 10, 15, 20, 30)
POWERS = (0.8, 0.9)
CONFIDENCE = 0.8
"""Of the upper limit of a pilot's spread: the power is then kept in four of five sweeps planned so
(Browne 1995, Statistics in Medicine 14:1933-1940)."""

_NUMBERS = (
    Parameter(name="spread", minimum=0, open_minimum=True),
    Parameter(name="difference", minimum=0, open_minimum=True),
    Parameter(name="losses", kind="integer", minimum=1, maximum=100),
)


@dataclass(frozen=True)
class PilotSpread:
    """The standard deviation of one arm's paired differences to the baseline over ``seeds``.

    0 if they are all equal, NaN for fewer than 2 seeds.
    """

    context: str
    label: str
    seeds: int
    spread: float

    @property
    def upper_limit(self) -> float:
        """The one-sided 80 % limit s sqrt((n - 1) / q), q the 20 % quantile of chi-square."""
        if not self.spread > 0:
            return math.nan
        freedom = self.seeds - 1
        return self.spread * math.sqrt(freedom / special.chdtri(freedom, CONFIDENCE))


@dataclass(frozen=True)
class Plan:
    """What is asked: the ``spreads`` to plan with, by name, how many losses, which difference."""

    spreads: dict[str, float]
    losses: int
    difference: float | None
    pilot: Sequence[PilotSpread] = ()
    source: str = ""


def power_command(arguments: list[str]) -> int:
    """Print how many seeds find a difference, and which difference so many seeds find.

    study=NAME      a pilot: the spread of its paired differences; metric=, baseline=, runs_dir=
    spread=S        or a stated standard deviation of the paired differences
    losses=K        how many losses are compared with the baseline; default: as many as the pilot's
    difference=X    the difference to find; default: the margin that the pilot declares, if any

    Raises `InputError` for arguments that are not these.
    """
    settings = read_settings(arguments, DEFAULTS | {"runs_dir": "runs"}, "power")
    numbers = {parameter.name: _number(parameter, settings) for parameter in _NUMBERS}
    study, spread = settings["study"], numbers["spread"]
    if (study is None) == (spread is None):
        raise InputError(
            "say where the spread of the paired differences comes from: either study=NAME, a pilot "
            "of two or more seeds, or spread=0.01; one of the two, not both"
        )
    if spread is None:
        plan = _from_pilot(settings, numbers)
    elif numbers["losses"] is None:
        raise InputError(
            "losses= is missing: with spread= say how many losses will be compared with the "
            "baseline, as in losses=6"
        )
    elif given := [key for key in ("metric", "baseline") if settings[key]]:
        raise InputError(f"{given[0]}= says what of a pilot is looked at: give it with study=")
    else:
        plan = Plan({"stated": spread}, int(numbers["losses"]), numbers["difference"])
    show(plan)
    return 0


def _number(parameter: Parameter, settings: dict[str, str | None]) -> float | None:
    text = settings[parameter.name]
    if text is None:
        return None
    try:
        value: object = int(text) if parameter.kind == "integer" else float(text)
    except ValueError:
        value = text
    checked = parameter.check(value, parameter.name)
    assert isinstance(checked, float | int)
    return checked


def _from_pilot(settings: dict[str, str | None], numbers: dict[str, float | None]) -> Plan:
    """The plan from the records of a study, whose arms are judged as `lossbench compare` would."""
    from lossbench.comparison import metrics
    from lossbench.comparison.command import declared
    from lossbench.comparison.posthoc import split_baseline, with_posthoc
    from lossbench.comparison.sealing import refuse_sealed
    from lossbench.comparison.selection import selected_runs
    from lossbench.records import chosen_study

    study = chosen_study(Path(settings["runs_dir"] or "runs"), settings["study"], "power")
    records, _ = selected_runs(study)
    found = declared(records)
    own = found.metric or metrics.PRIMARY
    metric = settings["metric"] or own
    refuse_sealed(records, metric)
    arm, methods = split_baseline(settings["baseline"] or found.baseline)
    records = with_posthoc(records, list(dict.fromkeys([*found.posthoc, *methods])), arm)
    baseline, pilot = pilot_spreads(records, settings["baseline"] or found.baseline, metric)
    seen = sorted((entry for entry in pilot if entry.spread > 0), key=lambda entry: entry.spread)
    if not seen:
        raise InputError(
            f"no arm of {study.name} has two paired seeds with {baseline} that differ in their "
            "difference, so no spread is seen: run more seeds, or state one with spread="
        )
    largest = seen[-1]
    low, high = seen[(len(seen) - 1) // 2], seen[len(seen) // 2]
    spreads = {
        "median of the arms": (low.spread + high.spread) / 2,
        "largest": largest.spread,
        "upper limit of the largest": largest.upper_limit,
    }
    counts = [sum(entry.context == one.context for entry in pilot) for one in pilot]
    losses = numbers["losses"] or max(counts)
    difference = numbers["difference"] or (found.margin if metric == own else None)
    source = f"{metric} minus that of {baseline}, pilot {study.name}"
    return Plan(spreads, int(losses), difference, pilot, source)


def pilot_spreads(
    records: Sequence[Record], baseline: str, metric: str
) -> tuple[str, list[PilotSpread]]:
    """The label of the baseline, and the spread of each other arm's paired differences to it.

    Raises `InputError` for an unknown metric or baseline, and if no run is finished.
    """
    from lossbench.comparison import metrics
    from lossbench.comparison.compare import known_baseline
    from lossbench.comparison.pairing import pair_runs
    from lossbench.comparison.table import finished, metric_tags, run_table

    runs = run_table(records, "arm")
    metrics.check(metric, metric_tags(runs), "arm")
    baseline = known_baseline(baseline, finished(runs))
    pairs = pair_runs(runs, records, baseline=baseline, metric=metric, by="arm")
    paired = pairs[pairs["refused"] == ""]
    spreads = []
    for (context, label), group in paired.groupby(["context", "label"]):
        test = paired_t_test(group["difference"].to_numpy())
        spreads.append(PilotSpread(str(context), str(label), test.n, test.spread))
    return baseline, spreads


def show(plan: Plan) -> None:
    """Print ``plan`` and its answers."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, markup=False)
    if plan.pilot:
        console.print(f"Spread of the paired differences over seeds: {plan.source}")
        console.print(_pilot_table(plan.pilot))
        console.print(
            "A spread from few seeds is a guess: for one arm in five the true one is above the "
            "upper limit. The median is what to expect, the upper limit is the careful choice.\n"
        )
    console.print(_holm_words(plan.losses))
    if plan.difference is not None:
        console.print(f"\nSeeds that find a true difference of {significant(plan.difference)}")
        console.print(_seeds_table(plan, plan.difference))
    for name, spread in plan.spreads.items():
        console.print(f"\nWhat n seeds find if the spread is {significant(spread)} ({name})")
        console.print(_differences_table(plan, spread))


def _holm_words(losses: int) -> str:
    if losses == 1:
        return f"One loss is compared with the baseline: its p is tested at {ALPHA}, two-sided."
    level = significant(ALPHA / losses)
    return (
        f"{losses} losses are compared with the baseline. Holm's first step tests at {ALPHA} / "
        f"{losses} = {level}: a loss whose p is below that is found whatever the others do, so the "
        "chance at this step is the least that one given loss has; a loss that fails it may still "
        f"be found after others are. All {losses}: every loss has this difference and all are "
        "found, if their differences are independent (a shared baseline rather helps)."
    )


def _pilot_table(pilot: Sequence[PilotSpread]) -> Table:
    several = len({entry.context for entry in pilot}) > 1
    limit = f"{CONFIDENCE:.0%} upper limit".replace("%", " %")
    rows = [
        (
            f"{entry.context}: {entry.label}" if several else entry.label,
            str(entry.seeds),
            "no spread seen" if entry.spread == 0 else significant(entry.spread),
            significant(entry.upper_limit),
        )
        for entry in pilot
    ]
    return _table(("arm", "paired seeds", "standard deviation", limit), rows)


def _seeds_table(plan: Plan, difference: float) -> Table:
    """A row per spread: the seeds for one given loss, and for all, at each power."""
    level, rows = ALPHA / plan.losses, []
    for name, spread in plan.spreads.items():
        all_found = partial(power_of_all, difference, spread, comparisons=plan.losses)
        cells = [seeds_needed(difference, spread, level, power) for power in POWERS]
        cells += [fewest_seeds(all_found, power) for power in POWERS if plan.losses > 1]
        texts = (f"more than {MOST_SEEDS}" if cell is None else str(cell) for cell in cells)
        rows.append((name, significant(spread), *texts))
    head = ["spread", "standard deviation", *_at_powers("one given loss, at most")]
    return _table(head + _at_powers(f"all {plan.losses}") * (plan.losses > 1), rows)


def _differences_table(plan: Plan, spread: float) -> Table:
    """A row per number of seeds: the smallest difference found, and the chances of the one asked.

    Found are differences for one given loss.
    """
    level, difference = ALPHA / plan.losses, plan.difference
    rows = []
    for seeds in SEEDS:
        found = [smallest_difference(spread, seeds, level, power) for power in POWERS]
        cells = [str(seeds), *map(significant, found)]
        if difference is not None:
            chances = [power_of_t(difference, spread, seeds, level)]
            if plan.losses > 1:
                chances.append(power_of_all(difference, spread, seeds, plan.losses))
            cells += [_percent(chance) for chance in chances]
        rows.append(tuple(cells))
    head = ["seeds", *_at_powers("smallest difference")]
    if difference is not None:
        head += [f"chance of {significant(difference)}, one given loss, at least"]
        head += [f"all {plan.losses}"] * (plan.losses > 1)
    return _table(head, rows)


def _at_powers(words: str) -> list[str]:
    return [f"{words}, {round(100 * power)} %" for power in POWERS]


def _percent(chance: float) -> str:
    if not 0.005 <= chance < 0.995:
        return "< 1 %" if chance < 0.5 else "> 99 %"
    return f"{100 * chance:.0f} %"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, name in enumerate(head):
        table.add_column(name, justify="right" if place else "left", no_wrap=not place)
    for row in rows:
        table.add_row(*row)
    return table
