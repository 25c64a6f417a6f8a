"""From the outputs of a split to metrics and arrays, under the names of the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike

from lossbench.data.preparation import PreparedData
from lossbench.evaluation.histograms import loss_histogram
from lossbench.evaluation.probabilities import cross_entropy
from lossbench.evaluation.shifted import shifted_metrics
from lossbench.evaluation.summary import evaluate
from lossbench.evaluation.trajectories import per_sample
from lossbench.records import Record
from lossbench.training import objective
from lossbench.training.passes import Deployed, Outputs


@dataclass(frozen=True)
class Classes:
    """What measuring knows of the classes of a run.

    ``counts`` (C,) are those of the labels given in training, which make the prior;
    ``image_counts`` (C,) those of the true classes, which rank them. ``priors`` are the class
    shares of the splits.
    """

    names: tuple[str, ...]
    counts: np.ndarray
    image_counts: np.ndarray
    priors: Mapping[str, Sequence[float] | None]

    @classmethod
    def of_data(cls, data: PreparedData) -> Classes:
        """Those of a run that is trained."""
        return cls(data.class_names, data.class_counts, data.image_counts, data.priors)

    @classmethod
    def of_record(cls, record: Record) -> Classes:
        """The same of a run that was trained. Raises `DamagedRecordError`."""
        counts, images = np.array(record.class_counts), np.array(record.image_counts())
        return cls(tuple(record.class_names), counts, images, record.priors)


@dataclass(frozen=True)
class Measured:
    """Metrics as ``split/group/metric`` and arrays as ``name/split``.

    ``losses`` (N,) float64 are the yardstick's, the cross-entropy of each row of the decoded
    logits.
    """

    metrics: dict[str, float]
    arrays: dict[str, np.ndarray]
    losses: np.ndarray


def deployed(
    outputs: Outputs,
    loss: objective.Loss,
    class_counts: ArrayLike,
    regime_shift: torch.Tensor | None = None,
) -> Deployed:
    """``outputs`` with the logits that are deployed under ``loss``, and their prior.

    ``regime_shift`` is the regime's part of the prior (`objective.model_log_prior`).
    """
    loss = objective.frozen(loss)
    with torch.no_grad():
        decoded = objective.decode(loss, outputs.logits, **outputs.head)
    log_prior = objective.model_log_prior(loss, class_counts, regime_shift)
    return Deployed(**vars(outputs), decoded=decoded, log_prior=log_prior)


def measure(split: str, outputs: Deployed, loss: objective.Loss, classes: Classes) -> Measured:
    """Evaluate ``outputs`` of ``split`` under the yardstick and under the run's own ``loss``."""
    loss = objective.frozen(loss)
    own = objective.mean(loss, outputs)
    measured = measure_decoded(split, outputs, classes)
    measured.metrics[f"{split}/loss/objective"] = own
    values = objective.per_sample(loss, outputs)
    if values is not None:
        measured.arrays[f"histogram/objective/{split}"] = loss_histogram(
            values, outputs.targets.numpy(), len(classes.names)
        )
    return measured


def measure_decoded(
    split: str, outputs: Deployed, classes: Classes, *, detail: bool = False
) -> Measured:
    """Evaluate the decoded logits of ``split``.

    With ``detail`` also what is only wanted at the end; of test under shifted priors too.
    """
    logits, labels = outputs.decoded.numpy(), outputs.targets.numpy()
    evaluation = evaluate(
        logits,
        labels,
        class_names=classes.names,
        train_counts=classes.image_counts,
        log_prior_model=outputs.log_prior,
        detail=detail,
    )
    metrics = {f"{split}/{name}": value for name, value in evaluation.metrics.items()}
    if detail and split == "test":
        counts = classes.image_counts
        shifted = shifted_metrics(
            logits, labels, class_counts=counts, log_prior_model=outputs.log_prior
        )
        metrics |= {f"test/shifted/{name}": value for name, value in shifted.items()}
    arrays = {_with_split(name, split): array for name, array in evaluation.arrays.items()}
    return Measured(metrics, arrays, per_sample(cross_entropy, logits, labels))


def in_detail(measured: Measured, split: str, outputs: Deployed, classes: Classes) -> Measured:
    """``measured``, with what `measure_decoded` adds in detail."""
    found = measure_decoded(split, outputs, classes, detail=True)
    return replace(measured, metrics=measured.metrics | found.metrics)


def _with_split(name: str, split: str) -> str:
    # confusion -> confusion/val, histogram/cross_entropy -> histogram/cross_entropy/val,
    # reliability/raw -> reliability/val/raw
    group, _, rest = name.partition("/")
    return f"{group}/{split}/{rest}" if group == "reliability" else f"{name}/{split}"
