"""What a value may be, and the one line that says so when it is not."""

from __future__ import annotations

import math
import numbers
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from lossbench.errors import InputError

Value = float | int | bool | str | list[float] | list[int] | None
Kind = Literal["number", "integer", "boolean", "choice", "text", "numbers", "integers", "per_class"]

_NOUNS = {
    "number": "a finite number",
    "integer": "a whole number",
    "boolean": "true or false",
    "text": "a text",
    "numbers": "a list of finite numbers",
    "integers": "a list of whole numbers",
    "per_class": "a list of finite numbers, one per class",
}


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One value of a config: its name, kind, range and meaning.

    ``minimum`` and ``maximum`` are allowed values themselves unless ``open_minimum`` or
    ``open_maximum`` is set; of a list they bound every entry. Null is allowed where ``optional``.
    """

    name: str
    kind: Kind = "number"
    default: Value = None
    text: str = ""
    minimum: float | None = None
    maximum: float | None = None
    open_minimum: bool = False
    open_maximum: bool = False
    choices: tuple[str, ...] = ()
    optional: bool = False

    @property
    def allowed(self) -> str:
        """What may be given, in words: "a finite number, at least 0"."""
        null = "null or " if self.optional else ""
        return null + (" or ".join(self.choices) or _NOUNS[self.kind]) + self._range()

    def check(self, value: object, path: str, context: str = "") -> Value:
        """``value`` in the parameter's type (an integer becomes a float where one is meant).

        Raises `InputError` when the type is wrong or the value out of range; it names ``path``,
        and ``context``, such as " for focal".
        """
        if value is None and self.optional:
            return None
        try:
            return _READERS[self.kind](self, value)
        except _RefusedError as refused:
            value = "null" if refused.value is None else reprlib.repr(refused.value)
            raise InputError(
                f"{path}{refused.entry}={value} is not allowed{context}: {self.allowed}"
            ) from None

    def _choice(self, value: object) -> str:
        return value if isinstance(value, str) and value in self.choices else _refuse(value)

    def _text(self, value: object) -> str:
        return value if isinstance(value, str) else _refuse(value)

    def _boolean(self, value: object) -> bool:
        return value if isinstance(value, bool) else _refuse(value)

    def _number(self, value: Any, entry: str = "") -> float | int:
        whole = self.kind in ("integer", "integers")
        wanted = numbers.Integral if whole else numbers.Real
        fits = isinstance(value, wanted) and not isinstance(value, bool)
        if not fits:
            _refuse(value, entry)
        try:
            number = int(value) if whole else float(value)
            allowed = math.isfinite(number) and self._in_range(number)
        except OverflowError:  # an integer beyond the range of float
            allowed = False
        return number if allowed else _refuse(value, entry)

    def _list(self, value: Any) -> list[float]:
        entries = value.tolist() if hasattr(value, "tolist") else value  # arrays and tensors
        listed = isinstance(entries, Sequence) and not isinstance(entries, str | bytes)
        if not listed or len(entries) < (2 if self.kind == "per_class" else 1):
            _refuse(value)
        return [self._number(x, f"[{index}]") for index, x in enumerate(entries)]

    def _in_range(self, number: float) -> bool:
        low, high = self.minimum, self.maximum
        above = low is None or (number > low if self.open_minimum else number >= low)
        below = high is None or (number < high if self.open_maximum else number <= high)
        return above and below

    def _range(self) -> str:
        low, high = self.minimum, self.maximum
        if low is not None and high is not None:
            ends = "(" if self.open_minimum else "[", ")" if self.open_maximum else "]"
            return f" in {ends[0]}{low:g}, {high:g}{ends[1]}"
        if low is not None:
            return f", {'above' if self.open_minimum else 'at least'} {low:g}"
        if high is not None:
            return f", {'below' if self.open_maximum else 'at most'} {high:g}"
        return ""


class _RefusedError(Exception):
    """A value, or an entry of a list, that is not allowed."""

    def __init__(self, value: object, entry: str) -> None:
        self.value = value
        self.entry = entry


def _refuse(value: object, entry: str = "") -> NoReturn:
    raise _RefusedError(value, entry)


_READERS: dict[Kind, Callable[[Parameter, Any], Value]] = {
    "number": Parameter._number,
    "integer": Parameter._number,
    "boolean": Parameter._boolean,
    "choice": Parameter._choice,
    "text": Parameter._text,
    "numbers": Parameter._list,
    "integers": Parameter._list,
    "per_class": Parameter._list,
}
