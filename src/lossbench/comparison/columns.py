"""Columns of plain numbers: what the figures of the page are drawn from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

Columns = dict[str, list[Any]]
"""Lists of one length, by name; a row is one entry of each."""


def plain(values: Iterable[float], digits: int = 4) -> list[float | None]:
    """``values`` with that many significant digits; None for what is not finite."""
    return [float(f"{value:.{digits}g}") if np.isfinite(value) else None for value in values]


def append(columns: Columns, **row: Any) -> None:
    """Add one row; a column that is new begins with it."""
    for name, value in row.items():
        columns.setdefault(name, []).append(value)
