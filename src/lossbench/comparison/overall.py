"""How often each label got which grade over the cells, in words."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lossbench.comparison import formats
from lossbench.comparison.verdict import (
    BETTER,
    CANNOT_TELL,
    GRADES,
    NO_RELEVANT_DIFFERENCE,
    WORSE,
    equivalent,
    judge,
)

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

ADJECTIVES = {CANNOT_TELL: "undecided", NO_RELEVANT_DIFFERENCE: "no different in what matters"}
"""The grades that do not fit behind "is"."""


def overall(comparison: Comparison) -> str:
    """How often each label got which grade, over several contexts; "" for one."""
    contexts = len(comparison.ranked)
    if contexts < 2 or not comparison.verdicts:
        return ""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for entry in comparison.verdicts:
        counts[entry.label][entry.word] += 1
    ordered = sorted(counts, key=lambda label: (-counts[label][BETTER], counts[label][WORSE]))
    told = [
        f"{label} is {_tally(grades)}"
        for label in ordered
        if (grades := counts[label])[BETTER] or grades[WORSE]
    ]
    judged = len({entry.context for entry in comparison.verdicts})
    start = f"Over the {contexts} cells, compared with {comparison.baseline}: "
    if judged < contexts:
        are = "is" if judged == 1 else "are"
        start = f"{judged} of {contexts} cells {are} judged; compared with {comparison.baseline}: "
    quiet = [label for label in ordered if not (counts[label][BETTER] or counts[label][WORSE])]
    if quiet:
        told.append(f"no cell shows {formats.some(quiet, 4)} to be better or worse")
    said = f"{start}{'; '.join(told[:8])}{'; and so on' * (len(told) > 8)}."
    return formats.one_line(said, _everywhere(comparison, counts, judged))


def _everywhere(
    comparison: Comparison, counts: Mapping[str, Mapping[str, int]], judged: int
) -> str:
    """Whether one label is better in all cells that are judged, and by less than the margin."""
    every = "every cell" if judged == len(comparison.ranked) else "every cell that is judged"
    ordered = [label for label in counts if counts[label][BETTER] == judged]
    if not ordered:
        if not any(grades[BETTER] for grades in counts.values()):
            return f"Nothing is shown to be better than {comparison.baseline} in any cell."
        return f"Nothing is better in {every}, so the choice depends on the cell."
    small = Counter(
        entry.label
        for entry in comparison.differences
        if equivalent(entry) and judge(entry, comparison.facts) == BETTER
    )
    names = [
        f"{label} (in {small[label]} by less than the margin of "
        f"{formats.margin(comparison.margin)})"
        if small[label]
        else label
        for label in ordered
    ]
    return f"Better in {every}: {formats.some(names)}."


def _tally(grades: Mapping[str, int]) -> str:
    """Such as ``better in 5 and undecided in 2``."""
    words = (f"{ADJECTIVES.get(word, word)} in {grades[word]}" for word in GRADES if grades[word])
    return formats.listing(words)
