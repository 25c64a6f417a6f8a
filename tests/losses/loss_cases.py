"""The losses and parameters that every contract test runs, and the batches it runs them on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lossbench.losses import create_loss, list_losses
from lossbench.losses.catalogue import facts

torch.set_num_threads(1)

CLASSES = 5
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
    "focal": [
        {},
        {"gamma": 0.0},
        {"gamma": 0.25},
        {"gamma": 0.5, "alpha": WEIGHT},
        {"gamma": 5, "alpha": WEIGHT, "normalizer": "batch"},
    ],
    "class_balanced": [{}, {"beta": 0.0}, {"beta": 0.9, "normalizer": "batch"}],
    "balanced_softmax": [{}],
    "logit_adjusted": [{}, {"tau": 0.0}, {"tau": 2.5}],
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


def build(key, classes=CLASSES, order=1, reduction="mean", **parameters):
    """The loss for ``classes`` classes; ``order`` -1 reverses what has an entry per class."""
    sized = {
        name: np.resize(value, classes)[::order].tolist() if isinstance(value, list) else value
        for name, value in parameters.items()
    }
    counts = np.resize(COUNTS, classes)[::order]
    return create_loss(key, class_counts=counts.copy(), reduction=reduction, **sized)


def batch(n=12, classes=CLASSES, dtype=torch.float64, seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    target = torch.randint(classes, (n,), generator=generator)
    return logits.to(dtype), target


def probabilities(n=12, classes=CLASSES, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, classes, generator=generator, dtype=torch.float64).softmax(dim=1)
