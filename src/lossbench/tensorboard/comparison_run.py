"""A run that holds what `lossbench compare` found: tables, figures and paired differences."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from lossbench.tensorboard.writer import RunWriter


def write_comparison_run(
    folder: Path,
    texts: Mapping[str, str],
    images: Mapping[str, tuple[bytes, int, int]],
    scalars: Mapping[str, Mapping[int, float]],
) -> None:
    """Write TensorBoard's run ``folder``; what an earlier comparison left there is replaced.

    For a study it is ``<study>/comparison/tensorboard``: beside the other files of the comparison,
    and named in TensorBoard like the runs are, ``comparison/tensorboard``. It has no record, so
    nothing takes the folder for a run of the study.

    Args:
        folder: made if missing.
        texts: tag -> Markdown, for the Text tab. TensorBoard shows no HTML in it, and of a table
            that is wider than the page a scroll bar.
        images: tag -> PNG bytes, width, height in pixels, for the Images tab.
        scalars: tag -> {step: value}; None and NaN are left out. For paired differences
            ``paired_difference/METRIC/ARM`` -> {seed: difference}: TensorBoard then draws the
            differences of an arm over its seeds, and in Custom Scalars a chart for each metric
            overlays the arms.

    Raises: OSError where the folder cannot be written.
    """
    with RunWriter(folder, replace=True) as writer:
        for tag, markdown in texts.items():
            writer.text(tag, markdown, 0)
        for tag, (png, width, height) in images.items():
            writer.image(tag, png, width, height, 0)
        steps = sorted({step for values in scalars.values() for step in values})
        for step in steps:
            at_step = {tag: values[step] for tag, values in scalars.items() if step in values}
            writer.scalars(at_step, step)
        groups = dict.fromkeys(tag.rpartition("/")[0] for tag in scalars)
        if groups:
            writer.layout({"Comparison": {group: f"{re.escape(group)}/[^/]+" for group in groups}})
