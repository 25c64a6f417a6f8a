"""From the outputs of a split to metrics and arrays, under the names of the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from lossbench.evaluation.histograms import loss_histogram
from lossbench.evaluation.summary import evaluate
from lossbench.training import objective
from lossbench.training.passes import Outputs


@dataclass(frozen=True)
class Measured:
    """Metrics as ``split/group/metric`` and arrays as ``name/split``, and the decoded logits.

    ``log_prior`` ``(C,)`` is that of the prior which the decoded logits answer for.
    """

    metrics: dict[str, float]
    arrays: dict[str, np.ndarray]
    decoded: torch.Tensor
    log_prior: np.ndarray


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
    log_prior = objective.model_log_prior(loss, class_counts)
    measured = measure_decoded(
        split, decoded, outputs.targets, class_names, class_counts, log_prior
    )
    measured.metrics[f"{split}/loss/objective"] = own
    values = objective.per_sample(loss, outputs)
    if values is not None:
        measured.arrays[f"histogram/objective/{split}"] = loss_histogram(
            values, outputs.targets.numpy(), len(class_names)
        )
    return measured


def measure_decoded(
    split: str,
    decoded: torch.Tensor,
    targets: torch.Tensor,
    class_names: Sequence[str],
    class_counts: ArrayLike,
    log_prior: np.ndarray,
) -> Measured:
    """Evaluate ``decoded`` logits of ``split`` that answer for the prior of ``log_prior``."""
    evaluation = evaluate(
        decoded.numpy(),
        targets.numpy(),
        class_names=class_names,
        train_counts=class_counts,
        log_prior_model=log_prior,
    )
    metrics = {f"{split}/{name}": value for name, value in evaluation.metrics.items()}
    arrays = {_with_split(name, split): array for name, array in evaluation.arrays.items()}
    return Measured(metrics, arrays, decoded, log_prior)


def _with_split(name: str, split: str) -> str:
    # confusion -> confusion/val, histogram/cross_entropy -> histogram/cross_entropy/val,
    # reliability/raw -> reliability/val/raw
    group, _, rest = name.partition("/")
    return f"{group}/{split}/{rest}" if group == "reliability" else f"{name}/{split}"
