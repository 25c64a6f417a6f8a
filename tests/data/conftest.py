"""Datasets that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from lossbench.data.sources import ImageDataset, digits, fashion_mnist

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="session")
def fashion_checksums() -> dict[str, str]:
    return yaml.safe_load((CONFIGS / "data" / "fashion_mnist.yaml").read_text())["checksums"]


@pytest.fixture(scope="session")
def real_fashion_mnist(
    tmp_path_factory: pytest.TempPathFactory, fashion_checksums: dict[str, str]
) -> ImageDataset:
    """The 70,000 real images; with an empty cache, so from Debian's package."""
    return fashion_mnist(root=tmp_path_factory.mktemp("empty"), checksums=fashion_checksums)


@pytest.fixture(scope="session")
def real_digits() -> ImageDataset:
    return digits()


@pytest.fixture
def small_dataset() -> ImageDataset:
    """3 classes with 30, 20 and 10 training images and 4 test images each; 2 channels, 5 x 6."""
    draws = np.random.default_rng(0)
    train_targets = draws.permutation(np.repeat([0, 1, 2], [30, 20, 10]))
    test_targets = np.repeat([0, 1, 2], 4)
    return ImageDataset(
        train_images=draws.integers(0, 256, (60, 2, 5, 6), dtype=np.uint8),
        train_targets=train_targets,
        test_images=draws.integers(0, 256, (12, 2, 5, 6), dtype=np.uint8),
        test_targets=test_targets,
        class_names=("ant", "bee", "cat"),
        mean=(0.3, 0.6),
        std=(0.2, 0.4),
        origin="made up",
    )
