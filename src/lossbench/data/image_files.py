"""Images in files: a folder per class, or lists of paths and labels.

Nothing is decoded here. All headers are read once, so that a file which is not an image is named
before training, and the size of every image is known.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lossbench.data.decoding import (
    Header,
    Pixels,
    UnreadableImageError,
    decode,
    in_threads,
    read_header,
    refuse,
)
from lossbench.data.listing import Listing, check_classes, list_file, list_folder, place_in
from lossbench.data.selection import FileRows, Indices, Selection
from lossbench.data.split import hold_out
from lossbench.errors import InputError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Format:
    """What files become: inputs (``channels``, ``size``, ``size``).

    Attributes:
        size: height and width of an input, cut out of the resized image.
        resize: length of a resized image's shorter side, at least ``size``; None: 8/7 of ``size``
            (256 for 224).
        channels: 3 for colours, 1 for grey.
        mean: per channel, of pixels in [0, 1]; None: ImageNet's, for grey the mean of its three.
        std: per channel, likewise.

    Raises `InputError` for values that are not allowed.
    """

    size: int = 224
    resize: int | None = None
    channels: int = 3
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not _whole(self.size, 1):
            raise InputError(f"data.size={self.size} must be a whole number of at least 1")
        if self.resize is not None and not _whole(self.resize, self.size):
            raise InputError(
                f"data.resize={self.resize} must be null or a whole number of at least"
                f" data.size={self.size}"
            )
        if self.channels not in (1, 3):
            raise InputError(f"data.channels={self.channels} must be 3 (colours) or 1 (grey)")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and not _per_channel(values, self.channels):
                raise InputError(
                    f"data.{name}={values} must be null or a list of {self.channels} numbers above"
                    " 0, one per channel"
                )

    @property
    def shorter_side(self) -> int:
        """``resize``, or what stands for None."""
        return round(self.size * 8 / 7) if self.resize is None else self.resize

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel, given or ImageNet's."""
        mean, std = (
            tuple(given if given is not None else _over_channels(usual, self.channels))
            for given, usual in ((self.mean, IMAGENET_MEAN), (self.std, IMAGENET_STD))
        )
        return mean, std


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _per_channel(values: object, channels: int) -> bool:
    if not isinstance(values, Sequence) or len(values) != channels:
        return False
    return all(isinstance(value, int | float) and value > 0 for value in values)


def _over_channels(usual: Sequence[float], channels: int) -> Sequence[float]:
    return usual if channels == 3 else (round(sum(usual) / 3, 3),)


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Labelled images in files, decoded when they are needed (`lossbench.data.streaming`).

    Attributes:
        folder: what paths are relative to.
        paths: (N + M,) of bytes, relative to ``folder`` or absolute, training first; of bytes,
            because millions of Python strings would be copied into every worker.
        sizes: (N + M,) int64, bytes of each file.
        shapes: (N + M, 2) int64, height and width once resized.
        train_targets: (N,) int64.
        test_targets: (M,) int64.
        class_names: by class index.
        format: what files become.
        origin: which copy of the data was read, in words.
    """

    folder: Path
    paths: NDArray[np.bytes_]
    sizes: Indices
    shapes: Indices
    train_targets: Indices
    test_targets: Indices
    class_names: tuple[str, ...]
    format: Format
    origin: str

    def path(self, row: int) -> str:
        """The path of one image."""
        return os.path.join(self.folder, os.fsdecode(self.paths[row]))

    def decode(self, row: int) -> Pixels:
        """(H, W, C) uint8 of one image, resized; raises `UnreadableImageError`."""
        return decode(self.path(row), self.format.shorter_side, self.format.channels)

    def select(self, train: Indices, validation: Indices) -> Selection:
        """See `lossbench.data.selection.Dataset`."""
        test = np.arange(len(self.train_targets), len(self.paths))
        mean, std = self.format.statistics()
        return Selection(
            train=FileRows(self, train),
            validation=FileRows(self, validation),
            test=FileRows(self, test),
            input_shape=(self.format.channels, self.format.size, self.format.size),
            mean=mean,
            std=std,
            fingerprint=self._fingerprint(train, validation, test),
            origin=self.origin,
        )

    def _fingerprint(self, *parts: Indices) -> str:
        """SHA-256 over names, sizes and labels of the chosen files, and how they are decoded."""
        how = self.format
        digest = hashlib.sha256(repr((how.size, how.shorter_side, how.channels)).encode())
        targets = np.concatenate([self.train_targets, self.test_targets])
        for rows in parts:
            digest.update(f"{len(rows)} files\\0".encode())
            for path in self.paths[rows].tolist():
                digest.update(path + b"\\0")
            digest.update(self.sizes[rows].tobytes() + targets[rows].tobytes())
        return digest.hexdigest()


ListPart = Callable[[Path, str], Listing]
Source = TypeVar("Source", bound=Callable[..., ImageFiles])


def _reads(list_part: ListPart) -> Callable[[Source], Source]:
    """Give a source ``content_digests(**data)``: by key, what of its content identifies a run."""

    def with_digests(source: Source) -> Source:
        signature = inspect.signature(source)

        def content_digests(**data: Any) -> dict[str, str]:
            given = signature.bind(**{k: v for k, v in data.items() if k in signature.parameters})
            given.apply_defaults()
            archive, train, test, test_share = given.args[:4]
            folder = Path(_text("archive", archive)).expanduser().absolute()
            parts = zip(("train", "test"), _parts(folder, train, test, test_share), strict=False)
            return {key: part_digest(list_part, folder, part) for key, part in parts}

        source.content_digests = content_digests  # type: ignore[attr-defined]
        return source

    return with_digests


@cache
def part_digest(list_part: ListPart, folder: Path, part: str) -> str:
    """SHA-256 over names, labels and sizes of the images of a part, which is read once a process.

    Names in folders are relative to the part, those in lists to ``folder``. A file that is not
    there is none's concern here: it is named when headers are read.
    """
    listing = list_part(folder, part)
    above = os.path.relpath(listing.source, folder) + "/"
    digest = hashlib.sha256()
    for path, label in zip(listing.paths, listing.labels, strict=True):
        try:
            size = os.stat(os.path.join(folder, path)).st_size
        except OSError:
            size = -1
        digest.update(os.fsencode(f"{path.removeprefix(above)}\0{label}\0{size}\0"))
    return digest.hexdigest()


def _text(key: str, value: Any) -> Any:
    """``value``; raises `InputError` unless it can name a file or folder."""
    if isinstance(value, str | os.PathLike):
        return value
    raise InputError(f"data.{key}={value} must be a name; write data.{key}=./{value} for one such")


@_reads(list_folder)
def image_folder(
    archive: str | Path,
    train: str = "train",
    test: str | None = "test",
    test_share: float | None = None,
    size: int = 224,
    resize: int | None = None,
    channels: int = 3,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ImageFiles:
    """Images in ``archive/train/CLASS/`` and ``archive/test/CLASS/``, at any depth below CLASS.

    Class names are the names of the folders, sorted, and those of both parts must be the same.
    Hidden files are passed over, and so are files without the suffix of an image, which ``origin``
    counts.

    Args:
        archive: folder with both parts.
        train: folder of the training part; "." where the class folders lie in ``archive`` itself.
        test: folder of the test part, or None.
        test_share: without a test part: this share of each class is the test part, the same for
            every seed (`lossbench.data.split.hold_out`).
        size: see `Format`, also for the others.
        resize: length of a resized image's shorter side.
        channels: 3 or 1.
        mean: per channel.
        std: per channel.

    Raises `InputError` for a missing part, an empty class, a class that only one part has, and
    images that cannot be read, which it counts.
    """
    folder = Path(_text("archive", archive)).expanduser()
    return _image_files(
        folder,
        [list_folder(folder, part) for part in _parts(folder, train, test, test_share)],
        test_share,
        Format(size, resize, channels, mean, std),
    )


@_reads(list_file)
def image_list(
    archive: str | Path,
    train: str,
    test: str | None = None,
    test_share: float | None = None,
    size: int = 224,
    resize: int | None = None,
    channels: int = 3,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ImageFiles:
    """Images named in lists, such as those of ImageNet-LT and iNaturalist.

    A line of a list is ``path label``, of which the label is what follows the last space, or, in a
    file called ``*.csv``, ``path,label``. Labels are 0 to C - 1, or names, which are sorted.

    Args:
        archive: folder that the paths in the lists are relative to.
        train: list of the training images, relative to ``archive`` or absolute.
        test: list of the test images, or None.
        test_share: as in `image_folder`, and so the others.
        size: see `Format`, also for the others.
        resize: length of a resized image's shorter side.
        channels: 3 or 1.
        mean: per channel.
        std: per channel.

    Raises `InputError` that names list and line of the first row that is bad, and counts them; for
    a class without a training image; for a label that only the test list has.
    """
    folder = Path(_text("archive", archive)).expanduser()
    return _image_files(
        folder,
        [list_file(folder, part) for part in _parts(folder, train, test, test_share)],
        test_share,
        Format(size, resize, channels, mean, std),
    )


def _parts(folder: Path, train: str, test: str | None, test_share: float | None) -> list[str]:
    """The names of the parts that there are; raises `InputError` unless test is one or a share."""
    if not folder.is_dir():
        raise InputError(f"data.archive={folder} is not a folder")
    _text("train", train)
    if test is not None:
        _text("test", test)
    there = test is not None and place_in(folder, test).exists()
    if test is not None and there and test_share is not None:
        raise InputError(
            f"data.test_share={test_share} is for data without a test part, but there is"
            f" {place_in(folder, test)}; add data.test=null, or leave test_share out"
        )
    if test is not None and there:
        return [train, test]
    if test_share is None:
        raise InputError(
            f"there is no test part{f' {place_in(folder, test)}' if test else ''}; name it with"
            " data.test=NAME, or take a share of the training images with data.test_share=0.2"
        )
    return [train]


def _image_files(
    folder: Path, parts: list[Listing], test_share: float | None, how: Format
) -> ImageFiles:
    check_classes(parts[0], parts[1] if len(parts) == 2 else None)
    names = parts[0].class_names
    index = {name: label for label, name in enumerate(names)}
    targets = [np.array([index[label] for label in part.labels], np.int64) for part in parts]
    paths = [os.fsencode(path) for part in parts for path in part.paths]
    offset = len(parts[0].paths)

    def place(row: int) -> str:
        part, at = (parts[0], row) if row < offset else (parts[1], row - offset)
        return part.place(at)

    headers = _headers([os.path.join(folder, os.fsdecode(p)) for p in paths], how, place)
    order = np.arange(len(paths))
    if len(parts) == 1:
        assert test_share is not None
        held_out = hold_out(targets[0], test_share, names)
        order = np.concatenate([np.flatnonzero(~held_out), np.flatnonzero(held_out)])
        targets = [targets[0][~held_out], targets[0][held_out]]
    ignored = sum(part.ignored for part in parts)
    share = f"; {test_share:g} of each class is the test part" if len(parts) == 1 else ""
    passed_over = f"; {ignored} other files passed over" if ignored else ""
    return ImageFiles(
        folder=folder,
        paths=np.array(paths)[order],
        sizes=np.array([header.size for header in headers], np.int64)[order],
        shapes=np.array([(h.height, h.width) for h in headers], np.int64)[order],
        train_targets=targets[0],
        test_targets=targets[1],
        class_names=names,
        format=how,
        origin=f"{len(paths)} images in {folder}{share}{passed_over}",
    )


def _headers(paths: Sequence[str], how: Format, place: Callable[[int], str]) -> list[Header]:
    """The header of every file; raises `InputError` that counts those that cannot be read."""
    headers, errors = [], []
    for row, header in in_threads(
        lambda row: read_header(paths[row], how.shorter_side), range(len(paths))
    ):
        if isinstance(header, UnreadableImageError):
            errors.append((place(row), header))
        else:
            headers.append(header)
    refuse(errors, len(paths))
    return headers
