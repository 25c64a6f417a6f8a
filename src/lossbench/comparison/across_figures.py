"""The figures over all cells as Vega-Lite specifications, in the way of `figures`.

Of their data (`across_cells.across_data`) ``marks`` belongs to the figure ``ranks``: the page gives
it as the second set of rows.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import altair as alt

from lossbench.comparison.figures import (
    ARM,
    COLOUR,
    DASH,
    FILL,
    MARKS,
    ROWS,
    SHAPE,
    STROKE,
    Specification,
)
from lossbench.comparison.metrics import Metric


def across_specifications(metric: Metric, labels: int) -> dict[str, Specification]:
    """The specification of every figure over all cells, by name; ``labels`` are compared."""
    return {name: dict(each) for name, each in _specifications(metric, labels).items()}


@cache  # altair takes long to check them
def _specifications(metric: Metric, labels: int) -> dict[str, Specification]:
    charts: dict[str, Any] = {
        "ranks": _ranks(labels),
        "profiles": _profiles(metric),
        "aggregates": _aggregates(metric),
    }
    return {name: chart.to_dict() for name, chart in charts.items()}


def _ranks(labels: int) -> alt.TopLevelMixin:
    """Demsar's diagram with one row per label, which a phone can show too.

    Above hang the critical difference and the bars of those that do not differ; every label hangs
    from its average rank on the axis.
    """
    scale = alt.Scale(domain=[1, labels], nice=False)
    axis = alt.Axis(orient="top", values=list(range(1, labels + 1)), format="d", grid=False)
    title = "average rank (1 is best)"
    rows = alt.Axis(labelPadding=8, ticks=False, domain=False)
    bars = alt.Chart(MARKS).mark_rule(strokeWidth=5, strokeCap="round")
    bars = bars.encode(
        x=alt.X("low:Q", scale=scale, axis=axis, title=title),
        x2="high:Q",
        y=alt.Y("row:N", sort=None, title=None, axis=rows),
    )
    base = alt.Chart(ROWS).encode(
        x=alt.X("rank:Q", scale=scale, axis=axis, title=title),
        y=alt.Y("label:N", sort=None, title=None, axis=rows),
        tooltip=[ARM, alt.Tooltip("rank:Q", title="average rank")],
    )
    stem = base.mark_rule(strokeWidth=1.2).encode(y2=alt.value(0), stroke=STROKE)
    leader = base.mark_rule(strokeWidth=1.2).encode(x2=alt.value(0), stroke=STROKE)
    point = base.mark_point(filled=True, size=90, opacity=1).encode(color=COLOUR, shape=SHAPE)
    layers = alt.layer(bars, stem, leader, point)
    return layers.properties(width="container", height=alt.Step(26))


def _profiles(metric: Metric) -> alt.TopLevelMixin:
    side = "above" if metric.higher_is_better else "below"
    base = alt.Chart(ROWS).encode(
        x=alt.X(
            "value:Q",
            title=metric.name,
            scale=alt.Scale(zero=False),
            axis=alt.Axis(grid=False, tickCount=5),
        ),
        detail="label:N",
    )
    title, unit = f"share of runs {side}", alt.Scale(domain=[0, 1])
    band = base.mark_area(opacity=0.2, interpolate="step-after").encode(
        y=alt.Y("low:Q", title=title, scale=unit), y2="high:Q", fill=FILL
    )
    line = base.mark_line(strokeWidth=1.8, interpolate="step-after").encode(
        y=alt.Y("share:Q", title=title, scale=unit), stroke=STROKE, strokeDash=DASH
    )
    return alt.layer(band, line).properties(width="container", height=240)


def _aggregates(metric: Metric) -> alt.TopLevelMixin:
    row = alt.Y("label:N", sort=None, title=None)
    better = "right" if metric.higher_is_better else "left"
    names = ("interquartile_mean", "low", "high")
    base = alt.Chart(ROWS).encode(
        y=row, color=COLOUR, tooltip=[ARM, *(alt.Tooltip(f"{n}:Q", format=".4f") for n in names)]
    )
    title = [f"interquartile mean of {metric.name}", f"(better: {better})"]
    interval = base.mark_rule(strokeWidth=3).encode(
        x=alt.X(
            "low:Q",
            title=title,
            scale=alt.Scale(zero=False),
            axis=alt.Axis(titleLimit=260, tickCount=5),
        ),
        x2="high:Q",
    )
    point = base.mark_point(filled=True, size=90, opacity=1).encode(
        x="interquartile_mean:Q", shape=SHAPE
    )
    return alt.layer(interval, point).properties(width="container", height=alt.Step(30))
