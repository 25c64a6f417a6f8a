"""What was measured and how, in sentences that stand under the tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lossbench.comparison.metrics import GRADIENT, SPLITS
from lossbench.comparison.pairing import REQUIRED
from lossbench.comparison.sealing import sealing
from lossbench.comparison.table import balanced_validation, finished
from lossbench.config import noise_label
from lossbench.records import Record, sealed_runs

if TYPE_CHECKING:
    import pandas as pd

    from lossbench.comparison.compare import Comparison


def measured(comparison: Comparison) -> list[str]:
    """The sentences, from the finished records of ``comparison``."""
    done = finished(comparison.runs)
    records = [comparison.records[row] for row in done.index]
    counts = done.groupby(["context", "label"])["seed"].nunique()
    least, most = int(counts.min()), int(counts.max())
    return [
        _last_epoch(records),
        sealing(records),
        _validation(records),
        *_data(records),
        f"n is {least}{'' if least == most else f' to {most}'} finished runs (seeds) per "
        f"{comparison.by}; ± is the standard error of the mean over seeds.",
        _pairing(comparison),
        "Differences are judged by a paired t-test over seeds, with Holm's correction for the "
        "number of comparisons in a cell, those included that lack the runs to be tested. A Holm "
        "interval is the t-interval at the level at which Holm's rule judged the comparison: it "
        "excludes 0 exactly when Holm's p is below 0.05, and each one covers its own difference "
        "with at least 95 %. Simultaneous intervals (t, at 0.05 over the number of comparisons) "
        "hold all together with 95 %: sizes are claimed with them.",
        _margin(comparison),
        "Cross-entropy is one yardstick for all: the negative log-likelihood, in nats, of the "
        "logits as deployed, whatever a run was trained with. Prior-adjusted numbers use logits "
        "moved from the training prior to the prior of the split.",
        *_gradient(done),
        _made_with(comparison),
    ]


def _last_epoch(records: Sequence[Record]) -> str:
    if len(sealed_runs(records)) == len(records):
        return "Every number is of the last epoch, and none of the test set."
    return (
        "Every number is of the last epoch. The test set was evaluated once per run, after the "
        "last epoch, and chose nothing."
    )


def _margin(comparison: Comparison) -> str:
    if comparison.margin is None:
        return (
            "No margin is declared (margin=), so no difference is called too small to matter, and "
            "seeds needed are those for a difference of the size seen."
        )
    return (
        f"The margin is {comparison.margin:g} in {comparison.facts.name}: no relevant difference "
        "means that two one-sided paired t-tests with Holm's correction show it to be smaller "
        "either way. Seeds needed are those for a difference of the margin. "
        "At most 5 % of studies call any such difference irrelevant wrongly, beside the 5 % of "
        "better and worse."
    )


def where_measured(split: str, records: Sequence[Record]) -> str:
    """The split in words; a balanced validation set is called what it is."""
    if split == "val" and any(map(balanced_validation, records)):
        return "balanced validation (oracle)"
    return SPLITS[split]


def _validation(records: Sequence[Record]) -> str:
    if any(map(balanced_validation, records)):
        return (
            "Validation is balanced although training is not: a balanced validation (oracle), "
            "made of images that the imbalance threw away."
        )
    if any(record.priors.get("val") for record in records):
        return "Validation has the prior of the training set."
    return "There is no validation set."


def _data(records: Sequence[Record]) -> list[str]:
    """Where the data are not what was asked for, and whose labels are wrong."""
    said = [f"{note}." for note in sorted({note for record in records for note in record.notes})]
    if any("val/regime/tau" in record.metrics for record in records if balanced_validation(record)):
        said.append("regime.tau=null chose tau on the balanced validation set (oracle).")
    if any(noise_label(record.config()) for record in records):
        said.append(
            "Where a cell names a noise, that share of the training labels is wrong; class counts "
            "and class weights are those of the labels given. Validation and test are clean."
        )
    return said


def _pairing(comparison: Comparison) -> str:
    required = " and ".join(REQUIRED[comparison.by])
    matched = {entry.matched for entry in comparison.differences if entry.n}
    if not matched:
        return f"A pair shares cell, seed and the fingerprints {required}; there is none here."
    found = matched.pop() if len(matched) == 1 else "as the tables say"
    return f"A pair shares cell, seed and the fingerprints {required}. Equal in the pairs: {found}."


def _gradient(done: pd.DataFrame) -> list[str]:
    if GRADIENT not in done or done[GRADIENT].isna().all():
        return []
    return [
        "The size of a gradient is that of each sample with respect to the raw logits, as the "
        "training steps saw them, summed over samples, over the same sum for cross-entropy of the "
        "logits as deployed. It is that of the loss itself; training multiplied the loss by the "
        "loss scale, if there is one (loss_scale=match_ce), measured before the first step: a loss "
        "with a schedule is matched, and shown, as it begins. SGD takes a constant factor for one "
        "on the learning rate; AdamW hardly notices it."
    ]


def _made_with(comparison: Comparison) -> str:
    records = [record for record in comparison.records if record.status == "done"]
    versions = {
        f"{name} {record.versions[name]}"
        for record in records
        for name in ("lossbench", "torch")
        if name in record.versions
    }
    commits = {record.git[:12] for record in records if record.git}
    hours = sum(record.seconds for record in records) / 3600
    made = ", ".join([*sorted(versions), *(f"commit {commit}" for commit in sorted(commits))])
    mixed = " The runs are of different commits, which may be part of a difference."
    told = f"Made with {made or 'unknown versions'}; {hours:.2g} hours of runs in all."
    return told + mixed * (len(commits) > 1)
