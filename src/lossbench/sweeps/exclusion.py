"""Combinations that a sweep leaves out: `exclude=[{loss: focal, imbalance.factor: 200}]`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lossbench.config import Config, Run, name_of, own_file
from lossbench.errors import InputError, unknown
from lossbench.sweeps.grid import written

ABSENT = object()


def excluded(runs: Sequence[Run], exclude: Any) -> list[bool]:
    """For each of ``runs`` whether an entry of ``exclude`` leaves it out.

    An entry maps config paths to a value or a list of values, all of which must agree with the
    resolved config of the run; a chosen part (`loss`) is compared by its name, `arm` by the label.
    Raises `InputError` for an entry that leaves nothing out, which would be a typo, and if
    nothing is left.
    """
    entries = read_entries(exclude)
    out = [[matches(run, entry) for entry in entries] for run in runs]
    for place, entry in enumerate(entries):
        if not any(row[place] for row in out):
            check_paths(runs, entry)
            raise InputError(
                f"exclude: {written(entry)} leaves nothing out (the sweep has {there(runs, entry)})"
                "; correct it, or remove it (exclude=null)"
            )
    found = [any(row) for row in out]
    if entries and all(found):
        raise InputError(f"exclude={written(entries)} leaves out all {len(runs)} runs")
    return found


def read_entries(exclude: Any) -> list[Config]:
    """The entries of ``exclude``; raises `InputError` for what is no list of mappings."""
    if exclude is None:
        return []
    entries = exclude if isinstance(exclude, list) else [exclude]
    if not all(isinstance(entry, dict) and entry for entry in entries):
        raise InputError(
            f"exclude={written(exclude)} is not allowed: a list of combinations, as in "
            "exclude=[{loss: focal, imbalance.factor: 200}]"
        )
    return entries


def matches(run: Run, entry: Config) -> bool:
    """Whether all of ``entry`` agrees with ``run``."""
    return all(agrees(run, str(path), wanted) for path, wanted in entry.items())


def agrees(run: Run, path: str, wanted: Any) -> bool:
    """Whether the value of ``run`` at ``path`` is ``wanted``, or one of those in that list."""
    value = value_at(run, path)
    if value is ABSENT:
        return False
    one_of = wanted if isinstance(wanted, list) else [wanted]
    if isinstance(value, dict):
        return any(name in one_of for name in names_of(path, value))
    # a list is a value too; True is no 1: a bool agrees with a bool only
    return any(
        value == entry and isinstance(value, bool) == isinstance(entry, bool)
        for entry in (*one_of, wanted)
    )


def value_at(run: Run, path: str) -> Any:
    """What the config of ``run`` has at ``path``; `ABSENT` where it has no such key."""
    if path == "arm":
        return run.arm
    value: Any = run.config
    for key in path.split("."):
        if not isinstance(value, dict) or key not in value:
            return ABSENT
        value = value[key]
    return value


def names_of(path: str, part: Config) -> list[str]:
    """What a chosen part is called: its name, and its file's where the name only begins so."""
    name = name_of(part)
    file = own_file(path, part.get("_target_", ""), part.get("name"))
    return [name, file.stem] if file and name.startswith(f"{file.stem}_") else [name]


def there(runs: Sequence[Run], entry: Config) -> str:
    """The values that ``runs`` have at the paths of ``entry``."""
    words = []
    for path in map(str, entry):
        found = [value_at(run, path) for run in runs]
        names = [name_of(value) if isinstance(value, dict) else written(value) for value in found]
        known = dict.fromkeys(
            name for name, value in zip(names, found, strict=True) if value is not ABSENT
        )
        words.append(f"{path}: {', '.join(known)}")
    return "; ".join(words)


def check_paths(runs: Sequence[Run], entry: Config) -> None:
    """Name a path of ``entry`` that no run has, or that is a group without a name."""
    for path in map(str, entry):
        values = [value_at(run, path) for run in runs]
        if all(value is ABSENT for value in values):
            above, _, key = path.rpartition(".")
            known = {name for run in runs for name in children(run, above)}
            kind = f"key of {above}" if above else "config key"
            raise InputError(f"exclude: {unknown(kind, key, known)}")
        groups = [value for value in values if isinstance(value, dict)]
        if groups and not any({"name", "_target_"} & set(group) for group in groups):
            raise InputError(
                f"exclude: {path} has no name to compare; name one of its keys, such as "
                f"{path}.{next(iter(groups[0]))}"
            )


def children(run: Run, path: str) -> list[str]:
    """The keys below ``path`` in the config of ``run``."""
    value = value_at(run, path) if path else run.config
    return list(value) if isinstance(value, dict) else []
