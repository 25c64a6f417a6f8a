"""The tables as text cells, shared by the terminal, the markdown file and the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossbench.comparison import formats, metrics, posthoc
from lossbench.comparison.compare import where_measured
from lossbench.comparison.posthoc import WORDS
from lossbench.comparison.statistics import estimate
from lossbench.comparison.verdict import judge

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison


@dataclass(frozen=True)
class Sheet:
    """A table: its caption, the heads of its columns, and rows of text (the first is the label)."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sheets(comparison: Comparison, context: str) -> list[Sheet]:
    """All tables of one context, those that there are."""
    makers = (summary_sheet, difference_sheet, posthoc_sheet, gradient_sheet)
    return [sheet for make in makers if (sheet := make(comparison, context))]


def summary_sheet(comparison: Comparison, context: str) -> Sheet:
    """n, mean ± standard error of every summary metric, and the t-interval of the one that decides.

    One row per label.
    """
    tags = metrics.columns(comparison.split, comparison.runs.columns)
    if comparison.metric not in tags:
        tags = [comparison.metric, *tags]
    cells = comparison.cells
    rows = []
    for label in comparison.ranked[context]:
        numbers = [cells[context, label, tag] for tag in tags]
        texts = [formats.plus_minus(cell["mean"], cell["standard_error"]) for cell in numbers]
        deciding = cells[context, label, comparison.metric]
        ends = (formats.number(deciding[end]) for end in ("low", "high"))
        texts.insert(tags.index(comparison.metric) + 1, " to ".join(ends))
        rows.append((label, str(deciding["n"]), *texts))
    facts = [metrics.facts(tag) for tag in tags]
    names = [f"{fact.name} {fact.arrow}" for fact in facts]
    names.insert(tags.index(comparison.metric) + 1, "95 % t-interval")
    head = (comparison.by, "n", *names)
    caption = f"Mean ± standard error over seeds, {comparison.where}"
    return Sheet(caption, head, tuple(rows))


def difference_sheet(comparison: Comparison, context: str) -> Sheet | None:
    """The paired differences to the baseline, one row per label; None if there are none."""
    fact = metrics.facts(comparison.metric)
    chosen = {entry.label: entry for entry in comparison.differences if entry.context == context}
    rows = []
    for label in comparison.ranked[context]:
        if label not in chosen:
            continue
        entry = chosen[label]
        mean, low, high = formats.difference(entry.mean, entry.low, entry.high)
        rows.append(
            (
                label,
                f"{mean} ± {formats.number(entry.standard_error)}",
                f"{low} to {high}",
                formats.p_value(entry.p),
                formats.p_value(entry.holm_p),
                str(entry.n),
                entry.matched or formats.UNDEFINED,
                judge(entry, fact),
            )
        )
    if not rows:
        return None
    head = (
        *(comparison.by, f"{fact.name} minus {comparison.baseline}", "95 % Holm interval"),
        *("p", "Holm p", "paired seeds", "equal fingerprints", "verdict"),
    )
    return Sheet(f"Paired differences to {comparison.baseline}", head, tuple(rows))


def posthoc_sheet(comparison: Comparison, context: str) -> Sheet | None:
    """The metric that decides, under every post-hoc method; None if no run has measured it.

    One row per label that was trained; mean ± standard error over the seeds.
    """
    split, _, metric = comparison.metric.partition("/")
    columns = {"as trained": comparison.metric}
    columns |= {words: posthoc.tag_of(split, method, metric) for method, words in WORDS.items()}
    runs = comparison.done[context]
    known = {
        words: tag for words, tag in columns.items() if tag in runs and runs[tag].notna().any()
    }
    if len(known) < 2:
        return None
    rows = []
    for label in comparison.ranked[context]:
        of_label = runs[runs["label"] == label]
        numbers = [estimate(of_label[tag].dropna().to_numpy()) for tag in known.values()]
        if any(number.n for number in numbers[1:]):
            cells = (formats.plus_minus(entry.mean, entry.standard_error) for entry in numbers)
            rows.append((label, *cells))
    fact = comparison.facts
    chosen_on = where_measured("val", comparison.records)
    caption = (
        f"{fact.name} {fact.arrow} with post-hoc methods, mean ± standard error over seeds, "
        f"{comparison.where}; fitted and chosen on: {chosen_on}"
    )
    return Sheet(caption[0].upper() + caption[1:], (comparison.by, *known), tuple(rows))


def gradient_sheet(comparison: Comparison, context: str) -> Sheet | None:
    """The learning rate hidden in each loss, means over seeds; None if no run has measured it.

    One row per label. The loss scale has a column where a run has one.
    """
    runs = comparison.done[context]
    known = [tag for tag in (metrics.GRADIENT, metrics.LOSS_SCALE) if tag in runs.columns]
    means = runs.groupby("label")[known].mean().dropna(axis="columns", how="all")
    if means.empty:
        return None
    words = {
        metrics.GRADIENT: "gradient relative to cross-entropy, first epoch",
        metrics.LOSS_SCALE: "loss scale",
    }
    values = means.T.to_dict("list")
    rows = [
        (label, *(formats.significant(value) for value in values[label]))
        for label in comparison.ranked[context]
    ]
    head = (comparison.by, *(words[tag] for tag in means.columns))
    caption = "Size of the loss's gradient, before the loss scale, mean over seeds"
    return Sheet(caption, head, tuple(rows))
