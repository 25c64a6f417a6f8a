"""How a model would do on test sets of other class proportions, from the outputs on this one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from lossbench.errors import InputError
from lossbench.evaluation.probabilities import Floats, adjust_prior, blocks, log_softmax

LEAST_IMBALANCE = 1.5  # of the largest class to the smallest; below, a ranking is an accident


def shifted_priors(class_counts: ArrayLike, factors: Sequence[float]) -> dict[str, Floats]:
    """Test priors (C,), each of sum 1, by name: ``forward_F``, ``uniform``, ``backward_F``.

    The classes are ranked by their training counts, r = 0 for the largest; equal counts rank by
    class index. Forward is pi_c ~ F^(-r / (C-1)): the head is F times as frequent as the tail;
    backward is the same with the ranks reversed. Where the largest count is less than 1.5 times the
    smallest, as in a set that is balanced by nature, there is no direction, and ``uniform`` stands
    alone.
    (Hong et al., LADE, 2021, with F of 50, 25, 10, 5 and 2.)
    """
    counts = np.asarray(class_counts, dtype=np.float64)
    classes = len(counts)
    found = {"uniform": np.full(classes, 1 / classes)}
    if counts.max() < LEAST_IMBALANCE * counts.min() or classes == 1:
        return found
    rank = np.empty(classes)
    rank[np.argsort(-counts, kind="stable")] = np.arange(classes) / (classes - 1)
    for factor in factors:
        forward, backward = float(factor) ** -rank, float(factor) ** (rank - 1)
        found[f"forward_{factor:g}"] = forward / forward.sum()
        found[f"backward_{factor:g}"] = backward / backward.sum()
    return found


def shifted_metrics(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    class_counts: ArrayLike,
    log_prior_model: ArrayLike,
    factors: Sequence[float] = (50, 10, 2),
) -> dict[str, float]:
    """Accuracy and cross-entropy under each of the `shifted_priors`, by re-weighting.

    Under the prior pi a sample of class c, of n_c in the split, has the weight pi_c / n_c: the
    numbers are sum_c pi_c recall_c and sum_c pi_c (mean cross-entropy of class c), whatever the
    proportions of the split. Classes without a sample are left out, and pi is renormalised over
    the others.

    ``adjusted_`` numbers are those of logits that are told the test prior: z - ``log_prior_model``
    + log pi (`adjust_prior`). They are NaN where the model's prior is 0 for a class of the split.

    Args:
        logits: ``(N, C)``, deployed logits, N of 1 or more.
        targets: ``(N,)``, integers in [0, C).
        class_counts: ``(C,)``, training samples of each true class, whatever their labels.
        log_prior_model: ``(C,)``, log of the class prior whose posterior the logits estimate, up to
            a constant; NaN where it is unknown, and then the ``adjusted_`` numbers are NaN.
        factors: each above 1.

    Returns ``accuracy_<prior>``, ``cross_entropy_<prior>`` in nats, ``adjusted_accuracy_<prior>``
    and ``adjusted_cross_entropy_<prior>``. Raises `InputError` if the shapes do not fit.
    """
    z, y = np.asarray(logits), np.asarray(targets)
    classes = len(np.asarray(class_counts))
    if z.ndim != 2 or z.shape != (len(y), classes) or not len(y):
        raise InputError(
            f"logits have shape {z.shape}; with {len(y)} targets and {classes} class counts it must"
            f" be {(len(y), classes)}, with a row at least"
        )
    support = np.bincount(y, minlength=classes)
    priors = {
        name: np.where(support > 0, prior, 0) / prior[support > 0].sum()
        for name, prior in shifted_priors(class_counts, factors).items()
    }
    with np.errstate(divide="ignore"):
        log_priors = np.log(np.stack(list(priors.values())))
    sums = _class_sums(z, y, np.asarray(log_prior_model, dtype=np.float64), log_priors)
    means = sums / np.maximum(support, 1)
    found: dict[str, float] = {}
    for index, (name, prior) in enumerate(priors.items()):
        correct, losses, adjusted_correct, adjusted_losses = means[:, index] @ prior
        found |= {
            f"accuracy_{name}": float(correct),
            f"cross_entropy_{name}": float(losses),
            f"adjusted_accuracy_{name}": float(adjusted_correct),
            f"adjusted_cross_entropy_{name}": float(adjusted_losses),
        }
    return found


def _class_sums(logits: Floats, targets: Floats, log_model: Floats, log_priors: Floats) -> Floats:
    """(4, P, C): correct, loss, adjusted correct and adjusted loss, summed over each class.

    The softmax under another prior needs no exponential of its own: with e = exp(z - log prior of
    the model), its denominator is e @ pi, for all P priors at once.
    """
    count, classes = log_priors.shape
    sums = np.zeros((4, count, classes))
    present = np.isfinite(log_priors[0])
    even = np.where(present, 0.0, -np.inf)
    known = np.isfinite(log_model[present]).all()
    for rows in blocks(len(targets), classes):
        z, y = np.asarray(logits[rows], dtype=np.float64), targets[rows]
        each = np.arange(len(y))
        sums[0] += np.bincount(y, z.argmax(axis=1) == y, minlength=classes)
        sums[1] += np.bincount(y, -log_softmax(z)[each, y], minlength=classes)
        if not known:
            sums[2:] = np.nan
            continue
        moved = adjust_prior(z, log_model, even)
        moved -= moved.max(axis=1, keepdims=True)
        log_denominators = np.log(np.exp(moved) @ np.exp(log_priors).T)
        for index, log_prior in enumerate(log_priors):
            correct = (moved + log_prior).argmax(axis=1) == y
            losses = log_denominators[:, index] - moved[each, y] - log_prior[y]
            sums[2, index] += np.bincount(y, correct, minlength=classes)
            sums[3, index] += np.bincount(y, losses, minlength=classes)
    return sums
