"""The losses and parameters that every contract test runs, and the batches it runs them on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lossbench.losses import create_loss, list_losses
from lossbench.losses.catalogue import facts

torch.set_num_threads(1)

CLASSES = 5
FEATURES = 6
COUNTS = [500, 120, 40, 9, 2]
WEIGHT = [0.25, 1.5, 0.0, 2.0, 3.25]

CASES: dict[str, list[dict[str, Any]]] = {
    "cross_entropy": [
        {},
        {"label_smoothing": 0.2},
        {"weight": WEIGHT},
        {"weight": WEIGHT, "label_smoothing": 0.3, "normalizer": "batch"},
    ],
    "label_smoothing": [
        {},
        {"variant": "off_target"},
        {"smoothing": 0.3, "weight": WEIGHT},
        {"smoothing": 0.3, "weight": WEIGHT, "variant": "off_target", "normalizer": "batch"},
    ],
    "temperature_scaled": [
        {},
        {"temperature": 0.3, "rescale": "T"},
        {"temperature": 5, "rescale": "T2"},
        {"temperature": 3.0, "learnable": True},
        {"temperature": 3.0, "learnable": True, "rescale": "T2"},
    ],
    "binary_cross_entropy": [
        {},
        {"class_reduction": "sum"},
        {"smoothing": 0.2, "class_reduction": "sum", "pos_weight": WEIGHT},
    ],
    "multi_margin": [{}, {"p": 2}, {"margin": 0.3}, {"margin": 2.5, "p": 2}],
    "l1": [{}, {"class_reduction": "mean"}],
    "mse": [{}, {"class_reduction": "mean"}],
    "smooth_l1": [{}, {"beta": 0.5}, {"beta": 0.01, "class_reduction": "mean"}],
    "huber": [{}, {"delta": 0.5}, {"delta": 0.01, "class_reduction": "mean"}],
    "focal": [
        {},
        {"gamma": 0.0},
        {"gamma": 0.25},
        {"gamma": 0.5, "alpha": WEIGHT},
        {"gamma": 5, "alpha": WEIGHT, "normalizer": "batch"},
    ],
    "sigmoid_focal": [
        {},
        {"alpha": None, "class_reduction": "mean"},
        {"gamma": 0.0},
        {"gamma": 0.5, "alpha": 0.9},
        {"gamma": 6, "alpha": 0.0},
    ],
    "focal_flsd": [
        {},
        {"thresholds": [0.25, 0.6], "gammas": [5.0, 0.5, 0.0]},
        {"thresholds": [0.9], "gammas": [0.0, 3.0]},
    ],
    "dual_focal": [{}, {"gamma": 0.0}, {"gamma": 0.5}, {"gamma": 1}],
    "poly1": [{}, {"epsilon": -1.0}, {"gamma": 2.0}, {"epsilon": 0.5, "gamma": 0.5}],
    "asymmetric": [
        {},
        {"gamma_pos": 1.0},
        {"gamma_pos": 0.5, "gamma_neg": 0.5, "smoothing": 0.3},
        {"gamma_neg": 0.0, "gamma_pos": 2.0},
        {"smoothing": 0.0},
    ],
    "asymmetric_ovr": [
        {},
        {"detach_weight": True},
        {"clip": 0.0, "class_reduction": "mean"},
        {"gamma_pos": 0.0, "gamma_neg": 0.0, "clip": 0.0},
        {"gamma_pos": 0.5, "gamma_neg": 2.5, "clip": 0.2},
        {"gamma_pos": 2.0, "gamma_neg": 1.0, "detach_weight": True, "clip": 0.0},
    ],
    "mbls": [
        {},
        {"margin": 1.5, "alpha": 1.0},
        {"margin": 0.01, "alpha": 0.3, "class_reduction": "sum"},
    ],
    "confidence_penalty": [{}, {"beta": 0.0}, {"beta": 2.5}],
    "maxsup": [{}, {"alpha": 1.0, "alpha_end": 0.0}],
    "logit_norm": [{}, {"temperature": 1.0}],
    "label_aware_smoothing": [
        {},
        {"shape": "linear", "smooth_tail": 0.1},
        {"shape": "convex", "smooth_head": 0.4, "smooth_tail": 0.1},
        {"smooth_head": 0.0},
    ],
    "mmce": [{}, {"coefficient": 4.0}],
    "inverse_frequency": [{}, {"power": 0.5}, {"power": 0.0}, {"power": 2, "normalizer": "batch"}],
    "class_balanced": [{}, {"beta": 0.0}, {"beta": 0.9, "normalizer": "batch"}],
    "class_balanced_bce": [{}, {"beta": 0.0}, {"beta": 0.9, "normalizer": "batch"}],
    "class_balanced_focal": [
        {},
        {"activation": "softmax"},
        {"gamma": 0.5, "beta": 0.9},
        {"gamma": 0.5, "beta": 0.9, "activation": "softmax", "normalizer": "batch"},
        {"gamma": 0.0},
        {"gamma": 4, "normalizer": "batch"},
    ],
    "influence_balanced": [
        {},
        {"start_fraction": 0.0},
        {"start_fraction": 0.0, "detach": True, "normalizer": "batch"},
        {"start_fraction": 0.0, "alpha": 3.0, "epsilon": 1.0},
    ],
    "ldam": [
        {},
        {"scale": 1.0},
        {"max_margin": 0.0, "scale": 2.0},
        {"max_margin": 0.8, "scale": 10, "weight": WEIGHT},
        {"weight": WEIGHT, "normalizer": "batch"},
    ],
    "balanced_softmax": [{}],
    "logit_adjusted": [{}, {"tau": 0.0}, {"tau": 2.5}],
    "vs": [{}, {"gamma": 0.0}, {"tau": 0.0}, {"gamma": 0.9, "tau": 2.5}],
    "cdt": [{}, {"gamma": 0.0}, {"gamma": 0.9}],
    "seesaw": [
        {},
        {"p": 0.0},
        {"q": 0.0},
        {"p": 1.5, "q": 0.5, "epsilon": 0.3},
        {"p": 0.0, "q": 0.0},
    ],
    "mae": [{}],
    "gce": [{}, {"q": 1.0}, {"q": 0.3}, {"q": 1e-3}],
    "reverse_ce": [{}, {"log_zero": -9.21034}],
    "sce": [{}, {"alpha": 6.0, "beta": 0.1, "log_zero": -9.21034}],
    "nce": [{}],
    "nce_rce": [{}, {"alpha": 10.0, "beta": 0.1, "log_zero": -9.21034}],
    "nce_mae": [{}, {"alpha": 10.0, "beta": 0.1}],
    "normalized_focal": [{}, {"gamma": 0.0}, {"gamma": 2.0}, {"gamma": 5}],
    "bi_tempered": [
        {},
        {"smoothing": 0.2},
        {"t1": 1.0, "t2": 1.0},
        {"t1": 0.5, "t2": 2.0},
        {"t1": 0.5, "t2": 4.0, "smoothing": 0.1},
        {"t1": 0.9, "t2": 1.05},
        {"t1": 0.0, "t2": 1.0},
        {"t1": 1.0, "t2": 1.5},
    ],
    "norm_softmax": [{}, {"scale": 1.0}],
    "am_softmax": [{}, {"scale": 64, "margin": 0.4}, {"margin": 0.0, "scale": 1.0}],
    "arcface": [
        {},
        {"fallback": "easy", "scale": 64},
        {"fallback": "none"},
        {"margin": 1.2, "scale": 4.0},
        {"margin": 1.2, "scale": 4.0, "fallback": "none"},
        {"margin": 0.0, "scale": 1.0},
    ],
    "large_margin_softmax": [
        {},
        {"margin": 1},
        {"margin": 2, "annealing": [0.0, 0.0, 0.0, 0.0]},
        {"margin": 4, "annealing": [10.0, 3.0, 2.0, 0.5]},
    ],
    "sphereface": [
        {},
        {"margin": 1},
        {"margin": 3, "annealing": [0.0, 0.0, 0.0, 0.0]},
        {"margin": 4, "annealing": [10.0, 3.0, 2.0, 0.5]},
    ],
}

EVERY_CASE = pytest.mark.parametrize(
    ("key", "parameters"),
    [
        pytest.param(key, case, id=f"{key}-{i}")
        for key in list_losses()
        for i, case in enumerate(CASES.get(key, [{}]))
    ],
)
EVERY_LOSS = pytest.mark.parametrize("key", list_losses())
TAKE_PROBABILITIES = [key for key in list_losses() if facts(key).soft_targets == "direct"]


def build(key, classes=CLASSES, order=1, reduction="mean", ignore_index=-100, **parameters):
    """The loss for ``classes`` classes; ``order`` -1 reverses what has an entry per class."""
    per_class = {p.name for p in facts(key).parameters if p.kind == "per_class"}
    sized = {
        name: np.resize(value, classes)[::order].tolist()
        if name in per_class and value is not None
        else value
        for name, value in parameters.items()
    }
    counts = np.resize(COUNTS, classes)[::order]
    return create_loss(
        key, class_counts=counts.copy(), reduction=reduction, ignore_index=ignore_index, **sized
    )


def batch(n=12, classes=CLASSES, dtype=torch.float64, seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    target = torch.randint(classes, (n,), generator=generator)
    return logits.to(dtype), target


def probabilities(n=12, classes=CLASSES, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, classes, generator=generator, dtype=torch.float64).softmax(dim=1)


def head(n, classes=CLASSES, dtype=torch.float64, seed=2):
    """Features (n, F) and head weights (C, F): what a loss with features is given beside logits."""
    generator = torch.Generator().manual_seed(seed)
    features = 2 * torch.randn(n, FEATURES, generator=generator, dtype=torch.float64)
    weight = torch.randn(classes, FEATURES, generator=generator, dtype=torch.float64)
    return {"features": features.to(dtype), "weight": weight.to(dtype)}


def extras_for(key, logits, seed=2) -> dict[str, Tensor]:
    """``features`` and ``weight`` for a loss that needs them, else nothing."""
    if "features" not in facts(key).needs:
        return {}
    return head(logits.shape[0], logits.shape[1], logits.dtype, seed)


def batch_for(key, n=12, classes=CLASSES, dtype=torch.float64, seed=0):
    """Logits, targets and what else the loss takes, made for its head.

    Cosines for a cosine head; the logits and cosines of a loss with features are those of the
    features and weights beside them. Without features and with any head: the logits of ``batch``.
    """
    logits, target = batch(n, classes, dtype, seed)
    extras = extras_for(key, logits, seed + 2)
    if facts(key).heads == "cosine":
        given = head(n, classes, seed=seed + 2)
        features, weight = (torch.nn.functional.normalize(part) for part in given.values())
        logits = (features @ weight.T).to(dtype)
    elif extras:
        logits = extras["features"] @ extras["weight"].T
    return logits, target, extras


def extreme_logits():
    """Rows at p_y = 0, p_y = 1 and on the way there."""
    return torch.tensor(
        [
            [0.0] * 5,
            [50.0, -50, 0, 0, 0],
            [-50.0, 50, 0, 0, 0],
            [60.0, 0, 0, 0, 0],
            [17.0, 0, 0, 0, 0],
            [20.0, 0, 0, 0, 0],
            [30.0, 0, 0, 0, 29],
            [1e4, -1e4, 0, 1, 2],
            [-1e4, 1e4, 0, 1, 2],
            [1e4, 1e4, 1e4, 1e4, 1e4],
        ],
        dtype=torch.float64,
    )


def extreme_cosines():
    """Rows close to ±1, where the angle still has a moderate slope; see `cosine_ends`."""
    near = 1 - 2.0**-6
    return torch.tensor(
        [
            [0.0] * 5,
            [near, -near, 0, 0.5, -0.5],
            [-near, near, 0, 0.25, -0.75],
            [near] * 5,
            [-near] * 5,
            [0.875, -0.875, -0.9375, 0.9375, 1e-6],
        ],
        dtype=torch.float64,
    )


def cosine_ends():
    """Rows at ±1 and one rounding of float32 away: losses and gradients are finite there."""
    ends = [1.0, -1.0, 1 - 2.0**-24, -1 + 2.0**-24]
    return torch.tensor([[x, y, 0.0, 0.5, -0.5] for x in ends for y in ends], dtype=torch.float64)


def extremes_for(key, dtype=torch.float64):
    """Every extreme row with every class as its target, and the extras of the loss.

    The flat rows are left out where a constant of the loss jumps at them: focal_flsd's default
    threshold is the 1/5 of five equal classes, and rounding decides on which side it lies.
    """
    rows = extreme_cosines() if facts(key).heads == "cosine" else extreme_logits()
    if key == "focal_flsd":
        rows = rows[rows.amax(dim=1) > rows.amin(dim=1)]
    logits = rows.repeat_interleave(CLASSES, dim=0).to(dtype)
    target = torch.arange(len(logits)) % CLASSES
    return logits, target, extras_for(key, logits)


def magnification(key, parameters):
    """By how much a loss enlarges the rounding of a probability; tolerances grow with it."""
    given = {p.name: parameters.get(p.name, p.default) for p in facts(key).parameters}
    if key == "influence_balanced":
        return given["alpha"] / given["epsilon"]  # reached at p_y = 1
    return given.get("scale", 1.0)
