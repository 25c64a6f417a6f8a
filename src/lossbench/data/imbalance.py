"""How many training images each class keeps (profiles), and which ones.

A profile maps the numbers of available images, listed from the first to the last class of the
class order, to the numbers wanted. Any function of that signature can be named by ``_target_``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossbench.errors import InputError, unknown
from lossbench.seeding import generator

Profile = Callable[[NDArray[np.int64]], ArrayLike]


def none(available: NDArray[np.int64]) -> NDArray[np.int64]:
    """Keep every available image."""
    return available


def exponential(
    available: NDArray[np.int64], factor: float, n_max: int | None = None
) -> NDArray[np.int64]:
    """Long tail: n_i = floor(n mu^(i / (C-1))), at least 1, for i = 0 .. C-1.

    mu = 1 / ``factor`` and n = min(``available``), the number that every class can give, or
    ``n_max`` where that is less: 1000 for SVHN-LT.
    ``factor`` is the imbalance factor, largest count over smallest, at least 1.
    (Cao et al., LDAM-DRW, 2019; Cui et al., Class-Balanced Loss, 2019.)
    """
    mu, n, steps = 1 / _checked_factor(factor), _capped(available, n_max), len(available) - 1
    # a power for each class: repeated multiplication would lose an image to rounding in the tail
    return _at_least_one(n * mu ** (i / max(steps, 1)) for i in range(len(available)))


def step(
    available: NDArray[np.int64], factor: float, n_max: int | None = None
) -> NDArray[np.int64]:
    """Two levels: n for the first floor(C/2) classes, floor(n mu), at least 1, for the others.

    mu = 1 / ``factor`` and n = min(``available``), or ``n_max`` where that is less, as in
    `exponential`.
    (Buda et al., 2018; Cao et al., LDAM-DRW, 2019, whose code drops the last class of an odd C.)
    """
    mu, n, heads = 1 / _checked_factor(factor), _capped(available, n_max), len(available) // 2
    return _at_least_one(n * (1 if i < heads else mu) for i in range(len(available)))


def counts(available: NDArray[np.int64], counts: Sequence[int] | None = None) -> ArrayLike:
    """The numbers in ``counts``, from the first to the last class of the class order."""
    if not isinstance(counts, Sequence):
        raise InputError(
            f"imbalance.counts={counts} must be a list of {len(available)} numbers, from the first"
            " to the last class of the class order"
        )
    return list(counts)


def linear(
    available: NDArray[np.int64], factor: float, n_max: int | None = None
) -> NDArray[np.int64]:
    """Equal differences: n_i = floor(n - (n - n mu) i / (C-1)), at least 1, for i = 0 .. C-1.

    mu = 1 / ``factor`` and n = min(``available``), or ``n_max`` where that is less.
    (Linear imbalance; Buda, Maki and Mazurowski, 2018.)
    """
    n, steps = _capped(available, n_max), max(len(available) - 1, 1)
    lost = n - n / Fraction(_checked_factor(factor))  # exact: a float can fall below a whole number
    return _at_least_one(n - lost * i / steps for i in range(len(available)))


def minority_step(
    available: NDArray[np.int64],
    factor: float,
    minority_fraction: float,
    n_max: int | None = None,
) -> NDArray[np.int64]:
    """Two levels: the last round(``minority_fraction`` C) classes keep floor(n mu), at least 1.

    The others keep n. mu = 1 / ``factor`` and n = min(``available``), or ``n_max`` where that is
    less. (Step imbalance; Buda, Maki and Mazurowski, 2018.) Raises `InputError` unless there is
    at least one class of either kind.
    """
    n, classes = _capped(available, n_max), len(available)
    minority = round(minority_fraction * classes)
    if not 0 < minority < classes:
        raise InputError(
            f"imbalance.minority_fraction={minority_fraction} makes {minority} of {classes} classes"
            f" a minority; allowed are 1 to {classes - 1} classes"
        )
    few = n / Fraction(_checked_factor(factor))
    return _at_least_one([n] * (classes - minority) + [few] * minority)


def _capped(available: NDArray[np.int64], n_max: int | None) -> int:
    least = int(min(available))
    return least if n_max is None else min(least, n_max)


def _checked_factor(factor: float) -> float:
    number = isinstance(factor, int | float) and not isinstance(factor, bool)
    if not number or not math.isfinite(factor) or factor < 1:
        raise InputError(
            f"imbalance.factor={factor} must be a finite number of at least 1: the largest class"
            " count over the smallest"
        )
    return factor


def _at_least_one(numbers: Iterable[float | Fraction]) -> NDArray[np.int64]:
    return np.array([max(1, int(number)) for number in numbers], dtype=np.int64)


@dataclass(frozen=True)
class ImbalanceSettings:
    """What is done to the training pool.

    Attributes:
        profile: numbers available -> numbers wanted, both in class order; see the module.
        class_order: "given" (by class index: class 0 is the head) or "random" (drawn from the
            seed, because the difficulty of a class is otherwise confounded with its rank).
        subset_order: "seeded" (drawn from the seed; a smaller subset lies within a larger one) or
            "ldam" (the images of the LDAM-DRW code, the same for every seed).

    Raises `InputError` for another name.
    """

    profile: Profile = none
    class_order: str = "given"
    subset_order: str = "seeded"

    def __post_init__(self) -> None:
        if self.class_order not in ("given", "random"):
            raise unknown("imbalance.class_order", self.class_order, ("given", "random"))
        if self.subset_order not in ("seeded", "ldam"):
            raise unknown("imbalance.subset_order", self.subset_order, ("seeded", "ldam"))


def order_classes(class_order: str, num_classes: int, seed: int) -> NDArray[np.int64]:
    """(C,) int64: the class indices from the head to the tail, for "given" or "random"."""
    if class_order == "random":
        return generator(seed, "class_order").permutation(num_classes)
    return np.arange(num_classes)


def training_counts(
    profile: Profile,
    available: NDArray[np.int64],
    order: NDArray[np.int64],
    class_names: Sequence[str],
) -> NDArray[np.int64]:
    """(C,) int64, by class index: the training images that each class keeps.

    ``available`` (C,) is by class index too; ``order`` (C,) lists the classes as the profile is
    to see them. Raises `InputError` unless the profile asks for at least one and at most the
    available images of every class.
    """
    wanted = np.asarray(profile(available[order]))
    if wanted.shape != available.shape or not np.issubdtype(wanted.dtype, np.integer):
        raise InputError(
            f"imbalance wants {wanted.tolist()}; give {len(available)} whole numbers, one per class"
        )
    for label, count in zip(order, wanted, strict=True):
        if not 1 <= count <= available[label]:
            left = "would be left without a training image" if count < 1 else "has too few images"
            raise InputError(
                f"class {class_names[label]!r} {left}: the imbalance wants {count}, allowed are 1"
                f" to {available[label]}"
            )
    by_index = np.empty_like(available)
    by_index[order] = wanted
    return by_index


def shortfall(factor: float | None, counts: NDArray[np.int64]) -> str | None:
    """What is to be said where ``factor`` asks for less than one image of a class; else None.

    ``counts`` (C,) are the images that the classes keep, before any label noise.
    """
    most, least = int(counts.max()), int(counts.min())
    if factor is None or least > 1 or most / least >= factor:
        return None
    return (
        f"imbalance.factor={factor:g} cannot be met: the largest class keeps {most} images and"
        f" every class at least 1, so the factor is {most}"
    )


def select_subset(
    targets: NDArray[np.int64], counts: NDArray[np.int64], subset_order: str, seed: int
) -> NDArray[np.int64]:
    """Which images stay: ``counts[c]`` of each class c, as indices into ``targets``.

    "seeded" shuffles each class with its own generator and keeps the front, so subsets of
    different counts are nested. "ldam" is what the LDAM-DRW code does (Cao et al., 2019): one
    legacy generator with seed 0 shuffles the classes by index, whatever ``seed`` is.

    Args:
        targets: (N,) int64.
        counts: (C,) int64, at most the number of each class in ``targets``.
        subset_order: "seeded" or "ldam".
        seed: seed of the run.

    Returns (sum of counts,) int64: class after class, each in its shuffled order.
    """
    legacy = np.random.RandomState(0)
    chosen = []
    for label, count in enumerate(counts):
        indices = np.flatnonzero(targets == label)
        draws = legacy if subset_order == "ldam" else generator(seed, "subset", label)
        draws.shuffle(indices)
        chosen.append(indices[:count])
    return np.concatenate(chosen)
