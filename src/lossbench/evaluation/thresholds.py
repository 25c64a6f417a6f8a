"""Threshold moving: what to add to each class's score so that every class is found as well."""

from __future__ import annotations

import numpy as np

from lossbench.evaluation.probabilities import Floats, Integers

SWEEPS = 20
CLEARANCE = 1e-9  # between two samples that an offset may lie in, far above the rounding of scores


def fit_thresholds(logits: Floats, targets: Integers) -> Floats:
    """Offsets o ``(C,)`` whose decisions ``argmax_c (log p_c + o_c)`` have the best recalls.

    Coordinate ascent on balanced accuracy from o = 0: class by class the best offset is found
    exactly, among all that decide differently, until a sweep over the classes changes nothing. The
    result is never worse on these samples than o = 0. With two classes it is the best threshold on
    the difference of their scores; with more it may be a local optimum. Balanced accuracy does not
    depend on the class shares, so neither does the fit.

    Cost: ``O(C N log N)`` for a sweep, at most 20 of them; one more ``(N, C)`` array of memory.

    Args:
        logits: ``(N, C)``; the log-softmax of each row would give the same offsets.
        targets: ``(N,)``; a class without samples keeps the offset 0.
    """
    counts = np.bincount(targets, minlength=logits.shape[1])
    worth = 1 / counts[targets]
    present = np.flatnonzero(counts).tolist()
    offsets = np.zeros(logits.shape[1])
    scores = logits.copy()
    leaders = top_two(scores)
    best = worth[leaders[:, 0] == targets].sum()
    for _ in range(SWEEPS):
        before = best
        for label in present:
            offset, gained = line_search(
                scores, logits[:, label], leaders, targets, worth, label, offsets[label]
            )
            if not gained:
                continue
            best += gained
            offsets[label] = offset
            scores[:, label] = logits[:, label] + offset
            second = np.take_along_axis(scores, leaders[:, 1:], axis=1)[:, 0]
            moved = (leaders == label).any(axis=1) | (scores[:, label] >= second)
            leaders[moved] = top_two(scores[moved])
        if best == before:
            break
    return offsets


def line_search(
    scores: Floats,
    logits: Floats,
    leaders: Integers,
    targets: Integers,
    worth: Floats,
    label: int,
    now: float,
) -> tuple[float, float]:
    """The best offset of the class ``label`` while the others stay, and what it gains.

    Without a gain the offset is ``now``, the one so far. Of equally good offsets it is the nearest.

    Args:
        scores: ``(N, C)``, the logits with the offsets so far.
        logits: ``(N,)``, those of the class, without its offset.
        leaders: ``(N, 2)``, the classes with the two highest scores.
        targets: ``(N,)``.
        worth: ``(N,)``, what a right decision on each sample counts.
        label: the class.
        now: its offset so far.
    """
    rival = np.where(leaders[:, 0] == label, leaders[:, 1], leaders[:, 0])
    gain = worth * ((targets == label) - 1.0 * (targets == rival))
    matters = np.flatnonzero(gain)  # nothing is won or lost on the others
    if not matters.size:
        return now, 0.0
    # a sample is given to the class as soon as the offset passes its barrier
    barrier = scores[matters, rival[matters]] - logits[matters]
    order = np.argsort(barrier, kind="stable")
    barrier = barrier[order]
    total = np.concatenate([[0.0], np.cumsum(gain[matters][order])])
    ends = np.concatenate([[barrier[0] - 2], barrier, [barrier[-1] + 2]])
    total[np.diff(ends) <= CLEARANCE] = -np.inf
    gained = total.max() - gain[leaders[:, 0] == label].sum()
    if gained <= CLEARANCE:
        return now, 0.0
    middles = (ends[:-1] + ends[1:])[total >= total.max() - CLEARANCE] / 2
    return middles[np.abs(middles - now).argmin()], gained


def top_two(scores: Floats) -> Integers:
    """``(N, 2)``: the classes with the highest and the second highest score of each row.

    Of equal scores the class of lower index comes first, as in ``argmax``.
    """
    first = scores.argmax(axis=1, keepdims=True)
    rest = scores.copy()
    np.put_along_axis(rest, first, -np.inf, axis=1)
    return np.concatenate([first, rest.argmax(axis=1, keepdims=True)], axis=1)
