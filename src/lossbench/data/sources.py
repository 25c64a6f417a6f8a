"""Where images come from: each function here returns one `ImageDataset`, and nothing is random.

A dataset of one's own is a function that returns an `ImageDataset`, named by ``_target_`` in a
file of the config group ``data``; the keys of that file that the framework does not know are its
arguments.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossbench.data.idx import read_idx
from lossbench.errors import InputError

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # of dataset-fashion-mnist

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FASHION_MNIST_FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_targets": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_targets": "t10k-labels-idx1-ubyte",
}


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
                f"{part} targets reach from {targets.min()} to {targets.max()}; with"
                f" {len(self.class_names)} class names they must be 0 to"
                f" {len(self.class_names) - 1}"
            )


def digits() -> ImageDataset:
    """Scikit-learn's 1797 handwritten digits, (1, 8, 8): embedded, so nothing is downloaded.

    The source has no test split. Here floor(0.2 n_c) images of class c are the test images, drawn
    once and for all by ``RandomState(0)``. Grey values 0 to 16 are scaled to 0 to 255.
    (Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.)
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    targets = bunch.target.astype(np.int64)
    fixed = np.random.RandomState(0)
    held_out = np.zeros(len(targets), dtype=bool)
    for label in range(10):
        indices = fixed.permutation(np.flatnonzero(targets == label))
        held_out[indices[: len(indices) // 5]] = True
    pixels = images[~held_out] / 255
    return ImageDataset(
        train_images=images[~held_out],
        train_targets=targets[~held_out],
        test_images=images[held_out],
        test_targets=targets[held_out],
        class_names=tuple(str(label) for label in range(10)),
        mean=(float(pixels.mean()),),
        std=(float(pixels.std()),),
        origin="embedded in scikit-learn",
    )


def fashion_mnist(
    archive: str | Path | None = None,
    root: str | Path | None = None,
    checksums: Mapping[str, str | None] | None = None,
) -> ImageDataset:
    """Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017): 60,000 and 10,000 images, (1, 28, 28).

    Args:
        archive: folder with the four IDX files, plain or ``.gz``. None looks for a copy that
            torchvision has downloaded below ``root``, then for Debian's package
            dataset-fashion-mnist, and at last has torchvision download one into ``root``.
        root: default is the environment variable LOSSBENCH_DATA, else ``~/.cache/lossbench``.
        checksums: file name without ``.gz`` -> MD5 of the decompressed content. None, for a file
            or for all, reads without checking.

    Raises `InputError` that names the file if one is missing, damaged or another one.
    """
    folder, origin = _find_fashion_mnist(archive, root)
    expected = checksums or {}
    arrays = {
        part: read_idx(_file_in(folder, name) or folder / name, expected.get(name))
        for part, name in FASHION_MNIST_FILES.items()
    }
    return ImageDataset(
        train_images=arrays["train_images"][:, None],
        train_targets=arrays["train_targets"].astype(np.int64),
        test_images=arrays["test_images"][:, None],
        test_targets=arrays["test_targets"].astype(np.int64),
        class_names=FASHION_MNIST_CLASSES,
        mean=(0.2860,),
        std=(0.3530,),
        origin=origin,
    )


def _file_in(folder: Path, name: str) -> Path | None:
    """The plain or the gzipped file called ``name``, whichever is there."""
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)


def _missing(folder: Path) -> list[str]:
    return [name for name in FASHION_MNIST_FILES.values() if _file_in(folder, name) is None]


def _find_fashion_mnist(archive: str | Path | None, root: str | Path | None) -> tuple[Path, str]:
    """The folder to read, and in words which one it is."""
    if archive is not None:
        folder = Path(archive).expanduser()
        if missing := _missing(folder):
            raise InputError(
                f"data.archive={archive} has no file {missing[0]} or {missing[0]}.gz; name a folder"
                f" with {', '.join(FASHION_MNIST_FILES.values())} (each plain or .gz)"
            )
        return folder, f"data.archive={archive}"
    cache = Path(root or os.environ.get("LOSSBENCH_DATA") or "~/.cache/lossbench").expanduser()
    downloaded = cache / "FashionMNIST" / "raw"
    if not _missing(downloaded):
        return downloaded, f"torchvision's copy in {cache}"
    if not _missing(DEBIAN_FASHION_MNIST):
        return DEBIAN_FASHION_MNIST, "Debian package dataset-fashion-mnist"
    _download_fashion_mnist(cache)
    return downloaded, f"downloaded by torchvision into {cache}"


def _download_fashion_mnist(cache: Path) -> None:
    """Let torchvision download into ``cache``; files appear there whole or not at all."""
    from torchvision.datasets import FashionMNIST

    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="download-") as scratch:
            FashionMNIST(scratch, download=True)
            target = cache / "FashionMNIST" / "raw"
            target.mkdir(parents=True, exist_ok=True)
            for name in FASHION_MNIST_FILES.values():
                os.replace(Path(scratch, "FashionMNIST", "raw", name), target / name)
    except (OSError, RuntimeError) as error:  # torchvision raises either when a mirror fails
        reason = " ".join(str(error).split())
        raise InputError(
            f"cannot download Fashion-MNIST into {cache} ({reason}); give a folder with its four"
            " files as data.archive=FOLDER, or: apt-get install dataset-fashion-mnist"
        ) from error
