"""What a source returns, and what `lossbench.data.preparation.prepare` asks of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lossbench.data.sources import ImageDataset

if TYPE_CHECKING:
    from lossbench.data.image_files import ImageFiles

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FileRows:
    """Some of the images of an `ImageFiles`: ``rows`` (N,) int64, its training files first."""

    files: ImageFiles
    rows: Indices

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, places: Indices) -> NDArray[np.uint8]:
        """The centres of the images at ``places``, decoded: (B, C, size, size) uint8."""
        size = self.files.format.size
        centres = []
        for row in self.rows[places].tolist():
            pixels = self.files.decode(row)
            top, left = (round((length - size) / 2) for length in pixels.shape[:2])
            centres.append(pixels[top : top + size, left : left + size].transpose(2, 0, 1))
        return np.stack(centres)


# (N, C, H, W) uint8 pixels, files of pixels, or (N, F) float32 features that are standardised
Inputs = NDArray[np.uint8] | NDArray[np.float32] | FileRows


@dataclass(frozen=True, eq=False)
class Selection:
    """The chosen inputs of the three parts, and what follows from the choice.

    Attributes:
        train: in the order of the indices that were asked for.
        validation: likewise; maybe of length 0.
        test: all of it.
        input_shape: of one sample: (C, H, W) or (F,).
        mean: per channel, of pixels in [0, 1], to normalise with; None: nothing to normalise.
        std: per channel, likewise.
        fingerprint: SHA-256 over the choice and the content of all three parts.
        origin: which copy of the data was read, in words.
    """

    train: Inputs
    validation: Inputs
    test: Inputs
    input_shape: tuple[int, ...]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    fingerprint: str
    origin: str


class Dataset(Protocol):
    """Labels of a training and a test part, and inputs that are only touched once chosen.

    `lossbench.data.sources.ImageDataset` (pixels in memory) is one too, through `select`.
    """

    @property
    def train_targets(self) -> Indices:
        """(N,) int64, class indices."""

    @property
    def test_targets(self) -> Indices:
        """(M,) int64."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per class, by class index."""

    def select(self, train: Indices, validation: Indices) -> Selection:
        """The inputs at these indices of the training part, and all of the test part."""


def select(dataset: Dataset | ImageDataset, train: Indices, validation: Indices) -> Selection:
    """``dataset.select``, which is written here for pixels in memory."""
    if not isinstance(dataset, ImageDataset):
        return dataset.select(train, validation)
    images = dataset.train_images
    return Selection(
        train=images[train],
        validation=images[validation],
        test=dataset.test_images,
        input_shape=images.shape[1:],
        mean=dataset.mean,
        std=dataset.std,
        fingerprint=arrays_fingerprint(
            train,
            validation,
            images,
            dataset.train_targets,
            dataset.test_images,
            dataset.test_targets,
        ),
        origin=dataset.origin,
    )


def arrays_fingerprint(*arrays: NDArray[Any]) -> str:
    """SHA-256 over shapes and contents."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
