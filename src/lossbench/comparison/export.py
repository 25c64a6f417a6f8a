"""results.csv (a row per run and metric) and results.md (the tables as GitHub markdown)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lossbench.comparison.across_cells import across_sheets
from lossbench.comparison.audit import audit_sheets
from lossbench.comparison.notes import measured
from lossbench.comparison.posthoc import Derived
from lossbench.comparison.tables import Sheet, sheets
from lossbench.comparison.tuning_effect import tuning_sheets
from lossbench.records import files

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

IDENTIFIERS = ("study", "cell", "arm", "label", "seed", "model", "loss", "trained", "status")


def write_csv(comparison: Comparison, path: Path) -> Path:
    """Write one row per run and metric that it has; an unfinished run has one row without.

    ``trained`` is False for a run that is another under a post-hoc method. An undefined value is
    an empty field.
    """
    lines = [_line([*IDENTIFIERS, "metric", "value"])]
    fields: dict[str, str] = {}  # a tag is quoted once, not once per run
    for record, label in zip(comparison.records, comparison.runs["label"], strict=True):
        known = {"label": label, "trained": not isinstance(record, Derived)}
        start = _line(known.get(name, getattr(record, name, "")) for name in IDENTIFIERS)
        if record.status != "done":
            lines.append(f"{start},,")
            continue
        for tag, value in record.metrics.items():
            if tag not in fields:
                fields[tag] = _line([tag])
            lines.append(f"{start},{fields[tag]},{'' if value is None else repr(value)}")
    files.write_text(path, "\n".join(lines) + "\n")
    return path


def _line(values: Iterable[object]) -> str:
    """``values`` as one line of CSV, without its end."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="").writerow(values)
    return stream.getvalue()


def write_markdown(comparison: Comparison, path: Path) -> Path:
    """Write the verdicts, the tables of every context, and what could not be used."""
    lines = [f"# {escape(comparison.study)}", "", escape(comparison.headline), ""]
    if comparison.overall:
        lines += [escape(comparison.overall), ""]
    for sheet in across_sheets(comparison):
        lines += [markdown_table(sheet), ""]
    for context in comparison.ranked:
        lines += [f"## {escape(context)}", "", escape(comparison.paragraph(context)), ""]
        sentences = [entry.sentence for entry in comparison.verdicts if entry.context == context]
        lines += [f"- {escape(sentence)}" for sentence in sentences]
        lines += [""] * bool(sentences)
        beside = (*tuning_sheets(comparison, context), *audit_sheets(comparison, context))
        for sheet in (*sheets(comparison, context), *beside):
            lines += [markdown_table(sheet), ""]
    remarks = [f"{gap.context}: {gap.sentence}" for gap in comparison.gaps]
    if remarks:
        lines += ["## Not used", "", *(f"- {escape(remark)}" for remark in remarks), ""]
    lines += ["## What was measured", "", *(f"- {escape(note)}" for note in measured(comparison))]
    files.write_text(path, "\n".join(lines).rstrip() + "\n")
    return path


def markdown_table(sheet: Sheet) -> str:
    """``sheet`` as a GitHub markdown table under its caption."""
    widths = range(len(sheet.head))
    rule = ["---" if column == 0 else "---:" for column in widths]
    rows = [map(escape, sheet.head), rule, *(map(escape, row) for row in sheet.rows)]
    caption = f"{escape(sheet.caption.rstrip('.'))}:"
    return "\n".join([caption, "", *(f"| {' | '.join(row)} |" for row in rows)])


def escape(text: str) -> str:
    """``text`` on one line, with what markdown or HTML would read as a sign escaped."""
    text = " ".join(str(text).split())
    return re.sub(r"([\\`*\[\]|<])|(?<!\w)(_)|(_)(?!\w)", lambda match: f"\\{match[0]}", text)
