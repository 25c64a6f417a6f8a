"""The comparison on the terminal: verdicts first, then the tables, then what is missing."""

from __future__ import annotations

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


def show(comparison: Comparison, console: Console | None = None) -> None:
    """Print ``comparison``: per context the verdicts and two tables, then gaps and files."""
    console = console or Console()
    for context in comparison.ranked:
        console.print(Text(f"\n{comparison.study}: {context}", style="bold"))
        for entry in comparison.verdicts:
            if entry.context == context:
                console.print(Text(entry.sentence, style=STYLES.get(entry.word, "")))
        for sheet in (summary_sheet(comparison, context), difference_sheet(comparison, context)):
            if sheet:
                _print_sheet(sheet, console)
    remarks = [f"{gap.context}: {gap.sentence}" for gap in comparison.gaps] + comparison.notes
    for remark in remarks:
        console.print(Text(f"not used: {remark}", style="yellow"))
    for path in comparison.files:
        console.print(Text(f"written: {path}"), soft_wrap=True)


def _print_sheet(sheet: Sheet, console: Console) -> None:
    """Print a table in as many blocks of columns as the width asks for, each with the label."""
    columns = list(zip(sheet.head, *sheet.rows, strict=True))
    label, rest = columns[0], columns[1:]
    console.print(Text(f"\n{sheet.caption}"))
    while rest:
        width, taken = _width(label), 0
        while taken < len(rest) and (taken == 0 or width + _width(rest[taken]) <= console.width):
            width += _width(rest[taken])
            taken += 1
        _print_block([label, *rest[:taken]], console)
        rest = rest[taken:]


def _width(column: tuple[str, ...]) -> int:
    """The columns on screen that ``column`` needs: heads may break at spaces, values may not."""
    head, *values = column
    return max(map(len, [*values, *head.split()])) + GAP


def _print_block(columns: list[tuple[str, ...]], console: Console) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for place, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if place else "left"
        table.add_column(Text(column[0]), justify=justify, width=_width(column) - GAP)
    for row in list(zip(*columns, strict=True))[1:]:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    console.print(table)
