"""How an arm looks in every figure: six hues that come back with another dash and another shape.

24 arms and the baseline differ in hue or dash, and in dash or shape for who sees no colour. The
page draws by the same rule (templates/page.js, report.css) in light and dark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

Look = dict[str, Any]

BASELINE = "#454b55"
HUES = ("#004c8c", "#d55e00", "#007a58", "#cc79a7", "#7a0019", "#7b5cff")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2])
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")


def order(comparison: Comparison) -> list[int]:
    """The arms, as numbers into ``labels``: the baseline, then by mean place over the contexts."""
    labels = comparison.labels
    places: dict[str, list[int]] = {label: [] for label in labels}
    for ranked in comparison.ranked.values():
        for place, label in enumerate(ranked):
            places[label].append(place)

    def key(arm: int) -> tuple[bool, float]:
        found = places[labels[arm]]
        return arm != 0, sum(found) / len(found)

    return sorted(range(len(labels)), key=key)


def looks(comparison: Comparison) -> list[Look]:
    """``arm``, ``label``, ``colour``, ``dash`` and ``shape`` of every arm, in ``labels``' order."""
    found = {}
    for place, arm in enumerate(order(comparison)):
        turn, hue = divmod(place - 1, len(HUES)) if place else (0, 0)
        found[arm] = {
            "arm": arm,
            "label": comparison.labels[arm],
            "colour": HUES[hue] if place else BASELINE,
            "dash": DASHES[turn % len(DASHES)],
            "shape": SHAPES[(place + turn) % len(SHAPES)],
        }
    return [found[arm] for arm in sorted(found)]
