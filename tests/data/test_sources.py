"""The two datasets against what is published about them, and the search for Fashion-MNIST."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from lossbench.data import sources
from lossbench.data.sources import FASHION_MNIST_FILES, ImageDataset, digits, fashion_mnist
from lossbench.errors import InputError

Write = Callable[[Path, np.ndarray], bytes]


@pytest.fixture
def no_debian(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sources, "DEBIAN_FASHION_MNIST", tmp_path / "no-debian-package")


def write_small(folder: Path, write_idx: Write, suffix: str) -> dict[str, str]:
    """Six training and three test images in four files; returns their checksums."""
    folder.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(0)
    arrays = {
        "train_images": draws.integers(0, 256, (6, 28, 28), dtype=np.uint8),
        "train_targets": np.array([0, 9, 3, 3, 7, 1], dtype=np.uint8),
        "test_images": draws.integers(0, 256, (3, 28, 28), dtype=np.uint8),
        "test_targets": np.array([5, 5, 8], dtype=np.uint8),
    }
    return {
        name: hashlib.md5(write_idx(folder / (name + suffix), arrays[part])).hexdigest()
        for part, name in FASHION_MNIST_FILES.items()
    }


def test_digits_are_scikit_learns_scaled_to_bytes(real_digits: ImageDataset) -> None:
    bunch = load_digits()
    both = np.concatenate([real_digits.train_images, real_digits.test_images])
    ours = sorted((image / 255 * 16).round().tobytes() for image in both[:, 0])
    assert ours == sorted(image.tobytes() for image in bunch.images)
    targets = np.concatenate([real_digits.train_targets, real_digits.test_targets])
    np.testing.assert_array_equal(np.bincount(targets), np.bincount(bunch.target))


def test_digits_hold_out_a_fifth_of_every_class(real_digits: ImageDataset) -> None:
    per_class = np.bincount(load_digits().target)
    np.testing.assert_array_equal(
        np.bincount(real_digits.test_targets), [int(0.2 * n) for n in per_class]
    )
    assert np.bincount(real_digits.train_targets).min() == 140  # protocols: 140 left of 174


def test_digits_never_change(real_digits: ImageDataset) -> None:
    np.random.seed(7)  # the global generator must not matter
    again = digits()
    np.testing.assert_array_equal(again.test_images, real_digits.test_images)
    np.testing.assert_array_equal(again.train_targets, real_digits.train_targets)
    held_out = hashlib.sha256(again.test_images.tobytes()).hexdigest()
    assert held_out[:16] == "8f662e08d1603cb7"


def test_normalisation_constants_are_those_of_the_training_images(
    real_digits: ImageDataset, real_fashion_mnist: ImageDataset
) -> None:
    for dataset in (real_digits, real_fashion_mnist):
        share = np.bincount(dataset.train_images.ravel(), minlength=256) / dataset.train_images.size
        grey = np.arange(256) / 255
        mean = share @ grey
        assert mean == pytest.approx(dataset.mean[0], abs=5e-5)
        assert np.sqrt(share @ (grey - mean) ** 2) == pytest.approx(dataset.std[0], abs=5e-5)


def test_real_fashion_mnist_has_its_published_shape(real_fashion_mnist: ImageDataset) -> None:
    assert real_fashion_mnist.train_images.shape == (60000, 1, 28, 28)
    assert real_fashion_mnist.test_images.shape == (10000, 1, 28, 28)
    assert np.bincount(real_fashion_mnist.train_targets).tolist() == [6000] * 10
    assert np.bincount(real_fashion_mnist.test_targets).tolist() == [1000] * 10
    assert real_fashion_mnist.class_names[9] == "Ankle boot"
    assert real_fashion_mnist.train_targets[0] == 9  # the first training image is a boot
    assert "dataset-fashion-mnist" in real_fashion_mnist.origin


def test_torchvision_reads_the_same_images(
    tmp_path: Path, real_fashion_mnist: ImageDataset
) -> None:
    from torchvision.datasets import FashionMNIST

    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in FASHION_MNIST_FILES.values():
        packed = sources.DEBIAN_FASHION_MNIST / f"{name}.gz"
        (raw / name).write_bytes(gzip.decompress(packed.read_bytes()))
    theirs = FashionMNIST(tmp_path, train=False)
    np.testing.assert_array_equal(theirs.data.numpy(), real_fashion_mnist.test_images[:, 0])
    np.testing.assert_array_equal(theirs.targets.numpy(), real_fashion_mnist.test_targets)
    assert tuple(theirs.classes) == real_fashion_mnist.class_names


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_an_archive_folder_is_read_and_checked(
    tmp_path: Path, write_idx: Write, suffix: str
) -> None:
    checksums = write_small(tmp_path, write_idx, suffix)
    dataset = fashion_mnist(archive=tmp_path, checksums=checksums)
    assert dataset.train_targets.tolist() == [0, 9, 3, 3, 7, 1]
    assert dataset.train_targets.dtype == np.int64
    assert dataset.test_images.shape == (3, 1, 28, 28)
    assert dataset.origin == f"data.archive={tmp_path}"


def test_every_file_is_checked_and_null_checks_none(tmp_path: Path, write_idx: Write) -> None:
    checksums = write_small(tmp_path, write_idx, ".gz")
    for name in FASHION_MNIST_FILES.values():
        with pytest.raises(InputError, match=f"{name}.gz is not the expected file"):
            fashion_mnist(archive=tmp_path, checksums={**checksums, name: "0" * 32})
    assert len(fashion_mnist(archive=tmp_path, checksums=None).train_targets) == 6


@pytest.mark.parametrize("name", FASHION_MNIST_FILES.values())
def test_a_missing_or_truncated_file_of_an_archive_is_named(
    tmp_path: Path, write_idx: Write, name: str
) -> None:
    write_small(tmp_path, write_idx, "")
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-3])
    with pytest.raises(InputError, match=f"{name} is truncated"):
        fashion_mnist(archive=tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=f"no file {name} or {name}.gz.*name a folder"):
        fashion_mnist(archive=tmp_path)


def test_an_archive_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.archive=.*nowhere.*name a folder"):
        fashion_mnist(archive=tmp_path / "nowhere")


def test_a_downloaded_copy_comes_before_debian_and_an_archive_before_both(
    tmp_path: Path, write_idx: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian, cache, archive = tmp_path / "debian", tmp_path / "cache", tmp_path / "archive"
    monkeypatch.setattr(sources, "DEBIAN_FASHION_MNIST", debian)
    monkeypatch.setenv("LOSSBENCH_DATA", str(cache))
    write_small(debian, write_idx, ".gz")
    assert "Debian" in fashion_mnist().origin
    write_small(cache / "FashionMNIST" / "raw", write_idx, "")
    assert fashion_mnist().origin == f"torchvision's copy in {cache}"
    write_small(archive, write_idx, "")
    assert str(archive) in fashion_mnist(archive=archive).origin


@pytest.mark.usefixtures("no_debian")
def test_without_a_copy_torchvision_downloads_once(
    tmp_path: Path, write_idx: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(root: str, download: bool) -> None:
        asked.append(download)
        write_small(Path(root, "FashionMNIST", "raw"), write_idx, "")

    monkeypatch.setattr("torchvision.datasets.FashionMNIST", download)
    first, second = fashion_mnist(root=tmp_path / "new"), fashion_mnist(root=tmp_path / "new")
    assert asked == [True]
    assert "downloaded by torchvision" in first.origin
    assert "torchvision's copy" in second.origin
    np.testing.assert_array_equal(first.train_images, second.train_images)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["FashionMNIST"]


@pytest.mark.usefixtures("no_debian")
@pytest.mark.parametrize(
    "failure", [RuntimeError("Error downloading x:\nTried y"), OSError("no route to host")]
)
def test_a_failed_download_says_how_to_provide_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def download(root: str, download: bool) -> None:
        raise failure

    monkeypatch.setattr("torchvision.datasets.FashionMNIST", download)
    with pytest.raises(InputError) as error:
        fashion_mnist(root=tmp_path)
    message = str(error.value)
    assert "data.archive=FOLDER" in message
    assert "apt-get install dataset-fashion-mnist" in message
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []  # nothing half downloaded is left


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"train_images": np.zeros((60, 2, 5, 6))}, "train images must be uint8"),
        ({"train_images": np.zeros((60, 5, 6), np.uint8)}, r"of shape \(60, 5, 6\)"),
        ({"test_targets": np.zeros(11, np.int64)}, "test targets must be int64"),
        ({"test_targets": np.zeros(12, np.int32)}, "int32"),
        ({"test_targets": np.full(12, 3)}, "3 class names they must be 0 to 2"),
        ({"train_targets": np.full(60, -1)}, "reach from -1 to -1"),
        ({"test_images": np.zeros((12, 2, 6, 6), np.uint8)}, "test images"),
        ({"std": (1.0,)}, "std 1 values for 2 channels"),
    ],
)
def test_a_dataset_that_does_not_fit_together_is_refused(
    small_dataset: ImageDataset, change: dict, complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        replace(small_dataset, **change)
