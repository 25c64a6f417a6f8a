"""Image files: what their headers say, their pixels, and a store of pixels in memory.

How a file becomes pixels, and so a part of every run that reads files:

- EXIF rotation is applied, as an image viewer does (torchvision's ImageFolder does not).
- A palette becomes its colours; CMYK, YCbCr and LAB are converted; transparency is dropped, as by
  torchvision; grey becomes three equal channels, or colours become grey with one channel.
- Grey of 16 bits (PNG, TIFF, PGM) keeps its upper 8. 32-bit pixels have no known range and are
  refused.
- The shorter side is resized to ``resize`` (bilinear, antialiased), the longer one in proportion.
- Of an animation, the first frame.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from lossbench.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")
Pixels = NDArray[np.uint8]

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_AT_ONCE = 64  # images that the threads work on before their results are taken
_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange height and width
_MODES = {1: "L", 3: "RGB"}


class UnreadableImageError(InputError):
    """An image that cannot be decoded; the message names the file."""


@dataclass(frozen=True)
class Header:
    """Of one file: its size in bytes, and height and width of its pixels once resized."""

    size: int
    height: int
    width: int


def read_header(path: str, resize: int) -> Header:
    """What can be known without decoding; raises `UnreadableImageError`."""
    from PIL import Image

    try:
        with open(path, "rb") as file, Image.open(file) as image:
            if image.mode in ("I", "F") and not _sixteen_bits(image):
                raise ValueError(f"32-bit pixels (mode {image.mode}); save it with 8 or 16 bits")
            width, height = _stored_size(image)
            if _orientation(image) in _TURNED:
                width, height = height, width
            width, height = resized(width, height, resize)
            return Header(os.fstat(file.fileno()).st_size, height, width)
    except Exception as error:  # Pillow's decoders raise anything
        raise unreadable(path, error) from error


def resized(width: int, height: int, shorter: int) -> tuple[int, int]:
    """(width, height) with the shorter side at ``shorter``, rounded as torchvision does."""
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


def decode(path: str, resize: int, channels: int) -> Pixels:
    """(H, W, ``channels``) uint8, the shorter side ``resize``; raises `UnreadableImageError`."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            orientation = _orientation(opened)
            sixteen_bits = _sixteen_bits(opened)
            opened.load()
        image: Image.Image = opened
        if orientation != 1:
            image = ImageOps.exif_transpose(image)
        if sixteen_bits:
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")  # Pillow warns about the direct way
        if image.mode == "LAB":
            image = image.convert("RGB")  # Pillow knows no direct way to grey
        image = image.convert(_MODES[channels])
        size = resized(*image.size, resize)
        image = image.resize(size, Image.Resampling.BILINEAR)
        return np.array(image).reshape(size[1], size[0], channels)
    except Exception as error:
        raise unreadable(path, error) from error


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) before rotation: Pillow gives it so, but for TIFF, where it depends."""
    from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

    if isinstance(image, TiffImageFile):
        return image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
    return image.size


def _sixteen_bits(image: Image.Image) -> bool:
    """Whether it is grey of 16 bits, which Pillow holds in 32 for PGM and in older PNG readers."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation in the header, 1 for upright; decodes nothing."""
    from PIL import Image

    # the method of PNG files would decode the image to find what stands after it
    return int(Image.Image.getexif(image).get(_ORIENTATION, 1))


def unreadable(path: str, error: Exception) -> UnreadableImageError:
    """The error with the file's name and the reason in one line."""
    from PIL import UnidentifiedImageError

    plain: dict[type[Exception], str] = {
        FileNotFoundError: "there is no such file",
        UnidentifiedImageError: "it is not an image of a known format",
    }
    reason = plain.get(type(error)) or " ".join(str(error).split()) or type(error).__name__
    return UnreadableImageError(f"{path} ({reason})")


def in_threads(
    work: Callable[[int], T], rows: Iterable[int]
) -> Iterator[tuple[int, T | UnreadableImageError]]:
    """``(row, work(row))`` in order; an image that cannot be read comes as its error."""

    def attempt(row: int) -> tuple[int, T | UnreadableImageError]:
        try:
            return row, work(row)
        except UnreadableImageError as error:
            return row, error

    rest = iter(rows)
    with ThreadPoolExecutor() as threads:
        while some := list(islice(rest, _AT_ONCE)):
            yield from threads.map(attempt, some)


def refuse(errors: Sequence[tuple[str, UnreadableImageError]], count: int) -> None:
    """Raise the `InputError` that counts ``errors`` among ``count`` images and names the first 3.

    Each error comes with words for its place, such as "train.txt line 7: ", or none.
    """
    if errors:
        first = ", ".join(f"{place}{error}" for place, error in errors[:3])
        raise InputError(
            f"{len(errors)} of {count} images cannot be read, first {first}; replace them or"
            " take them out"
        )


class PixelStore:
    """Decoded images in one block of memory, which forked processes share.

    ``shapes`` (N, 2) are height and width of all images there are, ``limit`` is in bytes. Pages of
    the block are only taken from the system when images are put there.
    """

    def __init__(self, shapes: NDArray[np.int64], channels: int, limit: int) -> None:
        self.shapes = shapes
        self.channels = channels
        self._sizes = shapes.prod(axis=1) * channels
        self._starts = np.full(len(shapes), -1, np.int64)
        self._block = np.empty(min(limit, int(self._sizes.sum())), np.uint8)
        self._end = 0

    def __contains__(self, row: int) -> bool:
        return bool(self._starts[row] >= 0)

    def __getitem__(self, row: int) -> Pixels:
        """(H, W, C) uint8 of the image at ``row``, without a copy."""
        start = self._starts[row]
        flat = self._block[start : start + self._sizes[row]]
        return flat.reshape(*self.shapes[row], self.channels)

    def fill(self, rows: NDArray[np.int64], decode_row: Callable[[int], Pixels]) -> int:
        """Decode those of ``rows`` that fit, in threads; returns how many of them are here now.

        Raises `InputError` that counts the images which cannot be decoded.
        """
        wanted = rows[self._starts[rows] < 0]
        ends = self._end + np.cumsum(self._sizes[wanted])
        fitting = wanted[ends <= len(self._block)]
        errors = []
        for row, pixels in in_threads(decode_row, fitting.tolist()):
            if isinstance(pixels, UnreadableImageError):
                errors.append(("", pixels))
                continue
            self._starts[row] = self._end
            self._end += int(self._sizes[row])
            self[row][...] = pixels
        refuse(errors, len(fitting))
        return int((self._starts[rows] >= 0).sum())
