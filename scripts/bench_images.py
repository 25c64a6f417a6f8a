"""Images per second from a folder of JPEGs: our stream, our cache, and plain torchvision.

    python scripts/bench_images.py [--images 2000] [--side 256] [--size 224] [--workers 0 1 2]
                                   [--rounds 3]

One epoch of training batches each: decoding, resizing, a random resized crop, a flip, and
normalised float32 batches. torchvision is ImageFolder with the same transforms and a DataLoader
with as many persistent workers. All take turns in one process, the first round is not counted, and
the ratio is the median over rounds of that to torchvision's in the same round.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from lossbench.data.datamodule import LossbenchDataModule
from lossbench.data.image_files import IMAGENET_MEAN, IMAGENET_STD, image_folder
from lossbench.data.imbalance import ImbalanceSettings
from lossbench.data.preparation import Augmentation, DataSettings, prepare

BATCH, CLASSES, SCALE = 64, 10, (0.08, 1.0)
Epoch = Callable[[int], Iterable[object]]


def write_images(folder: Path, count: int, side: int) -> None:
    """``count`` JPEGs of smooth noise, about as large as photos of their size, and a test part."""
    draws = np.random.default_rng(0)
    for part, number in (("train", count), ("test", CLASSES)):
        for index in range(number):
            place = folder / part / f"class_{index % CLASSES}"
            place.mkdir(parents=True, exist_ok=True)
            coarse = draws.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
            image.save(place / f"{index}.jpg", quality=90)


def ours(folder: Path, size: int, workers: int, cache_mb: int | None) -> Epoch:
    """Our loader; with ``cache_mb`` all images are decoded when it is made."""
    files = image_folder(folder, size=size)
    augmentation = Augmentation(flip=True, random_resized_crop=SCALE)
    settings = DataSettings(BATCH, 0, "balanced", augmentation, workers, cache_mb)
    data = LossbenchDataModule(prepare(files, settings, ImbalanceSettings(), 0), settings, 0)
    loader = data.train_dataloader()

    def epoch(number: int) -> Iterable[object]:
        loader.set_epoch(number)
        return loader

    return epoch


def plain(folder: Path, size: int, workers: int) -> Epoch:
    """torchvision's ImageFolder and a DataLoader, as its tutorials write them."""
    transform = v2.Compose(
        [
            v2.Resize(round(size * 8 / 7)),
            v2.RandomResizedCrop(size, SCALE),
            v2.RandomHorizontalFlip(),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    images = ImageFolder(str(folder / "train"), transform)
    loader = DataLoader(
        images,
        BATCH,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
    return lambda number: loader


def seconds(epoch: Epoch, number: int) -> float:
    began = time.perf_counter()
    for _ in epoch(number):
        pass
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder, given.images, given.side)
        contenders: dict[str, tuple[str, Epoch]] = {}
        for workers in given.workers:
            reference = f"torchvision, {workers} workers"
            contenders[reference] = reference, plain(folder, given.size, workers)
            contenders[f"our stream, {workers} workers"] = (
                *(reference, ours(folder, given.size, workers, None)),
            )
        mebibytes = 2 + given.images * (round(given.size * 8 / 7) + 1) ** 2 * 3 // 2**20
        began = time.perf_counter()
        cached = ours(folder, given.size, 0, 2 * mebibytes)
        filled = time.perf_counter() - began
        contenders["our cache, 0 workers"] = f"torchvision, {given.workers[0]} workers", cached
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for number in range(given.rounds + 1):
            for name, (_, epoch) in contenders.items():
                taken = seconds(epoch, number)
                times[name] += [taken] if number else []
    print(
        f"{given.images} JPEGs of {given.side} x {given.side}, inputs {given.size} x {given.size}"
    )
    print(f"cache filled in {filled:.1f} s; medians of {given.rounds} epochs\n")
    print("| loader | images/s | against torchvision with as many workers |\n| --- | --- | --- |")
    for name, (reference, _) in contenders.items():
        ratios = [a / b for a, b in zip(times[reference], times[name], strict=True)]
        speed = given.images / statistics.median(times[name])
        print(f"| {name} | {speed:.0f} | {statistics.median(ratios):.2f} |")


if __name__ == "__main__":
    main()
