"""The deciding metric over all cells of a study, and the statistics on it.

A cell takes part where every label has a finished run; seeds are averaged before cells are
compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from lossbench.comparison.statistics import across
from lossbench.comparison.statistics.across import Friedman, Interval, SignedRank

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison


@dataclass(frozen=True, eq=False)
class Across:
    """The deciding metric over the cells that take part.

    ``runs`` (k labels, N cells, seeds) is turned so that higher is better, NaN where there is no
    run; ``sign`` turns it back, and only `shown` does. The baseline is the first of ``labels``.
    ``left_out`` gives the labels without a run of every cell that takes no part, ``uneven`` what
    is missing in those that do, ``undefined`` the labels whose metric is undefined in every run.
    """

    labels: tuple[str, ...]
    cells: tuple[str, ...]
    runs: np.ndarray
    sign: int
    left_out: dict[str, list[str]]
    uneven: dict[str, list[str]]
    undefined: list[str]

    @property
    def comparable(self) -> bool:
        """Whether there are two cells and two labels at least."""
        return len(self.cells) > 1 and len(self.labels) > 1

    @cached_property
    def scores(self) -> np.ndarray:
        """Means over seeds, (N, k)."""
        return np.nanmean(self.runs, axis=2).T

    @cached_property
    def average_ranks(self) -> np.ndarray:
        """(k,); 1 is the best."""
        return across.ranks(self.scores).mean(axis=0)

    @cached_property
    def order(self) -> list[int]:
        """The places of the labels, the best average rank first."""
        return [int(place) for place in np.argsort(self.average_ranks, kind="stable")]

    @cached_property
    def friedman(self) -> Friedman:
        """The test that all labels rank alike."""
        return across.friedman(self.scores)

    @cached_property
    def critical_difference(self) -> float:
        """Nemenyi's, whether or not the cells are enough to use it."""
        return across.critical_difference(len(self.labels), len(self.cells))

    @property
    def groups(self) -> list[tuple[int, ...]]:
        """The places of labels that do not differ by the critical difference; none if few cells."""
        if len(self.cells) < across.LEAST_CELLS:
            return []
        return across.groups(self.average_ranks, self.critical_difference)

    @cached_property
    def signed_ranks(self) -> dict[str, SignedRank]:
        """Every label but the baseline against it, the best average rank first."""
        tests = across.signed_ranks(self.scores, baseline=0)
        return {self.labels[place]: tests[place - 1] for place in self.order if place}

    @cached_property
    def aggregates(self) -> dict[str, Interval]:
        """The interquartile mean of every label, in the unit of the metric."""
        pairs = zip(self.labels, self.runs, strict=True)
        return {
            label: self.shown(*across.interquartile_mean_interval(runs, label))
            for label, runs in pairs
        }

    def shown(self, value: float, low: float, high: float) -> Interval:
        """An interval in the unit and direction of the metric."""
        ends = sorted((self.sign * low, self.sign * high))
        return Interval(self.sign * value, *ends)


def gather(comparison: Comparison) -> Across | None:
    """The runs of all cells of ``comparison``; None if there is only one cell."""
    contexts = [str(context) for context in comparison.runs["context"].unique()]
    if len(contexts) < 2:
        return None
    found: dict[str, dict[str, np.ndarray]] = {}
    for context in contexts:
        done = comparison.done.get(context, comparison.runs[:0])
        finite = done[np.isfinite(done[comparison.metric])]
        groups = finite.groupby("label")[comparison.metric]
        found[context] = {str(label): values.to_numpy() for label, values in groups}
    known = {comparison.baseline}.union(*found.values())
    labels = [label for label in comparison.labels if label in known]
    cells = [cell for cell in contexts if len(found[cell]) == len(labels)]
    most = {cell: max(len(values) for values in found[cell].values()) for cell in cells}
    sign = 1 if comparison.facts.higher_is_better else -1
    runs = np.full((len(labels), len(cells), max(most.values(), default=0)), np.nan)
    for row, label in enumerate(labels):
        for column, cell in enumerate(cells):
            values = found[cell][label]
            runs[row, column, : len(values)] = sign * values
    uneven = {
        cell: [
            f"{label} {len(found[cell][label])} of {most[cell]}"
            for label in labels
            if len(found[cell][label]) < most[cell]
        ]
        for cell in cells
    }
    return Across(
        labels=tuple(labels),
        cells=tuple(cells),
        runs=runs,
        sign=sign,
        left_out={
            cell: [label for label in labels if label not in found[cell]]
            for cell in contexts
            if cell not in cells
        },
        uneven={cell: missing for cell, missing in uneven.items() if missing},
        undefined=[label for label in comparison.labels if label not in known],
    )
