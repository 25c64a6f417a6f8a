"""From the outputs of a split to metrics and arrays, under the names of the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike

from lossbench.evaluation.histograms import loss_histogram
from lossbench.evaluation.probabilities import cross_entropy
from lossbench.evaluation.shifted import shifted_metrics
from lossbench.evaluation.summary import evaluate
from lossbench.evaluation.trajectories import per_sample
from lossbench.training import objective
from lossbench.training.passes import Outputs


@dataclass(frozen=True)
class Measured:
    """Metrics as ``split/group/metric`` and arrays as ``name/split``, and the decoded logits.

    ``losses`` (N,) float64 are the yardstick's, the cross-entropy of each row of ``decoded``, and
    ``log_prior`` (C,) is that of the prior which these logits answer for.
    """

    metrics: dict[str, float]
    arrays: dict[str, np.ndarray]
    decoded: torch.Tensor
    log_prior: np.ndarray
    losses: np.ndarray


def measure(
    split: str,
    outputs: Outputs,
    loss: objective.Loss,
    class_names: Sequence[str],
    class_counts: ArrayLike,
    image_counts: ArrayLike,
    regime_shift: torch.Tensor | None = None,
) -> Measured:
    """Evaluate ``outputs`` of ``split`` under the yardstick and under the run's own ``loss``.

    ``class_counts`` (C,) are those of the labels given in training, which make the prior;
    ``image_counts`` (C,) those of the true classes, which rank them. ``regime_shift`` is the
    regime's part of the prior (`objective.model_log_prior`).
    """
    loss = objective.frozen(loss)
    with torch.no_grad():
        decoded = objective.decode(loss, outputs.logits, **outputs.head)
    own = objective.mean(loss, outputs)
    log_prior = objective.model_log_prior(loss, class_counts, regime_shift)
    measured = measure_decoded(
        split, decoded, outputs.targets, class_names, image_counts, log_prior
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
    image_counts: ArrayLike,
    log_prior: np.ndarray,
    *,
    detail: bool = False,
) -> Measured:
    """Evaluate ``decoded`` logits of ``split`` that answer for the prior of ``log_prior``.

    ``image_counts`` (C,) rank the classes: training images per true class, whatever their labels.
    With ``detail`` also what is only wanted at the end; of test under shifted priors too.
    """
    logits, labels = decoded.numpy(), targets.numpy()
    evaluation = evaluate(
        logits,
        labels,
        class_names=class_names,
        train_counts=image_counts,
        log_prior_model=log_prior,
        detail=detail,
    )
    metrics = {f"{split}/{name}": value for name, value in evaluation.metrics.items()}
    if detail and split == "test":
        shifted = shifted_metrics(
            logits, labels, class_counts=image_counts, log_prior_model=log_prior
        )
        metrics |= {f"test/shifted/{name}": value for name, value in shifted.items()}
    arrays = {_with_split(name, split): array for name, array in evaluation.arrays.items()}
    losses = per_sample(cross_entropy, logits, labels)
    return Measured(metrics, arrays, decoded, log_prior, losses)


def in_detail(
    measured: Measured,
    split: str,
    targets: torch.Tensor,
    class_names: Sequence[str],
    image_counts: ArrayLike,
) -> Measured:
    """``measured``, with what `measure_decoded` adds in detail."""
    found = measure_decoded(
        *(split, measured.decoded, targets, class_names, image_counts, measured.log_prior),
        detail=True,
    )
    return replace(measured, metrics=measured.metrics | found.metrics)


def _with_split(name: str, split: str) -> str:
    # confusion -> confusion/val, histogram/cross_entropy -> histogram/cross_entropy/val,
    # reliability/raw -> reliability/val/raw
    group, _, rest = name.partition("/")
    return f"{group}/{split}/{rest}" if group == "reliability" else f"{name}/{split}"
