"""Slow, obvious references of every loss, one sample at a time, with 60 digits (mpmath).

A new loss adds one reference here and one line of cases in loss_cases; the contract tests do the
rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from loss_cases import COUNTS
from mpmath import exp, log, mp, mpf

mp.dps = 60


def log_softmax(z: Sequence[Any]) -> list[Any]:
    top = max(z)
    total = top + log(sum(exp(x - top) for x in z))
    return [x - total for x in z]


def as_probabilities(y: int | Sequence[float], classes: int) -> list[Any]:
    if isinstance(y, int):
        return [mpf(j == y) for j in range(classes)]
    return [mpf(x) for x in y]


def cross_entropy(z, y, counts, weight, label_smoothing, ignore_index, normalizer):
    if y == ignore_index:
        return mpf(0)
    t = [
        (1 - mpf(label_smoothing)) * t_j + mpf(label_smoothing) / len(z)
        for t_j in as_probabilities(y, len(z))
    ]
    w = [mpf(1)] * len(z) if weight is None else weight
    return -sum(t_j * w_j * l_j for t_j, w_j, l_j in zip(t, w, log_softmax(z), strict=True))


def label_smoothing(z, y, counts, smoothing, variant, weight, normalizer):
    e, classes = mpf(smoothing), len(z)
    loss = mpf(0)
    for j, t_j in enumerate(as_probabilities(y, classes)):
        spread = e / classes if variant == "uniform" else e * (1 - t_j) / (classes - 1)
        w_j = 1 if weight is None else weight[j]
        loss -= ((1 - e) * t_j + spread) * w_j * log_softmax(z)[j]
    return loss


def temperature_scaled(z, y, counts, temperature, rescale, learnable):
    t = mpf(temperature)
    loss = -sum(
        t_j * l_j
        for t_j, l_j in zip(
            as_probabilities(y, len(z)), log_softmax([x / t for x in z]), strict=True
        )
    )
    return loss * {"none": 1, "T": t, "T2": t * t}[rescale]


def focal(z, y, counts, gamma, alpha, normalizer):
    log_p = log_softmax(z)
    miss = sum(exp(log_p[j]) for j in range(len(z)) if j != y)  # 1 - p_y, to the last digit
    return (1 if alpha is None else alpha[y]) * miss ** mpf(gamma) * -log_p[y]


def class_balanced_weight(counts, beta):
    raw = [(1 - mpf(beta)) / (1 - mpf(beta) ** n) for n in counts]
    return [w * len(counts) / sum(raw) for w in raw]


def class_balanced(z, y, counts, beta, normalizer):
    w = class_balanced_weight(counts, beta)
    terms = zip(as_probabilities(y, len(z)), w, log_softmax(z), strict=True)
    return -sum(t_j * w_j * l_j for t_j, w_j, l_j in terms)


def balanced_softmax(z, y, counts):
    """In the paper's form: n_y e^{z_y} / Σ n_j e^{z_j}."""
    total = sum(n * exp(x) for n, x in zip(counts, z, strict=True))
    t = as_probabilities(y, len(z))
    return -sum(t[j] * log(counts[j] * exp(z[j]) / total) for j in range(len(z)))


def logit_adjusted(z, y, counts, tau):
    """In the pairwise form: log(1 + Σ_{j≠y} (π_j/π_y)^τ e^{z_j − z_y})."""
    loss = mpf(0)
    for k, t_k in enumerate(as_probabilities(y, len(z))):
        others = [j for j in range(len(z)) if j != k]
        ratio = {j: (mpf(counts[j]) / counts[k]) ** mpf(tau) for j in others}
        loss += t_k * log(1 + sum(ratio[j] * exp(z[j] - z[k]) for j in others))
    return loss


REFERENCES: dict[str, Callable[..., Any]] = {
    "cross_entropy": cross_entropy,
    "label_smoothing": label_smoothing,
    "temperature_scaled": temperature_scaled,
    "focal": focal,
    "class_balanced": class_balanced,
    "balanced_softmax": balanced_softmax,
    "logit_adjusted": logit_adjusted,
}


def value_and_gradient(
    key: str, z: Sequence[float], y: int | Sequence[float], **parameters: Any
) -> tuple[float, list[float]]:
    """The loss of one sample and its gradient by central differences, correct to double."""
    frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in parameters.items()}
    return _exact(key, tuple(z), y if isinstance(y, int) else tuple(y), tuple(frozen.items()))


@cache
def _exact(key, z, y, parameters):
    def at(point: Sequence[Any]) -> Any:
        return REFERENCES[key](point, y, COUNTS, **dict(parameters))

    exact, step = [mpf(x) for x in z], mpf(10) ** -18
    gradient = []
    for j in range(len(z)):
        up = [x + step * (i == j) for i, x in enumerate(exact)]
        down = [x - step * (i == j) for i, x in enumerate(exact)]
        gradient.append(float((at(up) - at(down)) / (2 * step)))
    return float(at(exact)), gradient
