"""Small folders of real image files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = ("ant", "bee", "cat")
TRAIN, TEST = (9, 7, 5), (3, 3, 3)


def write_folder(root: Path, train: tuple[int, ...] = TRAIN, test: tuple[int, ...] = TEST) -> Path:
    """``root``/train/CLASS/*.jpg and ``root``/test/CLASS/*.png, each of another size."""
    draws = np.random.default_rng(0)
    for part, counts, suffix in (("train", train, "jpg"), ("test", test, "png")):
        for label, (name, count) in enumerate(zip(CLASSES, counts, strict=True)):
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                height, width = draws.integers(20, 60, 2)
                pixels = draws.integers(0, 90, (height, width, 3)) + 150 * (np.arange(3) == label)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.{suffix}")
    return root


def config(folder: Path, kind: str = "image_folder", **data: Any) -> dict[str, Any]:
    """What Hydra makes of configs/data/KIND.yaml, at a size for tests."""
    augmentation = {"random_resized_crop": None, "crop_padding": 0, "flip": False}
    augmentation |= data.pop("augmentation", {})
    imbalance = data.pop("imbalance", {"_target_": "lossbench.data.imbalance.none"})
    return {
        "seed": data.pop("seed", 0),
        "data": {
            "_target_": f"lossbench.data.image_files.{kind}",
            "archive": str(folder),
            "size": 16,
            "resize": 20,
            "batch_size": 4,
            "validation_per_class": 2,
            "validation_prior": "balanced",
            "augmentation": augmentation,
            **data,
        },
        "imbalance": {"class_order": "given", "subset_order": "seeded", **imbalance},
    }
