"""CIFAR-10 and CIFAR-100 from their "python version": pickles in a tar archive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossbench.data.sources.batch_pickle import read_batch
from lossbench.data.sources.dataset import ImageDataset
from lossbench.data.sources.published import Checksums, Published
from lossbench.errors import InputError

# Those of the LDAM protocol (Cao et al., 2019), which the published tables of both datasets follow.
# The deviation is the mean of the images' own; over all pixels it is larger.
_MEAN = (0.4914, 0.4822, 0.4465)
_STD = (0.2023, 0.1994, 0.2010)


@dataclass(frozen=True)
class _Layout:
    """How one of the two puts images, labels and names into its files; the last has the names."""

    published: Published
    classes: int
    labels: str
    names: str


_CIFAR10 = _Layout(
    Published(
        title="CIFAR-10",
        files=(*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"),
        places=("cifar-10-batches-py", "cifar-10-python.tar.gz"),
        downloader="CIFAR10",
    ),
    classes=10,
    labels="labels",
    names="label_names",
)
_CIFAR100 = _Layout(
    Published(
        title="CIFAR-100",
        files=("train", "test", "meta"),
        places=("cifar-100-python", "cifar-100-python.tar.gz"),
        downloader="CIFAR100",
    ),
    classes=100,
    labels="fine_labels",
    names="fine_label_names",
)


def cifar10(
    archive: str | Path | None = None,
    root: str | Path | None = None,
    checksums: Checksums = None,
) -> ImageDataset:
    """CIFAR-10 (Krizhevsky, 2009): 50,000 and 10,000 colour images of ten classes, (3, 32, 32).

    Args:
        archive: cifar-10-python.tar.gz, the folder cifar-10-batches-py that is in it, or a folder
            with one of them. None looks for torchvision's copy in ``root``, and at last has
            torchvision download it there.
        root: default is the environment variable LOSSBENCH_DATA, else ``~/.cache/lossbench``.
        checksums: file name -> MD5, by the rule in `lossbench.data.sources.published`.

    Raises `InputError` that names the file if one is missing, damaged or another one, or if it is
    a pickle that asks for more than the published ones do.
    """
    return _load(_CIFAR10, archive, root, checksums)


def cifar100(
    archive: str | Path | None = None,
    root: str | Path | None = None,
    checksums: Checksums = None,
) -> ImageDataset:
    """CIFAR-100 (Krizhevsky, 2009): as `cifar10`, with a hundred ("fine") classes.

    ``archive`` is cifar-100-python.tar.gz or the folder cifar-100-python.
    """
    return _load(_CIFAR100, archive, root, checksums)


def _load(
    layout: _Layout, archive: str | Path | None, root: str | Path | None, checksums: Checksums
) -> ImageDataset:
    published = layout.published
    place, origin = published.find(archive, root)
    content = published.read(place, checksums)
    batches = {name: read_batch(content.pop(name), f"{place}/{name}") for name in published.files}
    *train, test, meta = published.files
    parts = [_part(batches[name], layout, f"{place}/{name}") for name in (*train, test)]
    return ImageDataset(
        train_images=np.concatenate([images for images, _ in parts[:-1]]),
        train_targets=np.concatenate([targets for _, targets in parts[:-1]]),
        test_images=parts[-1][0],
        test_targets=parts[-1][1],
        class_names=_class_names(batches[meta], layout, f"{place}/{meta}"),
        mean=_MEAN,
        std=_STD,
        origin=origin,
    )


def _part(
    batch: Mapping[str, Any], layout: _Layout, name: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (N, 3, 32, 32) and labels (N,) of one file, whose rows are red, green, blue."""
    images, labels = batch.get("data"), batch.get(layout.labels)
    if not isinstance(images, np.ndarray) or images.ndim != 2 or images.shape[1] != 3 * 32 * 32:
        raise InputError(f"{name} has no data, uint8 (N, 3072); replace it with an intact copy")
    if (
        not isinstance(labels, list)
        or len(labels) != len(images)
        or not all(isinstance(label, int) for label in labels)
    ):
        raise InputError(
            f"{name} has no {layout.labels}, a list of {len(images)} whole numbers, one per image;"
            " replace it with an intact copy"
        )
    return images.reshape(-1, 3, 32, 32), np.array(labels, np.int64)


def _class_names(meta: Mapping[str, Any], layout: _Layout, name: str) -> tuple[str, ...]:
    names = meta.get(layout.names)
    if not isinstance(names, list) or len(names) != layout.classes:
        found = len(names) if isinstance(names, list) else 0
        raise InputError(
            f"{name} has {found} {layout.names}, {layout.published.title} has {layout.classes}"
            " classes; replace it with an intact copy"
        )
    return tuple(str(n, "latin1") if isinstance(n, bytes) else str(n) for n in names)
