"""From the outputs of a split to metrics and arrays, under the names of the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from lossbench.evaluation.histograms import loss_histogram
from lossbench.evaluation.probabilities import cross_entropy
from lossbench.evaluation.summary import evaluate
from lossbench.evaluation.trajectories import per_sample
from lossbench.training import objective
from lossbench.training.passes import Outputs


@dataclass(frozen=True)
class Measured:
    """Metrics as ``split/group/metric`` and arrays as ``name/split``, and the decoded logits.

    ``losses`` (N,) float64 are the yardstick's, the cross-entropy of each row of ``decoded``.
    """

    metrics: dict[str, float]
    arrays: dict[str, np.ndarray]
    decoded: torch.Tensor
    losses: np.ndarray


def measure(
    split: str,
    outputs: Outputs,
    loss: objective.Loss,
    class_names: Sequence[str],
    class_counts: ArrayLike,
) -> Measured:
    """Evaluate ``outputs`` of ``split`` under the yardstick and under the run's own ``loss``."""
    loss = objective.frozen(loss)
    with torch.no_grad():
        decoded = objective.decode(loss, outputs.logits, **outputs.head)
    own = objective.mean(loss, outputs)
    targets = outputs.targets.numpy()
    evaluation = evaluate(
        decoded.numpy(),
        targets,
        class_names=class_names,
        train_counts=class_counts,
        log_prior_model=objective.model_log_prior(loss, class_counts),
    )
    metrics = {f"{split}/{name}": value for name, value in evaluation.metrics.items()}
    metrics[f"{split}/loss/objective"] = own
    arrays = {_with_split(name, split): array for name, array in evaluation.arrays.items()}
    values = objective.per_sample(loss, outputs)
    if values is not None:
        arrays[f"histogram/objective/{split}"] = loss_histogram(values, targets, len(class_names))
    return Measured(metrics, arrays, decoded, per_sample(cross_entropy, decoded.numpy(), targets))


def _with_split(name: str, split: str) -> str:
    # confusion -> confusion/val, histogram/cross_entropy -> histogram/cross_entropy/val,
    # reliability/raw -> reliability/val/raw
    group, _, rest = name.partition("/")
    return f"{group}/{split}/{rest}" if group == "reliability" else f"{name}/{split}"
