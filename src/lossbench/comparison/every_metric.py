"""Every metric of every arm: mean, interval and difference to the baseline; nothing is judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from lossbench.comparison import metrics
from lossbench.comparison.columns import Columns, plain
from lossbench.comparison.statistics import ALPHA
from lossbench.comparison.table import metric_tags
from lossbench.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from lossbench.comparison.compare import Comparison

MOST_RECALLS = 30
"""More classes than these have their recalls in the figure of recalls only."""

ROUNDING = 1e-12
"""Relative difference up to which two runs have the same number, computed in another order."""

DIGITS = 7
"""Of the numbers in the table, which shows three decimals: with fewer it would round twice."""


def every_metric(
    comparison: Comparison, context: str, number: Mapping[str, int]
) -> tuple[Columns, list[dict[str, str]]]:
    """One row per arm and metric that it has, and the metrics: tag, name, arrow of better.

    ``mean``, ``low``, ``high`` and ``n``: ordinary 95 % t-interval over the finished seeds.
    ``difference`` with its bounds: the same over the ``pairs`` seeds that the verdict's
    differences use, if both runs have the metric. A metric without a known direction has no arrow.
    """
    runs = comparison.done[context]
    tags = _tags(comparison, runs)
    values = {
        str(label): group[tags].to_numpy() for label, group in runs.groupby("label", sort=False)
    }
    seeds = {str(label): group["seed"] for label, group in runs.groupby("label", sort=False)}
    paired = {
        entry.label: entry.seeds for entry in comparison.differences if entry.context == context
    }
    columns: Columns = {}
    for label in comparison.ranked[context]:
        mean, low, high, n = intervals(values[label])
        differences = np.empty((0, len(tags)))
        if chosen := paired.get(label):
            own = _rows(values[label], seeds[label], chosen)
            base = _rows(values[comparison.baseline], seeds[comparison.baseline], chosen)
            equal = np.isclose(own, base, rtol=ROUNDING, atol=0)
            differences = np.where(equal, 0.0, own - base)
        difference, difference_low, difference_high, pairs = intervals(differences)
        found = np.flatnonzero(n)
        rows = {
            "arm": [number[label]] * len(found),
            "metric": found.tolist(),
            "mean": plain(mean[found], DIGITS),
            "low": plain(low[found], DIGITS),
            "high": plain(high[found], DIGITS),
            "n": n[found].tolist(),
            "difference": plain(difference[found], DIGITS),
            "difference_low": plain(difference_low[found], DIGITS),
            "difference_high": plain(difference_high[found], DIGITS),
            "pairs": pairs[found].tolist(),
        }
        for name, entries in rows.items():
            columns.setdefault(name, []).extend(entries)
    return columns, [_words(tag) for tag in tags]


def intervals(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean, 95 % t-interval (low, high) and n of every column of ``values`` (runs, metrics).

    NaN is left out and counted out of n. The mean of nothing and the interval of one are NaN.
    """
    defined = ~np.isnan(values)
    n = np.count_nonzero(defined, axis=0)
    filled = np.where(defined, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.sum(axis=0) / n
        squares = (np.where(defined, values - mean, 0.0) ** 2).sum(axis=0)
        error = np.sqrt(squares / (n - 1) / n)
    half = -special.stdtrit(np.maximum(n - 1, 1), ALPHA / 2) * error
    return mean, mean - half, mean + half, n


def _rows(values: np.ndarray, seeds: pd.Series, chosen: tuple[int, ...]) -> np.ndarray:
    place = {seed: row for row, seed in enumerate(seeds)}
    return values[[place[seed] for seed in chosen]]


def _tags(comparison: Comparison, runs: pd.DataFrame) -> list[str]:
    """The metrics that a run of the context has: the metric that decides, its split, the others.

    Within a split in the order of `metrics.FACTS`, what is not there by name.
    """
    known = {rest: place for place, rest in enumerate(metrics.FACTS)}
    splits = dict.fromkeys([comparison.split, *reversed(metrics.SPLITS)])
    order = {split: place for place, split in enumerate(splits)}

    def place(tag: str) -> tuple[bool, int, int, str]:
        split, _, rest = tag.partition("/")
        return tag != comparison.metric, order.get(split, 9), known.get(rest, len(known)), tag

    tags = [tag for tag in metric_tags(runs) if runs[tag].notna().any()]
    classes = {tag.partition("/recall/")[2] for tag in tags if "/recall/" in tag}
    if len(classes) > MOST_RECALLS:
        tags = [tag for tag in tags if "/recall/" not in tag]
    return sorted(tags, key=place)


def _words(tag: str) -> dict[str, str]:
    try:
        facts = metrics.facts(tag)
    except InputError:  # such as the temperature of a post-hoc method
        return {"tag": tag, "name": tag.rpartition("/")[2].replace("_", " "), "arrow": ""}
    return {"tag": tag, "name": facts.name, "arrow": facts.arrow}
