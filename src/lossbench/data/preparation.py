"""From a dataset to the samples of one run: split, imbalance, and what the record says of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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
from lossbench.data.selection import Dataset, Inputs, select
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
        random_resized_crop: (least, most) share of the area of a random window that is resized to
            the size of an image; its sides are 3:4 to 4:3. None: the centre. For images in files.

    Raises `InputError` for values of another kind.
    """

    crop_padding: int = 0
    flip: bool = False
    random_resized_crop: Sequence[float] | None = None

    def __post_init__(self) -> None:
        _check_whole_number("data.augmentation.crop_padding", self.crop_padding, 0)
        if not isinstance(self.flip, bool):
            raise InputError(f"data.augmentation.flip={self.flip} must be true or false")
        if self.random_resized_crop is None:
            return
        given = self.random_resized_crop
        if not _is_range_of_shares(given):
            raise InputError(
                f"data.augmentation.random_resized_crop={given} must be null or two shares of the"
                " area, 0 < least <= most <= 1, such as [0.08,1.0]"
            )
        if self.crop_padding:
            raise InputError(
                f"data.augmentation.crop_padding={self.crop_padding} and random_resized_crop are"
                " both random crops; set one of them to 0 or null"
            )


def _is_range_of_shares(given: object) -> bool:
    if not isinstance(given, Sequence) or len(given) != 2:
        return False
    return all(isinstance(x, int | float) for x in given) and 0 < given[0] <= given[1] <= 1


@dataclass(frozen=True)
class DataSettings:
    """The keys of the config group ``data`` that belong to the framework, not to the source.

    Attributes:
        batch_size: training images per step.
        validation_per_class: images of each class carved from the training images; 0 means none.
        validation_prior: "balanced" keeps them all, "training" thins them to the class
            proportions of the imbalanced training images.
        augmentation: see `Augmentation`.
        workers: processes that decode image files; None chooses.
        cache_mb: most mebibytes of decoded images to keep in memory; None keeps none.

    Raises `InputError` for values that are not allowed.
    """

    batch_size: int
    validation_per_class: int
    validation_prior: str = "balanced"
    augmentation: Augmentation = field(default_factory=Augmentation)
    workers: int | None = None
    cache_mb: int | None = None

    def __post_init__(self) -> None:
        _check_whole_number("data.batch_size", self.batch_size, 1)
        _check_whole_number("data.validation_per_class", self.validation_per_class, 0)
        if self.workers is not None:
            _check_whole_number("data.workers", self.workers, 0)
        if self.cache_mb is not None:
            _check_whole_number("data.cache_mb", self.cache_mb, 1)
        if self.validation_prior not in ("balanced", "training"):
            raise unknown("data.validation_prior", self.validation_prior, ("balanced", "training"))


def _check_whole_number(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{name}={value} must be a whole number of at least {least}")


@dataclass(frozen=True, eq=False)
class Split:
    """One part of the data: N inputs, targets (N,) int64, ids (N,) int64.

    Inputs are pixels (N, C, H, W) uint8, features (N, F) float32, or files of images. An id is the
    sample's index in the original training set (train and validation) or in the original test set:
    it names the same sample in every run.
    """

    inputs: Inputs
    targets: NDArray[np.int64]
    ids: NDArray[np.int64]

    def prior(self, num_classes: int) -> list[float]:
        """The share of each class among the samples."""
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
        input_shape: of one sample: (C, H, W), or (F,) for features.
        mean: per channel, for normalising pixels in [0, 1]; None for features.
        std: per channel, likewise.
        subset_fingerprint: SHA-256 over the chosen training and validation samples, the content of
            the dataset and noisy labels. Equal fingerprints mean: same samples in all three parts.
        origin: which copy of the data was read, in words.
        clean_targets: (N,) int64, the labels of ``train`` before label noise; None without noise.
    """

    train: Split
    validation: Split | None
    test: Split
    class_counts: NDArray[np.int64]
    class_names: tuple[str, ...]
    input_shape: tuple[int, ...]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
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
    dataset: Dataset | ImageDataset,
    settings: DataSettings,
    imbalance: ImbalanceSettings,
    seed: int,
    noise: label_noise.Noise | None = None,
) -> PreparedData:
    """Carve the validation samples, make the imbalance in what is left, keep the test samples.

    ``noise`` then makes training labels wrong; validation and test images keep their labels, and
    validation is thinned to the proportions of the images, not of the labels given.
    Everything random depends on ``seed`` and on the name of the draw only (lossbench.seeding).
    Raises `InputError` where a class has too few samples; the message names it.
    """
    targets, names = dataset.train_targets, dataset.class_names
    if len(names) < 2:
        raise InputError(
            f"the data have one class, {names[0]!r}, and classification needs at least two"
        )
    per_class = settings.validation_per_class
    pool, validation = split_validation(targets, per_class, seed, names)
    available = np.bincount(targets[pool], minlength=len(names))
    order = order_classes(imbalance.class_order, len(names), seed)
    counts = training_counts(imbalance.profile, available, order, names)
    train = pool[select_subset(targets[pool], counts, imbalance.subset_order, seed)]
    if settings.validation_prior == "training" and len(validation):
        validation = thin_to_prior(validation, targets, counts, per_class, seed)
    chosen = select(dataset, train, validation)
    _check_augmentation(settings.augmentation, chosen.test)
    given, fingerprint = targets[train], chosen.fingerprint
    if noise is not None:
        given = label_noise.apply(noise, given, train, names, seed)
        counts = np.bincount(given, minlength=len(names))
        fingerprint = hashlib.sha256(fingerprint.encode() + given.tobytes()).hexdigest()
    return PreparedData(
        train=Split(chosen.train, given, train),
        validation=(
            Split(chosen.validation, targets[validation], validation) if len(validation) else None
        ),
        test=Split(chosen.test, dataset.test_targets, np.arange(len(dataset.test_targets))),
        class_counts=counts,
        class_names=names,
        input_shape=chosen.input_shape,
        mean=chosen.mean,
        std=chosen.std,
        subset_fingerprint=fingerprint,
        origin=chosen.origin,
        clean_targets=None if noise is None else targets[train],
    )


def _check_augmentation(augmentation: Augmentation, inputs: Inputs) -> None:
    """Raises `InputError` where ``augmentation`` cannot be done to ``inputs``."""
    if not isinstance(inputs, np.ndarray):
        return
    if augmentation.random_resized_crop is not None:
        raise InputError(
            f"data.augmentation.random_resized_crop={augmentation.random_resized_crop} is for"
            " images in files (image_folder, image_list); set it to null"
        )
    if inputs.dtype != np.uint8 and augmentation != Augmentation():
        raise InputError(
            "data.augmentation is for images; with features set crop_padding to 0 and flip to false"
        )
