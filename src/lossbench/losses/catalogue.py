"""The facts of every loss by name, and the check of its parameters. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from lossbench.errors import InputError, unknown
from lossbench.losses.entries import (
    adjustment,
    calibration,
    focusing,
    likelihood,
    margin,
    regression,
    reweighting,
    robust,
)
from lossbench.losses.schema import LossFacts
from lossbench.parameters import Parameter, Value

__all__ = ["LOSSES", "LossFacts", "Parameter", "check_parameters", "facts"]

_FAMILIES = (
    *(likelihood, regression, focusing, calibration),
    *(reweighting, adjustment, robust, margin),
)

LOSSES: dict[str, LossFacts] = {
    entry.key: entry for family in _FAMILIES for entry in family.ENTRIES
}


def facts(name: str) -> LossFacts:
    """The facts of the loss called ``name``; raises `InputError` for a name it does not know."""
    if not isinstance(name, str) or name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    return LOSSES[name]


def check_parameters(name: str, given: Mapping[str, object]) -> dict[str, Value]:
    """Every parameter of the loss ``name``: the ``given`` values, checked, over the defaults.

    Raises `InputError`, one line, for an unknown name and for a value of a wrong type or range.
    """
    known = {parameter.name: parameter for parameter in facts(name).parameters}
    for key in given:
        if not known:
            raise InputError(f"the loss {name} has no parameters: leave out {key!r}")
        if key not in known:
            raise unknown(f"parameter of the loss {name}", key, known)
    return {
        key: parameter.check(given[key], f"loss.{key}", f" for {name}")
        if key in given
        else parameter.default
        for key, parameter in known.items()
    }
