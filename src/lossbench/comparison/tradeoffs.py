"""What a label gains and costs beside the metric that decides: described, not judged.

Every number is a mean paired difference to the baseline with its ordinary 95 % t-interval. Only
those whose interval excludes 0 are named; there is no correction for how many are looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from lossbench.comparison import formats, metrics
from lossbench.comparison.pairing import pair_runs
from lossbench.comparison.posthoc import Derived
from lossbench.comparison.statistics import Estimate, estimate

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

WATCHED = (
    "cls/balanced_accuracy",
    "cls/head_recall",
    "cls/tail_recall",
    "cal/expected_calibration_error",
    "cal_adjusted/expected_calibration_error",
)
"""The metrics that a choice may pay with, without the split."""

SECONDS = "training/seconds"  # no tag of a record: the clock is no result


def trade_offs(comparison: Comparison, context: str, label: str) -> str:
    """One or two sentences on what ``label`` gains and costs against the baseline; "" if nothing
    can be said, for want of two pairs or of the metrics."""
    runs = comparison.done[context]
    runs = runs[runs["label"].isin([label, comparison.baseline])]
    found = {tag: _estimate(comparison, runs, tag) for tag in _tags(comparison, runs)}
    found = {tag: entry for tag, entry in found.items() if entry.n >= 2}
    time = _time(comparison, runs)
    if not found:
        return time
    gains, costs = [], []
    for tag, entry in found.items():
        fact = metrics.facts(tag)
        if entry.low <= 0 <= entry.high:
            continue
        words = f"{fact.name} {_in_words(entry)}"
        (gains if (entry.mean > 0) == fact.higher_is_better else costs).append(words)
    watched = formats.listing(metrics.facts(tag).name for tag in found)
    start = (
        f"What else {label} changes, described and not judged (mean paired difference to "
        f"{comparison.baseline}, plain 95 % interval)"
    )
    if gains or costs:
        gained = f"better in {formats.listing(gains)}" if gains else ""
        paid = f"worse in {formats.listing(costs)}" if costs else "no cost is visible"
        words = f"{start}: {'; '.join(filter(None, (gained, paid)))}."
    else:
        words = f"{start}: no trade-off is visible in {watched}."
    return " ".join(filter(None, (words, time)))


def _tags(comparison: Comparison, runs: pd.DataFrame) -> list[str]:
    """What is watched and measured; the prior-adjusted error only where it is another number."""
    split = comparison.split
    tags = [tag for rest in WATCHED if (tag := f"{split}/{rest}") in runs.columns]
    raw, adjusted = f"{split}/{WATCHED[3]}", f"{split}/{WATCHED[4]}"
    if {raw, adjusted} <= set(tags) and runs[raw].equals(runs[adjusted]):
        tags.remove(adjusted)
    return [tag for tag in tags if tag != comparison.metric]


def _estimate(comparison: Comparison, runs: pd.DataFrame, tag: str) -> Estimate:
    pairs = pair_runs(
        runs, comparison.records, baseline=comparison.baseline, metric=tag, by=comparison.by
    )
    return estimate(pairs.loc[pairs["refused"] == "", "difference"].to_numpy())


def _time(comparison: Comparison, runs: pd.DataFrame) -> str:
    """The difference in training time, if it is visible and was measured on one kind of machine."""
    records = [comparison.records[row] for row in runs.index]
    one_machine = len({repr(record.hardware) for record in records}) == 1
    if not one_machine or any(isinstance(record, Derived) for record in records):
        return ""
    timed = runs.assign(**{SECONDS: [record.seconds for record in records]})
    entry = _estimate(comparison, timed, SECONDS)
    if entry.n < 2 or entry.low <= 0 <= entry.high:
        return ""
    usual = timed.loc[timed["label"] == comparison.baseline, SECONDS].mean()
    more = "longer" if entry.mean > 0 else "shorter"
    ends = sorted((abs(entry.low), abs(entry.high)))
    return (
        f"Training takes {abs(entry.mean):.3g} s {more} than {comparison.baseline}'s {usual:.3g} s "
        f"({ends[0]:.2g} to {ends[1]:.2g} s)."
    )


def _in_words(entry: Estimate) -> str:
    mean, low, high = formats.difference(entry.mean, entry.low, entry.high)
    return f"{mean} ({low} to {high})"
