"""What a configuration value may be, and the one line that says so when it is not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lossbench.errors import InputError

Kind = Literal["number", "integer", "boolean", "text", "numbers", "integers"]


@dataclass(frozen=True)
class Parameter:
    """One value: its kind, its range and, for texts, its choices.

    ``minimum`` and ``maximum`` are allowed values unless ``open_minimum`` or ``open_maximum``
    says otherwise; for ``numbers`` and ``integers`` (lists) they bound every entry. ``optional``
    allows null.
    """

    name: str
    kind: Kind = "number"
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    open_minimum: bool = False
    open_maximum: bool = False
    choices: tuple[str, ...] = ()
    optional: bool = False
    text: str = ""

    def check(self, value: Any, path: str, context: str = "") -> Any:
        """Return ``value`` (an int where a number is wanted becomes a float).

        Raises `InputError` with one line that names ``path``, the value and what is allowed.
        """
        if value is None and self.optional:
            return None
        checked = self._convert(value)
        if checked is None:
            where = f" for {context}" if context else ""
            raise InputError(f"{path}={show(value)} is not allowed{where}: {self.allowed()}")
        return checked

    def allowed(self) -> str:
        """The allowed values in words, such as ``a finite number, at least 0``."""
        if self.choices:
            words = "one of " + ", ".join(self.choices)
        else:
            words = {
                "number": "a finite number",
                "integer": "a whole number",
                "boolean": "true or false",
                "text": "a text",
                "numbers": "a list of finite numbers",
                "integers": "a list of whole numbers",
            }[self.kind]
            each = ", each" if self.kind in ("numbers", "integers") else ","
            bounds = []
            if self.minimum is not None:
                bounds.append(f"{'above' if self.open_minimum else 'at least'} {self.minimum:g}")
            if self.maximum is not None:
                bounds.append(f"{'below' if self.open_maximum else 'at most'} {self.maximum:g}")
            if bounds:
                words += f"{each} {' and '.join(bounds)}"
        return words + (", or null" if self.optional else "")

    def _convert(self, value: Any) -> Any:
        if self.kind == "boolean":
            return value if isinstance(value, bool) else None
        if self.kind == "text":
            valid = isinstance(value, str) and (not self.choices or value in self.choices)
            return value if valid else None
        if self.kind in ("numbers", "integers"):
            if isinstance(value, str) or not isinstance(value, Sequence) or not value:
                return None
            entries = [self._number(entry, self.kind == "integers") for entry in value]
            return None if None in entries else entries
        return self._number(value, self.kind == "integer")

    def _number(self, value: Any, whole: bool) -> int | float | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if not math.isfinite(value) or (whole and not isinstance(value, int)):
            return None
        too_low = self.minimum is not None and (
            value < self.minimum or (self.open_minimum and value == self.minimum)
        )
        too_high = self.maximum is not None and (
            value > self.maximum or (self.open_maximum and value == self.maximum)
        )
        if too_low or too_high:
            return None
        return value if whole else float(value)


def show(value: Any) -> str:
    """``value`` as a user would type it in a config."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
