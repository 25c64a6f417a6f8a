"""A run that holds what `lossbench compare` found: the answer, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lossbench.tensorboard.writer import RunWriter


def write_comparison_run(
    folder: Path,
    texts: Mapping[str, str],
    images: Mapping[str, tuple[bytes, int, int]],
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

    Raises: OSError where the folder cannot be written.
    """
    with RunWriter(folder, replace=True) as writer:
        for tag, markdown in texts.items():
            writer.text(tag, markdown, 0)
        for tag, (png, width, height) in images.items():
            writer.image(tag, png, width, height, 0)
