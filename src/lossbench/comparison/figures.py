"""The figures as Vega-Lite specifications (altair), one per kind, without data.

The page gives each specification its rows and colours. A row carries ``label``, ``colour``,
``dash`` and ``shape`` of its arm, so an arm looks the same everywhere and is told from the others
by more than its colour. Every figure is as wide as its place on the page.
"""

from __future__ import annotations

from typing import Any, Literal

import altair as alt

from lossbench.comparison.metrics import Metric

Specification = dict[str, Any]

ROWS = alt.NamedData("rows")
MARKS = alt.NamedData("marks")
COLOUR = alt.Color("colour:N", scale=None)
FILL = alt.Fill("colour:N", scale=None)
STROKE = alt.Stroke("colour:N", scale=None)
DASH = alt.StrokeDash("dash:N", scale=None)
SHAPE = alt.Shape("shape:N", scale=None)
POWER_OF_TEN = "datum.value < -2 ? '1e' + datum.value : format(pow(10, datum.value), '~g')"
ARM = alt.Tooltip("label:N", title="arm")


def specifications(metric: Metric, baseline: str) -> dict[str, Specification]:
    """The specification of every kind of figure, by name."""
    charts: dict[str, Any] = {
        "differences": _differences(metric, baseline),
        "losses": _losses(280, filled_test=False),
        "overfitting": _losses(150, filled_test=True),
        "curves": _curves(),
        "recall": _recall(),
        "reliability": _reliability(),
    }
    return {name: chart.to_dict() for name, chart in charts.items()}


def _differences(metric: Metric, baseline: str) -> alt.TopLevelMixin:
    better = "right" if metric.higher_is_better else "left"
    row = alt.Y("label:N", sort=None, title=None, axis=alt.Axis(labelLimit=150))
    title = [metric.name, f"minus {baseline}", f"(better: {better})"]
    base = alt.Chart(ROWS).encode(y=row, color=COLOUR)
    tooltip = [ARM, *(alt.Tooltip(f"{name}:Q", format="+.4f") for name in ("mean", "low", "high"))]
    interval = base.mark_rule(strokeWidth=3).encode(
        x=alt.X("low:Q", title=title, axis=alt.Axis(titleLimit=260)), x2="high:Q", tooltip=tooltip
    )
    point = base.mark_point(filled=True, size=90, opacity=1).encode(
        x="mean:Q", shape=SHAPE, tooltip=tooltip
    )
    zero = alt.Chart(ROWS).mark_rule(strokeDash=[4, 4]).encode(x=alt.datum(0))
    return alt.layer(zero, interval, point).properties(width="container", height=alt.Step(30))


def _losses(height: int, filled_test: bool) -> alt.TopLevelMixin:
    """Step lines over log10(loss), with rules at log 2 and log C.

    The page sets the parameter ``top``, the end of the y axis, so that arms share one scale.
    """
    x = alt.X(
        "x:Q",
        title="cross-entropy in nats (log scale)",
        scale=alt.Scale(domain=[-8.1, 2.1], nice=False),
        axis=alt.Axis(values=list(range(-8, 3, 2)), labelExpr=POWER_OF_TEN, grid=False),
    )
    y = alt.Y(
        "y:Q",
        title="fraction of samples",
        scale=alt.Scale(domainMin=0, domainMax=alt.ExprRef("top")),
        axis=alt.Axis(tickCount=4),
    )
    detail = ["split:N", "label:N"]
    lines = (
        alt.Chart(ROWS)
        .mark_line(interpolate="step-after", strokeWidth=1.8)
        .encode(x=x, y=y, stroke=STROKE, strokeDash=DASH, detail=detail)
    )
    parts: list[alt.Chart] = [lines]
    if filled_test:
        area = alt.Chart(ROWS).transform_filter("datum.split === 'test'")
        area = area.mark_area(interpolate="step-after", opacity=0.25)
        parts = [area.encode(x=x, y=y, fill=FILL), lines]
    rules = alt.Chart(MARKS).mark_rule(strokeDash=[2, 3]).encode(x="x:Q")
    words = [_words("right", 2), _words("left", -2)]
    figure = alt.layer(*parts, rules, *words).properties(width="container", height=height)
    return figure.add_params(alt.param(name="top", value=1))


def _words(side: Literal["left", "right"], dx: int) -> alt.Chart:
    """The words above the rule of that ``side``."""
    text = alt.Chart(MARKS).transform_filter(f"datum.side === '{side}'")
    text = text.mark_text(align=side, dx=dx, dy=-5, baseline="bottom", fontSize=11)
    return text.encode(x="x:Q", y=alt.value(0), text="text:N")


def _curves() -> alt.TopLevelMixin:
    base = alt.Chart(ROWS).encode(
        x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, grid=False)),
        detail="label:N",
    )
    scale = alt.Scale(zero=False)
    band = base.mark_area(opacity=0.2).encode(
        y=alt.Y("low:Q", title=None, scale=scale),
        y2="high:Q",
        fill=FILL,
    )
    line = base.mark_line(strokeWidth=1.8).encode(
        y=alt.Y("mean:Q", title=None, scale=scale), stroke=STROKE, strokeDash=DASH
    )
    return alt.layer(band, line).properties(width="container", height=240)


def _recall() -> alt.TopLevelMixin:
    return (
        alt.Chart(ROWS)
        .mark_point(filled=True, size=70, opacity=0.85)
        .encode(
            y=alt.Y("class:N", sort=None, title=None, axis=alt.Axis(grid=True, labelLimit=150)),
            x=alt.X("recall:Q", title="recall", scale=alt.Scale(domainMin=0, domainMax=1)),
            color=COLOUR,
            shape=SHAPE,
            tooltip=[ARM, "class:N", alt.Tooltip("recall:Q", format=".3f")],
        )
        .properties(width="container", height=alt.Step(24))
    )


def _reliability() -> alt.TopLevelMixin:
    unit = alt.Scale(domain=[0, 1])
    base = alt.Chart(ROWS).encode(
        x=alt.X("confidence:Q", title="mean confidence", scale=unit),
        y=alt.Y("accuracy:Q", title="accuracy", scale=unit),
        color=COLOUR,
        detail="label:N",
    )
    names = ("confidence", "accuracy", "share")
    points = base.mark_point(filled=True, opacity=1).encode(
        size=alt.Size("share:Q", legend=None, scale=alt.Scale(range=[15, 220])),
        shape=SHAPE,
        tooltip=[ARM, *(alt.Tooltip(f"{name}:Q", format=".3f") for name in names)],
    )
    lines = base.mark_line(strokeWidth=1.4).encode(strokeDash=DASH)
    ends = [{"confidence": 0, "accuracy": 0}, {"confidence": 1, "accuracy": 1}]
    diagonal = alt.Chart(alt.InlineData(ends)).mark_line(strokeDash=[4, 4], strokeWidth=1)
    diagonal = diagonal.encode(x="confidence:Q", y="accuracy:Q")
    return alt.layer(diagonal, lines, points).properties(width="container", height=300)
