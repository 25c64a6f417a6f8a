"""Small pictures of one run, as PNG images that can be read at TensorBoard's card size.

They are drawn on `matplotlib.figure.Figure` objects alone: no pyplot, no global state, no window.
Colours are those of Okabe and Ito (2008), which colour-blind readers tell apart.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lossbench.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
GREY = "#666666"
WIDTH = 350
"""Pixels: the width of TensorBoard's image card, which scales anything else without smoothing."""
DOTS_PER_INCH = 100
FONT_SIZE = 8
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE)
NAMES_UP_TO = 12
"""With more classes than this, names and cell texts would overlap: numbers and colours instead."""


def to_png(figure: Figure) -> tuple[bytes, int, int]:
    """(PNG bytes, width, height in pixels), the arguments of `RunWriter.image`.

    With 64 colours, which takes a third of the bytes and looks the same.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3])
    buffer = io.BytesIO()
    picture.quantize(64, method=Image.Quantize.MEDIANCUT).save(buffer, "png")
    return buffer.getvalue(), picture.width, picture.height


def loss_histogram_figure(
    histograms: Mapping[str, np.ndarray], edges: np.ndarray, *, num_classes: int, title: str = ""
) -> Figure:
    """The distributions of a loss over the samples of several splits, one over the other.

    The y axis is the fraction of the split's samples in a bin, the x axis the loss in nats on a
    log scale that is the same for every run. Two losses are marked: log 2, below which the
    target has more than half of the probability, and log C, that of a uniform guess.

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
    figure, (axes,) = _figure(title)
    edges = np.asarray(edges, np.float64)
    drawn_edges = 10 ** np.concatenate(
        [[2 * edges[0] - edges[2]], edges[::2], [2 * edges[-1] - edges[-3]]]
    )
    for (name, counts), colour in zip(histograms.items(), COLOURS, strict=False):
        fractions = _fractions(name, np.asarray(counts, np.float64), edges)
        first = colour == BLUE
        axes.stairs(
            fractions,
            drawn_edges,
            fill=first,
            alpha=0.35 if first else 1.0,
            color=colour,
            linewidth=1.3,
            label=name,
        )
        if first:
            axes.stairs(fractions, drawn_edges, color=colour)
    _mark_losses(axes, num_classes)
    axes.set_xscale("log")
    axes.set_xlim(drawn_edges[0], drawn_edges[-1])
    powers = np.arange(math.ceil(edges[0]), edges[-1] + 0.5, 2)
    axes.set_xticks(10.0**powers, [f"{10.0**power:g}" for power in powers])
    axes.set_xticks([], minor=True)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.12)
    axes.set_xlabel("loss in nats (log scale)")
    axes.set_ylabel("fraction of samples")
    axes.legend(loc="upper left", frameon=False, fontsize=FONT_SIZE, borderaxespad=0.1)
    return figure


def reliability_figure(
    raw: np.ndarray,
    adjusted: np.ndarray | None = None,
    temperature: np.ndarray | None = None,
    *,
    title: str = "",
) -> Figure:
    """Accuracy against confidence, and beside it the fraction of samples in each bin.

    Points below the diagonal are overconfident. The labels give the expected calibration error,
    sum over bins of n_b/N |accuracy_b - confidence_b| (Guo et al., 2017).

    Args:
        raw: (bins, 3): count, mean confidence, accuracy; the bins split [0, 1] evenly and an
            empty one has NaN.
        adjusted: the same of the logits adjusted to the prior of the split.
        temperature: the same after temperature scaling.
    """
    figure, (left, right) = _figure(title, height=250, widths=(3, 2))
    figure.subplots_adjust(top=0.75)
    left.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    views = [("raw", raw, BLUE, "o")]
    if adjusted is not None:
        views.append(("adjusted", adjusted, VERMILLION, "s"))
    if temperature is not None:
        views.append(("temperature", temperature, GREEN, "^"))
    for name, bins, colour, marker in views:
        count, confidence, accuracy = np.asarray(bins, np.float64).T
        share = count / max(count.sum(), 1.0)
        error = np.nansum(share * np.abs(accuracy - confidence))
        filled = count > 0
        left.plot(
            confidence[filled],
            accuracy[filled],
            color=colour,
            marker=marker,
            markersize=3,
            linewidth=1.2,
            label=f"{name} {error:.3f}",
        )
        right.stairs(
            share,
            np.linspace(0, 1, len(bins) + 1),
            color=colour,
            linewidth=1.2,
            fill=colour == BLUE,
            alpha=0.35 if colour == BLUE else 1,
        )
    left.set_ylim(0, 1)
    left.set_ylabel("accuracy")
    left.legend(  # above the axes: three views leave no corner free
        loc="upper center",
        bbox_to_anchor=(0.5, 0.94),
        bbox_transform=figure.transFigure,
        ncols=len(views),
        columnspacing=0.8,
        handlelength=1.2,
        handletextpad=0.4,
        frameon=False,
        fontsize=FONT_SIZE,
        title="expected calibration error",
        title_fontsize=FONT_SIZE,
    )
    right.set_ylim(0, None)
    right.set_ylabel("fraction of samples")
    for axes in (left, right):
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1])
        axes.set_xlabel("confidence")
    return figure


def confusion_figure(matrix: np.ndarray, class_names: Sequence[str], *, title: str = "") -> Figure:
    """A confusion matrix with each row divided by its sum; a row without samples is grey.

    Colour follows the square root of the fraction, so that rare confusions show. With up to 12
    classes the cells hold per cent (blank below 0.5); with more the axes hold class numbers,
    and a colour scale stands beside them.

    Args:
        matrix: (C, C) counts, rows = target.
        class_names: C names.

    Raises: InputError where the two do not fit.
    """
    from matplotlib.colors import PowerNorm

    matrix = np.asarray(matrix, np.float64)
    size = len(class_names)
    if matrix.shape != (size, size):
        raise InputError(
            f"the confusion matrix has shape {matrix.shape}, but there are {size} class names"
        )
    totals = matrix.sum(axis=1, keepdims=True)
    share = np.divide(matrix, totals, out=np.full_like(matrix, np.nan), where=totals > 0)
    names = [_short(name) for name in class_names]
    named = size <= NAMES_UP_TO
    figure, (axes,) = _figure(
        title,
        height=260,
        left=(35 + 6.2 * max(map(len, names))) / WIDTH if named else 0.14,
        right=0.97 if named else 0.86,
        names=names,
    )
    axes.set_facecolor("#BBBBBB")
    image = axes.imshow(
        share, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest", aspect="auto"
    )
    if named:
        for row, column in np.argwhere(share >= 0.005):
            value = share[row, column]
            axes.text(
                column,
                row,
                f"{100 * value:.0f}",
                ha="center",
                va="center",
                fontsize=FONT_SIZE,
                color="white" if value > 0.35 else "black",
            )
    else:
        bar = figure.colorbar(image, ax=axes, ticks=[0, 0.05, 0.25, 0.5, 1], fraction=0.05)
        bar.ax.set_yticklabels(["0", "5%", "25%", "50%", "100%"], fontsize=FONT_SIZE)
    _class_ticks(axes, "x", class_names)
    _class_ticks(axes, "y", class_names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("target class")
    return figure


def recall_figure(
    recall: np.ndarray, train_counts: np.ndarray, class_names: Sequence[str], *, title: str = ""
) -> Figure:
    """Recall of each class, from the most to the least frequent in training, and their mean.

    With up to 12 classes the ticks hold names and training counts, above that counts alone.

    Args:
        recall: (C,) in [0, 1]; NaN (an absent class) is marked with a cross, not counted.
        train_counts: (C,) counts in the training subset; equal counts keep the class order.
        class_names: C names.
    """
    recall, train_counts = np.asarray(recall, np.float64), np.asarray(train_counts)
    order = np.argsort(-train_counts, kind="stable")
    ordered, places = recall[order], np.arange(len(order))
    absent = np.isnan(ordered)
    mean = ordered[~absent].mean() if not absent.all() else math.nan
    names = [f"{_short(class_names[index])}: {train_counts[index]}" for index in order]
    if len(order) > NAMES_UP_TO:
        names = [str(train_counts[index]) for index in order]
    figure, (axes,) = _figure(f"{title} (mean {mean:.3f})".lstrip(), height=240, names=names)
    # One outline for all bars: a hundred single bars would take several times as long.
    half = 0.4 if len(order) <= NAMES_UP_TO else 0.5
    heights = np.stack([np.nan_to_num(ordered), np.zeros(len(order))], axis=1).ravel()[:-1]
    sides = np.stack([places - half, places + half], axis=1).ravel()
    axes.stairs(heights, sides, fill=True, color=BLUE)
    axes.plot(places[absent], np.full(absent.sum(), 0.03), "x", color=VERMILLION)
    axes.axhline(mean, color=VERMILLION, linewidth=1.4)
    axes.set_xlim(-0.6, len(order) - 0.4)
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("recall")
    _class_ticks(axes, "x", names, numbered=False)
    axes.set_xlabel("classes and their training counts")
    return figure


def _figure(
    title: str,
    *,
    height: int = 210,
    left: float = 0.18,
    right: float = 0.97,
    names: Sequence[str] = (),
    widths: tuple[int, ...] = (1,),
) -> tuple[Figure, list[Axes]]:
    """A figure of WIDTH x ``height`` pixels with axes side by side, and room for tilted names."""
    from matplotlib.figure import Figure

    longest = max(map(len, names)) if _tilted(names) else 0
    left, bottom = max(left, 4.4 * longest / WIDTH), (42 + 4.1 * longest) / height
    figure = Figure(figsize=(WIDTH / DOTS_PER_INCH, height / DOTS_PER_INCH), dpi=DOTS_PER_INCH)
    figure.subplots_adjust(left=left, right=right, bottom=bottom, top=0.9, wspace=0.5)
    every = list(figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0])
    figure.suptitle(title, fontsize=FONT_SIZE + 1, y=0.99)
    for axes in every:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=FONT_SIZE)
        axes.xaxis.label.set_fontsize(FONT_SIZE)
        axes.yaxis.label.set_fontsize(FONT_SIZE)
    return figure, every


def _fractions(name: str, counts: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(B+1,) counts as fractions of their sum, with each two neighbouring inner bins joined."""
    if edges.size % 2 == 0 or counts.shape != (edges.size + 1,):
        raise InputError(
            f"histogram {name!r} has counts of shape {counts.shape} for {edges.size} edges; give "
            "an odd number of edges, and one count more: underflow, bins, overflow"
        )
    joined = counts[1:-1].reshape(-1, 2).sum(axis=1)
    return np.concatenate([counts[:1], joined, counts[-1:]]) / max(counts.sum(), 1e-300)


def _mark_losses(axes: Axes, num_classes: int) -> None:
    """Vertical lines at log 2 and log C, labelled at the top, on opposite sides."""
    marks = [(math.log(2), "log 2 ", "right")]
    if num_classes > 2:
        marks.append((math.log(num_classes), f" log {num_classes}", "left"))
    for value, label, side in marks:
        axes.axvline(value, color=GREY, linestyle=":", linewidth=1.2)
        axes.text(
            value,
            0.99,
            label,
            transform=axes.get_xaxis_transform(),
            ha=side,
            va="top",
            color=GREY,
            fontsize=FONT_SIZE,
        )


def _short(name: str) -> str:
    return name if len(name) <= 12 else name[:11] + "…"


def _tilted(names: Sequence[str]) -> bool:
    return len(names) <= NAMES_UP_TO and max(map(len, names), default=0) > 2


def _class_ticks(axes: Axes, which: str, names: Sequence[str], *, numbered: bool = True) -> None:
    """A tick for each of up to 12 classes; above that for each tenth, with the class number."""
    places = list(range(len(names)))
    labels = [_short(name) if numbered else name for name in names]
    if len(names) > NAMES_UP_TO:
        places = places[:: len(names) // 10]
        labels = [str(place) if numbered else names[place] for place in places]
    if which == "y":
        axes.set_yticks(places, labels)
    elif _tilted(names):
        axes.set_xticks(places, labels, rotation=40, ha="right", rotation_mode="anchor")
    else:
        axes.set_xticks(places, labels)
