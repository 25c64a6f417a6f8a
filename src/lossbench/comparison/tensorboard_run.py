"""What was found, as a run for TensorBoard: the answer and the tables as text, and the figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lossbench.comparison.across_cells import across_sheets
from lossbench.comparison.audit import audit_sheets
from lossbench.comparison.drawing import Picture
from lossbench.comparison.export import escape, markdown_table
from lossbench.comparison.labels import slugs
from lossbench.comparison.tables import Sheet, sheets
from lossbench.comparison.tuning_effect import tuning_sheets

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison


def write(comparison: Comparison, pictures: Mapping[str, Picture], folder: Path) -> Path:
    """Write the run ``folder``; ``pictures`` are those of `figure_files.write_figures`.

    A former comparison's is replaced.
    """
    from lossbench.tensorboard.comparison_run import write_comparison_run

    images = {name: (each.png, each.width, each.height) for name, each in pictures.items()}
    write_comparison_run(folder, _texts(comparison), images)
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
        every: list[Sheet] = [*sheets(comparison, context), *tuning_sheets(comparison, context)]
        every += audit_sheets(comparison, context)
        for place, sheet in enumerate(every, start=1):
            found[f"{slug}/table_{place:02}"] = markdown_table(sheet)
    return found
