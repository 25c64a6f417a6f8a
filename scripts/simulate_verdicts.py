"""Simulated studies with a known truth, judged through the door that `lossbench compare` uses.

    python scripts/simulate_verdicts.py [--studies 1000]

Every study has a baseline and six arms, whose records hold drawn numbers; `evaluate` judges them.
The unit is the standard deviation of the paired difference. Where there is no difference, a study
errs if it calls any arm better or worse; Holm promises at most 5 % of such studies for normal
differences. Where one arm is truly better by 2, it should be found. The seeds are fixed.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from lossbench.comparison.compare import evaluate
from lossbench.comparison.metrics import PRIMARY
from lossbench.comparison.verdict import BETTER, WORSE, Verdict
from lossbench.records import Record
from lossbench.seeding import generator

ARMS = 6
UNIT = 0.01  # a standard deviation of the paired difference, as balanced accuracy
TOGETHER = 100  # studies in one call: as cells, which are judged one by one


def sharing_a_baseline(rng: np.random.Generator, seeds: int) -> np.ndarray:
    """(ARMS, seeds) normal differences; the baseline's own noise is in all arms of a seed."""
    noise = rng.normal(size=(ARMS + 1, seeds))
    return (noise[1:] - noise[0]) / math.sqrt(2)


def heavy_tailed(rng: np.random.Generator, seeds: int) -> np.ndarray:
    """(ARMS, seeds) independent differences from Student's t with 3 degrees of freedom."""
    return rng.standard_t(3, size=(ARMS, seeds)) / math.sqrt(3)


@dataclass(frozen=True)
class Scenario:
    """Studies of ``seeds`` seeds; the first arm is better by ``effect``; ``draw`` the rest."""

    name: str
    draw: Callable[[np.random.Generator, int], np.ndarray]
    seeds: int
    effect: float = 0.0


NULL = [Scenario("no difference", sharing_a_baseline, seeds) for seeds in (3, 5, 10)]
FOUND = Scenario("one arm better by 2", sharing_a_baseline, 10, effect=2.0)
HEAVY = [Scenario("no difference, heavy tails", heavy_tailed, seeds) for seeds in (3, 5, 10)]
HEAVY_FOUND = Scenario("one arm better by 2, heavy tails", heavy_tailed, 10, effect=2.0)


@dataclass(frozen=True)
class Shares:
    """Of ``studies``: the share with a ``false`` verdict, and that in which the arm was found."""

    studies: int
    false: float
    found: float

    def error(self, share: float) -> float:
        """The standard error of one of the shares."""
        return math.sqrt(share * (1 - share) / self.studies)


def simulate(scenario: Scenario, studies: int) -> Shares:
    """Draw and judge ``studies`` of ``scenario``; the same studies whenever it is called.

    False is better or worse where there is no difference, and worse where there is one.
    """
    rng = generator(0, "simulated studies", scenario.name, scenario.seeds)
    false, found = set(), set()
    for start in range(0, studies, TOGETHER):
        for verdict in judged(scenario, range(start, min(start + TOGETHER, studies)), rng):
            truly_better = scenario.effect > 0 and verdict.label == "arm 1"
            if truly_better and verdict.word == BETTER:
                found.add(verdict.context)
            elif verdict.word in (BETTER, WORSE):
                false.add(verdict.context)
    return Shares(studies, len(false) / studies, len(found) / studies)


def judged(scenario: Scenario, numbers: range, rng: np.random.Generator) -> list[Verdict]:
    """The verdicts on the studies called ``numbers``, each a cell of one comparison."""
    cells = [study(f"study {number}", drawn(scenario, rng)) for number in numbers]
    records = [record for cell in cells for record in cell]
    return evaluate(records, baseline="baseline", metric=PRIMARY, by="arm").verdicts


def drawn(scenario: Scenario, rng: np.random.Generator) -> np.ndarray:
    """(1 + ARMS, seeds) the numbers of one study, the baseline's first."""
    level = rng.normal(0, 3, size=scenario.seeds)
    differences = scenario.draw(rng, scenario.seeds)
    differences[0] += scenario.effect
    return 0.7 + UNIT * (level + np.vstack([np.zeros(scenario.seeds), differences]))


def study(cell: str, values: np.ndarray) -> Iterator[Record]:
    """The records of one study: all arms of a seed share their fingerprints."""
    for place, row in enumerate(values):
        arm = f"arm {place}" if place else "baseline"
        for seed, value in enumerate(row):
            yield Record(
                status="done",
                study="simulated",
                arm=arm,
                cell=cell,
                identity=f"{cell}, {arm}, {seed}",
                seed=seed,
                loss=arm,
                model="none",
                fingerprints=dict.fromkeys(("subset", "init", "batches"), f"{cell}, {seed}"),
                metrics={PRIMARY: float(value)},
            )


def main() -> None:
    """Print the table as markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    studies = parser.parse_args().studies
    print("| truth | seeds | studies | with a false verdict | the better arm found |")
    print("|---|---|---|---|---|")
    for scenario in [*NULL, FOUND, *HEAVY, HEAVY_FOUND]:
        shares = simulate(scenario, studies)
        false, found = (
            f"{100 * share:.1f} ± {100 * shares.error(share):.1f} %"
            for share in (shares.false, shares.found)
        )
        cells = (scenario.name, scenario.seeds, studies, false, found if scenario.effect else "–")
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
