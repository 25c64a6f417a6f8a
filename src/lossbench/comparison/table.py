"""Records of many runs -> one tidy table (a row per run) -> a summary per context and label."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from lossbench.comparison.labels import AXES, add_labels
from lossbench.comparison.statistics import estimate
from lossbench.errors import InputError, unknown
from lossbench.records import Record

FACTS = ("study", "cell", "arm", "seed", "model", "loss", "status", "reason", "identity")
FINGERPRINTS = ("subset", "init", "batches")


@dataclass(frozen=True)
class Gap:
    """Runs of one label in one context that could not be used, and why."""

    context: str
    label: str
    reason: str
    seeds: tuple[int, ...]

    @property
    def kind(self) -> str:
        """The reason without its cause: failed, not finished, missing or without a value."""
        kind = self.reason.partition(":")[0]
        return "without a value" if kind.startswith("without") else kind

    @property
    def sentence(self) -> str:
        """Such as ``focal: 2 runs failed (seeds 1, 3)``."""
        count = len(self.seeds)
        runs = "1 run" if count == 1 else f"{count} runs"
        seeds = ", ".join(map(str, self.seeds))
        return f"{self.label}: {runs} {self.reason} (seed{'s' * (count != 1)} {seeds})"


def run_table(records: Sequence[Record], by: str = "arm") -> pd.DataFrame:
    """One row per run, in the order of ``records``; one column per fact and metric tag.

    The columns are study, cell, arm, seed, model, loss, status, reason, identity, the fingerprints
    subset, init and batches, then ``context`` and ``label`` (where and what is compared along
    ``by``), then every metric as float64, NaN where it is undefined. Raises `InputError` if there
    is no finished run or ``by`` is not arm, loss or model.
    """
    if by not in AXES:
        raise unknown("by", by, AXES)
    if not any(record.status == "done" for record in records):
        raise InputError(_nothing(records))
    table = pd.DataFrame([{name: getattr(record, name) for name in FACTS} for record in records])
    for name in FINGERPRINTS:
        table[name] = [record.fingerprints.get(name) for record in records]
    table = add_labels(table, records, by)
    metrics = pd.DataFrame([record.metrics for record in records], index=table.index)
    return pd.concat([table, metrics.astype("float64")], axis=1)


def _nothing(records: Sequence[Record]) -> str:
    if not records:
        return "no run is recorded in this study: check study= and runs_dir=, or run it first"
    counts = pd.Series([record.status for record in records]).value_counts()
    found = ", ".join(f"{count} {status}" for status, count in counts.items())
    study = records[0].study
    return f"study {study!r} has no finished run ({found}): see lossbench status study={study}"


def metric_tags(table: pd.DataFrame) -> list[str]:
    """The metric columns of a `run_table`."""
    return [name for name in table.columns if "/" in name]


def finished(table: pd.DataFrame) -> pd.DataFrame:
    """The runs that are done; of a run that is recorded twice, the first."""
    done = table[table["status"] == "done"]
    return done.drop_duplicates(["context", "label", "seed"])


def summarise(table: pd.DataFrame, metrics: Iterable[str]) -> pd.DataFrame:
    """Mean, standard error, 95 % t-interval and n over the finished seeds.

    One row per context, label and metric, with the columns context, label, metric, mean,
    standard_error, low, high, n. Undefined values (NaN) are left out, and n says so.
    """
    metrics = list(metrics)
    rows = []
    for (context, label), group in finished(table).groupby(["context", "label"], sort=False):
        for metric in metrics:
            numbers = estimate(group[metric].dropna().to_numpy())
            rows.append({"context": context, "label": label, "metric": metric} | vars(numbers))
    return pd.DataFrame(rows)


def find_gaps(table: pd.DataFrame, metric: str) -> list[Gap]:
    """The runs that failed, still run, were never recorded, or have no value of ``metric``.

    A run counts as missing if another label of its context has its seed.
    """
    seeds: dict[str, set[int]] = defaultdict(set)
    recorded: dict[tuple[str, str], set[int]] = defaultdict(set)
    runs = table[["context", "label", "seed", "status", "reason"]].assign(value=table[metric])
    for run in runs.to_dict("records"):
        seeds[run["context"]].add(run["seed"])
        recorded[run["context"], run["label"]].add(run["seed"])
    found: dict[tuple[str, str, str], set[int]] = defaultdict(set)
    for run in runs[(runs["status"] != "done") | runs["value"].isna()].to_dict("records"):
        done = run["status"] == "done"
        reason = f"without {metric}" if done else _reason(run["status"], run["reason"])
        found[run["context"], run["label"], reason].add(run["seed"])
    for place, present in recorded.items():
        if missing := seeds[place[0]] - present:
            found[*place, "missing"] |= missing
    return [Gap(*key, tuple(sorted(places))) for key, places in found.items()]


def _reason(status: str, reason: object) -> str:
    if status == "running":
        return "not finished"
    cause = str(reason or "").strip()
    return f"failed: {cause.splitlines()[-1]}" if cause else "failed"


def balanced_validation(record: Record) -> bool:
    """Whether validation has equal classes although training has not: an oracle's choice."""
    train, val = record.priors.get("train"), record.priors.get("val")
    return bool(train and val and _uniform(val) and not _uniform(train))


def _uniform(prior: Sequence[float]) -> bool:
    return max(prior) <= 1.1 * min(prior)  # digits, as they are, differ by a few images
