"""The figures as Vega-Lite specifications (altair), one per kind, without data.

Who draws one gives it the rows (dataset ``rows``) and, for the loss histograms, the dataset
``marks`` and the parameter ``top``. A row carries the columns of `aggregate.context_data` and
``label``, ``colour``, ``dash`` and ``shape`` of its arm (`looks`), so that an arm looks the same
everywhere and is told from the others by more than its colour. No specification names a colour of
its own: those of page, axes and text come from the configuration of who draws it. Every figure is
as wide as its place on the page.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import altair as alt

from lossbench.comparison import metrics
from lossbench.comparison.aggregate import scatter_metric
from lossbench.comparison.metrics import Metric

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

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
MOST_VALUES = 12
"""Columns of the cross-loss matrix up to which its cells have room for the value."""

Side = Literal["left", "right"]


def specifications(comparison: Comparison) -> dict[str, Specification]:
    """The specification of every kind of figure, by name."""
    against = metrics.facts(scatter_metric(comparison))
    found = _specifications(comparison.facts, comparison.baseline, comparison.margin, against)
    if comparison.tuning.arms:
        tuning = comparison.tuning
        found = found | {"budget": _budget(metrics.facts(tuning.objective), tuning.where)}
    return {name: dict(specification) for name, specification in found.items()}


@cache  # altair takes more than half a second to check them
def _specifications(
    metric: Metric, baseline: str, margin: float | None, against_calibration: Metric
) -> dict[str, Specification]:
    charts: dict[str, Any] = {
        "differences": _differences(metric, baseline, margin),
        "losses": _losses(280, filled_test=False),
        "overfitting": _losses(150, filled_test=True),
        "curves": _curves(),
        "recall": _recall(),
        "reliability": _reliability(),
        "scatter": _scatter(against_calibration),
        "cross_loss": _cross_loss(),
    }
    return {name: chart.to_dict() for name, chart in charts.items()}


def _differences(metric: Metric, baseline: str, margin: float | None) -> alt.TopLevelMixin:
    """Forest plot: mean, thick Holm interval, thin simultaneous interval, a dot per seed."""
    better = "right" if metric.higher_is_better else "left"
    row = alt.Y("label:N", sort=None, title=None)
    title = [f"{metric.name} minus {baseline}", f"(better: {better})"]
    axis = alt.Axis(titleLimit=320, tickCount=5)
    x = alt.X("low:Q", title=title, axis=axis, scale=alt.Scale(zero=True, nice=True))
    base = alt.Chart(ROWS).encode(y=row, color=COLOUR)
    names = ("mean", "low", "high", "simultaneous_low", "simultaneous_high")
    tooltip = [ARM, *(alt.Tooltip(f"{name}:Q", format="+.4f") for name in names)]
    thick = base.mark_rule(strokeWidth=5, opacity=0.55).encode(x=x, x2="high:Q", tooltip=tooltip)
    thin = base.mark_rule(strokeWidth=1.3).encode(
        x="simultaneous_low:Q", x2="simultaneous_high:Q", tooltip=tooltip
    )
    ends = [
        base.mark_tick(thickness=1.3, size=9, orient="vertical").encode(x=f"{end}:Q")
        for end in ("simultaneous_low", "simultaneous_high")
    ]
    seeds = (
        alt.Chart(ROWS)
        .transform_flatten(["points"])
        .mark_circle(size=16, yOffset=12, opacity=0.9)
        .encode(y=row, x="points:Q", tooltip=[ARM, alt.Tooltip("points:Q", format="+.4f")])
    )
    point = base.mark_point(filled=True, size=90, opacity=1).encode(
        x="mean:Q", shape=SHAPE, tooltip=tooltip
    )
    zero = alt.Chart(ROWS).mark_rule(strokeDash=[4, 4]).encode(x=alt.datum(0))
    layers = [zero, thick, thin, *ends, seeds, point]
    if margin is not None:
        band = alt.Chart(alt.InlineData([{"from": -margin, "to": margin}]))
        layers.insert(0, band.mark_rect(opacity=0.15).encode(x="from:Q", x2="to:Q"))
    return alt.layer(*layers).properties(width="container", height=alt.Step(36))


def _losses(height: int, filled_test: bool) -> alt.TopLevelMixin:
    """Step lines over log10(loss), with rules at log 2 and log C.

    Who draws it sets the parameter ``top``, the end of the y axis, so that arms share one scale.
    The rows are fractions per bin or their sums up to the loss; shapes on the lines tell arms
    apart without colour.
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
        .mark_line(interpolate="step-after", strokeWidth=1.8, clip=True)
        .encode(x=x, y=y, stroke=STROKE, strokeDash=DASH, detail=detail)
    )
    rules = alt.Chart(MARKS).mark_rule(strokeDash=[2, 3]).encode(x="x:Q")
    words = [_words("right", 2), _words("left", -2)]
    parts: list[alt.Chart] = [lines]
    if filled_test:
        area = alt.Chart(ROWS).transform_filter("datum.split === 'test'")
        area = area.mark_area(interpolate="step-after", opacity=0.25)
        parts = [area.encode(x=x, y=y, fill=FILL), lines]
    else:
        # one mark per one and a half powers of ten, elsewhere for every arm
        spaced = "datum.y > 0 && (round(10 * datum.x) + 300 + 4 * datum.arm) % 15 === 0"
        points = alt.Chart(ROWS).transform_filter(spaced)
        points = points.mark_point(filled=True, size=45, opacity=1, clip=True)
        parts = [lines, points.encode(x=x, y=y, color=COLOUR, shape=SHAPE, tooltip=[ARM])]
    figure = alt.layer(*parts, rules, *words).properties(width="container", height=height)
    return figure.add_params(alt.param(name="top", value=1))


def _words(side: Side, dx: int) -> alt.Chart:
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
    y = alt.Y("mean:Q", title=None, scale=scale)
    band = base.mark_area(opacity=0.2).encode(
        y=alt.Y("low:Q", title=None, scale=scale), y2="high:Q", fill=FILL
    )
    line = base.mark_line(strokeWidth=1.8).encode(y=y, stroke=STROKE, strokeDash=DASH)
    # about five marks per curve, at other epochs for every arm
    spaced = "(datum.place + datum.arm) % max(1, ceil(datum.count / 5)) === 0"
    points = (
        base.transform_window(place="row_number()", groupby=["label"])
        .transform_joinaggregate(count="count()", groupby=["label"])
        .transform_filter(spaced)
        .mark_point(filled=True, size=45, opacity=1)
        .encode(y=y, color=COLOUR, shape=SHAPE)
        .encode(tooltip=[ARM, "epoch:Q", alt.Tooltip("mean:Q", format=".4~g")])
    )
    return alt.layer(band, line, points).properties(width="container", height=240)


def _recall() -> alt.TopLevelMixin:
    return (
        alt.Chart(ROWS)
        .mark_point(filled=True, size=70, opacity=0.85)
        .encode(
            y=alt.Y("class:N", sort=None, title=None, axis=alt.Axis(grid=True)),
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


def _scatter(metric: Metric) -> alt.TopLevelMixin:
    """``metric`` over expected calibration error, with error bars both ways."""
    scale = alt.Scale(zero=False, padding=12)
    higher = metric.higher_is_better
    error = "expected calibration error (better: left)"
    few = alt.Axis(tickCount=6)  # more would lie over each other on a phone
    across = alt.X("calibration:Q", title=error, scale=scale, axis=few)
    title = f"{metric.name} (better: {'up' if higher else 'down'})"
    up = alt.Y("accuracy:Q", title=title, scale=scale)
    base = alt.Chart(ROWS).encode(color=COLOUR)
    wide = base.mark_rule(strokeWidth=1.3).encode(
        x=alt.X("calibration_low:Q", scale=scale, title=error, axis=few),
        x2="calibration_high:Q",
        y=up,
    )
    tall = base.mark_rule(strokeWidth=1.3).encode(
        y=alt.Y("accuracy_low:Q", scale=scale, title=title), y2="accuracy_high:Q", x=across
    )
    names = [
        f"{axis}{end}" for axis in ("accuracy", "calibration") for end in ("", "_low", "_high")
    ]
    point = base.mark_point(filled=True, size=110, opacity=1).encode(
        x=across,
        y=up,
        shape=SHAPE,
        tooltip=[ARM, *(alt.Tooltip(f"{name}:Q", format=".4f") for name in names)],
    )
    arrow = "← ↑ better" if higher else "← ↓ better"
    place = alt.value(8) if higher else alt.value("height")
    corner = alt.Chart(alt.InlineData([{}])).mark_text(
        align="left", baseline="top" if higher else "bottom", dy=0 if higher else -8, fontSize=12
    )
    corner = corner.encode(x=alt.value(8), y=place, text=alt.value(arrow))
    return alt.layer(wide, tall, point, corner).properties(width="container", height=300)


def _cross_loss() -> alt.TopLevelMixin:
    """Heat map, the best place of each column darkest; a cell says its value, or its place.

    The place where there are more than `MOST_VALUES` columns. The loss of one's own is outlined.
    """
    base = (
        alt.Chart(ROWS)
        .transform_joinaggregate(columns="distinct(loss)")
        .transform_joinaggregate(rows="count()", groupby=["loss"])
        .transform_calculate(
            shade="datum.rows > 1 ? 1 - (datum.place - 1) / (datum.rows - 1) : 0",
            text=f"datum.columns <= {MOST_VALUES} ? format(datum.value, '.3~r') : datum.place",
        )
        .encode(
            y=alt.Y("label:N", sort=None, title=None),
            x=alt.X(
                "loss:N",
                sort=None,
                title=None,
                axis=alt.Axis(orient="top", labelAngle=-60),
            ),
        )
    )
    tooltip = [ARM, "loss:N", alt.Tooltip("value:Q", format=".4~g"), "place:Q"]
    shades = alt.Scale(domain=[0, 1], range=["#f3f6fb", "#2b5c9e"])
    cells = base.mark_rect().encode(
        color=alt.Color("shade:Q", scale=shades, legend=None), tooltip=tooltip
    )
    own = base.transform_filter("datum.own").mark_rect(
        filled=False, stroke="#d55e00", strokeWidth=2
    )
    ink = alt.when("datum.shade > 0.55").then(alt.value("#ffffff")).otherwise(alt.value("#1b1f26"))
    words = base.mark_text(fontSize=10).encode(text="text:N", color=ink)
    return alt.layer(cells, own, words).properties(width="container", height=alt.Step(24))


@cache
def _budget(metric: Metric, where: str) -> Specification:
    """Best validation value up to every trial: hollow with defaults, filled where chosen.

    What a row does not show is transparent and not filtered out: a layer without rows makes Vega
    warn in the console.
    """
    title = [f"best {metric.name} on", f"{where} {metric.arrow}"]
    base = (
        alt.Chart(ROWS)
        .transform_joinaggregate(floor="min(best)", ceiling="max(best)")
        .transform_calculate(
            height="isValid(datum.best) ? datum.best : datum.floor",
            reach="datum.ceiling > datum.floor ? datum.ceiling - datum.floor : 1e9",
            own="isValid(datum.value) ? datum.value : datum.height",
            near="clamp(datum.own, datum.floor - datum.reach, datum.ceiling + datum.reach)",
            dot="datum.near === datum.own ? datum.own : null",
            failed="datum.mark === 'failed'",
            chosen="datum.mark === 'chosen'",
        )
        .encode(
            x=alt.X(
                "trial:Q", title="trial (0: defaults)", axis=alt.Axis(tickMinStep=1, grid=False)
            ),
            detail="label:N",
            tooltip=[
                ARM,
                "trial:Q",
                *(alt.Tooltip(f"{n}:Q", format=".4~g") for n in ("value", "best")),
            ],
        )
    )
    scale = alt.Scale(zero=False)
    best, height = (alt.Y(f"{name}:Q", title=title, scale=scale) for name in ("best", "height"))
    line = base.mark_line(strokeWidth=1.8, interpolate="step-after")
    line = line.encode(y=best, stroke=STROKE, strokeDash=DASH)
    own = base.mark_circle(size=18).encode(
        y=alt.Y("dot:Q", title=title, scale=scale),
        color=COLOUR,
        opacity=_shown("!datum.failed", 0.7),
    )
    points = base.mark_point(filled=False, strokeWidth=2, size=110).encode(
        y=height,
        shape=SHAPE,
        fill=FILL,
        stroke=STROKE,
        fillOpacity=_shown("datum.chosen"),
        strokeOpacity=_shown("datum.chosen || (datum.trial === 0 && !datum.failed)"),
    )
    failed = base.mark_text(text="×", fontSize=18).encode(
        y=height, color=COLOUR, opacity=_shown("datum.failed")
    )
    layers = alt.layer(line, own, points, failed)
    return layers.properties(width="container", height=280).to_dict()


def _shown(when: str, opacity: float = 1.0) -> Any:
    """The opacity of the rows where ``when`` holds; all others cannot be seen."""
    return alt.when(when).then(alt.value(opacity)).otherwise(alt.value(0))
