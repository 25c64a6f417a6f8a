"""What every source of images returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lossbench.errors import InputError


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Labelled images as they come from a source, before any split.

    Attributes:
        train_images: (N, C, H, W) uint8.
        train_targets: (N,) int64, class indices.
        test_images: (M, C, H, W) uint8. Test images come with the source and no seed moves them.
        test_targets: (M,) int64.
        class_names: one name per class, by class index.
        mean: per channel, of the pixels scaled to [0, 1]; used to normalise.
        std: per channel, likewise.
        origin: which copy of the data was read, in words.

    Raises `InputError` where these do not fit together.
    """

    train_images: NDArray[np.uint8]
    train_targets: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_targets: NDArray[np.int64]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: str

    def __post_init__(self) -> None:
        self._check_part("train", self.train_images, self.train_targets)
        self._check_part("test", self.test_images, self.test_targets)
        channels = self.train_images.shape[1]
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise InputError(
                f"train images are {self.train_images.shape[1:]}, test images"
                f" {self.test_images.shape[1:]}; give both the same (C, H, W)"
            )
        if not len(self.mean) == len(self.std) == channels:
            raise InputError(
                f"mean has {len(self.mean)} and std {len(self.std)} values for {channels} channels;"
                " give one of each per channel"
            )

    def _check_part(self, part: str, images: NDArray[np.uint8], targets: NDArray[np.int64]) -> None:
        if images.dtype != np.uint8 or images.ndim != 4:
            raise InputError(
                f"{part} images must be uint8 of shape (N, C, H, W), not {images.dtype} of shape"
                f" {images.shape}"
            )
        if targets.dtype != np.int64 or targets.shape != images.shape[:1]:
            raise InputError(
                f"{part} targets must be int64 of shape {images.shape[:1]}, one per image, not"
                f" {targets.dtype} of shape {targets.shape}"
            )
        if targets.size and not 0 <= targets.min() <= targets.max() < len(self.class_names):
            raise InputError(
                f"{part} targets ({self.origin}) reach from {targets.min()} to {targets.max()};"
                f" with {len(self.class_names)} class names they must be 0 to"
                f" {len(self.class_names) - 1}"
            )
