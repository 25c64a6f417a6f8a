"""Street View House Numbers: two MATLAB files, which hold arrays and no code."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossbench.data.sources.dataset import ImageDataset
from lossbench.data.sources.published import Checksums, Published
from lossbench.errors import InputError

_SVHN = Published(
    title="SVHN",
    files=("train_32x32.mat", "test_32x32.mat"),
    places=(".",),
    downloader="SVHN",
    downloads=({"split": "train"}, {"split": "test"}),
)


def svhn(
    archive: str | Path | None = None,
    root: str | Path | None = None,
    checksums: Checksums = None,
) -> ImageDataset:
    """SVHN (Netzer et al., 2011): 73,257 and 26,032 cropped digits of house numbers, (3, 32, 32).

    The files give the digit 0 the label 10; here, as in torchvision, it has the label 0.

    Args:
        archive: folder with train_32x32.mat and test_32x32.mat. None looks for torchvision's copy
            in ``root``, and at last has torchvision download it there.
        root: default is the environment variable LOSSBENCH_DATA, else ``~/.cache/lossbench``.
        checksums: file name -> MD5, by the rule in `lossbench.data.sources.published`.

    Raises `InputError` that names the file if one is missing, damaged or another one.
    """
    place, origin = _SVHN.find(archive, root)
    content = _SVHN.read(place, checksums)
    train, test = (_parse(content[name], f"{place}/{name}") for name in _SVHN.files)
    return ImageDataset(
        *train,
        *test,
        class_names=tuple("0123456789"),
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        origin=origin,
    )


def _parse(content: bytes, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (N, 3, 32, 32) and labels (N,) from X (32, 32, 3, N) and y (N, 1)."""
    from scipy.io import loadmat

    try:
        arrays = loadmat(BytesIO(content), variable_names=("X", "y"))
    except Exception as error:  # of many kinds: scipy parses what the bytes say
        reason = " ".join(str(error).split())
        raise InputError(
            f"{name} is truncated or no MATLAB 5 file ({reason}); replace it with an intact copy"
        ) from error
    images, labels = (np.asarray(arrays.get(key)) for key in ("X", "y"))
    if (
        images.dtype != np.uint8
        or images.shape[:-1] != (32, 32, 3)
        or labels.dtype.kind not in "iu"
    ):
        raise InputError(
            f"{name} must hold X, uint8 (32, 32, 3, N), and y, whole numbers, not {images.dtype}"
            f" {images.shape} and {labels.dtype} {labels.shape}; replace it with an intact copy"
        )
    targets = labels.ravel().astype(np.int64)
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1)), np.where(targets == 10, 0, targets)
