"""The comparison on the terminal: verdicts first, then the tables, then what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lossbench.comparison.tables import Sheet, sheets
from lossbench.comparison.verdict import BETTER, WORSE

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

GAP = 2
STYLES = {BETTER: "green", WORSE: "red"}


def show(comparison: Comparison, console: Console | None = None) -> None:
    """Print ``comparison``: per context the verdicts and the tables, then gaps and files."""
    console = console or Console()
    for context in comparison.ranked:
        console.print(Text(f"\n{comparison.study}: {context}", style="bold"), soft_wrap=True)
        for entry in comparison.verdicts:
            if entry.context == context:
                sentence = Text(entry.sentence, style=STYLES.get(entry.word, ""))
                console.print(sentence, soft_wrap=True)
        for sheet in sheets(comparison, context):
            _print_sheet(sheet, console)
    remarks = [f"not used: {gap.context}: {gap.sentence}" for gap in comparison.gaps]
    remarks += [f"note: {context}: {note}" for context, note in comparison.notes.items()]
    for remark in remarks:
        console.print(Text(remark, style="yellow"), soft_wrap=True)
    for path in comparison.files:
        console.print(Text(f"written: {path}"), soft_wrap=True)


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
