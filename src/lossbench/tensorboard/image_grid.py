"""Images of a data set in a grid, each with its words: for looking at what a model gets wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lossbench.errors import InputError
from lossbench.tensorboard.figures import DOTS_PER_INCH, WIDTH

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS, LARGEST = 4, 24
CELL = 80
"""Pixels of the longer side of an image, or a little less."""
LINE, TITLE = 10, 20
"""Pixels of the height of a line of a label, and of the title."""
LETTERS = 15
"""Characters of a label's line that fit above an image; longer ones are cut."""


def image_grid_figure(
    images: Sequence[np.ndarray], labels: Sequence[str], *, title: str = ""
) -> Figure:
    """Up to 24 images, six rows of four, each below its label; the first is at the top left.

    Small images are enlarged by whole numbers without smoothing, so that they are seen as the model
    sees them; large ones are shrunk.

    Args:
        images: each ``(C, H, W)`` uint8, C of 1 (grey) or 3 (red, green, blue).
        labels: a text per image; lines are separated by newlines.

    Raises: InputError where images are not of that kind, or are too many.
    """
    from matplotlib.figure import Figure

    if not 0 < len(images) <= LARGEST or len(labels) != len(images):
        raise InputError(
            f"{len(images)} images with {len(labels)} labels; give 1 to {LARGEST} images, "
            "each with a label"
        )
    pictures = [_fitted(_colours(image)) for image in images]
    text_height = LINE * max(label.count("\n") + 1 for label in labels)
    step = max(len(picture) for picture in pictures) + text_height + LINE
    height = TITLE + step * -(-len(images) // COLUMNS)
    figure = Figure(figsize=(WIDTH / DOTS_PER_INCH, height / DOTS_PER_INCH), dpi=DOTS_PER_INCH)
    axes = figure.add_axes((0, 0, 1, 1))
    for place, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        row, column = divmod(place, COLUMNS)
        middle, top = round((column + 0.5) * WIDTH / COLUMNS), TITLE + step * row + text_height
        high, wide = picture.shape[:2]
        left = middle - wide // 2
        axes.imshow(picture, extent=(left, left + wide, top + high, top), interpolation="nearest")
        text = "\n".join(_cut(line) for line in label.split("\n"))
        axes.text(middle, top - 2, text, ha="center", va="bottom", fontsize=6, linespacing=1.1)
    axes.text(WIDTH / 2, 3, title, ha="center", va="top", fontsize=7)
    axes.set(xlim=(0, WIDTH), ylim=(height, 0), aspect="auto")
    axes.axis("off")
    return figure


def _cut(line: str) -> str:
    return line if len(line) <= LETTERS else line[: LETTERS - 1] + "…"


def _colours(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] not in (1, 3):
        raise InputError(
            f"an image is {image.dtype} of shape {image.shape}; it must be uint8 of shape "
            "(C, H, W) with C 1 or 3"
        )
    return np.broadcast_to(image.transpose(1, 2, 0), (*image.shape[1:], 3))


def _fitted(pixels: np.ndarray) -> np.ndarray:
    """The image with a longer side of about `CELL` pixels."""
    from PIL import Image

    high, wide = pixels.shape[:2]
    longer = max(high, wide)
    if longer <= CELL:
        return pixels.repeat(CELL // longer, axis=0).repeat(CELL // longer, axis=1)
    size = (max(1, round(wide * CELL / longer)), max(1, round(high * CELL / longer)))
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
