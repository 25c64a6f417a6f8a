"""Split, imbalance and test images together, on the real datasets."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from lossbench.data.imbalance import ImbalanceSettings, counts, exponential, none, step
from lossbench.data.label_noise import symmetric
from lossbench.data.preparation import Augmentation, DataSettings, PreparedData, prepare
from lossbench.data.sources import ImageDataset
from lossbench.errors import InputError

FMNIST_100 = [6000, 3596, 2156, 1292, 774, 464, 278, 166, 100, 60]


def settings_with(validation_per_class: int, prior: str = "balanced") -> DataSettings:
    return DataSettings(128, validation_per_class, prior)


def long_tail(factor: float, **orders: str) -> ImbalanceSettings:
    return ImbalanceSettings(partial(exponential, factor=factor), **orders)


def test_real_fashion_mnist_has_the_published_counts(real_fashion_mnist: ImageDataset) -> None:
    prepared = prepare(real_fashion_mnist, settings_with(0), long_tail(100), seed=0)
    assert prepared.class_counts.tolist() == FMNIST_100
    assert np.bincount(prepared.train.targets).tolist() == FMNIST_100
    assert prepared.validation is None
    assert prepared.priors["val"] is None
    levels = ImbalanceSettings(partial(step, factor=50))
    prepared = prepare(real_fashion_mnist, settings_with(0), levels, seed=0)
    assert prepared.class_counts.tolist() == [6000] * 5 + [120] * 5


def test_validation_images_are_taken_before_the_imbalance(
    real_fashion_mnist: ImageDataset,
) -> None:
    prepared = prepare(real_fashion_mnist, settings_with(500), long_tail(100), seed=0)
    assert prepared.class_counts.tolist() == exponential(np.full(10, 5500), 100).tolist()
    assert prepared.validation is not None
    assert np.bincount(prepared.validation.targets).tolist() == [500] * 10


def test_real_digits_have_the_published_counts(real_digits: ImageDataset) -> None:
    prepared = prepare(real_digits, settings_with(0), long_tail(10), seed=0)
    assert prepared.class_counts.tolist() == [140, 108, 83, 64, 50, 38, 30, 23, 18, 14]
    whole = prepare(real_digits, settings_with(20), ImbalanceSettings(none), seed=0)
    assert whole.class_counts.tolist() == (np.bincount(real_digits.train_targets) - 20).tolist()


@pytest.mark.parametrize("prior", ["balanced", "training"])
@pytest.mark.parametrize("subset_order", ["seeded", "ldam"])
def test_parts_are_disjoint_and_their_ids_name_their_images(
    real_digits: ImageDataset, prior: str, subset_order: str
) -> None:
    orders = {"class_order": "random", "subset_order": subset_order}
    prepared = prepare(real_digits, settings_with(20, prior), long_tail(10, **orders), seed=3)
    train, validation, test = prepared.train, prepared.validation, prepared.test
    assert validation is not None
    together = [*train.ids, *validation.ids]
    assert len(set(together)) == len(together)
    for part in (train, validation):
        np.testing.assert_array_equal(part.inputs, real_digits.train_images[part.ids])
        np.testing.assert_array_equal(part.targets, real_digits.train_targets[part.ids])
    np.testing.assert_array_equal(test.inputs, real_digits.test_images)
    np.testing.assert_array_equal(test.ids, np.arange(len(real_digits.test_targets)))
    seen = {image.tobytes() for image in (*train.inputs, *validation.inputs)}
    assert not seen & {image.tobytes() for image in test.inputs}


def test_the_seed_draws_the_validation_images_and_the_subset(real_digits: ImageDataset) -> None:
    runs = [prepare(real_digits, settings_with(20), long_tail(10), seed) for seed in (0, 0, 1)]
    validation = [run.validation.ids.tolist() for run in runs if run.validation]
    assert validation[0] == validation[1] != validation[2]
    whole = [prepare(real_digits, settings_with(0), long_tail(10), seed) for seed in (0, 0, 1)]
    train = [run.train.ids.tolist() for run in whole]
    assert train[0] == train[1] != train[2]


def test_no_seed_moves_the_test_images(real_digits: ImageDataset) -> None:
    runs = [prepare(real_digits, settings_with(20), long_tail(10), seed) for seed in (0, 1)]
    np.testing.assert_array_equal(runs[0].test.inputs, runs[1].test.inputs)
    np.testing.assert_array_equal(runs[0].test.targets, runs[1].test.targets)
    assert set(runs[0].train.ids) != set(runs[1].train.ids)


def test_subsets_are_nested_behind_the_split_too(real_digits: ImageDataset) -> None:
    ids = [
        set(prepare(real_digits, settings_with(20), long_tail(factor), 0).train.ids)
        for factor in (1, 10, 100)
    ]
    assert ids[2] < ids[1] < ids[0]


def test_random_class_order_permutes_the_counts_by_seed_alone(real_digits: ImageDataset) -> None:
    def of(factor: float, seed: int) -> np.ndarray:
        tail = long_tail(factor, class_order="random")
        return prepare(real_digits, settings_with(0), tail, seed).class_counts

    given = prepare(real_digits, settings_with(0), long_tail(10), 0).class_counts
    assert sorted(of(10, 0)) == sorted(given)
    assert of(10, 0).tolist() != given.tolist()
    np.testing.assert_array_equal(np.argsort(of(10, 0)), np.argsort(of(5, 0)))
    assert np.argsort(of(10, 0)).tolist() != np.argsort(of(10, 1)).tolist()


def test_validation_can_have_the_training_prior(real_digits: ImageDataset) -> None:
    prepared = prepare(real_digits, settings_with(20, "training"), long_tail(10), seed=0)
    assert prepared.validation is not None
    expected = [max(1, int(20 * n / 120)) for n in prepared.class_counts]
    assert np.bincount(prepared.validation.targets).tolist() == expected
    balanced = prepare(real_digits, settings_with(20), long_tail(10), seed=0)
    assert balanced.validation is not None
    assert set(prepared.validation.ids) < set(balanced.validation.ids)
    np.testing.assert_array_equal(prepared.train.ids, balanced.train.ids)


def test_label_noise_thins_no_validation(real_digits: ImageDataset) -> None:
    noise = partial(symmetric, rate=0.5)
    made = [
        prepare(real_digits, settings_with(20, "training"), long_tail(10), 0, given)
        for given in (None, noise)
    ]
    clean, noisy = (prepared.validation for prepared in made)
    assert clean is not None
    assert noisy is not None
    assert made[0].class_counts.tolist() != made[1].class_counts.tolist()
    np.testing.assert_array_equal(noisy.ids, clean.ids)


def test_priors_are_class_shares(real_digits: ImageDataset) -> None:
    prepared = prepare(real_digits, settings_with(20), long_tail(10), seed=0)
    priors = prepared.priors
    assert set(priors) == {"train", "val", "test"}
    np.testing.assert_allclose(
        priors["train"], prepared.class_counts / prepared.class_counts.sum(), rtol=1e-15
    )
    assert priors["val"] == [0.1] * 10
    assert sum(priors["test"] or []) == pytest.approx(1)


def test_the_fingerprint_tells_what_images_a_run_has_seen(small_dataset: ImageDataset) -> None:
    settings, tail = settings_with(2), long_tail(2)

    def fingerprint(
        dataset: ImageDataset = small_dataset,
        settings: DataSettings = settings,
        tail: ImbalanceSettings = tail,
        seed: int = 0,
    ) -> str:
        return prepare(dataset, settings, tail, seed).subset_fingerprint

    same = fingerprint()
    assert fingerprint() == same
    assert fingerprint(settings=replace(settings, batch_size=7)) == same
    flipped_pixel = small_dataset.test_images.copy()
    flipped_pixel[3, 0, 0, 0] ^= 1
    others = [
        fingerprint(seed=1),
        fingerprint(settings=settings_with(3)),
        fingerprint(settings=settings_with(2, "training")),
        fingerprint(tail=long_tail(3)),
        fingerprint(tail=long_tail(2, subset_order="ldam")),
        fingerprint(dataset=replace(small_dataset, test_images=flipped_pixel)),
        fingerprint(dataset=replace(small_dataset, train_images=255 - small_dataset.train_images)),
    ]
    assert len({same, *others}) == len(others) + 1


def test_a_class_with_too_few_images_is_named(small_dataset: ImageDataset) -> None:
    with pytest.raises(InputError, match=r"validation_per_class=10 .*'cat'.*at most 9"):
        prepare(small_dataset, settings_with(10), long_tail(1), 0)
    fixed = ImbalanceSettings(partial(counts, counts=[20, 10, 9]))
    with pytest.raises(InputError, match=r"class 'cat' has too few images.*wants 9.*1 to 8"):
        prepare(small_dataset, settings_with(2), fixed, 0)
    assert prepare(small_dataset, settings_with(1), fixed, 0).class_counts.tolist() == [20, 10, 9]


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: DataSettings(0, 5), "data.batch_size=0 must be a whole number of at least 1"),
        (lambda: DataSettings(2.5, 5), "data.batch_size=2.5"),
        (lambda: DataSettings(8, -1), "data.validation_per_class=-1"),
        (lambda: DataSettings(8, True), "data.validation_per_class=True"),
        (lambda: DataSettings(8, 5, "train"), "validation_prior 'train'; did you mean 'training'"),
        (lambda: Augmentation(crop_padding=-2), "data.augmentation.crop_padding=-2"),
        (lambda: Augmentation(flip="left"), "data.augmentation.flip=left must be true or false"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: object, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        make()


def test_preparing_needs_no_torch() -> None:
    program = """
import sys
from lossbench.data.imbalance import ImbalanceSettings
from lossbench.data.preparation import DataSettings, prepare
from lossbench.data.sources import digits
print(prepare(digits(), DataSettings(32, 20), ImbalanceSettings(), 0).class_counts.sum())
print(sorted({"torch", "torchvision", "pytorch_lightning"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["1242", "[]"], done.stderr


def test_a_prepared_dataset_names_its_source(small_dataset: ImageDataset) -> None:
    prepared = prepare(small_dataset, settings_with(0), ImbalanceSettings(), 0)
    assert isinstance(prepared, PreparedData)
    assert (prepared.origin, prepared.class_names) == ("made up", ("ant", "bee", "cat"))


def test_one_class_is_refused_by_name() -> None:
    images = np.zeros((4, 1, 2, 2), dtype=np.uint8)
    targets = np.zeros(4, dtype=np.int64)
    dataset = ImageDataset(images, targets, images, targets, ("cat",), (0.5,), (0.5,), "made up")
    with pytest.raises(InputError, match=r"one class, 'cat', .* at least two"):
        prepare(dataset, DataSettings(2, 0), ImbalanceSettings(), 0)
