"""What each training sample went through: its loss and margin after every epoch.

All from evaluation passes without augmentation at the end of each epoch, in epoch order.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossbench.evaluation.probabilities import Floats, Integers, blocks


def per_sample(
    function: Callable[[NDArray[np.floating], Integers], Floats],
    logits: NDArray[np.floating],
    targets: Integers,
) -> Floats:
    """``function(logits, targets)`` (N,), such as `margins`, over blocks of rows.

    So that no float64 copy of all the ``(N, C)`` logits is made.
    """
    parts = [function(logits[rows], targets[rows]) for rows in blocks(*logits.shape)]
    return np.concatenate(parts) if parts else np.empty(0)


def margins(logits: ArrayLike, targets: Integers) -> Floats:
    """``z_y - max_{j != y} z_j`` of each sample: above 0 if it is classified right.

    Args:
        logits: ``(N, C)``, C of 2 or more.
        targets: ``(N,)``.
    """
    z = np.array(logits, dtype=np.float64)
    rows = np.arange(len(targets))
    own = z[rows, targets]
    z[rows, targets] = -np.inf
    margin: Floats = own - z.max(axis=1)
    return margin


def forgetting_events(margin: ArrayLike) -> Integers:
    """``(N,)``: how often a sample went from right to wrong; -1 if it was never right.

    Toneva et al. (ICLR 2019) look at a sample whenever it is in a batch; here it is looked at once
    per epoch. Right is a margin above 0.

    Args:
        margin: ``(E, N)`` of `margins`.
    """
    right = np.asarray(margin) > 0
    events = (right[:-1] & ~right[1:]).sum(axis=0)
    return np.where(right.any(axis=0), events, -1).astype(np.int64)


def trajectory_arrays(loss: ArrayLike, margin: ArrayLike) -> dict[str, NDArray[np.generic]]:
    """Statistics over the epochs, ``(N,)`` each.

    ``mean_margin`` is the area under the margin of Pleiss et al. (NeurIPS 2020): low for samples
    whose label the rest of the data contradicts. ``mean_probability`` and ``sd_probability`` of
    ``p_y = exp(-loss)`` are the axes of dataset cartography (Swayamdipta et al., EMNLP 2020); the
    standard deviation divides by E. ``forgetting_events`` as in `forgetting_events`.

    Args:
        loss: ``(E, N)``, cross-entropy in nats.
        margin: ``(E, N)`` of `margins`.
    """
    probability = np.exp(-np.asarray(loss, dtype=np.float64))
    return {
        "mean_margin": np.asarray(margin, dtype=np.float64).mean(axis=0),
        "mean_probability": probability.mean(axis=0),
        "sd_probability": probability.std(axis=0),
        "forgetting_events": forgetting_events(margin),
    }
