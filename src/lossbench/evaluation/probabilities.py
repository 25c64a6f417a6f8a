"""Logits to probabilities, and from the class prior of one population to that of another.

Logits are always soft-maxed here, also when they happen to lie in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossbench.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

BLOCK = 2**18
"""Numbers worked on at once, 2 MiB in float64: in the cache, and memory that does not grow."""


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices over ``rows`` rows of ``columns`` numbers each, `BLOCK` numbers or one row at once."""
    step = max(1, BLOCK // max(1, columns))
    return (slice(start, start + step) for start in range(0, rows, step))


def log_softmax(logits: ArrayLike) -> Floats:
    """``z - log sum_c exp(z_c)`` over the last axis, in float64 and without overflow.

    A logit of -inf is a probability of 0; a row needs one finite logit.
    """
    z = np.asarray(logits, dtype=np.float64)
    shifted: Floats = z - z.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def cross_entropy(logits: ArrayLike, targets: Integers) -> Floats:
    """The loss of each sample, ``-log softmax(z)_y`` in nats: ``(N, C)``, ``(N,)`` to ``(N,)``."""
    log_probabilities = log_softmax(logits)
    # Adding 0.0 turns -0.0 into 0.0.
    return -log_probabilities[np.arange(len(targets)), targets] + 0.0


def adjust_prior(logits: ArrayLike, log_prior_from: ArrayLike, log_prior_to: ArrayLike) -> Floats:
    """``z - log_prior_from + log_prior_to``: the posterior under another class prior.

    If ``softmax(z)`` is the posterior of a population with class prior ``from``, and only the prior
    differs, this is the posterior of the population with prior ``to`` (Saerens, Latinne and
    Decaestecker, Neural Computation 2002, equation 2.4).

    Args:
        logits: ``(N, C)``.
        log_prior_from: ``(C,)``, up to a constant.
        log_prior_to: ``(C,)``, up to a constant; -inf for an absent class, whose adjusted logits
            are then -inf.

    Raises:
        InputError: if a class has prior 0 in ``from`` but not in ``to``: a model that never met a
            class says nothing of its posterior.
    """
    return np.asarray(logits, dtype=np.float64) + prior_shift(log_prior_from, log_prior_to)


def prior_shift(log_prior_from: ArrayLike, log_prior_to: ArrayLike) -> Floats:
    """What `adjust_prior` adds to every row of logits, ``(C,)``; same arguments, same errors."""
    source = np.asarray(log_prior_from, dtype=np.float64)
    goal = np.asarray(log_prior_to, dtype=np.float64)
    absent = np.isneginf(goal)
    unmet = np.flatnonzero(np.isneginf(source) & ~absent)
    if unmet.size:
        raise InputError(
            f"classes {unmet.tolist()} have prior 0 in log_prior_from but not in log_prior_to; "
            "leave them out, or give them a prior above 0"
        )
    # Where goal is -inf the source does not matter, and -inf - (-inf) would be NaN.
    return np.where(absent, -np.inf, goal - np.where(absent, 0.0, source))
