"""The two real datasets against what is published about them, and the search for one of them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from lossbench.data import sources
from lossbench.data.sources import ImageDataset, digits, emnist, fashion_mnist, mnist_family
from lossbench.errors import InputError
from tests.data.published_files import SAMPLES, write_idx_gz


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


# CIFAR: the LDAM-DRW code (Cao et al., 2019); MNIST: PyTorch's example; SVHN, KMNIST and EMNIST:
# as in common use with torchvision
PUBLISHED_CONSTANTS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "mnist": ((0.1307,), (0.3081,)),
    "kmnist": ((0.1918,), (0.3483,)),
    "emnist": ((0.1736,), (0.3317,)),
}


@pytest.mark.parametrize("source", PUBLISHED_CONSTANTS)
def test_normalisation_constants_are_the_published_ones(source: str, tmp_path: Path) -> None:
    sample = next(s for s in SAMPLES if s.source == source)
    sample.write(tmp_path)
    place = tmp_path / "gzip.zip" if source == "emnist" else tmp_path
    made = getattr(sources, source)(archive=place, **sample.arguments)
    assert (made.mean, made.std) == PUBLISHED_CONSTANTS[source]


def test_real_fashion_mnist_has_its_published_shape(real_fashion_mnist: ImageDataset) -> None:
    assert real_fashion_mnist.train_images.shape == (60000, 1, 28, 28)
    assert real_fashion_mnist.test_images.shape == (10000, 1, 28, 28)
    assert np.bincount(real_fashion_mnist.train_targets).tolist() == [6000] * 10
    assert np.bincount(real_fashion_mnist.test_targets).tolist() == [1000] * 10
    assert real_fashion_mnist.class_names[9] == "Ankle boot"
    assert real_fashion_mnist.train_targets[0] == 9  # the first training image is a boot
    assert "dataset-fashion-mnist" in real_fashion_mnist.origin


def test_a_downloaded_copy_comes_before_debian_and_an_archive_before_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian, cache, archive = tmp_path / "debian", tmp_path / "cache", tmp_path / "archive"
    monkeypatch.setattr(mnist_family, "DEBIAN_FASHION_MNIST", debian)
    monkeypatch.setenv("LOSSBENCH_DATA", str(cache))

    def origin_after(folder: Path, **location: Path) -> str:
        folder.mkdir(parents=True)
        write_idx_gz(folder)
        return fashion_mnist(**location).origin

    assert "Debian" in origin_after(debian)
    assert origin_after(cache / "FashionMNIST" / "raw") == f"torchvision's copy in {cache}"
    assert origin_after(archive, archive=archive) == f"data.archive={archive}"


def test_without_a_mirror_the_debian_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(root: str, download: bool) -> None:
        raise RuntimeError("Error downloading x:\nTried y")

    monkeypatch.setattr(mnist_family, "DEBIAN_FASHION_MNIST", tmp_path / "none")
    monkeypatch.setattr("torchvision.datasets.FashionMNIST", fail)
    with pytest.raises(InputError, match="apt-get install dataset-fashion-mnist") as error:
        fashion_mnist(root=tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("position", range(4))
def test_each_file_is_checked(tmp_path: Path, position: int) -> None:
    write_idx_gz(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    checksums = {name: hashlib.md5((tmp_path / name).read_bytes()).hexdigest() for name in names}
    checksums[names[position]] = "0" * 32
    with pytest.raises(InputError, match=f"{names[position]} is not the expected file"):
        fashion_mnist(archive=tmp_path, checksums=checksums)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(InputError, match=r"unknown data\.split 'by_class'; did you mean 'byclass'"):
        emnist(split="by_class")


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
