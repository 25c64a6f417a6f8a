"""References of the losses that see logits and a target: likelihood to calibration.

``at`` is the point at which constants are evaluated: what a loss does not differentiate, and which
side of a corner it is on. At a tie for the largest logit, the tied classes share the slope alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpmath import exp, log, log1p, mp, mpf, pi, sin, sqrt

mp.dps = 60


def log_softmax(z: Sequence[Any]) -> list[Any]:
    k = max(range(len(z)), key=lambda j: z[j])
    total = log1p(sum(exp(z[j] - z[k]) for j in range(len(z)) if j != k))
    return [(x - z[k]) - total for x in z]


def softmax(z):
    return [exp(x) for x in log_softmax(z)]


def miss(z, y):
    """1 − p_y, to the last digit."""
    p = softmax(z)
    return sum(p[j] for j in range(len(z)) if j != y)


def softplus(x):
    return log1p(exp(x))


def sigmoid(x):
    return 1 / (1 + exp(-x))


def as_probabilities(y: int | Sequence[float], classes: int) -> list[Any]:
    if isinstance(y, int):
        return [mpf(j == y) for j in range(classes)]
    return [mpf(x) for x in y]


def expected(y, terms):
    """The term of class y, or the mean of the terms under the probabilities y."""
    return sum(t * term for t, term in zip(as_probabilities(y, len(terms)), terms, strict=True))


def plain_cross_entropy(z, y):
    return -expected(y, log_softmax(z))


def over_classes(terms, class_reduction):
    return sum(terms) / {"sum": 1, "mean": len(terms)}[class_reduction]


def largest(z, at):
    """The largest logit; where several are equal, their mean (the same value)."""
    top = [j for j in range(len(z)) if at[j] == max(at)]
    return sum(z[j] for j in top) / len(top)


# likelihood


def cross_entropy(z, y, counts, weight, label_smoothing, normalizer, ignore_index=-100):
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
    return plain_cross_entropy([x / t for x in z], y) * {"none": 1, "T": t, "T2": t * t}[rescale]


def binary_cross_entropy(z, y, counts, class_reduction, pos_weight, smoothing):
    terms = []
    for j, t_j in enumerate(as_probabilities(y, len(z))):
        t = (1 - mpf(smoothing)) * t_j + mpf(smoothing) / len(z)
        w = 1 if pos_weight is None else mpf(pos_weight[j])
        terms.append(t * w * softplus(-z[j]) + (1 - t) * softplus(z[j]))
    return over_classes(terms, class_reduction)


def multi_margin(z, y, counts, margin, p, at):
    """No slope at the corner itself, as in torch."""
    others = [j for j in range(len(z)) if j != y and mpf(margin) - at[y] + at[j] > 0]
    return sum((mpf(margin) - z[y] + z[j]) ** p for j in others) / mpf(len(z))


# regression on probabilities


def distances(z, y):
    """|p_j − t_j|, without the digits that 1 − p_y would lose."""
    t = as_probabilities(y, len(z))
    return [miss(z, j) if t[j] == 1 else abs(softmax(z)[j] - t[j]) for j in range(len(z))]


def l1(z, y, counts, class_reduction):
    return over_classes(distances(z, y), class_reduction)


def mse(z, y, counts, class_reduction):
    return over_classes([d**2 for d in distances(z, y)], class_reduction)


def smooth_l1(z, y, counts, beta, class_reduction):
    b = mpf(beta)
    terms = [d**2 / (2 * b) if d < b else d - b / 2 for d in distances(z, y)]
    return over_classes(terms, class_reduction)


def huber(z, y, counts, delta, class_reduction):
    """In Huber's form: d²/2 up to δ, then the tangent δ(d − δ/2)."""
    k = mpf(delta)
    terms = [d**2 / 2 if d <= k else k * (d - k / 2) for d in distances(z, y)]
    return over_classes(terms, class_reduction)


# focusing


def focal(z, y, counts, gamma, alpha, normalizer):
    weight = 1 if alpha is None else alpha[y]
    return weight * miss(z, y) ** mpf(gamma) * -log_softmax(z)[y]


def sigmoid_focal(z, y, counts, gamma, alpha, class_reduction):
    on, off = (1, 1) if alpha is None else (mpf(alpha), 1 - mpf(alpha))
    g, terms = mpf(gamma), []
    for z_j, t_j in zip(z, as_probabilities(y, len(z)), strict=True):
        positive = on * sigmoid(-z_j) ** g * softplus(-z_j)
        negative = off * sigmoid(z_j) ** g * softplus(z_j)
        terms.append(t_j * positive + (1 - t_j) * negative)
    return over_classes(terms, class_reduction)


def focal_flsd(z, y, counts, thresholds, gammas, at):
    gamma = gammas[sum(threshold <= softmax(at)[y] for threshold in thresholds)]
    return miss(z, y) ** mpf(gamma) * -log_softmax(z)[y]


def dual_focal(z, y, counts, gamma, at):
    """The runner-up is the most probable of the classes strictly below the target."""
    below = [j for j in range(len(z)) if at[j] < at[y]]
    nearest = [j for j in below if at[j] == max(at[k] for k in below)]
    p = softmax(z)
    runner_up = p[nearest[0]] if nearest else 0
    return (miss(z, y) + runner_up) ** mpf(gamma) * -log_softmax(z)[y]


def poly1(z, y, counts, epsilon, gamma):
    m = miss(z, y)
    return m ** mpf(gamma) * -log_softmax(z)[y] + mpf(epsilon) * m ** (mpf(gamma) + 1)


def asymmetric(z, y, counts, gamma_pos, gamma_neg, smoothing):
    log_p, loss = log_softmax(z), mpf(0)
    for j in range(len(z)):
        t = (1 - mpf(smoothing)) * (j == y) + mpf(smoothing) / len(z)
        focus = miss(z, y) ** mpf(gamma_pos) if j == y else exp(log_p[j]) ** mpf(gamma_neg)
        loss -= t * focus * log_p[j]
    return loss


def asymmetric_ovr(z, y, counts, gamma_pos, gamma_neg, clip, detach_weight, class_reduction, at):
    def shifted(x):
        return max(sigmoid(x) - mpf(clip), mpf(0))

    terms = []
    for j, t_j in enumerate(as_probabilities(y, len(z))):
        focus = at[j] if detach_weight else z[j]
        positive = sigmoid(-focus) ** mpf(gamma_pos) * softplus(-z[j])
        rest = min(sigmoid(-z[j]) + mpf(clip), mpf(1))  # 1 − p_m
        negative = shifted(focus) ** mpf(gamma_neg) * -log(rest)
        terms.append(t_j * positive + (1 - t_j) * negative)
    return over_classes(terms, class_reduction)


# calibration


def mbls(z, y, counts, margin, alpha, class_reduction, at):
    """No slope at the corner itself."""
    m, top = mpf(margin), max(at)
    terms = [largest(z, at) - z[j] - m if top - at[j] > m else mpf(0) for j in range(len(z))]
    return plain_cross_entropy(z, y) + mpf(alpha) * over_classes(terms, class_reduction)


def confidence_penalty(z, y, counts, beta):
    entropy = -sum(exp(log_p) * log_p for log_p in log_softmax(z))
    return plain_cross_entropy(z, y) - mpf(beta) * entropy


def maxsup(z, y, counts, alpha, alpha_end, at, progress=0):
    a = mpf(alpha) + (mpf(alpha_end) - mpf(alpha)) * mpf(progress)
    return plain_cross_entropy(z, y) + a * (largest(z, at) - sum(z) / len(z))


def logit_norm(z, y, counts, temperature):
    length = sqrt(sum(x**2 for x in z))
    return plain_cross_entropy([x / (mpf(temperature) * (length + mpf(1e-7))) for x in z], y)


def label_aware_smoothing(z, y, counts, smooth_head, smooth_tail, shape):
    head, tail, n_min, n_max = mpf(smooth_head), mpf(smooth_tail), min(counts), max(counts)
    r = mpf(counts[y] - n_min) / (n_max - n_min) if n_max > n_min else mpf(1)
    e = {
        "linear": tail + (head - tail) * r,
        "concave": tail + (head - tail) * sin(r * pi / 2),
        "convex": head + (head - tail) * sin(3 * pi / 2 + r * pi / 2),
    }[shape]
    log_p = log_softmax(z)
    return (1 - e) * -log_p[y] - e * sum(log_p) / len(z)


def mmce(zs, ys, counts, coefficient, at):
    """Of a whole batch: the mean; every entry of an unreduced loss holds the penalty too."""
    gaps = []
    for z, y, z_at in zip(zs, ys, at, strict=True):
        top = [j for j in range(len(z)) if z_at[j] == max(z_at)]
        confidence = sum(softmax(z)[j] for j in top) / len(top)
        gaps.append((mpf(top[0] == y) - confidence, confidence))
    penalty = sum(a * b * exp(-abs(r - s) / mpf("0.4")) for a, r in gaps for b, s in gaps)
    entropy = sum(plain_cross_entropy(z, y) for z, y in zip(zs, ys, strict=True))
    return entropy / len(zs) + mpf(coefficient) * penalty / len(zs) ** 2
