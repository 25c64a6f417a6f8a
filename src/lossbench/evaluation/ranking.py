"""Does the score of a class rank its samples above all others? One class against the rest.

The score is the log-probability of the class. Only the order counts, and the logarithm keeps it
where probabilities would round to 0 and tie.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lossbench.evaluation.probabilities import Floats, Integers, blocks


def one_vs_rest(
    logits: NDArray[np.floating], log_normaliser: Floats, targets: Integers
) -> tuple[Floats, Floats]:
    """Area under the ROC curve and average precision of each class, ``(C,)`` each.

    - The area is the share of pairs (sample of the class, other sample) in the right order, ties
      counting half; NaN if the split lacks the class, or everything else.
    - Average precision is ``1/n sum_i precision(score_i)`` over the n samples of the class, the
      precision among all samples with that score or a higher one: the step-wise area under the
      precision-recall curve, as in scikit-learn, without interpolation. NaN for an absent class.

    Args:
        logits: ``(N, C)``.
        log_normaliser: ``(N,)``, ``log sum_c exp(z_c)``.
        targets: ``(N,)``.
    """
    samples, classes = logits.shape
    order = np.argsort(targets, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(targets, minlength=classes))[:-1])
    area, precision = np.full(classes, np.nan), np.full(classes, np.nan)
    for block in blocks(classes, samples):
        scores = logits[:, block].T.astype(np.float64)
        scores -= log_normaliser
        ranked = np.sort(scores, axis=1)
        for row, c in enumerate(range(classes)[block]):
            if members[c].size:
                own = np.sort(scores[row, members[c]])
                area[c], precision[c] = _of_one_class(own, ranked[row])
    return area, precision


def _of_one_class(own: Floats, ranked: Floats) -> tuple[float, float]:
    """Area and average precision from the sorted scores of the class and of all samples."""
    positives, samples = len(own), len(ranked)
    below = np.searchsorted(ranked, own, side="left")
    up_to = np.searchsorted(ranked, own, side="right")
    own_at_least = positives - np.searchsorted(own, own, side="left")
    precision = float((own_at_least / (samples - below)).mean())
    if positives == samples:
        return float("nan"), precision
    # Mann and Whitney: the sum of the class's midranks, less the least that it can be.
    wins = ((below + up_to + 1) / 2).sum() - positives * (positives + 1) / 2
    return float(wins / (positives * (samples - positives))), precision
