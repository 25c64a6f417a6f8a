"""Anatomies drawn: as text for the terminal, and as a figure in a file.

Both show every loss over cross-entropy. Losses differ in size by orders of magnitude, so an axis
whose values reach far beyond the smallest loss is linear up to that loss's size and logarithmic
above (arcsinh); nothing is cut off. The figure needs no window and keeps no global state. Its
colours are those of Okabe and Ito (2008) and two more; each loss has a marker of its own too.
"""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lossbench.errors import InputError
from lossbench.losses.anatomy import GAPS, HELD_FIXED, Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A0019", "#000000",
)  # fmt: skip
SHAPES = "os^DvPX*"
GREY = "#666666"
WIDTH = 9.6
Y_LABELS = {"loss": "loss (nats)", "gradient": "gradient −dL/dgap (nats per nat)"}
GAP_TICKS = (-10, -5, 0, 5, 10)
TEXT_COLUMNS, TEXT_ROWS = 42, 13

_TEXT_TITLES = {"loss": "loss in nats", "gradient": "gradient −dL/dgap"}
_STEPS = [step * 10.0**power for power in range(-2, 5) for step in (1, 2, 5)]
_DASHES: dict[tuple[str, str], Any] = {
    ("tail", ""): "dotted",
    ("tail", "last"): "dotted",
    ("", "first"): "dashdot",
    ("head", "first"): "dashdot",
    ("tail", "first"): (0, (3, 1, 1, 1, 1, 1)),
}


@dataclass(frozen=True)
class Scale:
    """A y axis from ``low`` to ``high``; arcsinh with this linear ``width``, linear where None."""

    low: float
    high: float
    width: float | None

    @classmethod
    def of(cls, curves: Sequence[Curve], values: str) -> Scale:
        """The scale on which the "loss" or the "gradient" of each loss can be read."""
        every = {curve.name: np.zeros(1) for curve in curves}
        for curve in curves:
            every[curve.name] = np.append(every[curve.name], getattr(curve, values))
        low = min(float(array.min()) for array in every.values())
        high = max(float(array.max()) for array in every.values())
        smallest = min(float(np.abs(array).max()) for array in every.values())
        smallest = min(max(smallest, 0.01), 1.0)
        width = max(step for step in _STEPS if step <= 1.001 * smallest)
        return cls(low, high, None if high - low <= 8 * smallest else width)

    def place(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where the values lie between the bottom (0) and the top (1) of the axis."""
        low, high = self._unit(np.array([self.low, self.high]))
        return (self._unit(values) - low) / (high - low)

    def limits(self, margin: float) -> tuple[float, float]:
        """The values that lie ``margin`` below the bottom and above the top, as `place` counts."""
        low, high = self._unit(np.array([self.low, self.high]))
        ends = np.array([low - margin * (high - low), high + margin * (high - low)])
        ends = ends if self.width is None else self.width * np.sinh(ends)
        return float(ends[0]), float(ends[1])

    def _unit(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values if self.width is None else np.arcsinh(values / self.width)

    def ticks(self, apart: float) -> list[float]:
        """0 and numbers 1, 2, 5 times powers of ten on the axis, at least ``apart`` in place."""
        if self.width is None:
            span = self.high - self.low
            step = next(step for step in _STEPS if step / span >= apart)
            first = math.ceil((self.low - 0.02 * span) / step)
            last = math.floor((self.high + 0.02 * span) / step)
            return [step * number for number in range(first, last + 1)]
        chosen = [0.0]
        for number in [*_STEPS, *(-step for step in _STEPS)]:
            places = self.place(np.array([number, *chosen]))
            if -0.02 <= places[0] <= 1.02 and np.abs(places[1:] - places[0]).min() >= apart:
                chosen.append(number)
        return sorted(chosen)

    @property
    def words(self) -> str:
        """What a reader of the axis must know."""
        return "" if self.width is None else f"logarithmic above {self.width:g}"


def text_chart(curves: Sequence[Curve], reference: Curve) -> str:
    """Loss and gradient against the logit gap, side by side, in 100 columns.

    Each curve is a letter; ``reference``, cross-entropy, lies beneath as dots.
    """
    drawn = [("·", reference)]
    drawn += [(chr(ord("a") + n), c) for n, c in enumerate(_without(curves, reference))]
    left, right = _text_panel(drawn, "loss"), _text_panel(drawn, "gradient")
    shares = np.interp(GAP_TICKS, reference.gap, reference.probability)
    below = [
        _text_axis("gap", [f"{tick}" for tick in GAP_TICKS]),
        _text_axis("p_y", [f"{share:.2f}" for share in shares]),
    ]
    lines = [f"{a:<50}{b}" for a, b in zip(left, right, strict=True)]
    lines += [f"{line:<50}{line}" for line in below]
    lines += ["", *_columns([f"{mark} {curve.label}" for mark, curve in drawn], 100)]
    lines += ["", *_notes([curve for _, curve in drawn], 100)]
    return "\n".join(line.rstrip() for line in lines)


def _text_panel(drawn: Sequence[tuple[str, Curve]], values: str) -> list[str]:
    """Title, rows and bottom line of one chart."""
    scale = Scale.of([curve for _, curve in drawn], values)
    cells = np.full((TEXT_ROWS, TEXT_COLUMNS), " ")
    columns = np.linspace(*GAPS, TEXT_COLUMNS)
    for mark, curve in drawn:
        inside = (columns >= curve.gap[0] - 0.3) & (columns <= curve.gap[-1] + 0.3)
        places = scale.place(np.interp(columns, curve.gap, getattr(curve, values)))
        rows = np.rint((1 - places) * (TEXT_ROWS - 1)).astype(int)
        cells[rows[inside], np.flatnonzero(inside)] = mark
    labels = dict.fromkeys(range(TEXT_ROWS), "")
    for tick in scale.ticks(1.5 / (TEXT_ROWS - 1)):
        row = round((1 - float(scale.place(np.array(tick)))) * (TEXT_ROWS - 1))
        labels[row] = f"{tick:g}"
    lines = [
        f"{labels[row]:>5} {'┤' if labels[row] else '│'}{''.join(cells[row])}"
        for row in range(TEXT_ROWS)
    ]
    title = f"{_TEXT_TITLES[values]}{f', {scale.words}' if scale.words else ''}"
    return [title, *lines, f"{'':6}└{'─' * TEXT_COLUMNS}"]


def _text_axis(title: str, labels: Sequence[str]) -> str:
    line = list(f"{title:<50}")
    for label, place in zip(labels, GAP_TICKS, strict=True):
        centre = 7 + round((place - GAPS[0]) / (GAPS[1] - GAPS[0]) * (TEXT_COLUMNS - 1))
        start = max(centre - len(label) // 2, 4)
        line[start : start + len(label)] = label
    return "".join(line)


def _columns(entries: Sequence[str], width: int) -> list[str]:
    each = max(map(len, entries)) + 3
    count = max(width // each, 1)
    rows = [entries[start : start + count] for start in range(0, len(entries), count)]
    return ["".join(f"{entry:<{each}}" for entry in row) for row in rows]


def _without(curves: Sequence[Curve], reference: Curve) -> list[Curve]:
    """The curves that are not the reference itself."""
    return [curve for curve in curves if curve.label != reference.label]


def _notes(curves: Sequence[Curve], width: int) -> list[str]:
    """What is held fixed, in lines of this many characters."""
    notes = dict.fromkeys(note for curve in curves for note in curve.held_fixed)
    sentences = [HELD_FIXED, *(f"{note[0].upper()}{note[1:]}." for note in notes)]
    return textwrap.wrap(" ".join(sentences), width)


def write_figure(path: Path, curves: Sequence[Curve], reference: Curve) -> None:
    """Draw the curves over ``reference`` into ``path``, by its suffix .svg, .png or .pdf.

    The file is there whole or not at all, and has the same bytes every time. Raises `InputError`
    where it cannot be written.
    """
    import matplotlib
    from matplotlib import style

    kind = path.suffix.lower().removeprefix(".")
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[kind]
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        with style.context("default"), matplotlib.rc_context({"svg.hashsalt": "lossbench"}):
            figure = draw(curves, reference)
            figure.savefig(temporary, format=kind, dpi=200, metadata=undated)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def draw(curves: Sequence[Curve], reference: Curve) -> Figure:
    """Loss above gradient, against the probability of the true class and against the gap."""
    from matplotlib.figure import Figure

    drawn = [reference, *_without(curves, reference)]
    longest = max(len(curve.label) for curve in drawn)
    lines = math.ceil(len(drawn) / max(1, 125 // (longest + 8)))
    notes = _notes(drawn, 140)
    above, below = 0.55 + 0.17 * len(notes), 0.2 * lines + 0.6
    height = 5.8 + above + below  # inches, as the two before
    figure = Figure(figsize=(WIDTH, height))
    figure.subplots_adjust(
        left=0.095, right=0.985, top=1 - above / height, bottom=below / height, wspace=0.09,
        hspace=0.08,
    )  # fmt: skip
    panels = figure.subplots(2, 2, sharex="col", sharey="row")
    for row, values in zip(panels, ("loss", "gradient"), strict=True):
        scale = Scale.of(drawn, values)
        for axes, position in zip(row, ("probability", "gap"), strict=True):
            _plot(axes, drawn, position, values)
            _set_scale(axes, scale)
        words = f"\n({scale.words})" if scale.words else ""
        row[0].set_ylabel(f"{Y_LABELS[values]}{words}")
    panels[1, 0].set_xlabel("probability of the true class")
    panels[1, 1].set_xlabel("logit gap: true class minus the best other (nats)")
    panels[1, 0].set_xlim(0, 1)
    panels[1, 1].set_xlim(*GAPS)
    panels[1, 1].set_xticks(GAP_TICKS)
    figure.align_ylabels()
    names = ", ".join(dict.fromkeys(curve.name for curve in drawn[1:])) or reference.name
    title = names if len(names) < 60 else f"{len(names.split(', '))} losses"
    figure.text(0.095, 1 - 0.12 / height, f"Anatomy of {title}", va="top", fontsize=13)
    figure.text(
        0.095, 1 - 0.4 / height, "\n".join(notes), va="top", fontsize=8.5, color=GREY,
        linespacing=1.25,
    )  # fmt: skip
    figure.legend(
        handles=panels[0, 0].get_lines()[: len(drawn)], loc="upper left", frameon=False,
        ncols=math.ceil(len(drawn) / lines), bbox_to_anchor=(0.095, (below - 0.5) / height),
        fontsize=9, handlelength=3.2, borderpad=0, borderaxespad=0, labelspacing=0.35,
    )  # fmt: skip
    return figure


def _plot(axes: Axes, drawn: Sequence[Curve], position: str, values: str) -> None:
    """The curves, the first of them as the reference; a colour and a marker for each loss."""
    reference, *own = drawn
    axes.plot(
        getattr(reference, position), getattr(reference, values), color=GREY, linestyle="dashed",
        linewidth=1.8, label=reference.label,
    )  # fmt: skip
    names = list(dict.fromkeys(curve.name for curve in own))
    for curve in own:
        number = names.index(curve.name)
        x, y = getattr(curve, position), getattr(curve, values)
        axes.plot(
            x, y, color=COLOURS[number], linewidth=1.6, label=curve.label,
            linestyle=_DASHES.get((curve.true_class, curve.epoch), "solid"),
            marker=SHAPES[number], markersize=4.5, markevery=_marked(x, number, len(names)),
        )  # fmt: skip


def _marked(x: NDArray[np.float64], number: int, count: int) -> list[int]:
    """The points that get a marker: six, spread over the axis, at other places for each loss."""
    places = x[0] + (x[-1] - x[0]) * (np.arange(6) + (number + 0.5) / count) / 6
    return [int(index) for index in np.unique(np.searchsorted(x, places).clip(max=len(x) - 1))]


def _set_scale(axes: Axes, scale: Scale) -> None:
    if scale.width is not None:
        axes.set_yscale("asinh", linear_width=scale.width)
    axes.set_ylim(scale.limits(0.03))
    ticks = scale.ticks(0.11 if scale.width is None else 0.08)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.grid(color="#E4E6EA", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.axhline(0, color="#9AA0AA", linewidth=0.8, zorder=1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
