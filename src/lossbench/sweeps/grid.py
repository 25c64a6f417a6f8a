"""The swept keys of a sweep: what is crossed with what, and what is swept side by side."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossbench.errors import InputError, unknown

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

CELL_GROUPS = ("data", "imbalance", "label_noise", "model")
SWEEP_KEYS = ("seeds", "zip", "exclude")  # what they say of the sweep is no part of a run

Values = dict[str, list[str]]
"""Swept keys, each with its values in Hydra's grammar."""


@dataclass(frozen=True)
class Axis:
    """Keys that are swept together; each row has a value for every key."""

    keys: tuple[str, ...]
    rows: list[tuple[str, ...]]

    @property
    def is_cell(self) -> bool:
        """Whether it says where the arms are compared; one cell key among the keys is enough."""
        return any(map(is_cell, self.keys))

    @property
    def overrides(self) -> list[list[str]]:
        """The overrides of each row."""
        return [
            [f"{key}={value}" for key, value in zip(self.keys, row, strict=True)]
            for row in self.rows
        ]


def is_cell(key: str) -> bool:
    """Whether a swept key says where the arms are compared, not what is compared."""
    key = key.lstrip("+")
    group = key.partition(".")[0].partition("@")[0]
    return (group in CELL_GROUPS and key != "model.head") or key == "trainer.max_epochs"


def split_overrides(overrides: Sequence[Override]) -> tuple[dict[str, str], Values]:
    """Overrides with one value, and those with several; of the same key the last one counts.

    Raises `InputError` for sweeps that have no list of values.
    """
    fixed: dict[str, str] = {}
    swept: Values = {}
    for override in overrides:
        key = override.get_key_element()
        key = "seed" if key.lstrip("+") == "seed" else key  # which is no arm, however it is written
        fixed.pop(key, None)
        swept.pop(key, None)
        if not override.is_sweep_override():
            fixed[key] = override.get_value_element_as_str()
        elif key.lstrip("+") in (*SWEEP_KEYS, "study", "runs_dir"):
            raise InputError(f"{override.input_line} names several values; {key} has one")
        elif override.is_discrete_sweep():
            swept[key] = list(map(str, override.sweep_string_iterator()))
        else:
            raise InputError(
                f"{override.input_line} cannot be run as a grid; list the values, as in {key}=1,2"
            )
    return {key: value for key, value in fixed.items() if key.lstrip("+") not in SWEEP_KEYS}, swept


def axes(swept: Values, zips: Any) -> list[Axis]:
    """The axes of the grid, in the order of their first keys; ``zips`` as the config has it.

    Equal rows are one. Raises `InputError` for a zip that makes no sense.
    """
    together = {key: group for group in read_zips(zips) for key in group}
    plain = {key.lstrip("+"): key for key in swept}
    found: dict[tuple[str, ...], Axis] = {}
    for group in dict.fromkeys(together.values()):
        check_zip(group, plain, swept)
    for name in plain:
        keys = tuple(plain[member] for member in together.get(name, (name,)))
        rows = list(dict.fromkeys(zip(*(swept[member] for member in keys), strict=True)))
        found.setdefault(keys, Axis(keys, rows))
    for axis in found.values():
        check_told_apart(axis)
    return list(found.values())


def read_zips(zips: Any) -> list[tuple[str, ...]]:
    """The groups of keys in ``zips``: null, a list of keys, or a list of such lists."""
    if zips is None:
        return []
    several = isinstance(zips, list) and zips and all(isinstance(z, list) for z in zips)
    groups = zips if several else [zips]
    for group in groups:
        if not isinstance(group, list) or not all(isinstance(key, str) for key in group):
            raise InputError(
                f"zip={written(zips)} is not allowed: a list of swept keys, as in "
                "zip=[loss.gamma,optimizer.lr], or several such lists"
            )
        if len(set(group)) < 2:
            raise InputError(
                f"zip={written(zips)} is not allowed: {written(group)} names fewer than two keys"
            )
    named = [key for group in groups for key in group]
    for key, times in Counter(named).items():
        if times > 1:
            raise InputError(f"zip={written(zips)} is not allowed: {key} is named {times} times")
    return [tuple(group) for group in groups]


def check_zip(group: tuple[str, ...], plain: Mapping[str, str], swept: Values) -> None:
    """Refuse keys that are not swept, the seed, and lists of unequal length."""
    said = f"zip={written(list(group))} is not allowed"
    if "seed" in group:
        raise InputError(
            f"{said}: seeds repeat every arm in every cell; one seed each could not be compared"
        )
    for key in group:
        if key not in plain:
            problem = unknown("swept key", key, plain)
            raise InputError(f"{said}: {problem}; give {key}=A,B, or zip=null")
    lengths = {key: len(swept[plain[key]]) for key in group}
    if len(set(lengths.values())) > 1:
        counted = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise InputError(f"{said}: {counted} values; lists that go side by side are equally long")


def check_told_apart(axis: Axis) -> None:
    """Refuse values beside a cell's that the cell does not determine: two arms had one name."""
    cells = [place for place, key in enumerate(axis.keys) if is_cell(key)]
    if not cells or len(cells) == len(axis.keys):
        return
    times = Counter(tuple(row[place] for place in cells) for row in axis.rows)
    cell, number = times.most_common(1)[0]
    if number > 1:
        names = ", ".join(
            f"{axis.keys[place]}={value}" for place, value in zip(cells, cell, strict=True)
        )
        raise InputError(
            f"zip={written(list(axis.keys))} is not allowed: {names} stands beside {number} "
            "different values; what goes with a cell has one value there"
        )


def products(chosen: Sequence[Axis]) -> list[list[str]]:
    """Every combination of the rows of ``chosen`` as lists of overrides."""
    rows = itertools.product(*(axis.overrides for axis in chosen))
    return [list(itertools.chain(*row)) for row in rows]


def written(value: Any) -> str:
    """``value`` as a user would write it."""
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {written(entry)}' for key, entry in value.items())}}}"
    return "null" if value is None else str(value)
