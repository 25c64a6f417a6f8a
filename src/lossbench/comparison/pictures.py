"""A figure as a picture of its own: the page's specification with data, light theme and legend."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lossbench.comparison.across_figures import across_specifications
from lossbench.comparison.captions import captions
from lossbench.comparison.drawing import Job
from lossbench.comparison.figures import MOST_VALUES, Specification, specifications
from lossbench.comparison.looks import Look, looks, order
from lossbench.comparison.loss_lines import REWEIGHTED
from lossbench.comparison.panels import Data, Panel, panels

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

FIGURES = {
    "differences": ("differences", 1, 560),
    "losses": ("losses", 3, 300),
    "overfitting": ("losses", 3, 300),
    "budget": ("budget", 2, 460),
    "curves": ("curves", 3, 300),
    "recall": ("recall", 1, 620),
    "reliability": ("reliability", 3, 300),
    "scatter": ("scatter", 2, 400),
    "cross_loss": ("cross_loss", 1, 620),
    "ranks": ("ranks", 1, 560),
    "profiles": ("profiles", 1, 560),
    "aggregates": ("aggregates", 1, 560),
}
"""Every figure: the data it is of, panels in a row, width of a panel in pixels."""

ALL_CELLS = "all cells"
"""In place of a context, for the figures over all of them (`across_cells.across_data`)."""

ALL_ARMS = ("differences", "cross_loss", "ranks", "aggregates")
"""The figures with a row per arm: they show all, without a legend."""

MOST_ARMS = 12
"""Arms in a figure that lays them over each other: the baseline and the best."""

INK, MUTED, LINE = "#1b1f26", "#5a6270", "#d5d9e0"
THEME: dict[str, Any] = {
    "background": "#ffffff",
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "gridColor": LINE,
        "domainColor": MUTED,
        "tickColor": MUTED,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelLimit": 400,
    },
    "title": {"color": INK, "subtitleColor": MUTED, "fontSize": 13, "anchor": "start"},
    "mark": {"color": MUTED},
    "rule": {"color": MUTED},
    "text": {"color": INK},
}
PLACES = "number: place in its column, 1 the lowest loss; outlined: the loss it was trained on"
VALUES = "darker: lower than other rows of the column; outlined: the loss it was trained on"
SEVERAL_PRIORS = "area: test; dashed: training at the test prior; dotted: training as it is"
ONE_PRIOR = "area: test; dashed: training"


def job(comparison: Comparison, context: str, name: str, data: Data) -> Job:
    """What it takes to draw the figure ``name`` of one context.

    ``data`` is that of `aggregate.context_data`, or for the context `ALL_CELLS` that of
    `across_cells.across_data`; KeyError if it has no such figure.
    """
    return Job(picture(comparison, context, name, data), *words(comparison, context, name))


def drawn(data: Data) -> list[str]:
    """The figures that ``data`` can show, in the order of the page."""
    return [name for name, (source, *_) in FIGURES.items() if source in data]


def words(comparison: Comparison, context: str, name: str) -> tuple[str, str]:
    """The title and the description of a figure, as they are on the page."""
    caption = captions(comparison)[name]
    return f"{caption.title}: {comparison.study}, {context}", caption.text


def picture(comparison: Comparison, context: str, name: str, data: Data) -> Specification:
    """The whole Vega-Lite specification of one figure: panels, data, theme, title and legend."""
    own = _specification(comparison, name)
    _, columns, width = FIGURES[name]
    chosen = _arms(comparison, context, name)
    shown = panels(name, data, chosen)
    size: Any = width
    if name == "cross_loss":
        size = {"step": 52 if len(set(data[name]["loss"])) <= MOST_VALUES else 24}
    parts = [_placed(own, panel, place, size) for place, panel in enumerate(shown)]
    grid: Specification = {"concat": parts, "columns": columns, "spacing": 28}
    seen = {row["label"] for panel in shown for row in panel.rows}
    legend = [look for look in chosen if look["label"] in seen]
    whole = grid
    if name not in (*ALL_ARMS, "overfitting"):
        wide = min(columns, len(shown)) * (width + 60)
        whole = {"vconcat": [grid, _legend(legend, wide)], "spacing": 20}
    return whole | {
        "$schema": own["$schema"],
        "config": THEME,
        "padding": 12,
        "title": _title(comparison, context, name, data),
        "datasets": {
            "marks": _marks(data.get("marks", {})),
            **own.get("datasets", {}),
            **{f"rows-{place}": panel.rows for place, panel in enumerate(shown)},
        },
    }


def _specification(comparison: Comparison, name: str) -> Specification:
    known = specifications(comparison)
    if name in known:
        return known[name]
    return across_specifications(comparison.facts, len(comparison.labels))[name]


def _marks(marks: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows beside those of the arms: two rules of the losses, or the bars of the ranks."""
    if "half" in marks:
        return [
            {"x": marks["half"], "text": "log 2", "side": "right"},
            {"x": marks["chance"], "text": "log C", "side": "left"},
        ]
    return [dict(zip(marks, row, strict=True)) for row in zip(*marks.values(), strict=True)]


def _ranked(comparison: Comparison, context: str) -> list[str]:
    """The labels in the order of the context's table."""
    if context == ALL_CELLS:
        return [comparison.labels[arm] for arm in order(comparison)]
    return comparison.ranked[context]


def _arms(comparison: Comparison, context: str, name: str) -> list[Look]:
    """The looks of the arms that a picture shows, in the order of the context's table."""
    known = {look["label"]: look for look in looks(comparison)}
    ranked = _ranked(comparison, context)
    return [known[label] for label in (ranked if name in ALL_ARMS else ranked[:MOST_ARMS])]


def _title(comparison: Comparison, context: str, name: str, data: Data) -> dict[str, Any]:
    caption = captions(comparison)[name]
    if context == ALL_CELLS:
        assert comparison.across is not None
        below = [f"{len(comparison.across.cells)} cells"]
    else:
        seeds = comparison.done[context]["seed"].nunique()
        below = [f"{context}; {seeds} seed{'s' * (seeds != 1)}"]
    arms = len(_ranked(comparison, context))
    if name not in ALL_ARMS and arms > MOST_ARMS:
        below.append(f"the first {MOST_ARMS} of {arms} in the table; the CSV file has all")
    if name == "overfitting":
        below.append(SEVERAL_PRIORS if REWEIGHTED in data["losses"]["split"] else ONE_PRIOR)
    if name == "cross_loss":
        few = len(set(data[name]["loss"])) <= MOST_VALUES
        below.append(VALUES if few else PLACES)
    return {"text": caption.title, "subtitle": below, "offset": 12}


def _placed(own: Specification, panel: Panel, place: int, width: Any) -> Specification:
    """``own`` as panel number ``place``: its own rows and its own end of the y axis."""
    renamed = _replace(own, {"name": "rows"}, {"name": f"rows-{place}"})
    placed = _replace(renamed, {"expr": "top"}, panel.top)
    for key in ("$schema", "config", "datasets", "params", "autosize"):
        placed.pop(key, None)
    title = {"title": {"text": panel.title, "fontWeight": "normal"}} if panel.title else {}
    return placed | {"width": width} | title


def _replace(node: Any, old: Any, new: Any) -> Any:
    """A copy of ``node`` in which everything equal to ``old`` is ``new``."""
    if node == old:
        return new
    if isinstance(node, Mapping):
        return {key: _replace(value, old, new) for key, value in node.items()}
    if isinstance(node, list):
        return [_replace(value, old, new) for value in node]
    return node


def _legend(shown: Sequence[Look], width: int) -> Specification:
    """A line with its shape and the label of every arm, in columns as wide as the longest label."""
    entry = 60 + 7 * max((len(look["label"]) for look in shown), default=0)
    columns = max(1, min(len(shown), width // entry))
    rows = [
        look
        | {"from": entry * (i % columns), "to": entry * (i % columns) + 34, "row": i // columns}
        for i, look in enumerate(shown)
    ]
    for row in rows:
        row |= {"middle": row["from"] + 17, "start": row["to"] + 6}
    lines = -(-len(rows) // columns)

    def across(field: str) -> dict[str, Any]:
        scale = {"domain": [0, width], "nice": False}
        return {"field": field, "type": "quantitative", "axis": None, "scale": scale}

    def look(channel: str) -> dict[str, Any]:
        return {"field": channel, "type": "nominal", "scale": None}

    y_scale = {"domain": [-0.5, lines - 0.5], "reverse": True, "nice": False}
    y = {"field": "row", "type": "quantitative", "axis": None, "scale": y_scale}
    line = {
        "mark": {"type": "rule", "strokeWidth": 2},
        "encoding": {"x": across("from"), "x2": {"field": "to"}, "y": y}
        | {"stroke": look("colour"), "strokeDash": look("dash")},
    }
    point = {
        "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
        "encoding": {
            "x": across("middle"),
            "y": y,
            "color": look("colour"),
            "shape": look("shape"),
        },
    }
    text = {
        "mark": {"type": "text", "align": "left", "fontSize": 12},
        "encoding": {"x": across("start"), "y": y, "text": {"field": "label"}},
    }
    return {
        "data": {"values": json.loads(json.dumps(rows))},
        "layer": [line, point, text],
        "width": width,
        "height": 18 * lines,
    }
