"""What can be said about a loss without torch: its parameters, and the facts a reader needs."""

from __future__ import annotations

import math
import numbers
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from lossbench.errors import InputError

Value = float | int | bool | str | list[float] | None
Kind = Literal["number", "integer", "boolean", "choice", "per_class"]

_NOUNS = {
    "number": "a finite number",
    "integer": "an integer",
    "boolean": "true or false",
    "per_class": "a list of finite numbers, one per class",
}


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a loss: its name, default, range and meaning.

    ``minimum`` and ``maximum`` are allowed values themselves unless ``open_minimum`` or
    ``open_maximum`` is set; for kind "per_class" they hold for every entry. A parameter whose
    default is None may be None.
    """

    name: str
    default: Value
    kind: Kind
    text: str
    minimum: float | None = None
    maximum: float | None = None
    open_minimum: bool = False
    open_maximum: bool = False
    choices: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """What may be given, in words: "a finite number, at least 0"."""
        null = "null or " if self.default is None else ""
        return null + (" or ".join(self.choices) or _NOUNS[self.kind]) + self._range()

    def check(self, value: object, loss: str) -> Value:
        """``value`` in the parameter's type (an integer becomes a float where one is meant).

        Raises `InputError` when the type is wrong or the value out of range.
        """
        if value is None and self.default is None:
            return None
        return _READERS[self.kind](self, value, loss)

    def _choice(self, value: object, loss: str) -> str:
        known = isinstance(value, str) and value in self.choices
        return str(value) if known else self._refuse(value, loss)

    def _boolean(self, value: object, loss: str) -> bool:
        return value if isinstance(value, bool) else self._refuse(value, loss)

    def _number(self, value: Any, loss: str, where: str | None = None) -> float | int:
        wanted = numbers.Integral if self.kind == "integer" else numbers.Real
        fits = isinstance(value, wanted) and not isinstance(value, bool)
        if not fits:
            self._refuse(value, loss, where)
        try:
            number = int(value) if self.kind == "integer" else float(value)
            allowed = math.isfinite(number) and self._in_range(number)
        except OverflowError:  # an integer beyond the range of float
            allowed = False
        return number if allowed else self._refuse(value, loss, where)

    def _per_class(self, value: Any, loss: str) -> list[float]:
        entries = value.tolist() if hasattr(value, "tolist") else value  # arrays and tensors
        listed = isinstance(entries, Sequence) and not isinstance(entries, str | bytes)
        if not listed or len(entries) < 2:
            self._refuse(value, loss)
        return [self._number(x, loss, f"{self.name}[{i}]") for i, x in enumerate(entries)]

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

    def _refuse(self, value: object, loss: str, where: str | None = None) -> NoReturn:
        shown = f"loss.{where or self.name}={reprlib.repr(value)}"
        raise InputError(f"{shown} is not allowed for {loss}: {self.allowed}")


_READERS: dict[Kind, Callable[[Parameter, Any, str], Value]] = {
    "number": Parameter._number,
    "integer": Parameter._number,
    "boolean": Parameter._boolean,
    "choice": Parameter._choice,
    "per_class": Parameter._per_class,
}


@dataclass(frozen=True, kw_only=True)
class LossFacts:
    """What there is to know about one loss before it is built.

    key             its name in configs, `create_loss` and tables
    needs           what it must be given: "class_counts", "epoch", "features"
    soft_targets    "direct": takes (N, C) probabilities; "mixed": mix two losses instead,
                    lam * loss(z, a) + (1 - lam) * loss(z, b); "none": neither
    proper          with the default parameters, the logits that minimise the expected loss, decoded
                    and less `log_prior_shift`, are log p(y|x) up to a constant
    heads           the heads it accepts: "any", "linear" or "cosine"
    implementation  "module:Class"
    """

    key: str
    family: str
    source: str
    formula: str
    summary: str
    helps: str
    fails: str
    implementation: str
    proper: bool
    soft_targets: Literal["direct", "mixed", "none"]
    heads: Literal["any", "linear", "cosine"] = "linear"
    needs: frozenset[str] = frozenset()
    parameters: tuple[Parameter, ...] = ()


WEIGHT = Parameter(
    name="weight",
    default=None,
    kind="per_class",
    minimum=0,
    text="w_c, a factor on the loss of each class; null for none",
)
NORMALIZER = Parameter(
    name="normalizer",
    default="weights",
    kind="choice",
    choices=("weights", "batch"),
    text="what the mean divides by: the sum of the class weights of the targets (torch's rule; N "
    "for (N, C) targets), or N always",
)
