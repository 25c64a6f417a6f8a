"""What the figures show, computed from records: small columns of plain numbers, per context.

The seeds of a label are put together here, so the page holds no raw runs. Arms are numbered by
their place in `Comparison.labels`. Numbers keep four significant digits; NaN becomes None.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lossbench.comparison import metrics
from lossbench.records import Record

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

Arrays = dict[str, np.ndarray]
Columns = dict[str, list[Any]]

LOSS_SPLITS = ("train", "val", "test")
REWEIGHTED = "reweighted"
VIEWS = ("raw", "adjusted")
MOST_EPOCHS = 60
MOST_CLASSES = 30


def context_data(comparison: Comparison, context: str) -> dict[str, Any]:
    """The data of every figure of one context; a figure without data has no entry."""
    runs = comparison.done[context]
    number = {label: place for place, label in enumerate(comparison.labels)}
    members = {
        number[label]: [comparison.records[row] for row in runs.index[runs["label"] == label]]
        for label in comparison.ranked[context]
    }
    first = next(iter(members.values()))[0]
    split = "val" if comparison.split == "val" else "test"
    names = [f"histogram/cross_entropy/{name}" for name in LOSS_SPLITS]
    names += [f"reliability/{split}/{view}" for view in VIEWS]
    arrays = {arm: [record.arrays(names) for record in records] for arm, records in members.items()}
    data = {
        "differences": _differences(comparison, context, number),
        "losses": _losses(arrays, first),
        "curves": _curves(members, comparison.metric),
        "recall": _recall(runs, number, first, split),
        "reliability": _reliability(arrays, split),
    }
    found = {name: columns for name, columns in data.items() if columns}
    return found | {"marks": _marks(len(first.class_names))}


def _differences(comparison: Comparison, context: str, number: dict[str, int]) -> Columns:
    """Mean paired difference and Holm interval of every label with a pair, in table order."""
    entries = {entry.label: entry for entry in comparison.differences if entry.context == context}
    shown = [entries[label] for label in comparison.ranked[context] if label in entries]
    shown = [entry for entry in shown if entry.n]
    if not shown:
        return {}
    return {
        "arm": [number[entry.label] for entry in shown],
        "mean": _plain(entry.mean for entry in shown),
        "low": _plain(entry.low for entry in shown),
        "high": _plain(entry.high for entry in shown),
    }


def _losses(arrays: dict[int, list[Arrays]], first: Record) -> Columns:
    """Fractions of samples per bin of log10(cross-entropy), seeds summed, one entry per line.

    ``values`` begin at bin ``first`` of 102 (underflow, 100 bins, overflow). Where the training
    prior is not the test prior, the line ``reweighted`` is train with each class weighted to the
    test prior: sum_c prior_c h_c / n_c over the classes that were trained on.
    """
    lines: Columns = {"arm": [], "split": [], "first": [], "values": []}
    train, test = (np.asarray(first.priors.get(split) or []) for split in ("train", "test"))
    shifted = train.shape == test.shape and not np.allclose(train, test, atol=1e-6)
    for arm, runs in arrays.items():
        for split in LOSS_SPLITS:
            key = f"histogram/cross_entropy/{split}"
            counts = [run[key] for run in runs if key in run]
            if not counts:
                continue
            total = np.sum(counts, axis=0)
            _add_line(lines, arm, split, total.sum(axis=0))
            if split == "train" and shifted:
                sizes = total.sum(axis=1, keepdims=True)
                weights = test[:, None] * (sizes > 0)
                _add_line(
                    lines, arm, REWEIGHTED, (weights * total / np.maximum(sizes, 1)).sum(axis=0)
                )
    return lines if lines["arm"] else {}


def _add_line(lines: Columns, arm: int, split: str, counts: np.ndarray) -> None:
    filled = np.flatnonzero(counts)
    if not filled.size:
        return
    start, end = filled[0], filled[-1] + 1
    lines["arm"].append(arm)
    lines["split"].append(split)
    lines["first"].append(int(start))
    lines["values"].append(_plain(counts[start:end] / counts.sum()))


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
            columns["mean"] += _plain(mean)
            columns["low"] += _plain(mean - error)
            columns["high"] += _plain(mean + error)
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
        columns["recall"] += _plain(_defined_mean(recalls[classes]) for classes in groups)
    return columns


def _class_name(names: Sequence[str], counts: np.ndarray, group: np.ndarray) -> str:
    if len(group) == 1:
        return f"{names[group[0]]} ({counts[0]})"
    return f"{len(group)} classes ({counts[0]} to {counts[-1]})"


def _defined_mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else np.nan


def _reliability(arrays: dict[int, list[Arrays]], split: str) -> Columns:
    """Mean confidence, accuracy and share of samples per bin, seeds put together by count."""
    columns: Columns = {"arm": [], "view": [], "confidence": [], "accuracy": [], "share": []}
    for arm, runs in arrays.items():
        for view in VIEWS:
            key = f"reliability/{split}/{view}"
            stored = [run[key] for run in runs if key in run]
            if not stored:
                continue
            bins = np.nan_to_num(np.asarray(stored))
            counts = bins[:, :, 0].sum(axis=0)
            filled = counts > 0
            sums = (bins[:, :, 1:] * bins[:, :, :1]).sum(axis=0)[filled]
            confidence, accuracy = (sums / counts[filled, None]).T
            columns["arm"] += [arm] * int(filled.sum())
            columns["view"] += [view] * int(filled.sum())
            columns["confidence"] += _plain(confidence)
            columns["accuracy"] += _plain(accuracy)
            columns["share"] += _plain(counts[filled] / counts.sum())
    return columns if columns["arm"] else {}


def _plain(values: Iterable[float]) -> list[float | None]:
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in values]
