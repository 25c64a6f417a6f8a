"""The comparison on the terminal: the answer in words, the two main tables, what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lossbench.comparison.tables import Sheet, difference_sheet, summary_sheet
from lossbench.comparison.verdict import BETTER, WORSE

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

GAP = 2
STYLES = {BETTER: "green", WORSE: "red"}


MOST_TABLES = 3
"""Contexts that are shown with tables; of more, the terminal has only the words."""


def show(comparison: Comparison, console: Console | None = None) -> None:
    """Print the answer in words, the table of means and that of differences, gaps and files."""
    console = console or Console()
    if comparison.overall:
        console.print(Text(f"\n{comparison.overall}"), overflow="fold")
    brief = len(comparison.ranked) > MOST_TABLES
    for context in comparison.ranked:
        console.print(Text(f"\n{comparison.study}: {context}", style="bold"), overflow="fold")
        console.print(Text(comparison.paragraph(context)), overflow="fold")
        shown = () if brief else (summary_sheet, difference_sheet)
        for sheet in [sheet for make in shown if (sheet := make(comparison, context))]:
            _print_sheet(sheet, console)
    console.print()
    for gap in comparison.gaps:
        remark = f"not used: {gap.context}: {gap.sentence}"
        console.print(Text(remark, style="yellow"), soft_wrap=True)
    for path in comparison.files:
        console.print(Text(f"written: {path}"), soft_wrap=True)
    if comparison.files:
        console.print(
            "All tables, sentences and figures are in report.html, the text in results.md."
        )


def _print_sheet(sheet: Sheet, console: Console) -> None:
    """Print a table in as many blocks of columns as the width asks for, each with the label."""
    columns = list(zip(sheet.head, *sheet.rows, strict=True))
    widths = [_width(column) for column in columns]
    widths[0] = min(widths[0], max(20, console.width // 3))
    console.print(Text(f"\n{sheet.caption}"))
    start = 1
    while start < len(columns):
        end, used = start, widths[0]
        while end < len(columns) and (end == start or used + widths[end] <= console.width):
            used += widths[end]
            end += 1
        chosen = [0, *range(start, end)]
        _print_block([columns[i] for i in chosen], [widths[i] for i in chosen], console)
        start = end


def _width(column: tuple[str, ...]) -> int:
    """The room that ``column`` needs on screen: heads may break at spaces, values may not."""
    head, *values = column
    return max(map(len, [*values, *head.split()])) + GAP


def _print_block(
    columns: Sequence[tuple[str, ...]], widths: Sequence[int], console: Console
) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for place, (column, width) in enumerate(zip(columns, widths, strict=True)):
        justify: Literal["left", "right"] = "right" if place else "left"
        table.add_column(Text(column[0]), justify=justify, width=width - GAP, overflow="fold")
    for row in list(zip(*columns, strict=True))[1:]:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    console.print(table)
