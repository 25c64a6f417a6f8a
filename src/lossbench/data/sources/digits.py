"""The embedded dataset: scikit-learn's handwritten digits."""

from __future__ import annotations

import numpy as np

from lossbench.data.sources.dataset import ImageDataset


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
