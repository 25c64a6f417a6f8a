"""The one door: records of a study in, verdicts, tables and files out."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from lossbench.comparison import metrics
from lossbench.comparison.across_cells import across_sentence
from lossbench.comparison.across_scores import Across, gather
from lossbench.comparison.metrics import Metric, split_of
from lossbench.comparison.notes import where_measured
from lossbench.comparison.overall import overall
from lossbench.comparison.pairing import Difference, differences, pair_runs
from lossbench.comparison.paragraph import paragraph
from lossbench.comparison.posthoc import Derived
from lossbench.comparison.sealing import refuse_sealed
from lossbench.comparison.selection import NOTHING_SELECTED, Selection
from lossbench.comparison.table import (
    Gap,
    find_gaps,
    finished,
    metric_tags,
    run_table,
    summarise,
)
from lossbench.comparison.tuning import Tuning
from lossbench.comparison.verdict import Verdict, headline, verdict
from lossbench.errors import InputError, unknown
from lossbench.records import Record


@dataclass(frozen=True)
class Comparison:
    """What `compare` found: tables, verdicts, gaps, and the files it wrote.

    ``runs`` has one row per record, in their order (see `run_table`); ``summary`` one row per
    context, label and metric (see `summarise`). ``ranked`` gives the labels of every context: the
    baseline, then the best first. ``gaps`` are runs that could not be used, ``notes`` says why a
    context has no differences. ``labels`` are all of them, in one order for all figures.
    ``pending`` is the number of planned runs that are neither done nor failed. ``selection`` is
    what the study's folder says of tuning and of the test set.
    ``figure_data`` keeps what `aggregate.context_data` has computed.
    """

    records: Sequence[Record]
    study: str
    by: str
    metric: str
    baseline: str
    runs: pd.DataFrame
    summary: pd.DataFrame
    ranked: dict[str, list[str]]
    differences: list[Difference]
    verdicts: list[Verdict]
    gaps: list[Gap]
    notes: dict[str, str]
    margin: float | None = None
    pending: int = 0
    selection: Selection = NOTHING_SELECTED
    files: list[Path] = field(default_factory=list)
    figure_data: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    @cached_property
    def done(self) -> dict[str, pd.DataFrame]:
        """The finished runs of every context."""
        groups = finished(self.runs).groupby("context", sort=False)
        return {str(context): runs for context, runs in groups}

    @cached_property
    def cells(self) -> dict[tuple[str, str, str], dict[Hashable, Any]]:
        """The rows of ``summary`` by context, label and metric."""
        rows = self.summary.to_dict("records")
        return {(row["context"], row["label"], row["metric"]): row for row in rows}

    @cached_property
    def across(self) -> Across | None:
        """The metric that decides over all cells; None if there is only one."""
        return gather(self)

    @property
    def tuning(self) -> Tuning:
        """How the arms were tuned."""
        return self.selection.tuning

    @property
    def facts(self) -> Metric:
        """The facts of the metric that decides."""
        return metrics.facts(self.metric)

    @property
    def split(self) -> str:
        """The split of the metric that decides."""
        return split_of(self.metric)

    @property
    def where(self) -> str:
        """The split of the metric that decides, in words."""
        return where_measured(self.split, self.records)

    @property
    def labels(self) -> list[str]:
        """All labels with a finished run: the baseline, then by name."""
        names = {label for place in self.ranked.values() for label in place}
        return sorted(names, key=lambda label: (label != self.baseline, label))

    @property
    def headline(self) -> str:
        """The verdicts in one sentence."""
        return headline(self.verdicts, self.baseline, self.facts, self.where)

    def counted(self, context: str, label: str) -> str:
        """The finished runs of ``label``: ``5``, or ``3 of 5, 2 failed`` where some are missing."""
        count = self.cells[context, label, self.metric]["n"]
        lost: dict[str, int] = {}
        for gap in self.gaps:
            if (gap.context, gap.label) == (context, label):
                lost[gap.kind] = lost.get(gap.kind, 0) + len(gap.seeds)
        if not lost:
            return str(count)
        reasons = (f"{number} {kind}" for kind, number in lost.items())
        return ", ".join([f"{count} of {count + sum(lost.values())}", *reasons])

    def paragraph(self, context: str) -> str:
        """Which label to use in ``context``, how sure that is, and what it costs, in words."""
        return paragraph(self, context)

    @property
    def overall(self) -> str:
        """The grades over all contexts, and all together, in words; "" where there is one."""
        return " ".join(filter(None, (overall(self), across_sentence(self))))


def compare(
    records: Sequence[Record],
    *,
    baseline: str = "cross_entropy",
    metric: str = metrics.PRIMARY,
    margin: float | None = None,
    by: str = "arm",
    pending: int = 0,
    selection: Selection = NOTHING_SELECTED,
    processes: int = 1,
    out: Path,
) -> Comparison:
    """Compare the runs of one study and write what was found to ``out``.

    results.csv, results.md and results.tex, every figure as SVG and CSV in figures/, report.html,
    and for TensorBoard a run with the tables and figures in tensorboard/.

    ``by`` is what is compared (arm, loss or model), ``baseline`` the one that all others are
    paired with, ``metric`` the tag that decides. Every other metric is described, not judged.
    ``margin`` is the smallest difference in ``metric`` that matters, in its unit (None: not said).
    ``pending`` planned runs are still to come: the answer then says that it is an interim one.
    ``selection`` says how arms were tuned; a tuned ``baseline`` whose defaults won is the default.
    Figures are drawn in at most ``processes`` processes (see `drawing.draw_all`).

    Raises `InputError`, with nothing written, if no run is finished, if ``by``, ``baseline`` or
    ``metric`` is unknown, or if runs share seeds but none is paired.
    """
    from lossbench.comparison import export, figure_files, latex, report, tensorboard_run

    choices = {"baseline": baseline, "metric": metric, "by": by}
    comparison = evaluate(records, **choices, margin=margin, pending=pending, selection=selection)
    out.mkdir(parents=True, exist_ok=True)
    comparison.files.append(export.write_csv(comparison, out / "results.csv"))
    comparison.files.append(export.write_markdown(comparison, out / "results.md"))
    comparison.files.append(report.write_report(comparison, out / "report.html"))
    comparison.files.append(latex.write_latex(comparison, out / "results.tex"))
    pictures = figure_files.write_figures(comparison, out / "figures", processes)
    comparison.files.append(out / "figures")
    comparison.files.append(tensorboard_run.write(comparison, pictures, out / "tensorboard"))
    return comparison


def evaluate(
    records: Sequence[Record],
    *,
    baseline: str,
    metric: str,
    by: str,
    margin: float | None = None,
    pending: int = 0,
    selection: Selection = NOTHING_SELECTED,
) -> Comparison:
    """What `compare` computes, without writing anything."""
    runs = run_table(records, by)
    refuse_sealed(records, metric)
    fact = metrics.check(metric, metric_tags(runs), by)
    if margin is not None and fact.unit == "fraction" and margin >= 1:
        raise InputError(
            f"margin={margin:g} is not allowed: {fact.name} lies between 0 and 1, so give a "
            "difference that matters such as 0.01"
        )
    done = finished(runs)
    baseline = known_baseline(selection.tuning.named(baseline), done)
    columns = [metric, *metrics.columns(split_of(metric), runs.columns)]
    summary = summarise(runs, dict.fromkeys(columns))
    pairs = pair_runs(runs, records, baseline=baseline, metric=metric, by=by)
    places = done[["context", "label"]].drop_duplicates()
    with_baseline = places.loc[places["label"] == baseline, "context"]
    judged = places[(places["label"] != baseline) & places["context"].isin(with_baseline)]
    everyone = runs[["context", "label"]].drop_duplicates()
    counts = everyone["context"].value_counts() - places["context"].value_counts()
    absent = {str(context): int(count) for context, count in counts.dropna().items()}
    direction = {"higher_is_better": fact.higher_is_better}
    found = differences(pairs, judged, margin, **direction, absent=absent)
    ranked = _rank(summary[summary["metric"] == metric], baseline, found, fact)
    found.sort(key=lambda entry: ranked[entry.context].index(entry.label))
    where = where_measured(split_of(metric), records)
    gaps = find_gaps(runs, metric)
    lost = [_lost(entry, gaps, baseline, records) for entry in found]
    return Comparison(
        records=records,
        study=records[0].study,
        by=by,
        metric=metric,
        baseline=baseline,
        runs=runs,
        summary=summary,
        ranked=ranked,
        differences=found,
        verdicts=[
            verdict(entry, baseline, fact, where, reason)
            for entry, reason in zip(found, lost, strict=True)
        ],
        gaps=gaps,
        notes=_notes(ranked, baseline),
        margin=margin,
        pending=pending,
        selection=selection,
    )


def known_baseline(baseline: str, done: pd.DataFrame) -> str:
    """The label that ``baseline`` names: its own, or that of the only label with this loss."""
    labels = set(done["label"])
    if baseline in labels:
        return baseline
    with_loss = set(done.loc[done["loss"] == baseline, "label"])
    if len(with_loss) == 1:
        return with_loss.pop()
    quoted = [f'"{label}"' for label in labels]
    names = quoted if any("," in q for q in quoted) else labels
    problem = unknown("baseline among finished runs", baseline, names)
    raise InputError(f"{problem}; say which one with baseline=NAME")


def _rank(
    means: pd.DataFrame, baseline: str, found: Sequence[Difference], fact: Metric
) -> dict[str, list[str]]:
    """The labels of every context: the baseline, then the best first.

    Best by the paired difference, which compares equal seeds; a label without one comes after
    those with one, by its mean.
    """
    paired = {(entry.context, entry.label): entry.mean for entry in found if entry.n}
    sign = -1 if fact.higher_is_better else 1

    def place(row: dict[Hashable, Any]) -> tuple[bool, bool, float]:
        key = (row["context"], row["label"])
        return row["label"] != baseline, key not in paired, sign * paired.get(key, row["mean"])

    ranked: dict[str, list[str]] = {}
    for row in sorted(means.to_dict("records"), key=place):
        ranked.setdefault(row["context"], []).append(row["label"])
    return {context: ranked[context] for context in dict.fromkeys(means["context"])}


def _lost(entry: Difference, gaps: Sequence[Gap], baseline: str, records: Sequence[Record]) -> str:
    """Which runs of ``entry`` could not be used, and if it has no pair for that, why; or ""."""
    if entry.n == 0 and entry.refused:
        return ""
    concerned = [gap for gap in gaps if gap.context == entry.context]
    own = [gap for gap in concerned if gap.label == entry.label]
    if entry.n:
        return "; ".join(gap.sentence for gap in own)
    told = [gap.sentence for gap in own or concerned if gap.label in (entry.label, baseline)]
    if any(isinstance(record, Derived) and record.arm == entry.label for record in records):
        told.append("post-hoc methods are measured in fewer metrics than training")
    return "; ".join(told)


def _notes(ranked: dict[str, list[str]], baseline: str) -> dict[str, str]:
    """Why a context is described without differences, for those that are."""
    notes = {}
    for context, labels in ranked.items():
        if labels[0] != baseline:
            notes[context] = f"no finished run of {baseline}, so no differences are given"
        elif len(labels) == 1:
            notes[context] = f"nothing but {baseline}, so there is nothing to compare"
    return notes
