"""Which labels are suspicious: a mixture of clean and noisy samples, fitted to each class.

Samples with a wrong label are learnt late or never, so their losses and margins form a mode of
their own. Rare classes look noisy as a whole, because a model learns them late too; hence a mixture
for each class.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossbench.evaluation.probabilities import Floats, Integers

FEWEST = 50
"""Samples that a mixture is fitted to, at least, if there are so many."""


def mean_loss(loss: ArrayLike) -> Floats:
    """``(N,)``: the loss of each sample averaged over the epochs, the suspicion to use.

    With 20 % symmetric noise, cross-entropy and a mixture per class the flags reached these F1
    scores, means of three seeds: (a) digits, mlp, 15 epochs; (b) Fashion-MNIST exponential 100,
    convnet, 15 epochs; (c) digits, convnet, 60 epochs, after which every wrong label was learnt.

    ======================================  =====  =====  =====
    suspicion                               (a)    (b)    (c)
    ======================================  =====  =====  =====
    loss, mean of all epochs                0.947  0.873  0.959
    loss, mean of the first third           0.919  0.830  0.960
    loss of the last epoch                  0.943  0.894  0.314
    minus the margin, mean of all epochs    0.967  0.864  0.774
    minus the margin of the last epoch      0.952  0.898  0.443
    ======================================  =====  =====  =====

    The last epoch is best as long as wrong labels are not learnt, and useless afterwards; the mean
    loss is never far from the best, for what was once high stays in it.

    Args:
        loss: ``(E, N)``, cross-entropy in nats; one row, the last epoch's, will do.
    """
    mean: Floats = np.asarray(loss).mean(axis=0, dtype=np.float64)
    return mean


def noise_probability(suspicion: ArrayLike, targets: Integers) -> Floats:
    """``(N,)``: the probability that each label is wrong.

    A mixture of two Gaussians is fitted to the ``suspicion`` of the samples of each class, min-max
    normalised, as in DivideMix (Li, Socher and Hoi, ICLR 2020), there for all classes at once. The
    probability is the posterior of the component with the higher mean, between the two means;
    beyond them it stays as it is there, so that it never falls where the suspicion rises.

    From the smallest class on, classes with fewer than 50 samples are put together with the next
    larger ones until there are 50. Where all values are equal the probability is 0.

    One mixture for all classes flagged 57 % of the clean samples of the three rarest classes in (b)
    of `mean_loss`, a mixture per class 3 %. A mixture always finds two components: without any
    label noise it flags the hard samples, 7 % of them in (b).

    Args:
        suspicion: ``(N,)``, finite; higher is more suspicious (`mean_loss`).
        targets: ``(N,)``, the given labels.
    """
    values = np.asarray(suspicion, dtype=np.float64)
    probability = np.zeros(values.shape)
    for members in _groups(targets):
        probability[members] = _upper_component(values[members])
    return probability


def suspicious_order(probability: Floats, suspicion: ArrayLike) -> Integers:
    """``(N,)``: places from the most to the least suspicious, by probability, then suspicion."""
    return np.lexsort((-np.asarray(suspicion), -probability))


def label_noise_metrics(
    probability: Floats, suspicion: ArrayLike, noisy: NDArray[np.bool_] | None
) -> dict[str, float]:
    """``share_flagged``, and how well the flags (probability above 0.5) find the noise, if known.

    ``precision``, ``recall`` and ``f1`` of the flags, ``average_precision`` of `suspicious_order`,
    and ``share_noisy``; NaN where nothing is flagged or nothing noisy.

    Args:
        probability: ``(N,)`` of `noise_probability`.
        suspicion: ``(N,)``, what it was fitted to.
        noisy: ``(N,)``, whether a label is wrong; None if nobody knows.
    """
    flagged = probability > 0.5
    found = {"share_flagged": float(flagged.mean())}
    if noisy is None:
        return found
    from sklearn.metrics import average_precision_score

    hits, flags, wrong = (int(x.sum()) for x in (flagged & noisy, flagged, noisy))
    rank = np.empty(len(noisy))
    rank[suspicious_order(probability, suspicion)] = np.arange(len(noisy), 0, -1)
    return found | {
        "share_noisy": float(noisy.mean()),
        "precision": hits / flags if flags else math.nan,
        "recall": hits / wrong if wrong else math.nan,
        "f1": 2 * hits / (flags + wrong) if flags + wrong else math.nan,
        "average_precision": float(average_precision_score(noisy, rank)) if wrong else math.nan,
    }


def _groups(targets: Integers) -> list[Integers]:
    """The samples that share a mixture: a class each, small classes together."""
    counts = np.bincount(targets)
    groups: list[list[int]] = [[]]
    for label in np.argsort(counts, kind="stable"):
        if counts[groups[-1]].sum() >= FEWEST:
            groups.append([])
        groups[-1].append(int(label))
    if len(groups) > 1 and counts[groups[-1]].sum() < FEWEST:
        rest = groups.pop()
        groups[-1] += rest
    return [np.flatnonzero(np.isin(targets, group)) for group in groups]


def _upper_component(values: Floats) -> Floats:
    """The posterior of the component with the higher mean, of a mixture fitted to ``values``."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    low, high = values.min(), values.max()
    if not high > low:
        return np.zeros(values.shape)
    x = ((values - low) / (high - low))[:, None]
    # reg_covar, the smallest variance, is DivideMix's
    mixture = GaussianMixture(2, reg_covar=5e-4, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(x)
    means = mixture.means_[:, 0]
    # between the means the posterior rises; outside, the wider component would win on both sides
    posterior = mixture.predict_proba(x.clip(means.min(), means.max()))
    upper: Floats = posterior[:, means.argmax()]
    return upper
