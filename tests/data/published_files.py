"""Small datasets in the exact formats in which the real ones are published, made up by seed."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

IDX_NAMES = ("images-idx3-ubyte", "labels-idx1-ubyte")


@dataclass(frozen=True)
class Sample:
    """A dataset of the test's own: which source reads it, and how torchvision calls the same.

    ``write(folder)`` makes the published files in ``folder``, as they come from the web.
    """

    source: str
    classes: int
    write: Callable[[Path], None]
    reference: str
    arguments: dict[str, Any] = field(default_factory=dict)  # of the source, beside the location
    train: dict[str, Any] = field(default_factory=lambda: {"train": True})  # of torchvision
    test: dict[str, Any] = field(default_factory=lambda: {"train": False})
    first_label: int = 0  # what torchvision's labels begin with
    transposed: bool = False  # torchvision's images

    def __str__(self) -> str:
        return "-".join([self.source, *self.arguments.values()])


def labels_of(classes: int, per_class: int, first: int = 0) -> np.ndarray:
    """``per_class`` of each class, shuffled."""
    ordered = np.repeat(np.arange(first, first + classes, dtype=np.uint8), per_class)
    return np.random.default_rng(classes).permutation(ordered)


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(0, 256, shape, dtype=np.uint8)


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    """The IDX format as its inventors describe it, written with struct."""
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def idx_parts(classes: int, first: int = 0) -> dict[tuple[str, str], bytes]:
    """(part, kind) -> IDX bytes; two training images and one test image of every class."""
    made = {}
    for part, per_class in (("train", 2), ("test", 1)):
        labels = labels_of(classes, per_class, first)
        images = pixels(len(labels), 28, 28)
        made |= {
            (part, kind): idx_bytes(array)
            for kind, array in zip(IDX_NAMES, (images, labels), strict=True)
        }
    return made


def write_idx_gz(folder: Path) -> None:
    for (part, kind), content in idx_parts(10).items():
        name = f"{'t10k' if part == 'test' else part}-{kind}.gz"
        (folder / name).write_bytes(gzip.compress(content))


def write_emnist(folder: Path) -> None:
    """One zip with every split, in the folder ``gzip``, with the text files that are there too."""
    splits = {"byclass": (62, 0), "balanced": (47, 0), "letters": (26, 1), "digits": (10, 0)}
    with zipfile.ZipFile(folder / "gzip.zip", "w") as packed:
        packed.writestr("gzip/emnist-balanced-mapping.txt", "0 48\n")
        for split, (classes, first) in splits.items():
            for (part, kind), content in idx_parts(classes, first).items():
                packed.writestr(f"gzip/emnist-{split}-{part}-{kind}.gz", gzip.compress(content))


def write_svhn(folder: Path) -> None:
    for part, per_class in (("train", 2), ("test", 1)):
        labels = labels_of(10, per_class, first=1)  # 10 is the digit 0
        arrays = {"X": pixels(32, 32, 3, len(labels)), "y": labels[:, None]}
        savemat(folder / f"{part}_32x32.mat", arrays, do_compression=True)


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 and its numpy wrote: byte strings, and the module's old name."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=2)

    def save_text(self, text: str | bytes) -> None:
        content = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_text

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if getattr(obj, "__name__", "") == "_reconstruct":
            self.write(b"cnumpy.core.multiarray\n_reconstruct\n")
        else:
            super().save_global(obj, name)

    dispatch[type] = save_global
    dispatch[type(labels_of)] = save_global


def python2_pickle(content: Any) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file).dump(content)
    return file.getvalue()


def cifar_contents(classes: int) -> dict[str, Any]:
    """File name -> what is pickled in it."""
    train, test = labels_of(classes, 2), labels_of(classes, 1)
    train_rows, test_rows = pixels(len(train), 3072), pixels(len(test), 3072)
    names = [f"class {label}" for label in range(classes)]

    def batch(rows: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        listed = labels.tolist()
        described = {"data": rows, "filenames": ["x.png"] * len(rows), "batch_label": "a batch"}
        if classes == 10:
            return {**described, "labels": listed}
        return {**described, "fine_labels": listed, "coarse_labels": [0] * len(rows)}

    if classes == 100:
        meta = {"fine_label_names": names, "coarse_label_names": ["all"]}
        return {"train": batch(train_rows, train), "test": batch(test_rows, test), "meta": meta}
    parts = zip(np.split(train_rows, 5), np.split(train, 5), strict=True)
    batches = {f"data_batch_{n}": batch(*part) for n, part in enumerate(parts, 1)}
    meta = {"num_cases_per_batch": 4, "label_names": names, "num_vis": 3072}
    return {**batches, "test_batch": batch(test_rows, test), "batches.meta": meta}


def write_tar(path: Path, inside: str, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as packed:
        for name, content in {"readme.html": b"<html>", **files}.items():
            entry = tarfile.TarInfo(f"{inside}/{name}")
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))


def cifar_files(classes: int) -> dict[str, bytes]:
    return {name: python2_pickle(content) for name, content in cifar_contents(classes).items()}


def write_cifar10(folder: Path) -> None:
    write_tar(folder / "cifar-10-python.tar.gz", "cifar-10-batches-py", cifar_files(10))


def write_cifar100(folder: Path) -> None:
    write_tar(folder / "cifar-100-python.tar.gz", "cifar-100-python", cifar_files(100))


def emnist_sample(split: str, classes: int, first: int = 0) -> Sample:
    train, test = ({"split": split, "train": is_train} for is_train in (True, False))
    return Sample(
        *("emnist", classes, write_emnist, "EMNIST", {"split": split}, train, test),
        first_label=first,
        transposed=True,
    )


SAMPLES = (
    Sample("mnist", 10, write_idx_gz, "MNIST"),
    Sample("kmnist", 10, write_idx_gz, "KMNIST"),
    Sample("fashion_mnist", 10, write_idx_gz, "FashionMNIST"),
    emnist_sample("byclass", 62),
    emnist_sample("balanced", 47),
    emnist_sample("letters", 26, first=1),
    Sample("svhn", 10, write_svhn, "SVHN", {}, {"split": "train"}, {"split": "test"}),
    Sample("cifar10", 10, write_cifar10, "CIFAR10"),
    Sample("cifar100", 100, write_cifar100, "CIFAR100"),
)
