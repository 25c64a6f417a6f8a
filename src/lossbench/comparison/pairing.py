"""Which runs may be compared seed by seed, and what the comparison says.

Two runs are a pair only within one context and one seed, if what they must share is proved by
equal fingerprints: the training subset and the initial weights along arms and losses; the subset
and the batches along models, whose weights differ by nature. Along arms and losses the batches
have to match too, unless the two regimes differ (DESIGN.md, Pairing).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd

from lossbench.comparison import statistics
from lossbench.comparison.statistics import ALPHA, PairedTest, Sensitivity
from lossbench.comparison.table import FINGERPRINTS, finished
from lossbench.config import regime_words
from lossbench.errors import InputError
from lossbench.records import Record

REQUIRED = {
    "arm": ("subset", "init"),
    "loss": ("subset", "init"),
    "model": ("subset", "batches"),
}

ROUNDING = 1e-12
"""Of a metric: a smaller difference comes from the order of a sum, and is none."""


@dataclass(frozen=True)
class Difference:
    """The paired difference of one label to the baseline in one context.

    ``mean`` (label minus baseline), ``standard_error``, ``p`` and ``n`` are those of the paired
    t-test of ``values``, the differences on ``seeds`` (ascending). ``holm_p``, ``low`` and
    ``high`` are judged together with the other labels of the context; the bounds exclude 0 exactly
    when ``holm_p`` is below alpha. ``simultaneous`` (low, high) holds the true difference in all
    labels of the context together with 95 %. ``sensitivity`` shows other assumptions.

    ``equivalence_p`` tests that the difference is smaller than ``margin`` either way, by Holm over
    the labels of the context; NaN without a margin. ``equivalence_interval`` (low, high) lies
    within the margin exactly when that p is below alpha. ``detectable`` is the smallest true
    difference that these seeds would have shown with 80 % power at level alpha / k (k labels with
    a p), with the spread seen. ``seeds_needed`` are the seeds in all that would show, likewise, a
    difference of the size of the margin, or without one of the size seen; None if more than 1,000.
    Where no spread was seen they are NaN and None.

    ``matched`` names the fingerprints that were equal in every pair. ``refused`` maps a reason to
    the seeds that were not compared for it.
    """

    context: str
    label: str
    mean: float
    standard_error: float
    low: float
    high: float
    p: float
    holm_p: float
    n: int
    values: tuple[float, ...]
    seeds: tuple[int, ...]
    simultaneous: tuple[float, float]
    sensitivity: Sensitivity
    margin: float | None
    equivalence_p: float
    equivalence_interval: tuple[float, float]
    detectable: float
    seeds_needed: int | None
    matched: str
    refused: dict[str, tuple[int, ...]]


def pair_runs(
    table: pd.DataFrame, records: Sequence[Record], *, baseline: str, metric: str, by: str
) -> pd.DataFrame:
    """Every finished run beside the baseline's run of its context and seed.

    One row per run whose context and seed has a finished baseline run: context, label, seed,
    difference (run minus baseline), one boolean column per fingerprint (equal or not), and
    ``refused``, the reason why the two are not a pair ("" if they are).
    """
    runs = finished(table).dropna(subset=[metric])
    columns = ["context", "label", "seed", metric, *FINGERPRINTS]
    runs = runs[columns].rename(columns={metric: "value"})
    runs["row"] = runs.index
    base = runs[runs["label"] == baseline].drop(columns="label")
    others = runs[runs["label"] != baseline]
    pairs = others.merge(base, on=["context", "seed"], suffixes=("", "_baseline"))
    pairs["difference"] = pairs["value"] - pairs["value_baseline"]
    size = pairs[["value", "value_baseline"]].abs().max(axis=1)
    pairs.loc[pairs["difference"].abs() < ROUNDING * size, "difference"] = 0.0
    for name in FINGERPRINTS:
        pairs[name] = pairs[name] == pairs[f"{name}_baseline"]  # a missing one equals nothing
    pairs["refused"] = ""
    for name in REQUIRED[by]:
        pairs.loc[(pairs["refused"] == "") & ~pairs[name], "refused"] = f"{name} differs"
    _check_batches(pairs, records)
    return pairs[["context", "label", "seed", "difference", *FINGERPRINTS, "refused"]]


def _check_batches(pairs: pd.DataFrame, records: Sequence[Record]) -> None:
    """Refuse pairs with other batches under one regime; reads the configs of those pairs only."""
    doubtful = pairs[(pairs["refused"] == "") & ~pairs["batches"]]
    for _, group in doubtful.groupby(["context", "label"]):
        first = group.iloc[0]
        runs = (records[first["row"]], records[first["row_baseline"]])
        regimes = [regime_words(record.config().get("regime") or {}) for record in runs]
        if regimes[0] == regimes[1]:
            pairs.loc[group.index, "refused"] = "batches differ under the same regime"


def differences(
    pairs: pd.DataFrame,
    labels: pd.DataFrame,
    margin: float | None = None,
    *,
    higher_is_better: bool,
    absent: Mapping[str, int] = MappingProxyType({}),
) -> list[Difference]:
    """The differences of every context and label in ``labels``, judged by Holm per context.

    ``pairs`` is the result of `pair_runs`; ``labels`` has the columns context and label, and holds
    no baseline. ``margin`` is the largest difference that does not matter, in the unit of the
    metric. ``absent`` is the number of labels of a context that have no finished run: they belong
    to the family all the same. Raises `InputError` if the margin is not above 0, or if runs share
    seeds but not one pair is allowed.
    """
    if margin is not None and not 0 < margin < math.inf:
        raise InputError(
            f"margin {margin} is not a finite number above 0: it is the largest difference of the "
            "metric that does not matter, such as 0.01; null for none"
        )
    if len(pairs) and (pairs["refused"] != "").all():
        reasons = pairs["refused"].value_counts()
        found = ", ".join(f"{reason} in {count}" for reason, count in reasons.items())
        raise InputError(
            f"nothing can be compared: no two runs of a seed are paired ({found} pairs); "
            "run the arms again under one version with the same data, seeds and batch size"
        )
    groups = dict(list(pairs.groupby(["context", "label"])))
    family: dict[str, list[str]] = {}
    for context, label in zip(labels["context"], labels["label"], strict=True):
        family.setdefault(context, []).append(label)
    return [
        difference
        for context, names in family.items()
        for difference in _judge(
            context,
            {name: groups.get((context, name), pairs[:0]) for name in names},
            margin,
            higher_is_better,
            absent.get(context, 0),
        )
    ]


def _judge(
    context: str,
    groups: dict[str, pd.DataFrame],
    margin: float | None,
    higher_is_better: bool,
    absent: int,
) -> list[Difference]:
    """The differences of one context; ``groups`` are labels' pairs.

    They and ``absent`` more labels without any run are one family of Holm's rule.
    """
    allowed = [group[group["refused"] == ""].sort_values("seed") for group in groups.values()]
    tests = [statistics.paired_t_test(group["difference"].to_numpy()) for group in allowed]
    tests += [statistics.paired_t_test([])] * absent
    adjusted = statistics.holm([test.p for test in tests])
    intervals = statistics.holm_intervals(tests)
    simultaneous = statistics.simultaneous_intervals(tests)
    equivalent = [statistics.equivalence_test(test, margin or np.nan) for test in tests]
    equivalence = statistics.holm(equivalent)
    within = statistics.equivalence_intervals(tests, equivalent)
    level = ALPHA / max(1, len(tests))
    detectable = _detectable(tests, level)
    found = []
    for i, (label, group) in enumerate(groups.items()):
        test, pairs = tests[i], allowed[i]
        found.append(
            Difference(
                context=context,
                label=label,
                mean=test.mean,
                standard_error=test.standard_error,
                low=intervals[i][0],
                high=intervals[i][1],
                p=test.p,
                holm_p=float(adjusted[i]),
                n=test.n,
                values=tuple(pairs["difference"].tolist()),
                seeds=tuple(pairs["seed"].tolist()),
                simultaneous=simultaneous[i],
                sensitivity=statistics.sensitivity_of(
                    pairs["difference"].to_numpy(), higher_is_better=higher_is_better
                ),
                margin=margin,
                equivalence_p=float(equivalence[i]),
                equivalence_interval=within[i],
                detectable=detectable[i],
                seeds_needed=_seeds_needed(test, margin, level),
                matched=_matched(pairs),
                refused=_refused(group),
            )
        )
    return found


def _detectable(tests: list[PairedTest], level: float) -> list[float]:
    """`Difference.detectable` of each test: proportional to the spread, solved once per n."""
    solved = {n: statistics.smallest_difference(1.0, n, level) for n in {test.n for test in tests}}
    return [(test.spread or np.nan) * solved[test.n] for test in tests]


def _seeds_needed(test: PairedTest, margin: float | None, level: float) -> int | None:
    """`Difference.seeds_needed` of a test."""
    size = test.mean if margin is None else margin
    return statistics.seeds_needed(size, test.spread or np.nan, level)


def _matched(pairs: pd.DataFrame) -> str:
    return ", ".join(name for name in FINGERPRINTS if len(pairs) and np.all(pairs[name]))


def _refused(pairs: pd.DataFrame) -> dict[str, tuple[int, ...]]:
    found: dict[str, list[int]] = {}
    for reason, seed in zip(pairs["refused"], pairs["seed"], strict=True):
        if reason:
            found.setdefault(reason, []).append(int(seed))
    return {reason: tuple(sorted(seeds)) for reason, seeds in sorted(found.items())}
