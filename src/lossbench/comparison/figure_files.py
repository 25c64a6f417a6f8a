"""figures/: every figure of every context, and over all of them, as SVG, and its data as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.comparison.across_cells import across_data
from lossbench.comparison.aggregate import context_data
from lossbench.comparison.drawing import Picture, draw_all
from lossbench.comparison.labels import slugs
from lossbench.comparison.loss_lines import EVERYONE
from lossbench.comparison.panels import Data, left_edge
from lossbench.comparison.pictures import ALL_CELLS, FIGURES, drawn, job
from lossbench.records import files

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

WRITTEN = "written_by_compare.txt"
"""The names of the files that `write_figures` made, one a line: what the next one may replace."""

LOSS_HEAD = ("arm", "split", "group", "outcome", "samples", "log10_from", "log10_to", "fraction")


def write_figures(comparison: Comparison, folder: Path, processes: int = 1) -> dict[str, Picture]:
    """Write ``<context>-<figure>.svg`` and ``.csv`` into ``folder``; the pictures by name.

    The files of a former comparison that this one does not have are deleted, and nothing else in
    the folder: a file there that is not ours stays. ``processes`` are those that draw.
    """
    folder.mkdir(parents=True, exist_ok=True)
    former = _former(folder)
    found: dict[str, Data] = {ALL_CELLS: across_data(comparison)}
    found |= {context: context_data(comparison, context) for context in comparison.ranked}
    names = slugs(found)
    figures = [
        (f"{names[context]}-{figure}", context, figure)
        for context, data in found.items()
        for figure in drawn(data)
    ]
    wanted = {f"{name}.{ending}" for name, *_ in figures for ending in ("svg", "csv")}
    # before the files: whoever is killed in between leaves none that nobody knows
    _remember(folder, {*wanted, *former})
    jobs = (job(comparison, context, figure, found[context]) for _, context, figure in figures)
    drawing = draw_all(jobs, len(figures), processes)
    pictures = {}
    for (name, context, figure), picture in zip(figures, drawing, strict=True):
        pictures[name] = picture
        files.write_text(folder / f"{name}.svg", picture.svg)
        table = figure_csv(figure, found[context], comparison.labels)
        files.write_text(folder / f"{name}.csv", table)
    for stale in former - wanted:
        (folder / stale).unlink(missing_ok=True)
    _remember(folder, wanted)
    return pictures


def figure_csv(figure: str, data: Data, labels: Sequence[str]) -> str:
    """The whole data of one figure, all arms and choices, one row each, arms by name.

    The loss histograms have a row per bin with the bin's ends as log10 of the loss (empty where a
    bin has no end); the single seeds of a difference stand in one field, a space between them.
    """
    stream = io.StringIO()
    writer = csv.writer(stream)
    source = FIGURES[figure][0]
    columns = data[source]
    if source == "losses":
        writer.writerow(LOSS_HEAD)
        writer.writerows(_bins(columns, labels, whole=figure == "overfitting"))
    else:
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow([labels[row[0]], *map(_field, row[1:])])
    return stream.getvalue()


def _bins(columns: Data, labels: Sequence[str], whole: bool) -> Iterator[tuple[Any, ...]]:
    for row in zip(*columns.values(), strict=True):
        line = dict(zip(columns, row, strict=True))
        if whole and (line["group"], line["outcome"]) != (EVERYONE, EVERYONE):
            continue
        who = (labels[line["arm"]], *(line[name] for name in LOSS_HEAD[1:5]))
        for bin_, fraction in enumerate(line["values"], start=line["first"]):
            low = "" if bin_ == 0 else left_edge(bin_)
            high = "" if bin_ == 101 else left_edge(bin_ + 1)
            yield *who, low, high, fraction


def _field(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, list) else value


def _former(folder: Path) -> set[str]:
    try:
        names = (folder / WRITTEN).read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return {name for name in names if name == Path(name).name and name.endswith((".svg", ".csv"))}


def _remember(folder: Path, names: set[str]) -> None:
    files.write_text(folder / WRITTEN, "".join(f"{name}\n" for name in sorted(names)))
