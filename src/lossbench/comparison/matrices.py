"""Tables whose cells are shaded: what a reader should see before reading the numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossbench.comparison import formats
from lossbench.comparison.tables import Sheet

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

LEADING_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?")


@dataclass(frozen=True)
class Shade:
    """How dark a cell is, 0 to 1 (the best), and whether it is outlined."""

    strength: float
    outlined: bool = False


@dataclass(frozen=True)
class Matrix:
    """A sheet, and a shade (or None) for every cell behind the first of each row; () is plain."""

    sheet: Sheet
    shades: tuple[tuple[Shade | None, ...], ...] = ()


def shaded(sheet: Sheet, higher_is_better: bool) -> Matrix:
    """``sheet`` with all its numbers on one scale, the best darkest."""
    values = [[_leading(cell) for cell in row[1:]] for row in sheet.rows]
    known = [value for row in values for value in row if value is not None]
    if not known or min(known) == max(known):
        return Matrix(sheet)
    worst, best = (min(known), max(known)) if higher_is_better else (max(known), min(known))
    return Matrix(
        sheet,
        tuple(
            tuple(
                None if value is None else Shade((value - worst) / (best - worst)) for value in row
            )
            for row in values
        ),
    )


def _leading(cell: str) -> float | None:
    found = LEADING_NUMBER.match(cell)
    return float(found[0]) if found else None


def cross_loss_matrix(comparison: Comparison, columns: Mapping[str, Sequence[Any]]) -> Matrix:
    """The columns ``arm, loss, value, place, own`` of `aggregate.context_data` as a matrix.

    One row per arm, one column per loss, the lowest rank of each column darkest; the cell of the
    loss that an arm was trained with is outlined.
    """
    names = comparison.labels
    losses = list(dict.fromkeys(columns["loss"]))
    arms = list(dict.fromkeys(columns["arm"]))
    last = max(len(arms) - 1, 1)
    cells = {
        (arm, loss): (value, Shade(1 - (place - 1) / last, own))
        for arm, loss, value, place, own in zip(
            *(columns[name] for name in ("arm", "loss", "value", "place", "own")), strict=True
        )
    }
    rows, shades = [], []
    for arm in arms:
        found = [cells.get((arm, loss)) for loss in losses]
        texts = (formats.number(cell[0]) if cell else formats.UNDEFINED for cell in found)
        rows.append((names[arm], *texts))
        shades.append(tuple(cell[1] if cell else None for cell in found))
    head = (comparison.by, *(loss.replace("_", " ") for loss in losses))
    return Matrix(Sheet("Mean over seeds, on the split that decides", head, tuple(rows)), tuple(shades))
