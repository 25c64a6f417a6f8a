"""What the figures show, computed from records: small columns of plain numbers, per context.

The seeds of a label are put together here, so the page holds no raw runs. Arms are numbered by
their place in `Comparison.labels`. Numbers keep four significant digits; NaN becomes None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lossbench.comparison import loss_lines, metrics
from lossbench.comparison.columns import Columns, append, plain
from lossbench.comparison.cross_loss import cross_loss
from lossbench.comparison.every_metric import every_metric
from lossbench.comparison.tuning_effect import budget
from lossbench.records import Record

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

REWEIGHTED = loss_lines.REWEIGHTED
RELIABILITY = {
    "raw": "reliability/{split}/raw",
    "adjusted": "reliability/{split}/adjusted",
    "temperature": "posthoc/temperature/reliability/{split}",
}
VIEWS = tuple(RELIABILITY)
"""The logits as deployed, adjusted to the class prior of the split, scaled by a temperature."""

CALIBRATION = {
    "raw": "cal/expected_calibration_error",
    "adjusted": "cal_adjusted/expected_calibration_error",
}
MOST_EPOCHS = 60
MOST_CLASSES = 30


def context_data(comparison: Comparison, context: str) -> dict[str, Any]:
    """The data of every figure of one context; a figure without data has no entry.

    Every entry but ``marks`` and ``metrics`` has columns of one length. It is computed once, for
    all that is written. Raises `DamagedRecordError` if a file of a record cannot be read.
    """
    if context not in comparison.figure_data:
        comparison.figure_data[context] = _context_data(comparison, context)
    return comparison.figure_data[context]


def _context_data(comparison: Comparison, context: str) -> dict[str, Any]:
    runs = comparison.done[context]
    number = {label: place for place, label in enumerate(comparison.labels)}
    members = {
        number[label]: [comparison.records[row] for row in runs.index[runs["label"] == label]]
        for label in comparison.ranked[context]
    }
    first = next(iter(members.values()))[0]
    split = "val" if comparison.split == "val" else "test"
    losses, reliability = _from_arrays(members, split)
    described, words = every_metric(comparison, context, number)
    data = {
        "differences": _differences(comparison, context, number),
        "losses": losses,
        "curves": _curves(members, comparison.metric),
        "recall": _recall(runs, number, first, split),
        "reliability": reliability,
        "scatter": _scatter(comparison, context, number),
        "cross_loss": cross_loss(runs, members, comparison.labels, split),
        "every_metric": described,
        "budget": budget(comparison, context, number),
    }
    found: dict[str, Any] = {name: columns for name, columns in data.items() if columns}
    return found | {"metrics": words, "marks": _marks(len(first.class_names))}


def _from_arrays(members: dict[int, list[Record]], split: str) -> tuple[Columns, Columns]:
    """The loss histograms and the reliability bins; every record's file is read once."""
    views = {view: key.format(split=split) for view, key in RELIABILITY.items()}
    names = [*loss_lines.ARRAYS, *views.values()]
    losses: Columns = {}
    reliability: Columns = {}
    for arm, records in members.items():
        lines = loss_lines.LossLines()
        bins: dict[str, list[np.ndarray]] = {view: [] for view in views}
        for record in records:
            arrays = record.arrays(names)
            lines.add(record, arrays)
            for view, key in views.items():
                if key in arrays:
                    bins[view].append(arrays[key])
        lines.write(losses, arm)
        for view, stored in bins.items():
            if stored:
                _write_reliability(reliability, arm, view, np.asarray(stored))
    return losses, reliability


def _differences(comparison: Comparison, context: str, number: dict[str, int]) -> Columns:
    """Mean paired difference of every label with a pair, in table order.

    ``low`` and ``high`` are the Holm interval, ``simultaneous_low`` and ``_high`` the one that
    holds for all labels together; ``points`` are the differences of the single seeds.
    """
    entries = {entry.label: entry for entry in comparison.differences if entry.context == context}
    shown = [entries[label] for label in comparison.ranked[context] if label in entries]
    shown = [entry for entry in shown if entry.n]
    if not shown:
        return {}
    return {
        "arm": [number[entry.label] for entry in shown],
        "mean": plain(entry.mean for entry in shown),
        "low": plain(entry.low for entry in shown),
        "high": plain(entry.high for entry in shown),
        "simultaneous_low": plain(entry.simultaneous[0] for entry in shown),
        "simultaneous_high": plain(entry.simultaneous[1] for entry in shown),
        "points": [plain(entry.values) for entry in shown],
    }


def scatter_metric(comparison: Comparison) -> str:
    """The metric that stands against calibration: the one that decides.

    Where that is itself the calibration error, balanced accuracy of its split.
    """
    split, _, rest = comparison.metric.partition("/")
    return f"{split}/cls/balanced_accuracy" if rest in CALIBRATION.values() else comparison.metric


def _scatter(comparison: Comparison, context: str, number: dict[str, int]) -> Columns:
    """The metric that decides against expected calibration error: means and 95 % t-intervals."""
    columns: Columns = {}
    tag = scatter_metric(comparison)
    for label in comparison.ranked[context]:
        for view, rest in CALIBRATION.items():
            accuracy = comparison.cells.get((context, label, tag))
            error = comparison.cells.get((context, label, f"{comparison.split}/{rest}"))
            if not accuracy or not error or np.isnan([accuracy["mean"], error["mean"]]).any():
                continue
            append(columns, arm=number[label], view=view)
            for name, cell in (("accuracy", accuracy), ("calibration", error)):
                mean, low, high = plain(cell[end] for end in ("mean", "low", "high"))
                append(columns, **{name: mean, f"{name}_low": low, f"{name}_high": high})
    return columns


def _marks(classes: int) -> dict[str, float]:
    """Where the two rules of the loss figures stand, as log10 of the loss in nats."""
    return {
        "half": round(float(np.log10(np.log(2))), 4),
        "chance": round(float(np.log10(np.log(max(classes, 2)))), 4),
    }


def _curves(members: dict[int, list[Record]], metric: str) -> Columns:
    """Mean and mean ± standard error over seeds per epoch, for the curves that were recorded."""
    wanted = {
        "train/running/cross_entropy": "training cross-entropy (running)",
        "val/loss/cross_entropy": "validation cross-entropy",
        f"val/{metric.partition('/')[2]}": f"validation {metrics.facts(metric).name}",
    }
    columns: Columns = {name: [] for name in ("arm", "curve", "epoch", "mean", "low", "high")}
    for arm, records in members.items():
        histories = [record.history(wanted) for record in records]
        for tag, words in wanted.items():
            curves = [(run["epoch"], run[tag]) for run in histories if tag in run]
            if not curves:
                continue
            epochs, mean, error = _mean_curve(curves)
            columns["arm"] += [arm] * len(epochs)
            columns["curve"] += [words] * len(epochs)
            columns["epoch"] += epochs.astype(int).tolist()
            columns["mean"] += plain(mean)
            columns["low"] += plain(mean - error)
            columns["high"] += plain(mean + error)
    return columns if columns["arm"] else {}


def _mean_curve(
    curves: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Epochs, mean and standard error (NaN for one run) of (epochs, values) of several runs."""
    epochs = np.unique(np.concatenate([run for run, _ in curves]))
    values = np.full((len(curves), len(epochs)), np.nan)
    for row, (run, numbers) in zip(values, curves, strict=True):
        row[np.searchsorted(epochs, run)] = numbers
    count = np.count_nonzero(~np.isnan(values), axis=0)
    epochs, values, count = epochs[count > 0], values[:, count > 0], count[count > 0]
    mean = np.nansum(values, axis=0) / count
    squares = np.nansum((values - mean) ** 2, axis=0)
    variance = np.divide(squares, count - 1, out=np.full(len(count), np.nan), where=count > 1)
    chosen = np.unique(np.linspace(0, len(epochs) - 1, MOST_EPOCHS).round().astype(int))
    return epochs[chosen], mean[chosen], np.sqrt(variance / count)[chosen]


def _recall(runs: pd.DataFrame, number: dict[str, int], first: Record, split: str) -> Columns:
    """Mean recall over seeds per class, the largest training class first.

    More than 30 classes are put together in neighbouring groups of equal size by that order.
    """
    # a slash would begin another part of the tag
    tags = [f"{split}/recall/{name.replace('/', '_')}" for name in first.class_names]
    if not tags or any(tag not in runs.columns for tag in tags):
        return {}
    counts = np.asarray(first.image_counts())
    order = np.argsort(-counts, kind="stable")
    groups = np.array_split(order, min(len(order), MOST_CLASSES))
    names = [_class_name(first.class_names, counts[group], group) for group in groups]
    columns: Columns = {"arm": [], "class": [], "recall": []}
    for label, group in runs.groupby("label", sort=False)[tags]:
        recalls = group.mean().to_numpy()
        if np.isnan(recalls).all():  # a post-hoc arm has none
            continue
        columns["arm"] += [number[str(label)]] * len(groups)
        columns["class"] += names
        columns["recall"] += plain(_defined_mean(recalls[classes]) for classes in groups)
    return columns


def _class_name(names: Sequence[str], counts: np.ndarray, group: np.ndarray) -> str:
    if len(group) == 1:
        return f"{names[group[0]]} ({counts[0]})"
    return f"{len(group)} classes ({counts[0]} to {counts[-1]})"


def _defined_mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else np.nan


def _write_reliability(columns: Columns, arm: int, view: str, bins: np.ndarray) -> None:
    """Append mean confidence, accuracy and share of samples of the filled bins.

    ``bins`` (runs, 15, 3) hold count, mean confidence and accuracy; seeds are put together by
    count.
    """
    bins = np.nan_to_num(bins)
    counts = bins[:, :, 0].sum(axis=0)
    filled = counts > 0
    sums = (bins[:, :, 1:] * bins[:, :, :1]).sum(axis=0)[filled]
    confidence, accuracy = (sums / counts[filled, None]).T
    rows = {"confidence": confidence, "accuracy": accuracy, "share": counts[filled] / counts.sum()}
    for place in zip(*(plain(column) for column in rows.values()), strict=True):
        append(columns, arm=arm, view=view, **dict(zip(rows, place, strict=True)))
