"""What is compared (the label) and where (the context), for every run.

Along ``arm`` the label is the arm and the context is the cell. Along ``loss`` the label is the
loss. Along ``model`` the label is the backbone, and the context is all the rest: the cell without
the backbone, and the arm.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from lossbench.config import NEUTRAL, NOT_IDENTITY
from lossbench.records import Record
from lossbench.settings import leaves

AXES = ("arm", "loss", "model")


def add_labels(table: pd.DataFrame, records: Sequence[Record], by: str) -> pd.DataFrame:
    """Add the columns ``context`` and ``label`` to ``table``, whose row i is ``records[i]``.

    One label stands for one configuration. A loss that was run as several arms in a cell takes
    the arms' labels. Two configurations with one label in one context are told apart by
    the config keys in which they differ: ``focal`` becomes ``focal (optimizer.lr=0.1)``.
    """
    table = table.assign(context=table["cell"], label=table[by])
    if by == "model":
        pairs = zip(table["cell"], table["model"], strict=True)
        places = [_without_model(cell, model) for cell, model in pairs]
        table["context"] = [
            f"{place} | {arm}" for place, arm in zip(places, table["arm"], strict=True)
        ]
    if by == "loss":
        arms = table.groupby(["context", "label"])["arm"].transform("nunique")
        table["label"] = table["label"].where(arms == 1, table["arm"])
    configurations = pd.Series([record.configuration for record in records], index=table.index)
    for (_, label), group in table.groupby(["context", "label"], sort=False):
        rows = group.index
        if configurations[rows].nunique() > 1:
            suffixes = _differences([records[row] for row in rows])
            table.loc[rows, "label"] = [f"{label} ({suffix})" for suffix in suffixes]
    return table


def slugs(contexts: Iterable[str]) -> dict[str, str]:
    """A different name for each context that any file system takes: ``digits-balanced-mlp``.

    Lower-case ASCII letters, digits, dots, underscores and single hyphens, 80 at most.
    """
    found: dict[str, str] = {}
    for context in contexts:
        plain = re.sub(r"[^a-z0-9._]+", "-", context.lower()).strip("-._")[:80] or "cell"
        name, number = plain, 2
        while name in found.values():
            name, number = f"{plain}-{number}", number + 1
        found[context] = name
    return found


def _without_model(cell: str, model: str) -> str:
    """The cell's label without the part that names the backbone."""
    return " | ".join(part for part in cell.split(" | ") if part.partition("(")[0] != model)


def _differences(records: Sequence[Record]) -> list[str]:
    """For each record the config keys, with values, in which not all of ``records`` agree.

    Seeds and keys that are not meant to change a result are left out. A record whose config
    cannot be read, or shows no difference, is named by the start of its configuration's hash.
    """
    configs = [_settings(record) for record in records]
    values: dict[str, set[str]] = defaultdict(set)
    for key in {key for config in configs for key in config}:
        values[key] = {repr(config.get(key)) for config in configs if config}
    differing = sorted(key for key, found in values.items() if len(found) > 1)
    return [
        ", ".join(f"{key}={config.get(key, 'null')}" for key in differing)
        if config and differing
        else f"configuration {record.configuration[:8]}"
        for config, record in zip(configs, records, strict=True)
    ]


def _settings(record: Record) -> dict[str, Any]:
    ignored = {*NOT_IDENTITY, "seed"}
    entries = leaves(record.config())
    return {
        key: value
        for key, value in entries
        if key not in ignored and value not in (None, NEUTRAL.get(key))
    }
