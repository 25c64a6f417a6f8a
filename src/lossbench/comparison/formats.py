"""Numbers as text, rounded so that the text never contradicts the decision."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from lossbench.comparison.statistics import ALPHA

UNDEFINED = "–"


def number(value: float) -> str:
    """Three decimals; two significant digits where three decimals would print 0 for a non-zero."""
    if math.isnan(value):
        return UNDEFINED
    if value != 0 and (abs(value) < 0.0005 or abs(value) >= 1e6):
        return f"{value:.1e}"
    return f"{value:.3f}"


def significant(value: float) -> str:
    """Three significant digits, for ratios that span orders of magnitude."""
    return UNDEFINED if math.isnan(value) else f"{value:.3g}"


def plus_minus(mean: float, standard_error: float) -> str:
    """``mean ± standard error``; the mean alone where one seed has no error."""
    if math.isnan(mean) or math.isnan(standard_error):
        return number(mean)
    return f"{number(mean)} ± {number(standard_error)}"


def difference(mean: float, low: float, high: float) -> tuple[str, str, str]:
    """A difference and its bounds with signs and equal decimals: three, or as many as it takes.

    A bound that is not 0 is not printed as 0 (up to nine decimals), so a bound that excludes 0 is
    seen to exclude it.
    """
    decimals = 3
    while decimals < 9 and any(_vanishes(bound, decimals) for bound in (low, high)):
        decimals += 1
    return _signed(mean, decimals), _signed(low, decimals), _signed(high, decimals)


def _vanishes(value: float, decimals: int) -> bool:
    return value != 0 and round(value, decimals) == 0


def _signed(value: float, decimals: int) -> str:
    if math.isnan(value):
        return UNDEFINED
    if decimals == 9 and _vanishes(value, decimals):
        return f"{value:+.1e}"
    return f"{round(value, decimals) + 0.0:+.{decimals}f}"  # no minus before a printed 0


def p_value(p: float) -> str:
    """Two significant digits, more where rounding would cross alpha; ``< 0.0001`` below that."""
    if math.isnan(p):
        return UNDEFINED
    if p < 0.0001:
        return "< 0.0001"
    for digits in range(2, 18):
        text = f"{p:.{digits}g}"
        if (float(text) < ALPHA) == (p < ALPHA):
            break
    return text


def seeds(count: int) -> str:
    """``1 paired seed``, ``5 paired seeds``."""
    return f"{count} paired seed{'s' * (count != 1)}"


def listing(names: Iterable[str], word: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *most, last = list(names)
    return f"{', '.join(most)} {word} {last}" if most else last


def some(names: Sequence[str], most: int = 6) -> str:
    """`listing` of ``names``; of more than ``most`` the first, and how many more there are."""
    if len(names) <= most:
        return listing(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"


def margin(value: float | None) -> str:
    """A margin as it was declared: ``0.01``."""
    return UNDEFINED if value is None else f"{value:g}"


def more_seeds(counts: Sequence[int | None]) -> str:
    """``About 3 more seeds``, ``About 3 to 12 more seeds``; None stands for over 1,000."""
    known = [count for count in counts if count is not None]
    if not known:
        return "More than 1,000 seeds"
    least, most = min(known), max(known)
    if len(known) < len(counts):
        return f"From {least} to more than 1,000 more seeds"
    seeds = f"{least} to {most}" if least < most else str(least)
    return f"About {seeds} more seed{'s' * (seeds != '1')}"


def interval(bounds: tuple[float, float]) -> str:
    """Signed bounds, ``+0.010 to +0.083``; a dash where they are undefined."""
    _, low, high = difference(0.0, *bounds)
    return UNDEFINED if low == UNDEFINED else f"{low} to {high}"


def one_line(*sentences: str) -> str:
    """The sentences that are not empty, on one line whatever is in the labels."""
    return " ".join(" ".join(sentences).split())
