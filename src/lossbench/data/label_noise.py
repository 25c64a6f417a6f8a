"""Wrong training labels, made on purpose.

A noise maps the C class names to a transition matrix (C, C): entry (i, j) is the share of the
samples of class i that are given the label j. Any function of that signature can be named by
``_target_``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossbench.errors import InputError, unknown
from lossbench.seeding import generator

if TYPE_CHECKING:
    from lossbench.data.preparation import PreparedData

Noise = Callable[[Sequence[str]], ArrayLike]


def symmetric(class_names: Sequence[str], rate: float) -> NDArray[np.float64]:
    """(C, C) float64: 1 - ``rate`` on the diagonal and ``rate`` / (C-1) elsewhere.

    A wrong label is always another one, so ``rate`` is the share of wrong labels, as in Patrini
    et al. (2017) and Han et al. (2018). Some codes, that of DivideMix (Li et al., 2020) among
    them, draw from all C classes: there a share of ``rate`` (C-1) / C is wrong.
    """
    classes = len(class_names)
    wrong = np.full((classes, classes), rate / max(classes - 1, 1))
    np.fill_diagonal(wrong, 1 - rate)
    return wrong


def asymmetric(
    class_names: Sequence[str], rate: float, mapping: Mapping[str | int, str | int] | None = None
) -> NDArray[np.float64]:
    """(C, C) float64: a share ``rate`` of each mapped class is given the label of one other class.

    ``mapping`` {from: to} names classes by name, or by index where it is a whole number; the
    others keep their labels (Patrini et al., 2017). None maps every class to the next one and the
    last to the first ("pair flip"; Han et al., Co-teaching, 2018).
    Raises `InputError` for a class that is unknown, mapped twice or mapped to itself.
    """
    classes = len(class_names)
    if mapping is None:
        mapping = {label: (label + 1) % classes for label in range(classes)}
    if not isinstance(mapping, Mapping):
        raise InputError(
            f"label_noise.mapping={mapping} must map classes to classes, as in {{cat: dog}}"
        )
    shares = np.eye(classes)
    for named in mapping.items():
        source, goal = (_index(name, class_names) for name in named)
        if source == goal or shares[source, source] != 1:
            problem = "to itself" if source == goal else "twice"
            raise InputError(
                f"label_noise.mapping maps class {class_names[source]!r} {problem}; map each class"
                " at most once, to another one"
            )
        shares[source, source], shares[source, goal] = 1 - rate, rate
    return shares


def apply(
    noise: Noise,
    targets: NDArray[np.int64],
    ids: NDArray[np.int64],
    class_names: Sequence[str],
    seed: int,
) -> NDArray[np.int64]:
    """The labels that the samples are given, (N,) int64.

    Of the n samples of class c, exactly floor(n (1 - T_cc) + 1/2) are given another label, so that
    a small class is as noisy as a large one. Two uniform numbers belong to a sample's id and the
    seed, whatever the subset: samples are flipped in the order of the first, the second chooses
    among the other labels. So the samples that a larger rate flips contain those of a smaller
    rate, and `symmetric` and `asymmetric` give them the same wrong labels.

    Args:
        noise: class names -> transition matrix T; see the module.
        targets: (N,) int64, the true classes.
        ids: (N,) int64, at least 0: the samples' indices in the original training set.
        class_names: C names.
        seed: seed of the run.

    Raises `InputError` if T is no transition matrix or a class would lose all its labels.
    """
    shares = _checked(noise(class_names), class_names)
    draws = generator(seed, "label_noise").random((int(ids.max()) + 1, 2))[ids]
    given = targets.copy()
    for label, name in enumerate(class_names):
        members = np.flatnonzero(targets == label)
        # rounded first: 1 - 0.9 is a little less than 0.1
        wrong = math.floor(round(len(members) * (1 - shares[label, label]), 9) + 0.5)
        if not wrong:
            continue
        if wrong == len(members):
            raise InputError(
                f"label noise would flip every label of class {name!r}, which has {wrong}; lower"
                " label_noise.rate or imbalance.factor"
            )
        flipped = members[np.argsort(draws[members, 0])[:wrong]]
        others = np.cumsum(np.where(np.arange(len(class_names)) == label, 0, shares[label]))
        given[flipped] = np.searchsorted(others / others[-1], draws[flipped, 1], side="right")
    return given


def flips(prepared: PreparedData) -> NDArray[np.int64] | None:
    """(C, C) int64: training samples of each class (row) by the label given; None without noise."""
    if prepared.clean_targets is None:
        return None
    classes = len(prepared.class_names)
    cells = prepared.clean_targets * classes + prepared.train.targets
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def record_arrays(prepared: PreparedData) -> dict[str, NDArray[np.int64]]:
    """What a record keeps of the noise: (N,) int64 each, in the stored order of the training set.

    ``label_noise/ids``, ``label_noise/clean`` (true classes), ``label_noise/given``; empty without
    noise.
    """
    if prepared.clean_targets is None:
        return {}
    return {
        "label_noise/ids": prepared.train.ids,
        "label_noise/clean": prepared.clean_targets,
        "label_noise/given": prepared.train.targets,
    }


def _index(value: str | int, class_names: Sequence[str]) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < len(class_names):
            raise InputError(
                f"label_noise.mapping names class {value}; allowed are 0 to {len(class_names) - 1}"
            )
        return value
    if value not in class_names:
        raise unknown("class in label_noise.mapping", value, class_names)
    return class_names.index(value)


def _checked(shares: ArrayLike, class_names: Sequence[str]) -> NDArray[np.float64]:
    matrix, classes = np.asarray(shares, dtype=np.float64), len(class_names)
    if matrix.shape != (classes, classes):
        raise InputError(
            f"the label noise is a matrix of shape {matrix.shape}; it must be {(classes, classes)}"
        )
    for name, row in zip(class_names, matrix, strict=True):
        if not (row >= 0).all() or abs(row.sum() - 1) > 1e-9:
            raise InputError(
                f"label noise: the shares of class {name!r} are {row.tolist()}; they must be at"
                " least 0 and sum to 1 (a rate is in [0, 1))"
            )
    return matrix
