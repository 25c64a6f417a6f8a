"""The parts of a run's files that a comparison needs, and no more: a study has many runs.

`Record.arrays` and `Record.history` read whole files; picking out the entries takes less than half
of the time for the arrays and a tenth for the history.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Collection
from typing import Any

import numpy as np
import yaml

from lossbench.records import Record
from lossbench.records.record import ARRAYS, HISTORY

Arrays = dict[str, np.ndarray]


def config_of(record: Record) -> dict[str, Any]:
    """The run's resolved config; empty if it cannot be read."""
    try:
        config = record.config()
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return config if isinstance(config, dict) else {}


def arrays_of(record: Record, names: Collection[str]) -> Arrays:
    """Those of ``names`` that the run's arrays.npz holds; none if it cannot be read."""
    try:
        with np.load(record.folder / ARRAYS, allow_pickle=False) as stored:
            return {name: stored[name] for name in names if name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile):
        return {}


def history_of(record: Record, columns: Collection[str]) -> Arrays:
    """``epoch`` and those of ``columns`` that history.csv holds, float64, NaN where empty."""
    try:
        with (record.folder / HISTORY).open(newline="") as stream:
            head, *rows = csv.reader(stream)
            places = {name: head.index(name) for name in ("epoch", *columns) if name in head}
            return {
                name: np.array([float(row[place] or "nan") for row in rows])
                for name, place in places.items()
            }
    except (OSError, ValueError, IndexError):
        return {}
