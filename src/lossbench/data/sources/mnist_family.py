"""MNIST and the datasets in its format: four IDX files of grey images, (1, 28, 28)."""

from __future__ import annotations

from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits

import numpy as np

from lossbench.data.sources.dataset import ImageDataset
from lossbench.data.sources.idx import parse_idx
from lossbench.data.sources.published import Checksums, Published
from lossbench.errors import unknown

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # of dataset-fashion-mnist

_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

FASHION_MNIST_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
KMNIST_CLASSES = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
_MERGED = tuple(digits + ascii_uppercase + "abdefghnqrt")  # the small letters that differ
EMNIST_CLASSES = {
    "byclass": tuple(digits + ascii_uppercase + ascii_lowercase),
    "bymerge": _MERGED,
    "balanced": _MERGED,
    "letters": tuple(ascii_lowercase),
    "digits": tuple(digits),
    "mnist": tuple(digits),
}


def mnist(
    archive: str | Path | None = None,
    root: str | Path | None = None,
    checksums: Checksums = None,
) -> ImageDataset:
    """MNIST (LeCun, Bottou, Bengio and Haffner, 1998): 60,000 and 10,000 handwritten digits.

    Arguments and errors as for `fashion_mnist`, without Debian's package.
    """
    published = Published("MNIST", _FILES, ("MNIST/raw",), "MNIST")
    return _load(published, archive, root, checksums, tuple(digits), 0.1307, 0.3081)


def fashion_mnist(
    archive: str | Path | None = None,
    root: str | Path | None = None,
    checksums: Checksums = None,
) -> ImageDataset:
    """Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017): 60,000 and 10,000 images of clothes.

    Args:
        archive: folder with the four IDX files, plain or ``.gz``, or a zip or tar of them. None
            looks for a copy that torchvision has downloaded below ``root``, then for Debian's
            package dataset-fashion-mnist, and at last has torchvision download one into ``root``.
        root: default is the environment variable LOSSBENCH_DATA, else ``~/.cache/lossbench``.
        checksums: file name -> MD5, by the rule in `lossbench.data.sources.published`. None, for
            a file or for all, reads without checking.

    Raises `InputError` that names the file if one is missing, damaged or another one.
    """
    published = Published(
        title="Fashion-MNIST",
        files=_FILES,
        places=("FashionMNIST/raw",),
        downloader="FashionMNIST",
        packaged=(DEBIAN_FASHION_MNIST, "dataset-fashion-mnist"),
    )
    return _load(published, archive, root, checksums, FASHION_MNIST_CLASSES, 0.2860, 0.3530)


def kmnist(
    archive: str | Path | None = None,
    root: str | Path | None = None,
    checksums: Checksums = None,
) -> ImageDataset:
    """Kuzushiji-MNIST (Clanuwat et al., 2018): 60,000 and 10,000 images of ten cursive hiragana.

    Arguments and errors as for `fashion_mnist`, without Debian's package.
    """
    published = Published("Kuzushiji-MNIST", _FILES, ("KMNIST/raw",), "KMNIST")
    return _load(published, archive, root, checksums, KMNIST_CLASSES, 0.1918, 0.3483)


def emnist(
    archive: str | Path | None = None,
    root: str | Path | None = None,
    checksums: Checksums = None,
    split: str = "balanced",
) -> ImageDataset:
    """EMNIST (Cohen, Afshar, Tapson and van Schaik, 2017): handwritten digits and letters.

    The files hold every image transposed, and torchvision gives them so; here they are upright.
    Classes are those of torchvision, but for ``letters``: its labels 1 to 26 become 0 to 25, for
    no image has label 0. One mean and deviation, that of byclass, normalises all splits.

    Args:
        archive: the file gzip.zip that NIST publishes, a folder with it, or a folder with the
            split's four IDX files, plain or ``.gz``. None looks below ``root``, then downloads.
        root: as for `fashion_mnist`.
        checksums: as for `fashion_mnist`; published is only the one of gzip.zip.
        split: byclass (62 classes), bymerge and balanced (47), letters (26), digits and mnist (10).

    Raises `InputError` as `fashion_mnist` does, and for an unknown split.
    """
    if split not in EMNIST_CLASSES:
        raise unknown("data.split", split, EMNIST_CLASSES)
    published = Published(
        title="EMNIST",
        files=tuple(
            f"emnist-{split}-{part}-{kind}-ubyte"
            for part in ("train", "test")
            for kind in ("images-idx3", "labels-idx1")
        ),
        places=("EMNIST/raw/gzip.zip", "EMNIST/raw"),
        downloader="EMNIST",
        downloads=({"split": split},),
    )
    names = EMNIST_CLASSES[split]
    first = 1 if split == "letters" else 0
    return _load(
        published,
        archive,
        root,
        checksums,
        names,
        0.1736,
        0.3317,
        transposed=True,
        first_label=first,
    )


def _load(
    published: Published,
    archive: str | Path | None,
    root: str | Path | None,
    checksums: Checksums,
    class_names: tuple[str, ...],
    mean: float,
    std: float,
    *,
    transposed: bool = False,
    first_label: int = 0,
) -> ImageDataset:
    """Find, check and parse the four files of ``published``, in the order of its ``files``."""
    place, origin = published.find(archive, root)
    content = published.read(place, checksums)
    images, targets = [], []
    for name in published.files:
        is_images = "images" in name
        array = parse_idx(content.pop(name), f"{place}/{name}", dimensions=3 if is_images else 1)
        if is_images:
            upright = array.transpose(0, 2, 1) if transposed else array
            images.append(np.ascontiguousarray(upright)[:, None])
        else:
            targets.append(array.astype(np.int64) - first_label)
    return ImageDataset(
        train_images=images[0],
        train_targets=targets[0],
        test_images=images[1],
        test_targets=targets[1],
        class_names=class_names,
        mean=(mean,),
        std=(std,),
        origin=origin,
    )
