"""Search spaces: what is tuned of a loss and of an optimiser, and how a trial draws it.

A space is a YAML file in configs/search (or in --config-dir's search), beside the part that it is
for: `search/focal.yaml` for the loss, `search/optimizer/sgd.yaml` for what all losses share. It
maps the path of a value to ``{low, high}`` (with ``log: true`` or ``integer: true``) or to
``{choices: [...]}``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossbench.config import Config, folder
from lossbench.errors import InputError, unknown
from lossbench.losses import catalogue
from lossbench.seeding import generator
from lossbench.settings import SETTINGS

DIGITS = 4  # of a drawn number: more would only make it harder to read and to type


@dataclass(frozen=True)
class Dimension:
    """What one value may be: a number from ``low`` to ``high``, both included, or a choice."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False
    choices: tuple[Any, ...] = ()

    def at(self, share: float) -> Any:
        """The value at ``share`` in [0, 1) of the way, of the logarithm where ``log`` is set."""
        if self.choices:
            return self.choices[int(share * len(self.choices))]
        assert self.low is not None
        assert self.high is not None
        low, high = float(self.low), float(self.high)
        if self.integer:
            high += 1  # each whole number has an equal part of the way
        if self.log:
            value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            value = low + share * (high - low)
        if self.integer:
            return min(math.floor(value), int(self.high))
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def plain(self) -> dict[str, Any]:
        """As in the YAML file, for tuning.json."""
        if self.choices:
            return {"choices": list(self.choices)}
        flags = {name: True for name in ("log", "integer") if getattr(self, name)}
        return {"low": self.low, "high": self.high, **flags}


Space = dict[str, Dimension]


def draw(tune_seed: int, path: str, number: int, dimension: Dimension) -> Any:
    """What trial ``number`` draws for ``path``; it depends on nothing else.

    So losses that share a path draw the same value for it, and a further path moves no draw.
    """
    return dimension.at(generator(tune_seed, "tune", path, number).random())


def space_of(loss: str, optimizer: str, config: Config, own: Path | None) -> Space:
    """What is tuned of an arm with these choices: the loss's own values, then the shared ones.

    A loss without a file tunes what is shared. Raises `InputError` for an optimiser without a
    file, and for a file that cannot be used.
    """
    shared = find("optimizer", optimizer, own=own)
    if shared is None:
        raise InputError(
            f"optimizer={optimizer} has no search space; write search/optimizer/{optimizer}.yaml "
            "in the folder of --config-dir, like configs/search/optimizer/sgd.yaml"
        )
    files = [file for file in (find(loss, own=own), shared) if file is not None]
    return {path: entry for file in files for path, entry in read(file, config).items()}


def find(*names: str, own: Path | None) -> Path | None:
    """The file of the space called ``names``: in the ``own`` folder, else shipped, else None."""
    name = "/".join(("search", *names)) + ".yaml"
    places = [*([own] if own else []), folder("configs")]
    return next((place / name for place in places if (place / name).is_file()), None)


def read(file: Path, config: Config) -> Space:
    """The space in ``file``, every value of which ``config`` must have and allow."""
    import yaml

    try:
        content = yaml.safe_load(file.read_text()) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{file} must map paths such as loss.gamma to low and high, or choices")
    space = {}
    for path, entry in content.items():
        default = value_at(config, path, file)
        space[path] = dimension(entry, f"{file}: {path}")
        check(space[path], path, config, file)
        if not space[path].choices and not _is_number(default):
            raise InputError(
                f"{path}={'null' if default is None else default} is no number to search from; "
                f"give it one, or leave it out of {file}"
            )
    return space


def dimension(entry: Any, where: str) -> Dimension:
    """The `Dimension` that ``entry`` of a file describes; raises `InputError` that names it."""
    fault = InputError(
        f"{where} must be {{low: A, high: B}} with A below B (log: true, integer: true) "
        "or {choices: [A, B]}"
    )
    if not isinstance(entry, dict):
        raise fault
    if set(entry) == {"choices"}:
        choices = entry["choices"]
        plain = isinstance(choices, list) and all(isinstance(c, str | int | float) for c in choices)
        if not plain or len(choices) < 2:
            raise fault
        return Dimension(choices=tuple(choices))
    flags = [entry.get("log", False), entry.get("integer", False)]
    bounds = [entry.get("low"), entry.get("high")]
    numbers = all(map(_is_number, bounds))
    known = set(entry) <= {"low", "high", "log", "integer"}
    if not known or not numbers or not all(isinstance(flag, bool) for flag in flags):
        raise fault
    if not entry["low"] < entry["high"] or (flags[0] and entry["low"] <= 0):
        raise fault
    return Dimension(entry["low"], entry["high"], *flags)


def check(entry: Dimension, path: str, config: Config, file: Path) -> None:
    """Refuse a dimension whose ends or choices the config would refuse."""
    parameter = SETTINGS.get(path)
    loss = config["loss"]
    if path.startswith("loss.") and "_target_" not in loss:
        parameters = {known.name: known for known in catalogue.facts(loss["name"]).parameters}
        parameter = parameters[path.removeprefix("loss.")]
    for value in entry.choices or (entry.low, entry.high):
        if parameter is not None:
            parameter.check(value, path, f" in {file}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def value_at(config: Config, path: str, file: Path | None = None) -> Any:
    """The value of ``config`` at the dotted ``path``; raises `InputError` if it has none."""
    group: Any = config
    for key in str(path).split("."):
        if not isinstance(group, dict) or key not in group:
            names = sorted(group) if isinstance(group, dict) else []
            raise unknown(f"value in {file}" if file else "value", path, names)
        group = group[key]
    return group


def with_values(config: Config, values: dict[str, Any]) -> Config:
    """A copy of ``config`` with ``values`` at their dotted paths."""
    changed = dict(config)
    for path, value in values.items():
        *groups, key = path.split(".")
        place = changed
        for group in groups:
            place[group] = dict(place[group])
            place = place[group]
        place[key] = value
    return changed
