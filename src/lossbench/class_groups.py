"""Which classes are head, mid and tail: one rule for runs, reports and inspection."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

GROUPS = ("head", "mid", "tail")


def rank_groups(class_counts: ArrayLike) -> dict[str, NDArray[np.int64]]:
    """The classes of ``head``, ``mid`` and ``tail``, by the rank of their training counts.

    The ``C // 3`` largest classes are the head, the ``C // 3`` smallest the tail, the rest is mid:
    3, 4 and 3 of 10 classes, as in the MiSLAS and Prior-LT code. Equal counts rank by class index.
    With equal counts throughout, or fewer than three classes, every group is empty.
    """
    counts = np.asarray(class_counts)
    third = len(counts) // 3
    if third == 0 or (counts == counts[0]).all():
        return {group: np.empty(0, dtype=np.int64) for group in GROUPS}
    order = np.argsort(-counts.astype(np.float64), kind="stable")
    parts = np.split(order, [third, len(counts) - third])
    return dict(zip(GROUPS, parts, strict=True))
