"""Small pictures of one run, which can be read at TensorBoard's card size.

Each function returns a `Picture`, which `to_png` draws. Colours are those of Okabe and Ito (2008),
which colour-blind readers tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from lossbench.errors import InputError
from lossbench.tensorboard.drawing import (
    BLACK,
    GREY,
    LIGHT,
    Axis,
    Line,
    Panel,
    Picture,
    Stairs,
    Text,
    ticks,
)

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
PALE_BLUE = "#A6CEE4"
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE)
BLUES = np.array(
    [
        *((247, 251, 255), (222, 235, 247), (198, 219, 239), (158, 202, 225), (107, 174, 214)),
        *((66, 146, 198), (33, 113, 181), (8, 81, 156), (8, 48, 107)),
    ]
)
"""The scale "Blues" of ColorBrewer (Harrower and Brewer, 2003)."""
ABSENT = 187
"""The grey of a row without samples."""
NAMES_UP_TO = 12
"""With more classes than this, names and cell texts would overlap: numbers and colours instead."""


def loss_histogram_figure(
    histograms: Mapping[str, np.ndarray], edges: np.ndarray, *, num_classes: int
) -> Picture:
    """The distributions of a loss over the samples of several splits, one over the other.

    The y axis is the fraction of the split's samples in a bin, the x axis log10 of the loss in
    nats, the same for every run. Two losses are marked: log 2, below which the target has more
    than half of the probability, and log C, that of a uniform guess.

    Args:
        histograms: name -> counts (B+1,) >= 0: underflow, bins, overflow. The first is filled;
            at most four, such as train, validation and test. Counts may be weighted.
        edges: (B,) log10 of the loss, evenly spaced, B odd: neighbouring bins are drawn as one.
            Under- and overflow are drawn as the outermost bins.
        num_classes: C.

    Raises: InputError where counts and edges do not fit, and for more than four histograms.
    """
    if len(histograms) > len(COLOURS):
        raise InputError(f"{len(histograms)} histograms in one figure; at most {len(COLOURS)}")
    edges = np.asarray(edges, np.float64)
    drawn = np.concatenate([[2 * edges[0] - edges[2]], edges[::2], [2 * edges[-1] - edges[-3]]])
    stairs = [
        Stairs(
            _fractions(name, np.asarray(counts, np.float64), edges),
            drawn,
            colour,
            name,
            PALE_BLUE if colour == BLUE else None,
        )
        for (name, counts), colour in zip(histograms.items(), COLOURS, strict=False)
    ]
    high = 1.12 * max(float(one.heights.max()) for one in stairs) or 1.0
    powers = np.arange(math.ceil(edges[0]), edges[-1] + 0.5, 2)
    across = {float(power): f"{10.0**power:g}" for power in powers}
    x = Axis("loss in nats (log scale)", float(drawn[0]), float(drawn[-1]), across)
    panel = Panel(x, Axis("fraction of samples", 0, high, ticks(high)))
    marks = [(math.log10(math.log(2)), "log 2 ", "ra")]
    if num_classes > 2:
        marks.append((math.log10(math.log(num_classes)), f" log {num_classes}", "la"))
    lines = [Line([place] * 2, [0, high], LIGHT, width=1) for place, _, _ in marks]
    panel.marks = [*stairs, *lines]
    panel.texts = [Text(place, high, words, GREY, side) for place, words, side in marks]
    return Picture(210, [panel], legend=stairs)


def reliability_figure(
    raw: np.ndarray, adjusted: np.ndarray | None = None, temperature: np.ndarray | None = None
) -> Picture:
    """Accuracy against confidence, and beside it the fraction of samples in each bin.

    Points below the diagonal are overconfident. The labels give the expected calibration error,
    sum over bins of n_b/N |accuracy_b - confidence_b| (Guo et al., 2017).

    Args:
        raw: (bins, 3): count, mean confidence, accuracy; the bins split [0, 1] evenly and an
            empty one has NaN.
        adjusted: the same of the logits adjusted to the prior of the split.
        temperature: the same after temperature scaling.
    """
    views = [("raw", raw, BLUE, 24), ("adjusted", adjusted, VERMILLION, 4)]
    views.append(("temperature", temperature, GREEN, 3))
    lines, stairs = [], []
    for name, bins, colour, corners in views:
        if bins is None:
            continue
        count, confidence, accuracy = np.asarray(bins, np.float64).T
        share = count / max(count.sum(), 1.0)
        error = np.nansum(share * np.abs(accuracy - confidence))
        x, y, label = confidence[count > 0], accuracy[count > 0], f"{name} {error:.3f}"
        lines.append(Line(x, y, colour, label, corners=corners))
        filled = PALE_BLUE if colour == BLUE else None
        stairs.append(Stairs(share, np.linspace(0, 1, len(bins) + 1), colour, filled=filled))
    confident = Axis("confidence", 0, 1, {0: "0", 0.5: "0.5", 1: "1"})
    high = 1.05 * max(float(one.heights.max()) for one in stairs) or 1.0
    diagonal = Line([0, 1], [0, 1], LIGHT, width=1)
    left = Panel(confident, Axis("accuracy", 0, 1, ticks(1.1)), [diagonal, *lines], share=3)
    right = Panel(confident, Axis("fraction of samples", 0, high, ticks(high)), [*stairs], share=2)
    return Picture(250, [left, right], "expected calibration error", lines)


def confusion_figure(matrix: np.ndarray, class_names: Sequence[str]) -> Picture:
    """A confusion matrix with each row divided by its sum; a row without samples is grey.

    Colour follows the square root of the fraction, so that rare confusions show. With up to 12
    classes the cells hold per cent (blank below 0.5); with more the axes hold class numbers,
    and a colour scale stands beside them.

    Args:
        matrix: (C, C) counts, rows = target.
        class_names: C names.

    Raises: InputError where the two do not fit.
    """
    matrix = np.asarray(matrix, np.float64)
    size = len(class_names)
    if matrix.shape != (size, size):
        raise InputError(
            f"the confusion matrix has shape {matrix.shape}, but there are {size} class names"
        )
    totals = matrix.sum(axis=1, keepdims=True)
    share = np.divide(matrix, totals, out=np.full_like(matrix, np.nan), where=totals > 0)
    named = size <= NAMES_UP_TO
    shown = _labels([_short(name) if named else str(i) for i, name in enumerate(class_names)])
    tilted = named and _long(shown)
    x = Axis("predicted class", -0.5, size - 0.5, shown, tilted)
    y = Axis("target class", size - 0.5, -0.5, shown)
    panels = [Panel(x, y, cells=_blues(share), share=16)]
    if named:
        panels[0].texts = [
            Text(column, row, f"{100 * value:.0f}", "#FFFFFF" if value > 0.35 else BLACK)
            for row, column in np.argwhere(share >= 0.005)
            for value in [share[row, column]]
        ]
    else:
        per_cent = {p: f"{100 * p:g}%" for p in (0, 0.05, 0.25, 0.5, 1)}
        scale = Axis("", 0, 1, {math.sqrt(p): label for p, label in per_cent.items()})
        shades = np.linspace(1, 0, 64)[:, None] ** 2
        panels.append(Panel(Axis("", 0, 1, {}), scale, cells=_blues(shades), share=1))
    return Picture(260, panels)


def recall_figure(
    recall: ArrayLike, train_counts: ArrayLike, class_names: Sequence[str]
) -> Picture:
    """Recall of each class, from the most to the least frequent in training, and their mean.

    With up to 12 classes the ticks hold names and training counts, above that counts alone.

    Args:
        recall: (C,) in [0, 1]; NaN (an absent class) is marked with a cross, not counted.
        train_counts: (C,) counts in the training subset; equal counts keep the class order.
        class_names: C names.
    """
    recall, train_counts = np.asarray(recall, np.float64), np.asarray(train_counts)
    order = np.argsort(-train_counts, kind="stable")
    ordered, places, size = recall[order], np.arange(len(order)), len(order)
    absent = np.isnan(ordered)
    mean = float(ordered[~absent].mean()) if not absent.all() else math.nan
    named = size <= NAMES_UP_TO
    labels = [
        f"{_short(class_names[index])}: {train_counts[index]}"
        if named
        else str(train_counts[index])
        for index in order
    ]
    # One outline for all bars, with an empty one between each two.
    half = 0.4 if named else 0.5
    heights = np.stack([np.nan_to_num(ordered), np.zeros(size)], axis=1).ravel()[:-1]
    sides = np.stack([places - half, places + half], axis=1).ravel()
    low, high = -0.6, size - 0.4
    x = Axis("classes and their training counts", low, high, _labels(labels), named)
    panel = Panel(x, Axis("recall", 0, 1.05, ticks(1.05)))
    panel.marks = [Stairs(heights, sides, BLUE, filled=BLUE)]
    if not math.isnan(mean):
        panel.marks.append(Line([low, high], [mean, mean], VERMILLION))
    panel.texts = [Text(place, 0.04, "×", VERMILLION) for place in places[absent]]
    return Picture(240, [panel], f"mean {mean:.3f}")


def _fractions(name: str, counts: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(B+1,) counts as fractions of their sum, with each two neighbouring inner bins joined."""
    if edges.size % 2 == 0 or counts.shape != (edges.size + 1,):
        raise InputError(
            f"histogram {name!r} has counts of shape {counts.shape} for {edges.size} edges; give "
            "an odd number of edges, and one count more: underflow, bins, overflow"
        )
    joined = counts[1:-1].reshape(-1, 2).sum(axis=1)
    return np.concatenate([counts[:1], joined, counts[-1:]]) / max(counts.sum(), 1e-300)


def _blues(share: np.ndarray) -> np.ndarray:
    """(..., 3) uint8: the colours of fractions (...), by their square root; NaN is grey."""
    steps = np.linspace(0, len(BLUES) - 1, 256)
    table = [np.interp(steps, np.arange(len(BLUES)), channel).round() for channel in BLUES.T]
    colours = np.append(np.stack(table, axis=1), [[ABSENT] * 3], axis=0).astype(np.uint8)
    at = np.sqrt(share) * 255
    return colours[np.where(np.isnan(at), 256, at.round()).astype(np.intp)]


def _short(name: str) -> str:
    return name if len(name) <= 12 else name[:11] + "…"


def _long(labels: Mapping[float, str]) -> bool:
    return max(map(len, labels.values()), default=0) > 2


def _labels(names: Sequence[str]) -> dict[float, str]:
    """A label for each of up to 12 classes; above that for each tenth."""
    every = len(names) // 10 if len(names) > NAMES_UP_TO else 1
    return {place: names[place] for place in range(0, len(names), every)}
