"""What a study shows over all its cells: tables, data of figures, and a sentence for the verdict.

In one cell there is nothing to say, and everything here is empty.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from lossbench.comparison import formats
from lossbench.comparison.across_scores import Across
from lossbench.comparison.columns import Columns, plain
from lossbench.comparison.statistics import ALPHA, across
from lossbench.comparison.statistics.across import Interval, SignedRank
from lossbench.comparison.tables import Sheet
from lossbench.comparison.verdict import BETTER, CANNOT_TELL, WORSE

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

THRESHOLDS = 100
JOINED = "do not differ"
INVISIBLE = "\u200b"
"""Tells rows of one name apart in a figure, and cannot be seen."""

PLURAL = {"arm": "arms", "loss": "losses", "model": "models"}


def across_sheets(comparison: Comparison) -> list[Sheet]:
    """The tables over all cells; empty for one cell."""
    seen = comparison.across
    if seen is None:
        return []
    sheets = []
    if seen.comparable:
        sheets = [
            _ranks_sheet(comparison, seen),
            _signed_rank_sheet(comparison, seen),
            _aggregate_sheet(comparison, seen),
        ]
        if comparison.margin is not None:
            sheets.append(_bayesian_sheet(comparison, seen, comparison.margin))
    if seen.left_out or seen.uneven or seen.undefined:
        sheets.append(_missing_sheet(comparison, seen))
    return sheets


def _ranks_sheet(comparison: Comparison, seen: Across) -> Sheet:
    test, groups = seen.friedman, seen.groups
    ranks = across.ranks(seen.scores)
    firsts = (ranks == ranks.min(axis=1, keepdims=True)).sum(axis=0)
    rows = []
    for place in seen.order:
        member = [str(number) for number, group in enumerate(groups, 1) if place in group]
        row = (seen.labels[place], f"{seen.average_ranks[place]:.2f}", str(firsts[place]))
        rows.append((*row, ", ".join(member) or formats.UNDEFINED) if groups else row)
    first, second = test.degrees
    caption = (
        f"Average ranks over {len(seen.cells)} cells (1 is best), {comparison.facts.name}, "
        f"{comparison.where}. Friedman's chi-squared {test.chi_square:.2f} ({first} degrees of "
        f"freedom), Iman-Davenport F {test.f:.2f} ({first} and {second}), "
        f"p {formats.p_value(test.p)}. {critical_difference_words(seen)}"
    )
    head = (comparison.by, "average rank", "cells ranked first")
    return Sheet(caption, (*head, "groups") if groups else head, tuple(rows))


def critical_difference_words(seen: Across) -> str:
    """The critical difference, or why it is not used."""
    size, cells = f"{seen.critical_difference:.2f}", len(seen.cells)
    if cells < across.LEAST_CELLS:
        return (
            f"No critical difference is drawn: with {cells} cells it would be {size}, and no two "
            f"average ranks can be more than {len(seen.labels) - 1} apart; it is used from "
            f"{across.LEAST_CELLS} cells on."
        )
    told = "those of one group are less than that apart" if seen.groups else "all are that apart"
    return f"Critical difference (Nemenyi, 5 %) {size}: {told}."


def _signed_rank_sheet(comparison: Comparison, seen: Across) -> Sheet:
    rows = []
    for label, test in seen.signed_ranks.items():
        centre = formats.difference(seen.sign * test.centre, np.nan, np.nan)[0]
        p_values = (formats.p_value(test.p), formats.p_value(test.holm_p))
        rows.append((label, centre, str(test.better), str(test.worse), *p_values, _grade(test)))
    head = (
        *(comparison.by, f"{comparison.facts.name} minus {comparison.baseline} (Hodges-Lehmann)"),
        *("cells better", "cells worse", "p", "Holm p", "grade"),
    )
    untested = (
        ""
        if comparison.margin is not None
        else (
            " The Bayesian signed-rank test is left out: it needs a margin (margin=), within which "
            "a difference does not matter."
        )
    )
    caption = (
        f"Wilcoxon's signed-rank test against {comparison.baseline} over {len(seen.cells)} cells, "
        f"exact, Holm's correction for {len(seen.labels) - 1}; the smallest p that these cells "
        f"can give is {formats.p_value(_smallest_p(seen))} before and "
        f"{formats.p_value(_smallest_holm_p(seen))} after Holm.{untested}"
    )
    return Sheet(caption, head, tuple(rows))


def _grade(test: SignedRank) -> str:
    if test.holm_p >= ALPHA:
        return CANNOT_TELL
    return BETTER if test.rank_sum > 0 else WORSE


def _smallest_p(seen: Across) -> float:
    return float(2.0 ** (1 - len(seen.cells)))


def _smallest_holm_p(seen: Across) -> float:
    """If every label reaches the smallest p, Holm multiplies all of them by their number."""
    return min(1.0, (len(seen.labels) - 1) * _smallest_p(seen))


def _aggregate_sheet(comparison: Comparison, seen: Across) -> Sheet:
    rows = []
    for place in seen.order:
        label, means = seen.labels[place], seen.sign * seen.scores[:, place]
        whole = seen.aggregates[label]
        row = [formats.number(whole.value), _ends(whole)]
        row += [formats.number(float(np.mean(means))), formats.number(float(np.median(means)))]
        if place:
            chance = across.probability_of_improvement(seen.runs[place], seen.runs[0], label)
            row += [formats.number(chance.value), _ends(chance)]
        else:
            row += [formats.UNDEFINED] * 2
        rows.append((label, *row))
    head = (
        *(comparison.by, f"interquartile mean {comparison.facts.arrow}", "95 % interval"),
        *("mean over cells", "median over cells"),
        *(f"probability of improvement on {comparison.baseline}", "95 % interval"),
    )
    caption = (
        f"{comparison.facts.name} over all runs of {len(seen.cells)} cells, {comparison.where}. "
        "The interquartile mean is that of the middle half of the runs. The probability of "
        "improvement is that of a better run than one of the baseline in the same cell, averaged "
        f"over cells. Intervals: {across.REPETITIONS:,} resamples of the seeds inside each cell; "
        "they say how these cells would come out with other seeds, nothing about other cells."
    )
    return Sheet(caption[0].upper() + caption[1:], head, tuple(rows))


def _ends(interval: Interval) -> str:
    return f"{formats.number(interval.low)} to {formats.number(interval.high)}"


def _bayesian_sheet(comparison: Comparison, seen: Across, margin: float) -> Sheet:
    moved = across.differences(seen.scores, 0)[:, 1:]
    chances = across.bayesian_signed_rank(moved, margin)
    rows = [
        (seen.labels[place], *(f"{chance:.2f}" for chance in chances[place - 1]))
        for place in seen.order
        if place
    ]
    size = formats.margin(margin)
    head = (
        comparison.by,
        f"better by more than {size}",
        f"within {size}",
        f"worse by more than {size}",
    )
    caption = (
        f"Bayesian signed-rank test against {comparison.baseline} over {len(seen.cells)} cells: "
        f"the probability that in another such cell a difference in {comparison.facts.name} is "
        f"most likely better, within the margin of {size}, or worse. It takes these cells for an "
        "independent sample of such cells: few of them, or one dataset in several, make it too sure"
    )
    return Sheet(caption, head, tuple(rows))


def _missing_sheet(comparison: Comparison, seen: Across) -> Sheet:
    rows = [
        ("every cell", f"{comparison.facts.name} of {label}", f"{label} is left out")
        for label in seen.undefined
    ]
    rows += [
        (cell, f"no finished run of {formats.some(labels)}", "left out")
        for cell, labels in seen.left_out.items()
    ]
    rows += [
        (cell, f"runs of {formats.some(labels)}", "means over what there is")
        for cell, labels in seen.uneven.items()
    ]
    return Sheet(
        "Cells with missing runs", ("cell", "what is missing", "what follows"), tuple(rows)
    )


def across_sentence(comparison: Comparison) -> str:
    """What all cells together say, for the verdict; "" for one cell."""
    seen = comparison.across
    if seen is None or len(seen.labels) < 2:
        return ""
    several = PLURAL[comparison.by]
    if not seen.comparable:
        return (
            f"Over the cells together nothing can be said: finished runs of all {several} are in "
            f"{len(seen.cells)} of {len(seen.left_out) + len(seen.cells)} cells."
        )
    p = formats.p_value(seen.friedman.p)
    test = f"Friedman's test with the Iman-Davenport F, p {p if p.startswith('<') else f'= {p}'}"
    differ = "differ" if seen.friedman.p < ALPHA else "are not shown to differ"
    parts = [
        f"Over {len(seen.cells)} cells the {len(seen.labels)} {several} {differ} ({test}); "
        f"{_against_baseline(comparison, seen)}."
    ]
    if seen.left_out:
        count = len(seen.left_out)
        cells = "cell is" if count == 1 else "cells are"
        parts.append(f"{count} {cells} left out, where not all {several} have a finished run.")
    if shared := _shared_datasets(seen):
        parts.append(
            f"Cells that share a dataset ({formats.some(shared)}) are not independent, so this "
            "describes these cells and does not carry over to others."
        )
    return " ".join(parts)


def _against_baseline(comparison: Comparison, seen: Across) -> str:
    grades = {label: _grade(test) for label, test in seen.signed_ranks.items()}
    told = [
        f"{word} than {comparison.baseline} {'is' if len(labels) == 1 else 'are'} "
        f"{formats.some(labels)}"
        for word in (BETTER, WORSE)
        if (labels := [label for label, grade in grades.items() if grade == word])
    ]
    rule = "Wilcoxon's signed-rank test with Holm's correction"
    if told:
        return f"{' and '.join(told)} ({rule})"
    if _smallest_holm_p(seen) >= ALPHA:
        return (
            f"{rule} cannot tell any from {comparison.baseline} with so few cells (its smallest p "
            f"is {formats.p_value(_smallest_holm_p(seen))})"
        )
    return f"none is shown to be better or worse than {comparison.baseline} ({rule})"


def _shared_datasets(seen: Across) -> list[str]:
    """Such as ``3 of fashion_mnist``: a cell's label begins with its dataset."""
    counts = Counter(cell.partition(" | ")[0].partition("(")[0] for cell in seen.cells)
    return [f"{count} of {dataset}" for dataset, count in counts.items() if count > 1]


def across_data(comparison: Comparison) -> dict[str, Columns]:
    """The data of the figures ``ranks``, ``profiles`` and ``aggregates``; empty for one cell.

    ``arm`` is a place in `Comparison.labels`. ``marks`` are the bars above the ranks: the critical
    difference and the groups that it joins.
    """
    seen = comparison.across
    if seen is None or not seen.comparable:
        return {}
    intervals = [seen.aggregates[seen.labels[place]] for place in seen.order]
    found: dict[str, Columns] = {
        "ranks": {"arm": list(seen.order), "rank": plain(seen.average_ranks[seen.order])},
        "profiles": _profiles(seen),
        "aggregates": {
            "arm": list(seen.order),
            "interquartile_mean": plain(entry.value for entry in intervals),
            "low": plain(entry.low for entry in intervals),
            "high": plain(entry.high for entry in intervals),
        },
    }
    return found | ({"marks": _marks(seen)} if len(seen.cells) >= across.LEAST_CELLS else {})


def _marks(seen: Across) -> Columns:
    bars = [("critical difference", 1.0, 1 + seen.critical_difference)]
    for number, group in enumerate(seen.groups):
        ranks = seen.average_ranks[list(group)]
        bars.append((JOINED + INVISIBLE * number, ranks.min(), ranks.max()))
    names, low, high = zip(*bars, strict=True)
    return {"row": list(names), "low": plain(low), "high": plain(high)}


def _profiles(seen: Across) -> Columns:
    """The share of a label's runs that are better than each of up to 100 values of the metric."""
    there = seen.runs[~np.isnan(seen.runs)]
    thresholds = np.unique(np.linspace(there.min(), there.max(), THRESHOLDS))
    # six digits: four could make neighbours equal
    values = [float(f"{value:.6g}") for value in seen.sign * thresholds]
    columns: Columns = {name: [] for name in ("arm", "value", "share", "low", "high")}
    for place in seen.order:
        runs, label = seen.runs[place], seen.labels[place]
        shares = across.performance_profile(runs, thresholds, label)
        columns["arm"] += [place] * len(values)
        columns["value"] += values
        for name, numbers in zip(("share", "low", "high"), shares, strict=True):
            columns[name] += plain(numbers)
    return columns
