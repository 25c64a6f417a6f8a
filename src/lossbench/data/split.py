"""The validation images, carved from the training images before any imbalance is made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lossbench.errors import InputError
from lossbench.seeding import generator


def split_validation(
    targets: NDArray[np.int64], per_class: int, seed: int, class_names: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw ``per_class`` validation images of every class.

    Every class has a generator of its own, so a class draws the same images whatever the other
    classes hold, and a smaller ``per_class`` draws a subset of those of a larger one.

    Args:
        targets: (N,) int64, the class of each training image.
        per_class: validation images per class; 0 means none.
        seed: seed of the run.
        class_names: one per class.

    Returns ``(pool, validation)``: sorted, disjoint indices that together make up all N.
    Raises `InputError`, naming the smallest class, if it would keep no training image.
    """
    available = np.bincount(targets, minlength=len(class_names))
    smallest = int(available.argmin())
    if per_class >= available[smallest]:
        raise InputError(
            f"data.validation_per_class={per_class} leaves class {class_names[smallest]!r} without"
            f" a training image: it has {available[smallest]}; take at most"
            f" {max(available[smallest] - 1, 0)}"
        )
    chosen = np.zeros(len(targets), dtype=bool)
    for label in range(len(class_names)):
        indices = generator(seed, "split", label).permutation(np.flatnonzero(targets == label))
        chosen[indices[:per_class]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def thin_to_prior(
    validation: NDArray[np.int64],
    targets: NDArray[np.int64],
    class_counts: NDArray[np.int64],
    per_class: int,
    seed: int,
) -> NDArray[np.int64]:
    """Thin a balanced validation set to the class proportions of the training images.

    Class c keeps max(1, floor(per_class n_c / n_max)) images, n being ``class_counts``: the
    largest class keeps all of its own, and every class can still be measured.

    Args:
        validation: (V,) int64, indices into ``targets``, ``per_class`` of each class.
        targets: (N,) int64.
        class_counts: (C,) int64, training images per class after the imbalance.
        per_class: validation images per class before thinning.
        seed: seed of the run.

    Returns sorted indices, a subset of ``validation``.
    """
    kept = []
    for label, wanted in enumerate(per_class * class_counts // class_counts.max()):
        indices = validation[targets[validation] == label]
        draw = generator(seed, "validation_prior", label).permutation(indices)
        kept.append(draw[: max(1, int(wanted))])
    return np.sort(np.concatenate(kept))


def hold_out(
    targets: NDArray[np.int64], share: float, class_names: Sequence[str]
) -> NDArray[np.bool_]:
    """Which samples are the test part of a source that has none: the same for every seed.

    max(1, floor(``share`` n_c)) of the n_c samples of class c, drawn by ``RandomState(0)``.

    Args:
        targets: (N,) int64.
        share: above 0, below 1.
        class_names: one per class.

    Returns (N,) bool. Raises `InputError` for another share, and, naming it, for a class that
    would keep no training sample.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise InputError(f"data.test_share={share} must be a number above 0 and below 1")
    fixed = np.random.RandomState(0)
    held_out = np.zeros(len(targets), dtype=bool)
    for label, name in enumerate(class_names):
        indices = fixed.permutation(np.flatnonzero(targets == label))
        if len(indices) < 2:
            raise InputError(
                f"class {name!r} has {len(indices)} sample and data.test_share={share} takes it for"
                " the test part; give every class two, or a test part of its own"
            )
        held_out[indices[: max(1, int(share * len(indices)))]] = True
    return held_out
