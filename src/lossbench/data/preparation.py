"""From a dataset to the images of one run: split, imbalance, and what the record says of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lossbench.data import label_noise
from lossbench.data.imbalance import (
    ImbalanceSettings,
    order_classes,
    select_subset,
    training_counts,
)
from lossbench.data.sources import ImageDataset
from lossbench.data.split import split_validation, thin_to_prior
from lossbench.errors import InputError, unknown


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training images, drawn for each image on its own.

    Attributes:
        crop_padding: black pixels added on every side before a crop of the original size at a
            random place; 0 means no crop.
        flip: mirror left and right with probability 1/2.

    Raises `InputError` for values of another kind.
    """

    crop_padding: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        _check_whole_number("data.augmentation.crop_padding", self.crop_padding, 0)
        if not isinstance(self.flip, bool):
            raise InputError(f"data.augmentation.flip={self.flip} must be true or false")


@dataclass(frozen=True)
class DataSettings:
    """The keys of the config group ``data`` that belong to the framework, not to the source.

    Attributes:
        batch_size: training images per step.
        validation_per_class: images of each class carved from the training images; 0 means none.
        validation_prior: "balanced" keeps them all, "training" thins them to the class
            proportions of the imbalanced training images.
        augmentation: see `Augmentation`.

    Raises `InputError` for values that are not allowed.
    """

    batch_size: int
    validation_per_class: int
    validation_prior: str = "balanced"
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        _check_whole_number("data.batch_size", self.batch_size, 1)
        _check_whole_number("data.validation_per_class", self.validation_per_class, 0)
        if self.validation_prior not in ("balanced", "training"):
            raise unknown("data.validation_prior", self.validation_prior, ("balanced", "training"))


def _check_whole_number(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{name}={value} must be a whole number of at least {least}")


@dataclass(frozen=True, eq=False)
class Split:
    """One part of the data: images (N, C, H, W) uint8, targets (N,) int64, ids (N,) int64.

    An id is the image's index in the original training set (train and validation) or in the
    original test set: it names the same image in every run.
    """

    images: NDArray[np.uint8]
    targets: NDArray[np.int64]
    ids: NDArray[np.int64]

    def prior(self, num_classes: int) -> list[float]:
        """The share of each class among the images."""
        return (np.bincount(self.targets, minlength=num_classes) / len(self.targets)).tolist()


@dataclass(frozen=True, eq=False)
class PreparedData:
    """Everything a run needs to know about its data.

    Attributes:
        train: after split and imbalance; its targets are the labels given, with any label noise.
        validation: None if there is none.
        test: as the source has it.
        class_counts: (C,) int64, training images per given label: what losses are told.
        class_names: C names.
        mean: per channel, for normalising pixels in [0, 1].
        std: per channel, likewise.
        subset_fingerprint: SHA-256 over the chosen training and validation images, the content of
            the dataset and noisy labels. Equal fingerprints mean: same images in all three parts.
        origin: which copy of the data was read, in words.
        clean_targets: (N,) int64, the labels of ``train`` before label noise; None without noise.
    """

    train: Split
    validation: Split | None
    test: Split
    class_counts: NDArray[np.int64]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    subset_fingerprint: str
    origin: str
    clean_targets: NDArray[np.int64] | None = None

    @property
    def image_counts(self) -> NDArray[np.int64]:
        """(C,) int64: training images per true class, which label noise leaves as they are."""
        labels = self.train.targets if self.clean_targets is None else self.clean_targets
        return np.bincount(labels, minlength=len(self.class_names))

    @property
    def priors(self) -> dict[str, list[float] | None]:
        """Class shares of the parts: ``{"train": [...], "val": [...] or None, "test": [...]}``."""
        classes = len(self.class_names)
        return {
            "train": self.train.prior(classes),
            "val": None if self.validation is None else self.validation.prior(classes),
            "test": self.test.prior(classes),
        }


def prepare(
    dataset: ImageDataset,
    settings: DataSettings,
    imbalance: ImbalanceSettings,
    seed: int,
    noise: label_noise.Noise | None = None,
) -> PreparedData:
    """Carve the validation images, make the imbalance in what is left, keep the test images.

    ``noise`` then makes training labels wrong; validation and test images keep their labels, and
    validation is thinned to the proportions of the images, not of the labels given.
    Everything random depends on ``seed`` and on the name of the draw only (lossbench.seeding).
    Raises `InputError` where a class has too few images; the message names it.
    """
    targets, names = dataset.train_targets, dataset.class_names
    per_class = settings.validation_per_class
    pool, validation = split_validation(targets, per_class, seed, names)
    available = np.bincount(targets[pool], minlength=len(names))
    order = order_classes(imbalance.class_order, len(names), seed)
    counts = training_counts(imbalance.profile, available, order, names)
    train = pool[select_subset(targets[pool], counts, imbalance.subset_order, seed)]
    if settings.validation_prior == "training" and len(validation):
        validation = thin_to_prior(validation, targets, counts, per_class, seed)

    def part(ids: NDArray[np.int64], labels: NDArray[np.int64] = targets) -> Split:
        return Split(dataset.train_images[ids], labels[ids], ids)

    given = targets
    if noise is not None:
        given = targets.copy()
        given[train] = label_noise.apply(noise, targets[train], train, names, seed)
        counts = np.bincount(given[train], minlength=len(names))
    return PreparedData(
        train=part(train, given),
        validation=part(validation) if len(validation) else None,
        test=Split(dataset.test_images, dataset.test_targets, np.arange(len(dataset.test_targets))),
        class_counts=counts,
        class_names=names,
        mean=dataset.mean,
        std=dataset.std,
        subset_fingerprint=_fingerprint(
            dataset, train, validation, *([] if noise is None else [given[train]])
        ),
        origin=dataset.origin,
        clean_targets=None if noise is None else targets[train],
    )


def _fingerprint(
    dataset: ImageDataset,
    train: NDArray[np.int64],
    validation: NDArray[np.int64],
    *noisy_labels: NDArray[np.int64],
) -> str:
    digest = hashlib.sha256()
    arrays: tuple[NDArray[np.int64] | NDArray[np.uint8], ...] = (
        train,
        validation,
        dataset.train_images,
        dataset.train_targets,
        dataset.test_images,
        dataset.test_targets,
        *noisy_labels,
    )
    for array in arrays:
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
