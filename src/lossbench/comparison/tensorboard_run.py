"""What was found, as a run for TensorBoard: answer and tables as text, figures, differences."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lossbench.comparison.across_cells import across_sheets
from lossbench.comparison.audit import audit_sheets
from lossbench.comparison.export import escape, markdown_table
from lossbench.comparison.labels import slugs
from lossbench.comparison.pictures import figure_png
from lossbench.comparison.tables import Sheet, sheets

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison


def write(comparison: Comparison, pictures: Mapping[str, str], folder: Path) -> Path:
    """Write the run ``folder``; ``pictures`` are the SVGs of `figure_files.write_figures`.

    A former comparison's is replaced.
    """
    from lossbench.tensorboard.comparison_run import write_comparison_run

    images = {Path(name).stem: figure_png(svg) for name, svg in pictures.items()}
    write_comparison_run(folder, _texts(comparison), images, _differences(comparison))
    return folder


def _texts(comparison: Comparison) -> dict[str, str]:
    """Tag -> markdown: the answer of every context first, then its tables in their order."""
    found = {}
    over_all = across_sheets(comparison)
    if over_all:
        answer = [escape(comparison.overall), *map(markdown_table, over_all)]
        found["all-cells/answer"] = "\n\n".join(answer)
    for context, slug in slugs(comparison.ranked).items():
        found[f"{slug}/answer"] = escape(comparison.paragraph(context))
        every: list[Sheet] = [*sheets(comparison, context), *audit_sheets(comparison, context)]
        for place, sheet in enumerate(every, start=1):
            found[f"{slug}/table_{place:02}"] = markdown_table(sheet)
    return found


def _differences(comparison: Comparison) -> dict[str, dict[int, float]]:
    """``paired_difference/<metric, context>/<arm>`` -> difference by seed."""
    names = slugs(comparison.ranked)
    metric = comparison.metric.rpartition("/")[2]
    return {
        f"paired_difference/{metric}, {names[entry.context]}/{re.sub('/', '_', entry.label)}": dict(
            zip(entry.seeds, entry.values, strict=True)
        )
        for entry in comparison.differences
    }
