"""References of the losses that know more: class counts, noise, margins and features."""

from __future__ import annotations

from loss_references_softmax import (
    as_probabilities,
    expected,
    log_softmax,
    miss,
    plain_cross_entropy,
    sigmoid,
    softmax,
    softplus,
)
from mpmath import acos, cos, exp, floor, log, mpf, pi, sin, sqrt

# reweighting


def sum_to_classes(raw):
    return [w * len(raw) / sum(raw) for w in raw]


def inverse_frequency_weight(counts, power):
    return sum_to_classes([mpf(n) ** -mpf(power) for n in counts])


def class_balanced_weight(counts, beta):
    return sum_to_classes([(1 - mpf(beta)) / (1 - mpf(beta) ** n) for n in counts])


def weighted_cross_entropy(z, y, w):
    return expected(y, [-w_j * log_p for w_j, log_p in zip(w, log_softmax(z), strict=True)])


def inverse_frequency(z, y, counts, power, normalizer):
    return weighted_cross_entropy(z, y, inverse_frequency_weight(counts, power))


def class_balanced(z, y, counts, beta, normalizer):
    return weighted_cross_entropy(z, y, class_balanced_weight(counts, beta))


def one_against_rest(z, y, gamma):
    """Σ_j of the sigmoid focal loss with class y as the positive one; γ = 0: Σ_j BCE."""
    signed = [x if j == y else -x for j, x in enumerate(z)]
    return sum(sigmoid(-x) ** mpf(gamma) * softplus(-x) for x in signed)


def class_balanced_bce(z, y, counts, beta, normalizer):
    w = class_balanced_weight(counts, beta)
    return expected(y, [w[c] * one_against_rest(z, c, 0) for c in range(len(z))])


def class_balanced_focal(z, y, counts, beta, gamma, activation, normalizer):
    loss = {
        "sigmoid": one_against_rest(z, y, gamma),
        "softmax": miss(z, y) ** mpf(gamma) * -log_softmax(z)[y],
    }[activation]
    return class_balanced_weight(counts, beta)[y] * loss


def influence_balanced(
    z, y, counts, alpha, epsilon, detach, start_fraction, normalizer, features, at,
    weight=None, progress=0,
):  # fmt: skip
    if progress < start_fraction:
        return plain_cross_entropy(z, y)
    influence = 2 * miss(at if detach else z, y) * sum(abs(h) for h in features)
    factor = mpf(alpha) / (influence + mpf(epsilon))
    return inverse_frequency_weight(counts, 1)[y] * factor * plain_cross_entropy(z, y)


# adjustment


def ldam(z, y, counts, max_margin, scale, weight, normalizer):
    margin = mpf(max_margin) * (mpf(min(counts)) / counts[y]) ** (mpf(1) / 4)
    shifted = [mpf(scale) * (x - margin * (j == y)) for j, x in enumerate(z)]
    return (1 if weight is None else weight[y]) * plain_cross_entropy(shifted, y)


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


def vs(z, y, counts, gamma, tau):
    scaled = [x * (mpf(n) / max(counts)) ** mpf(gamma) for x, n in zip(z, counts, strict=True)]
    prior = [mpf(n) / sum(counts) for n in counts]
    return plain_cross_entropy(
        [x + mpf(tau) * log(q) for x, q in zip(scaled, prior, strict=True)], y
    )


def cdt(z, y, counts, gamma):
    """In the paper's form: every logit divided by its (n_max/n_c)^γ."""
    return plain_cross_entropy(
        [x / (mpf(max(counts)) / n) ** mpf(gamma) for x, n in zip(z, counts, strict=True)], y
    )


def seesaw(z, y, counts, p, q, epsilon, seen, at):
    """``seen``: the counts after this batch; the factors are constants."""
    n = [max(int(k), 1) for k in seen]
    probability = softmax(at)
    floor_y = max(probability[y], mpf(epsilon))
    factor = []
    for j in range(len(z)):
        mitigation = min(1, (mpf(n[j]) / n[y]) ** mpf(p))
        compensation = max(1, (probability[j] / floor_y) ** mpf(q))
        factor.append(mitigation * compensation if j != y else mpf(1))
    return log(sum(s * exp(x - z[y]) for s, x in zip(factor, z, strict=True)))


# robust


def mae(z, y, counts):
    return miss(z, y)


def gce(z, y, counts, q):
    return (1 - exp(mpf(q) * log_softmax(z)[y])) / mpf(q)


def reverse_ce(z, y, counts, log_zero):
    """−Σ_j p_j log t_j with log 0 read as ``log_zero``."""
    return -sum(softmax(z)[j] * mpf(log_zero) for j in range(len(z)) if j != y)


def sce(z, y, counts, alpha, beta, log_zero):
    return mpf(alpha) * -log_softmax(z)[y] + mpf(beta) * reverse_ce(z, y, counts, log_zero)


def nce(z, y, counts):
    return log_softmax(z)[y] / sum(log_softmax(z))


def nce_rce(z, y, counts, alpha, beta, log_zero):
    return mpf(alpha) * nce(z, y, counts) + mpf(beta) * reverse_ce(z, y, counts, log_zero)


def nce_mae(z, y, counts, alpha, beta):
    return mpf(alpha) * nce(z, y, counts) + mpf(beta) * miss(z, y)


def normalized_focal(z, y, counts, gamma):
    terms = [miss(z, k) ** mpf(gamma) * -log_softmax(z)[k] for k in range(len(z))]
    return terms[y] / sum(terms)


def log_t(x, t):
    return log(x) if t == 1 else (x ** (1 - t) - 1) / (1 - t)


def tempered_softmax(z, t):
    """exp_t(z_j − λ) with Σ_j = 1; λ by Newton from the left of a convex, falling function."""
    if t == 1:
        return softmax(z)
    below = [max(z) - x for x in z]
    shift = mpf(0)  # λ − max z
    for _ in range(10_000):
        base = [1 + (t - 1) * (shift + b) for b in below]
        excess = sum(x ** (1 / (1 - t)) for x in base) - 1
        step = excess / sum(x ** (1 / (1 - t) - 1) for x in base)
        shift += step
        if abs(step) < mpf(10) ** -57 * (1 + shift):
            return [(1 + (t - 1) * (shift + b)) ** (1 / (1 - t)) for b in below]
    raise ArithmeticError(f"no normaliser for {z} at t={t}")


def bi_tempered(z, y, counts, t1, t2, smoothing):
    e, t1, p = mpf(smoothing), mpf(t1), tempered_softmax(z, mpf(t2))
    loss = mpf(0)
    for t_j, p_j in zip(as_probabilities(y, len(z)), p, strict=True):
        u = (1 - e * len(z) / (len(z) - 1)) * t_j + e / (len(z) - 1)
        loss += u * (log_t(u, t1) - log_t(p_j, t1)) if u > 0 else 0
        loss -= (u ** (2 - t1) - p_j ** (2 - t1)) / (2 - t1)
    return loss


# margin: the logits are cosines, but for large_margin_softmax


def norm_softmax(z, y, counts, scale):
    return plain_cross_entropy([mpf(scale) * x for x in z], y)


def with_target(z, y, target, scale=1):
    return plain_cross_entropy([mpf(scale) * (target if j == y else x) for j, x in enumerate(z)], y)


def am_softmax(z, y, counts, scale, margin):
    return with_target(z, y, z[y] - mpf(margin), scale)


def arcface(z, y, counts, scale, margin, fallback, at):
    m = mpf(margin)
    turned = z[y] * cos(m) - sqrt(1 - z[y] ** 2) * sin(m)  # cos(θ + m)
    past = acos(at[y]) + m > pi
    if fallback == "linear" and past:
        turned = z[y] - m * sin(m)
    if fallback == "easy" and at[y] <= 0:
        turned = z[y]
    return with_target(z, y, turned, scale)


def psi(cosine, margin):
    """(−1)^k cos(mθ) − 2k with k = ⌊mθ/π⌋."""
    theta = acos(max(min(cosine, mpf(1)), mpf(-1)))
    k = min(int(floor(margin * theta / pi)), margin - 1)  # θ = π closes the last segment
    before, chebyshev = mpf(1), cosine  # cos(mθ) as a polynomial in cos θ: it has slopes at ±1
    for _ in range(margin - 1):
        before, chebyshev = chebyshev, 2 * cosine * chebyshev - before
    return (-1) ** k * chebyshev - 2 * k


def annealed(annealing, progress):
    base, rate, power, minimum = (mpf(x) for x in annealing)
    return max(minimum, base * (1 + rate * mpf(progress)) ** -power)


def norm(vector):
    return sqrt(sum(x**2 for x in vector))


def large_margin_softmax(z, y, counts, margin, annealing, features, weight, progress=0):
    length = norm(weight[y]) * norm(features)
    cosine = sum(a * b for a, b in zip(weight[y], features, strict=True)) / length
    lam = annealed(annealing, progress)
    return with_target(z, y, z[y] + length * (psi(cosine, margin) - cosine) / (1 + lam))


def sphereface(z, y, counts, margin, annealing, features, weight=None, progress=0):
    lam, length = annealed(annealing, progress), norm(features)
    target = (lam * z[y] + psi(z[y], margin)) / (1 + lam)
    return with_target([length * x for x in z], y, length * target)
