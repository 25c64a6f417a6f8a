"""The validation split: sizes, disjointness, and what it depends on."""

from __future__ import annotations

import numpy as np
import pytest

from lossbench.data.split import split_validation, thin_to_prior
from lossbench.errors import InputError

NAMES = ("ant", "bee", "cat")
TARGETS = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [50, 30, 11]))


def test_every_class_gives_the_same_number_and_nothing_is_in_both() -> None:
    pool, validation = split_validation(TARGETS, 10, 0, NAMES)
    assert np.bincount(TARGETS[validation]).tolist() == [10, 10, 10]
    assert np.bincount(TARGETS[pool]).tolist() == [40, 20, 1]
    assert sorted([*pool, *validation]) == list(range(91))
    assert (np.diff(pool) > 0).all()
    assert (np.diff(validation) > 0).all()


def test_zero_carves_nothing() -> None:
    pool, validation = split_validation(TARGETS, 0, 0, NAMES)
    assert pool.tolist() == list(range(91))
    assert validation.size == 0


def test_the_seed_decides_and_smaller_validation_sets_lie_within_larger_ones() -> None:
    of_ten = split_validation(TARGETS, 10, 0, NAMES)[1]
    assert split_validation(TARGETS, 10, 0, NAMES)[1].tolist() == of_ten.tolist()
    assert split_validation(TARGETS, 10, 1, NAMES)[1].tolist() != of_ten.tolist()
    assert set(split_validation(TARGETS, 4, 0, NAMES)[1]) < set(of_ten)


def test_a_class_draws_the_same_whatever_the_others_hold() -> None:
    without_cats = TARGETS[TARGETS != 2]
    whole = split_validation(TARGETS, 5, 3, NAMES)[1]
    part = split_validation(without_cats, 5, 3, NAMES[:2])[1]
    bees_of_whole = np.searchsorted(np.flatnonzero(TARGETS == 1), whole[TARGETS[whole] == 1])
    bees_of_part = np.searchsorted(np.flatnonzero(without_cats == 1), part[without_cats[part] == 1])
    np.testing.assert_array_equal(bees_of_whole, bees_of_part)


def test_classes_of_one_size_draw_independently() -> None:
    targets = np.repeat([0, 1, 2], 40)
    validation = split_validation(targets, 10, 0, NAMES)[1].reshape(3, 10) % 40
    assert len({tuple(places) for places in validation}) == 3
    thin = thin_to_prior(np.arange(120), targets, np.array([40, 20, 20]), 40, 0)
    assert set(thin[40:60] % 40) != set(thin[60:] % 40)


def test_the_global_generator_is_neither_used_nor_moved() -> None:
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    first = split_validation(TARGETS, 5, 0, NAMES)[1]
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    np.random.seed(1)
    np.testing.assert_array_equal(split_validation(TARGETS, 5, 0, NAMES)[1], first)


@pytest.mark.parametrize("per_class", [11, 12, 500])
def test_a_class_without_a_training_image_left_is_named(per_class: int) -> None:
    with pytest.raises(InputError, match=r"class 'cat'.*it has 11; take at most 10"):
        split_validation(TARGETS, per_class, 0, NAMES)


def test_a_class_without_images_is_named_even_without_validation() -> None:
    with pytest.raises(InputError, match="class 'dog' without a training image: it has 0"):
        split_validation(TARGETS, 0, 0, (*NAMES, "dog"))


def test_thinning_follows_the_training_counts_rounded_down_but_keeps_one() -> None:
    validation = split_validation(TARGETS, 10, 0, NAMES)[1]
    counts = np.array([40, 19, 1])  # 10 * 19 / 40 = 4.75 and 10 * 1 / 40 = 0.25
    thin = thin_to_prior(validation, TARGETS, counts, 10, 0)
    assert np.bincount(TARGETS[thin]).tolist() == [10, 4, 1]
    assert set(thin) < set(validation)
    assert (np.diff(thin) > 0).all()


def test_thinning_is_nested_and_seeded() -> None:
    validation = split_validation(TARGETS, 10, 0, NAMES)[1]

    def thin(counts: list[int], seed: int) -> list[int]:
        return thin_to_prior(validation, TARGETS, np.array(counts), 10, seed).tolist()

    assert set(thin([40, 8, 4], 0)) < set(thin([40, 20, 12], 0))
    assert thin([40, 8, 4], 0) == thin([40, 8, 4], 0)
    assert thin([40, 8, 4], 0) != thin([40, 8, 4], 1)
