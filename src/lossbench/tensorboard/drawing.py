"""Axes with curves, bars and cells as a small PNG picture, drawn with Pillow alone.

A run draws six pictures, and in a sweep of short runs matplotlib would take longer for them than
the training: it makes an object of every tick. `scripts/bench_sweeps.py` measures it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

WIDTH = 350
"""Pixels: the width of TensorBoard's image card, which scales anything else without smoothing."""
BLACK, GREY, LIGHT = "#000000", "#666666", "#999999"
SMOOTHING = 3
"""Shapes are drawn this many times larger and averaged, which makes their edges smooth."""
FONT_SIZE, MARGIN, TICK = 11, 8, 4
LINE, BESIDE = 15, 12
"""Pixels: the height of a line of text, and between panels or entries of the legend."""
SLOPE = 40
"""Degrees of tilted tick labels."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Axis:
    """``low`` and ``high`` are its ends; ``ticks`` are labels by place, ``tilted`` if long."""

    label: str
    low: float
    high: float
    ticks: Mapping[float, str]
    tilted: bool = False

    def fraction(self, values: float | Sequence[float] | np.ndarray) -> np.ndarray:
        """Where ``values`` lie between the ends, as fractions of the axis."""
        return (np.asarray(values, np.float64) - self.low) / (self.high - self.low)

    def widest(self) -> float:
        """Pixels of the longest label."""
        return max((font().getlength(label) for label in self.ticks.values()), default=0.0)


@dataclass(frozen=True)
class Line:
    """Points joined by a line, each marked by a polygon of so many ``corners``, if any."""

    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    colour: str
    name: str = ""
    width: float = 1.7
    corners: int = 0


@dataclass(frozen=True)
class Stairs:
    """Bars ``heights`` (B,) between ``edges`` (B+1,), as one outline, which can be ``filled``."""

    heights: np.ndarray
    edges: np.ndarray
    colour: str
    name: str = ""
    filled: str | None = None


@dataclass(frozen=True)
class Text:
    """Words at a place of the axes; ``anchor`` is one of Pillow's, "mm" for the middle."""

    x: float
    y: float
    words: str
    colour: str = BLACK
    anchor: str = "mm"


@dataclass
class Panel:
    """One pair of axes; ``cells`` (rows, columns, 3) uint8 fill it, the first row at the top.

    ``share`` is its part of the width that the panels have.
    """

    x: Axis
    y: Axis
    marks: list[Line | Stairs] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    cells: np.ndarray | None = None
    share: float = 1.0


@dataclass
class Picture:
    """Panels side by side, below a title and the names of ``legend``, in their colours."""

    height: int
    panels: list[Panel]
    title: str = ""
    legend: Sequence[Line | Stairs] = ()


def ticks(high: float) -> dict[float, str]:
    """Three to seven round numbers from 0 to ``high`` > 0."""
    rough = high / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return {value: f"{value:g}" for value in np.arange(0, high, step)}


def to_png(picture: Picture) -> tuple[bytes, int, int]:
    """(PNG bytes, width, height in pixels), the arguments of `RunWriter.image`.

    With 64 colours, which takes a third of the bytes and looks the same.
    """
    from PIL import Image, ImageDraw

    boxes = _boxes(picture)
    large = Image.new("RGB", (WIDTH * SMOOTHING, picture.height * SMOOTHING), "white")
    draw = ImageDraw.Draw(large)
    for panel, box in zip(picture.panels, boxes, strict=True):
        _draw_shapes(large, draw, panel, box)
    small = large.reduce(SMOOTHING)
    draw = ImageDraw.Draw(small)
    draw.text((WIDTH / 2, 3), picture.title, BLACK, font(), anchor="ma")
    _draw_legend(draw, picture)
    for panel, box in zip(picture.panels, boxes, strict=True):
        _draw_words(small, draw, panel, box)
    buffer = io.BytesIO()
    small.quantize(64, method=Image.Quantize.MEDIANCUT).save(buffer, "png")
    return buffer.getvalue(), small.width, small.height


@cache
def font(size: int = FONT_SIZE) -> FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has arrows."""
    import matplotlib
    from PIL import ImageFont

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(str(path), size)


def _boxes(picture: Picture) -> list[Box]:
    """Left, top, right and bottom of the axes of each panel, with room for their labels."""
    top = MARGIN + LINE * (bool(picture.title) + bool(picture.legend))
    below, before = [], []
    for panel in picture.panels:
        tilted = panel.x.widest() if panel.x.tilted else 0.0
        slope = math.radians(SLOPE)
        labels = tilted * math.sin(slope) + LINE if panel.x.ticks else 0.0
        below.append(labels + LINE * bool(panel.x.label) + MARGIN)
        beside = panel.y.widest() + TICK + 4 + LINE * bool(panel.y.label)
        before.append(max(beside, tilted * math.cos(slope)))
    bottom = picture.height - max(below)
    free = WIDTH - MARGIN - BESIDE * len(before) - sum(before)
    shares = np.array([panel.share for panel in picture.panels])
    widths = free * shares / shares.sum()
    boxes: list[Box] = []
    left = MARGIN / 2
    for margin, width in zip(before, widths, strict=True):
        left += margin
        boxes.append((left, top, left + width, bottom))
        left += width + BESIDE
    return boxes


def _at(
    panel: Panel,
    box: Box,
    x: float | Sequence[float] | np.ndarray,
    y: float | Sequence[float] | np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Values as pixels from the left and from the top."""
    left, top, right, bottom = box
    across, up = panel.x.fraction(x), panel.y.fraction(y)
    return left + across * (right - left), bottom - up * (bottom - top)


def _draw_shapes(large: Image, draw: ImageDraw, panel: Panel, box: Box) -> None:
    """Cells, curves, and the two lines of the axes with their ticks."""
    from PIL import Image

    left, top, right, bottom = (round(side * SMOOTHING) for side in box)
    if panel.cells is not None:
        cells = Image.fromarray(panel.cells)
        size = (right - left, bottom - top)
        large.paste(cells.resize(size, Image.Resampling.NEAREST), (left, top))
    for mark in panel.marks:
        _draw_mark(draw, mark, panel, box)
    thin = SMOOTHING
    draw.line([(left, top), (left, bottom), (right, bottom)], BLACK, thin)
    across, _ = _at(panel, box, list(panel.x.ticks), panel.y.low)
    _, down = _at(panel, box, panel.x.low, list(panel.y.ticks))
    for x in across * SMOOTHING:
        draw.line([(x, bottom), (x, bottom + TICK * SMOOTHING)], BLACK, thin)
    for y in down * SMOOTHING:
        draw.line([(left - TICK * SMOOTHING, y), (left, y)], BLACK, thin)


def _draw_mark(draw: ImageDraw, mark: Line | Stairs, panel: Panel, box: Box) -> None:
    if isinstance(mark, Stairs):
        outline = np.concatenate([[0], np.repeat(mark.heights, 2), [0]])
        across, down = _at(panel, box, np.repeat(mark.edges, 2), outline)
        width, corners = 1.4, 0
    else:
        across, down = _at(panel, box, mark.x, mark.y)
        width, corners = mark.width, mark.corners
    points = list(zip(across * SMOOTHING, down * SMOOTHING, strict=True))
    filled = mark.filled if isinstance(mark, Stairs) else None
    if filled:
        draw.polygon(points, filled)
    if len(points) > 1 and filled != mark.colour:
        draw.line(points, mark.colour, round(width * SMOOTHING), joint="curve")
    for point in points if corners else ():
        draw.regular_polygon((point, 3 * SMOOTHING), corners, fill=mark.colour)


def _draw_legend(draw: ImageDraw, picture: Picture) -> None:
    """One centred line of names, each behind a short line in its colour."""
    key, gap = 14, 4
    widths = [key + gap + font().getlength(mark.name) for mark in picture.legend]
    left = (WIDTH - sum(widths) - BESIDE * (len(widths) - 1)) / 2
    y = 3 + LINE * bool(picture.title)
    for mark, width in zip(picture.legend, widths, strict=True):
        middle = (left + key / 2, y + LINE / 2 - 1)
        draw.line([(left, middle[1]), (left + key, middle[1])], mark.colour, 2)
        if isinstance(mark, Line) and mark.corners:
            draw.regular_polygon((middle, 3), mark.corners, fill=mark.colour)
        draw.text((left + key + gap, y), mark.name, BLACK, font(), anchor="la")
        left += width + BESIDE


def _draw_words(small: Image, draw: ImageDraw, panel: Panel, box: Box) -> None:
    """Texts in the axes, labels of ticks, labels of axes."""
    left, top, right, bottom = box
    for text in panel.texts:
        x, y = (float(pixel) for pixel in _at(panel, box, text.x, text.y))
        if text.anchor[0] == "l":  # not beyond the picture
            x = min(x, WIDTH - 2 - font().getlength(text.words))
        draw.text((x, y), text.words, text.colour, font(), anchor=text.anchor)
    across, _ = _at(panel, box, list(panel.x.ticks), panel.y.low)
    needed = len(panel.x.ticks) * (panel.x.widest() + TICK)
    every = 1 if panel.x.tilted else math.ceil(needed / (right - left)) or 1
    for x, label in list(zip(across, panel.x.ticks.values(), strict=True))[::every]:
        if panel.x.tilted:
            mask = _rotated(label, SLOPE)
            small.paste(BLACK, (round(x) + 5 - mask.width, round(bottom) + TICK), mask)
        else:
            draw.text((x, bottom + TICK + 2), label, BLACK, font(), anchor="ma")
    _, down = _at(panel, box, panel.x.low, list(panel.y.ticks))
    for y, label in zip(down, panel.y.ticks.values(), strict=True):
        draw.text((left - TICK - 2, y), label, BLACK, font(), anchor="rm")
    draw.text(((left + right) / 2, small.height - 3), panel.x.label, BLACK, font(), anchor="md")
    if panel.y.label:
        mask = _rotated(panel.y.label, 90)
        beside = left - TICK - 4 - panel.y.widest() - LINE
        small.paste(BLACK, (round(beside), round((top + bottom - mask.height) / 2)), mask)


def _rotated(words: str, degrees: int) -> Image:
    """``words`` as a mask, turned against the clock."""
    from PIL import Image, ImageDraw

    mask = Image.new("L", (math.ceil(font().getlength(words)), FONT_SIZE + 3))
    ImageDraw.Draw(mask).text((0, 0), words, 255, font())
    return mask.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
