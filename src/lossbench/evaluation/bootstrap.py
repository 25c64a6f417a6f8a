"""How far a number could move had other test examples been drawn."""

from __future__ import annotations

import numpy as np

from lossbench.evaluation.classification import recalls
from lossbench.evaluation.probabilities import Integers
from lossbench.seeding import generator

REPLICATES = 2000
LEVEL = 0.95


def balanced_accuracy_interval(
    confusion: Integers, replicates: int = REPLICATES, level: float = LEVEL
) -> tuple[float, float]:
    """The percentile bootstrap interval of balanced accuracy over examples: ``(low, high)``.

    Examples are resampled within each class: the sizes of a test set's classes are chosen by who
    made it, not drawn, balanced accuracy does not depend on them, and no replicate can lose a
    class. The number of hits of a class in a replicate is then exactly binomial (n_c, recall_c), so
    that numbers are drawn instead of examples.

    It is the uncertainty that the test set brings to one trained model, and says nothing of other
    seeds: never pool the two. A class whose samples are all right or all wrong does not vary, so
    with few samples per class the interval is too narrow. It has its own seed: equal outputs have
    equal intervals.

    Args:
        confusion: ``(C, C)`` of `classification.confusion_matrix`; ``(nan, nan)`` if all 0.
        replicates: how many are drawn.
        level: the share of replicates between the two, less than 1.
    """
    size = confusion.sum(axis=1)
    present = np.flatnonzero(size)
    if not present.size:
        return float("nan"), float("nan")
    draws = generator(0, "bootstrap of test examples")
    recall = recalls(confusion)
    total = np.zeros(replicates)
    for c in present:  # one class at a time: memory for the replicates only
        total += draws.binomial(size[c], recall[c], replicates) / size[c]
    low, high = np.quantile(total / present.size, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
