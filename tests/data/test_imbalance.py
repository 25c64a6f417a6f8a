"""Profiles against the published counts, subsets against the published code."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from lossbench.data.configured import prepared_data
from lossbench.data.imbalance import (
    ImbalanceSettings,
    counts,
    exponential,
    linear,
    minority_step,
    none,
    order_classes,
    select_subset,
    shortfall,
    step,
    training_counts,
)
from lossbench.data.sources import ImageDataset
from lossbench.errors import InputError
from tests.data.test_data_configs import composed

# reference: the LDAM-DRW formula; totals as printed in the BagofTricks-LT and Leaderboard READMEs
PUBLISHED = [
    (5000, 10, "5000 3871 2997 2320 1796 1391 1077 834 645 500", 20431, 27500),
    (5000, 20, "5000 3584 2569 1842 1320 946 678 486 348 250", 17023, 26250),
    (5000, 50, "5000 3237 2096 1357 878 568 368 238 154 100", 13996, 25500),
    (5000, 100, "5000 2997 1796 1077 645 387 232 139 83 50", 12406, 25250),
    (5000, 200, "5000 2775 1540 854 474 263 146 81 45 25", 11203, 25125),
    (6000, 10, "6000 4645 3596 2784 2156 1669 1292 1000 774 600", 24516, 33000),
    (6000, 50, "6000 3884 2515 1628 1054 682 442 286 185 120", 16796, 30600),
    (6000, 100, "6000 3596 2156 1292 774 464 278 166 100 60", 14886, 30300),
    (6000, 200, "6000 3330 1848 1025 569 316 175 97 54 30", 13444, 30150),
    (1000, 100, "1000 599 359 215 129 77 46 27 16 10", 2478, 5050),
    (140, 10, "140 108 83 64 50 38 30 23 18 14", 568, 770),
]
CIFAR_100 = [
    (10, 50, 19573, 27500),
    (20, 25, 15907, 26250),
    (50, 10, 12608, 25500),
    (100, 5, 10847, 25250),
    (200, 2, 9502, 25100),
]
NAMES = tuple("abcdefghij")


@pytest.mark.parametrize(("n_max", "factor", "listed", "total", "step_total"), PUBLISHED)
def test_ten_classes_have_the_published_counts(
    n_max: int, factor: int, listed: str, total: int, step_total: int
) -> None:
    available = np.full(10, n_max)
    tail = exponential(available, factor)
    assert tail.tolist() == [int(number) for number in listed.split()]
    assert tail.sum() == total
    levels = step(available, factor)
    assert levels.sum() == step_total
    assert levels.tolist() == [n_max] * 5 + [n_max // factor] * 5


def test_svhn_lt_caps_the_head() -> None:
    """At 1000, of SVHN's training images by label 0 to 9 (protocols: 1000 599 ... 10)."""
    svhn = np.array([4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659])
    tail = [1000, 599, 359, 215, 129, 77, 46, 27, 16, 10]
    for profile, capped in ((exponential, tail), (step, [1000] * 5 + [10] * 5)):
        assert profile(svhn, 100, n_max=1000).tolist() == capped
        np.testing.assert_array_equal(profile(svhn, 100, n_max=9999), profile(svhn, 100))
        np.testing.assert_array_equal(profile(svhn, 100, n_max=None), profile(svhn, 100))
        assert profile(svhn, 100).max() == 4659


@pytest.mark.parametrize(("factor", "smallest", "total", "step_total"), CIFAR_100)
def test_hundred_classes_have_the_published_counts(
    factor: int, smallest: int, total: int, step_total: int
) -> None:
    available = np.full(100, 500)
    assert exponential(available, factor).min() == smallest
    assert exponential(available, factor).sum() == total
    assert step(available, factor).sum() == step_total


def test_the_smallest_class_limits_the_head() -> None:
    # an MNIST pickle: the LDAM code would take 5000 of a class that has 4932
    available = np.array([4932, 5678, 4968, 5101, 4859, 4506, 4951, 5175, 4842, 4988])
    assert exponential(available, 10)[0] == 4506
    assert step(available, 10).tolist() == [4506] * 5 + [450] * 5


def test_every_class_keeps_an_image() -> None:
    assert exponential(np.full(10, 140), 200).min() == 1  # 140 / 200 is 0.7
    assert step(np.full(10, 140), 200).tolist() == [140] * 5 + [1] * 5


def test_an_odd_number_of_classes_and_a_single_one() -> None:
    assert step(np.full(5, 100), 10).tolist() == [100, 100, 10, 10, 10]
    assert exponential(np.full(1, 100), 10).tolist() == [100]


def test_factor_one_and_none() -> None:
    available = np.array([50, 30, 11])
    assert exponential(available, 1).tolist() == [11, 11, 11]
    assert step(available, 1.0).tolist() == [11, 11, 11]
    assert none(available).tolist() == [50, 30, 11]


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        (10, [5000, 4500, 4000, 3500, 3000, 2500, 2000, 1500, 1000, 500]),
        (2, [5000, 4722, 4444, 4166, 3888, 3611, 3333, 3055, 2777, 2500]),
        (5000, [5000, 4444, 3889, 3333, 2778, 2222, 1667, 1111, 556, 1]),
    ],
)
def test_linear_counts_differ_by_the_same_number(factor: float, expected: list[int]) -> None:
    assert linear(np.full(10, 6000), factor, n_max=5000).tolist() == expected
    assert linear(np.array([9000] * 9 + [5000]), float(factor)).tolist() == expected


def test_linear_counts_that_are_whole_lose_nothing_to_rounding() -> None:
    for classes in range(2, 60):
        for factor in (10, 20, 50):
            whole = factor * (classes - 1)  # makes every difference a whole number
            kept = linear(np.full(classes, whole), factor)
            assert len(set(np.diff(kept))) == 1
            assert kept[-1] * factor == kept[0] == whole


@pytest.mark.parametrize("tenths", range(1, 10))
def test_a_minority_of_any_size_has_the_factor_exactly(tenths: int) -> None:
    """Buda's fractions 0.1 to 0.9 and factors 10 to 5000, on MNIST capped at 5000."""
    for factor in (10, 25, 50, 100, 250, 500, 1000, 2500, 5000):
        kept = minority_step(np.full(10, 5421), factor, tenths / 10, n_max=5000)
        assert kept.tolist() == [5000] * (10 - tenths) + [5000 // factor] * tenths


def test_a_minority_that_is_whole_loses_nothing_to_rounding() -> None:
    for factor in (49, 98, 103):  # n (1 / factor) in floats falls below n / factor
        kept = minority_step(np.full(10, 2 * factor), factor, 0.5)
        assert kept.tolist() == [2 * factor] * 5 + [2] * 5


@pytest.mark.parametrize("fraction", [0.04, 0.96])
def test_a_minority_of_none_or_all_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match=f"minority_fraction={fraction} makes .* 1 to 9 classes"):
        minority_step(np.full(10, 100), 10, fraction)


def test_only_a_factor_that_cannot_be_met_is_worth_a_word() -> None:
    for profile in (exponential, step, linear):
        for factor in (1, 1.5, 49, 50, 100, 139, 140):
            assert shortfall(factor, profile(np.full(10, 140), factor)) is None
        said = shortfall(141, profile(np.full(10, 140), 141))
        assert said is not None
        assert "imbalance.factor=141 cannot be met" in said
        assert said.endswith("the factor is 140")
    assert shortfall(None, np.array([9, 1])) is None  # counts, none
    assert shortfall(100, np.array([9, 2])) is None  # a profile of one's own: nothing was clipped


@pytest.mark.parametrize("profile", [exponential, step, linear])
@pytest.mark.parametrize("factor", [0.99, 0, -3, float("nan"), float("inf"), "ten", None, True])
def test_a_factor_that_is_no_imbalance_is_refused(profile: Callable, factor: object) -> None:
    with pytest.raises(InputError, match=f"imbalance.factor={factor} must be a finite number"):
        profile(np.full(10, 100), factor)


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        ([5, 5], r"imbalance wants \[5, 5\]; give 3 whole numbers"),
        ([5, 5, 5, 5], "give 3 whole numbers"),
        ([5, 2.5, 5], "give 3 whole numbers"),
        (["5", "x", "5"], "give 3 whole numbers"),
        ([5, 0, 5], "class 'bee' would be left without a training image.*wants 0.*1 to 30"),
        ([5, 5, -1], "class 'cat' would be left without a training image"),
        ([5, 5, 12], "class 'cat' has too few images.*wants 12.*1 to 11"),
        (None, "imbalance.counts=None must be a list of 3 numbers"),
        (7, "imbalance.counts=7 must be a list of 3 numbers"),
    ],
)
def test_counts_that_cannot_be_met_are_refused(wanted: object, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        training_counts(
            partial(counts, counts=wanted),
            np.array([50, 30, 11]),
            np.arange(3),
            ("ant", "bee", "cat"),
        )


def test_the_class_order_decides_who_is_the_head() -> None:
    available = np.array([50, 40, 30])
    names = ("ant", "bee", "cat")
    by_index = training_counts(
        partial(counts, counts=[30, 5, 1]), available, np.array([2, 0, 1]), names
    )
    assert by_index.tolist() == [5, 1, 30]
    with pytest.raises(InputError, match="class 'cat' has too few"):
        training_counts(partial(counts, counts=[31, 5, 1]), available, np.array([2, 0, 1]), names)


def test_a_profile_is_shown_the_available_images_in_class_order() -> None:
    available = np.array([50, 30, 11])
    kept = training_counts(none, available, np.array([2, 0, 1]), ("ant", "bee", "cat"))
    assert kept.tolist() == [50, 30, 11]


def test_random_class_order_is_a_permutation_shared_by_the_seed() -> None:
    orders = [tuple(order_classes("random", 10, seed)) for seed in range(20)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len(set(orders)) == 20
    assert orders[3] == tuple(order_classes("random", 10, 3))
    assert order_classes("given", 10, 3).tolist() == list(range(10))


def ldam_drw(targets: np.ndarray, per_class: list[int]) -> list[int]:
    """The published way: the global legacy generator, seed 0, classes in order."""
    state = np.random.get_state()
    np.random.seed(0)
    chosen: list[int] = []
    for label, wanted in zip(np.unique(targets), per_class, strict=True):
        indices = np.where(targets == label)[0]
        np.random.shuffle(indices)
        chosen += indices[:wanted].tolist()
    np.random.set_state(state)
    return chosen


def test_ldam_order_is_that_of_the_published_code(real_fashion_mnist: ImageDataset) -> None:
    targets = real_fashion_mnist.train_targets
    per_class = exponential(np.bincount(targets), 100)
    ours = select_subset(targets, per_class, "ldam", seed=5)
    assert ours.tolist() == ldam_drw(targets, per_class.tolist())
    assert len(ours) == 14886
    digest = hashlib.sha256(ours.astype("<i8").tobytes()).hexdigest()
    assert digest == "ed7a73125b2eb63a36be421826f78f842318f4af247699425c5a60caba7dd240"


def cifar_like(classes: int, order: str) -> ImageDataset:
    """50,000 labels, 500 or 5000 per class, in one of two orders of the file; images of a pixel."""
    targets = np.repeat(np.arange(classes), 50_000 // classes)
    if order == "mixed":
        np.random.default_rng(3).shuffle(targets)
    pixel = np.zeros((50_000, 1, 1, 1), dtype=np.uint8)
    names = tuple(str(label) for label in range(classes))
    return ImageDataset(pixel, targets, pixel, targets, names, (0.0,), (1.0,), "made up")


def imbalanced_cifar(targets: list[int], classes: int, kind: str, mu: float) -> list[int]:
    """LDAM-DRW as protocols.md 1.1 tells it, from the labels alone."""
    img_max = len(targets) / classes
    if kind == "exponential":
        numbers = [int(img_max * (mu ** (i / (classes - 1.0)))) for i in range(classes)]
    else:
        half = classes // 2
        numbers = [int(img_max)] * half + [int(img_max * mu)] * half
    return ldam_drw(np.array(targets), numbers)


@pytest.mark.parametrize("kind", ["exponential", "step"])
@pytest.mark.parametrize(("classes", "order"), [(10, "mixed"), (100, "mixed"), (10, "sorted")])
def test_ldam_profiles_keep_the_published_images(classes: int, order: str, kind: str) -> None:
    """Whatever the seed, image for image and in order, for every published factor."""
    made = cifar_like(classes, order)
    for factor, mu in ((10, 0.1), (20, 0.05), (50, 0.02), (100, 0.01), (200, 0.005)):
        config = composed(
            f"imbalance=ldam_{kind}",
            "data=digits",
            "+data.validation_per_class=0",
            f"+imbalance.factor={factor}",
            f"+data._target_={__name__}.cifar_like",
            "allow=[tests]",
            f"+data.classes={classes}",
            f"+data.order={order}",
        )
        ids = prepared_data(config | {"seed": factor})[0].train.ids
        published = imbalanced_cifar(made.train_targets.tolist(), classes, kind, mu)
        assert ids.tolist() == published


def test_ldam_order_ignores_the_seed_and_the_global_generator() -> None:
    targets = np.random.default_rng(2).integers(0, 10, 2000)
    per_class = np.full(10, 50)
    first = select_subset(targets, per_class, "ldam", seed=0)
    np.random.seed(99)
    np.testing.assert_array_equal(select_subset(targets, per_class, "ldam", seed=1), first)


@pytest.mark.parametrize("subset_order", ["seeded", "ldam"])
def test_a_subset_has_the_counts_and_no_image_twice(subset_order: str) -> None:
    targets = np.random.default_rng(2).integers(0, 10, 2000)
    per_class = exponential(np.bincount(targets), 20)
    chosen = select_subset(targets, per_class, subset_order, seed=4)
    np.testing.assert_array_equal(np.bincount(targets[chosen]), per_class)
    assert len(set(chosen.tolist())) == per_class.sum()


def test_seeded_subsets_of_growing_factors_are_nested() -> None:
    targets = np.random.default_rng(2).integers(0, 10, 3000)
    available = np.bincount(targets)
    subsets = [
        set(select_subset(targets, profile, "seeded", seed=4).tolist())
        for profile in (available, *(exponential(available, f) for f in (1, 10, 50, 100, 200)))
    ]
    for larger, smaller in pairwise(subsets):
        assert smaller < larger
    assert set(select_subset(targets, step(available, 200), "seeded", seed=4).tolist()) < subsets[1]


def test_seeded_subsets_differ_between_seeds_and_repeat_within_one() -> None:
    targets = np.repeat(np.arange(10), 100)
    per_class = np.full(10, 20)
    subsets = [select_subset(targets, per_class, "seeded", seed).tolist() for seed in (0, 0, 1)]
    assert subsets[0] == subsets[1]
    assert set(subsets[0]) != set(subsets[2])
    places = np.sort(np.reshape(subsets[0], (10, 20)) % 100)
    assert len({tuple(row) for row in places}) == 10  # no two classes keep the same places


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"class_order": "randm"}, "unknown imbalance.class_order 'randm'; did you mean 'random'"),
        ({"subset_order": "LDAM"}, "unknown imbalance.subset_order 'LDAM'.*allowed: ldam, seeded"),
    ],
)
def test_unknown_orders_are_refused(settings: dict[str, str], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        ImbalanceSettings(**settings)
