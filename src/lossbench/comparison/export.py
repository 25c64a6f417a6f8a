"""results.csv (a row per run and metric) and results.md (the tables as GitHub markdown)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from lossbench.comparison.notes import measured
from lossbench.comparison.table import metric_tags
from lossbench.comparison.tables import Sheet, sheets
from lossbench.records import files

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

IDENTIFIERS = ["study", "cell", "arm", "label", "seed", "model", "loss", "status"]


def write_csv(comparison: Comparison, path: Path) -> Path:
    """Write one row per run and metric; a run without metrics has one row without them."""
    tidy = comparison.runs.melt(
        id_vars=IDENTIFIERS,
        value_vars=metric_tags(comparison.runs),
        var_name="metric",
        value_name="value",
    )
    unfinished = tidy["status"] != "done"
    tidy = tidy[~unfinished | ~tidy.duplicated([*IDENTIFIERS])]
    tidy.loc[tidy["status"] != "done", ["metric", "value"]] = [None, None]
    with files.replacing(path) as temporary:
        tidy.to_csv(temporary, index=False)
    return path


def write_markdown(comparison: Comparison, path: Path) -> Path:
    """Write the verdicts, the tables of every context, and what could not be used."""
    lines = [f"# {escape(comparison.study)}", "", escape(comparison.headline), ""]
    if comparison.overall:
        lines += [escape(comparison.overall), ""]
    for context in comparison.ranked:
        lines += [f"## {escape(context)}", "", escape(comparison.paragraph(context)), ""]
        sentences = [entry.sentence for entry in comparison.verdicts if entry.context == context]
        lines += [f"- {escape(sentence)}" for sentence in sentences]
        lines += [""] * bool(sentences)
        for sheet in sheets(comparison, context):
            lines += _table(sheet)
    remarks = [f"{gap.context}: {gap.sentence}" for gap in comparison.gaps]
    if remarks:
        lines += ["## Not used", "", *(f"- {escape(remark)}" for remark in remarks), ""]
    lines += ["## What was measured", "", *(f"- {escape(note)}" for note in measured(comparison))]
    files.write_text(path, "\n".join(lines).rstrip() + "\n")
    return path


def _table(sheet: Sheet) -> list[str]:
    widths = range(len(sheet.head))
    rule = ["---" if column == 0 else "---:" for column in widths]
    rows = [map(escape, sheet.head), rule, *(map(escape, row) for row in sheet.rows)]
    return [f"{escape(sheet.caption)}:", "", *(f"| {' | '.join(row)} |" for row in rows), ""]


def escape(text: str) -> str:
    """``text`` on one line, with what markdown or HTML would read as a sign escaped."""
    text = " ".join(str(text).split())
    return re.sub(r"([\\`*\[\]|<])|(?<!\w)(_)|(_)(?!\w)", lambda match: f"\\{match[0]}", text)
