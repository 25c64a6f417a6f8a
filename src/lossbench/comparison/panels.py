"""The rows that a figure's specification is drawn from, panel by panel.

A panel is what the page shows after one choice (a split, a view, a curve); a picture has no
choices, so it shows them side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lossbench.comparison.columns import Columns
from lossbench.comparison.looks import Look
from lossbench.comparison.loss_lines import EVERYONE, REWEIGHTED, WRONG

Row = dict[str, Any]
Data = Mapping[str, Any]


@dataclass(frozen=True)
class Panel:
    """One drawing of a specification: its title, its rows, and the end of the y axis if set."""

    title: str
    rows: list[Row]
    top: float = 1.0


VIEWS = {"raw": "as deployed", "adjusted": "prior-adjusted", "temperature": "after temperature"}
LOSS_PANELS = {
    "training": {"split": "train"},
    "test": {"split": "test"},
    "test, share below": {"split": "test"},
    "test, head classes": {"split": "test", "group": "head"},
    "test, tail classes": {"split": "test", "group": "tail"},
    "test, misclassified samples": {"split": "test", "outcome": WRONG},
}
CUMULATIVE = "test, share below"
PANEL_PER = {"curves": "curve", "budget": "view"}
"""Figures with a panel for every value of a column."""

SERIES = {"test": [1, 0], REWEIGHTED: [6, 3], "train": [1, 3]}
SERIES_OF_EQUAL_PRIORS = {"test": [1, 0], "train": [6, 3]}


def left_edge(bin_: int) -> float:
    """log10 of the loss where bin 0 to 102 begins: 0 is the underflow, 101 the overflow."""
    return round(-8.1 + bin_ / 10, 1)


def panels(name: str, data: Data, looks: Sequence[Look]) -> list[Panel]:
    """The panels of the figure ``name`` with the arms of ``looks`` only; those without rows are
    left out."""
    by_arm = {look["arm"]: look for look in looks}
    if name == "losses":
        found = _loss_panels(data["losses"], by_arm)
    elif name == "overfitting":
        found = _overfitting_panels(data["losses"], by_arm)
    elif name in ("reliability", "scatter"):
        found = [
            Panel(words, _rows(data[name], by_arm, view=view)) for view, words in VIEWS.items()
        ]
    elif name in PANEL_PER:
        key = PANEL_PER[name]
        values = dict.fromkeys(data[name][key])
        found = [Panel(value, _rows(data[name], by_arm, **{key: value})) for value in values]
    else:
        found = [Panel("", _rows(data[name], by_arm))]
    return [panel for panel in found if panel.rows]


def _rows(columns: Columns, looks: Mapping[int, Look], **choice: str) -> list[Row]:
    """The rows of ``columns`` where every column of ``choice`` has its value."""
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return [
        row | looks[row["arm"]]
        for row in rows
        if row["arm"] in looks and all(row[key] == value for key, value in choice.items())
    ]


def _loss_panels(columns: Columns, looks: Mapping[int, Look]) -> list[Panel]:
    found = []
    for title, choice in LOSS_PANELS.items():
        wanted = {"group": EVERYONE, "outcome": EVERYONE} | choice
        lines = _rows(columns, looks, **wanted)
        cumulative = title == CUMULATIVE
        top = 1.0 if cumulative else _highest(lines)
        found.append(Panel(title, [row for line in lines for row in _steps(line, cumulative)], top))
    return found


def _overfitting_panels(columns: Columns, looks: Mapping[int, Look]) -> list[Panel]:
    """One panel per arm, all on one scale; the dash tells the split."""
    series = SERIES if REWEIGHTED in columns["split"] else SERIES_OF_EQUAL_PRIORS
    lines = [
        line | {"dash": series[line["split"]]}
        for line in _rows(columns, looks, group=EVERYONE, outcome=EVERYONE)
        if line["split"] in series
    ]
    top = _highest(lines)
    found = []
    for arm, look in looks.items():
        own = [line for line in lines if line["arm"] == arm]
        found.append(Panel(look["label"], [row for line in own for row in _steps(line)], top))
    return found


def _highest(lines: Sequence[Row]) -> float:
    return max((value for line in lines for value in line["values"]), default=1.0)


def _steps(line: Row, cumulative: bool = False) -> list[Row]:
    """A row per step of a line: the fraction in each bin, or the sum below the end of each bin."""
    first, values = line["first"], line["values"]
    kept = {name: value for name, value in line.items() if name not in ("first", "values")}
    if not cumulative:
        heights = enumerate([0, *values, 0], start=first - 1)
        return [{"x": left_edge(bin_), "y": height} | kept for bin_, height in heights]
    rows, total = [{"x": left_edge(0), "y": 0.0}], 0.0
    for bin_, value in enumerate(values, start=first + 1):
        total += value
        rows.append({"x": left_edge(bin_), "y": round(total, 4)})
    rows.append({"x": left_edge(102), "y": 1.0})
    return [row | kept for row in rows]
