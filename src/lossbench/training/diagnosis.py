"""What a finished run says beyond its metrics: over-fitting, suspicious labels, hardest images."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossbench.data.preparation import PreparedData, Split
from lossbench.evaluation.diagnostics import overfitting
from lossbench.evaluation.histograms import loss_histogram
from lossbench.evaluation.noise_detection import (
    label_noise_metrics,
    mean_loss,
    noise_probability,
    suspicious_order,
)
from lossbench.evaluation.probabilities import Integers
from lossbench.evaluation.trajectories import trajectory_arrays
from lossbench.records import files
from lossbench.records.record import SUSPICIOUS_LABELS
from lossbench.tensorboard.image_grid import LARGEST, image_grid
from lossbench.tensorboard.writer import RunWriter
from lossbench.training.measuring import Classes, Measured
from lossbench.training.passes import Deployed
from lossbench.training.sample_history import SampleHistory

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Diagnosis:
    """Metrics with their whole tags and arrays with their whole names."""

    metrics: dict[str, float]
    arrays: Arrays

    def __or__(self, other: Diagnosis) -> Diagnosis:
        return Diagnosis(self.metrics | other.metrics, self.arrays | other.arrays)


def diagnose(
    measured: Mapping[str, Measured],
    outputs: Mapping[str, Deployed],
    data: PreparedData,
    samples: SampleHistory | None,
) -> Diagnosis:
    """Over-fitting in the last epoch, and with ``samples`` which labels they make suspicious.

    Metrics and arrays are those of `of_overfitting`, where test is measured, and metrics
    ``train/label_noise/...`` (`label_noise_metrics`). Further arrays: with known
    label noise ``histogram/cross_entropy/train_clean`` and ``train_noisy``, (C, 102) by the given
    label; with ``samples``, in the order of `sample_history.npz`, ``sample_history/...``
    (`trajectory_arrays`) and ``sample_history/noise_probability``.
    """
    train, losses = outputs["train"].targets.numpy(), measured["train"].losses
    found = Diagnosis({}, _by_noise(measured["train"], outputs["train"], data))
    if "test" in measured:
        classes, test = Classes.of_data(data), outputs["test"].targets.numpy()
        found |= of_overfitting(losses, train, measured["test"].losses, test, classes)
    return found if samples is None else found | _label_noise(samples, data)


def of_overfitting(
    train_losses: ArrayLike,
    train_targets: ArrayLike,
    test_losses: ArrayLike,
    test_targets: ArrayLike,
    classes: Classes,
) -> Diagnosis:
    """``test/overfitting/...``, ``test/overfitting_<group>/...`` and ``overfitting/by_class``."""
    found = overfitting(
        *(train_losses, train_targets, test_losses, test_targets),
        class_counts=classes.image_counts,
        num_classes=len(classes.names),
    )
    metrics = {f"test/{name}": value for name, value in found.metrics.items()}
    return Diagnosis(metrics, dict(found.arrays))


def _by_noise(measured: Measured, outputs: Deployed, data: PreparedData) -> Arrays:
    """The histograms of right and of wrong training labels; none where nobody knows them."""
    noisy, targets = noisy_labels(data, outputs.ids.numpy()), outputs.targets.numpy()
    parts = {} if noisy is None else {"clean": ~noisy, "noisy": noisy}
    return {
        f"histogram/cross_entropy/train_{name}": loss_histogram(
            measured.losses[part], targets[part], len(data.class_names)
        )
        for name, part in parts.items()
    }


def _label_noise(samples: SampleHistory, data: PreparedData) -> Diagnosis:
    history = samples.arrays()
    loss = mean_loss(history["loss"])
    probability = noise_probability(loss, history["targets"])
    metrics = label_noise_metrics(probability, loss, noisy_labels(data, history["ids"]))
    arrays = trajectory_arrays(history["loss"], history["margin"])
    arrays |= {"mean_loss": loss, "noise_probability": probability}
    return Diagnosis(
        {f"train/label_noise/{name}": value for name, value in metrics.items()},
        {f"sample_history/{name}": array for name, array in arrays.items()},
    )


def noisy_labels(data: PreparedData, ids: Integers) -> NDArray[np.bool_] | None:
    """(N,): whether the labels of the training samples ``ids`` are wrong; None if nobody knows."""
    if data.clean_targets is None:
        return None
    return (data.train.targets != data.clean_targets)[_places(data.train, ids)]


def _places(split: Split, ids: Integers) -> Integers:
    """Where the samples ``ids`` stand in ``split``."""
    order = np.argsort(split.ids)
    return order[np.searchsorted(split.ids, ids, sorter=order)]


def write_suspicious_labels(
    folder: Path, found: Diagnosis, samples: SampleHistory, class_names: tuple[str, ...]
) -> None:
    """`suspicious_labels.csv`: the flagged training samples, the most suspicious first.

    Those with a probability above 0.5: id, given label, that probability, mean loss in nats and
    mean margin over the epochs.
    """
    columns = ("noise_probability", "mean_loss", "mean_margin")
    probability, loss, margin = (
        found.arrays[f"sample_history/{name}"].astype(np.float64) for name in columns
    )
    stream = io.StringIO()
    table = csv.writer(stream)
    table.writerow(("id", "given_label", *columns))
    for place in suspicious_order(probability, loss)[: (probability > 0.5).sum()]:
        label = class_names[samples.targets[place]]
        values = (f"{array[place]:.6g}" for array in (probability, loss, margin))
        table.writerow((int(samples.ids[place]), label, *values))
    files.write_text(folder / SUSPICIOUS_LABELS, stream.getvalue())


def write_hardest_images(
    writer: RunWriter,
    measured: Mapping[str, Measured],
    outputs: Mapping[str, Deployed],
    data: PreparedData,
    epoch: int,
) -> None:
    """``<split>/highest_loss`` of training and test: the images of the highest cross-entropy.

    Of those that are ``measured``. Data that is not grey or RGB images has no such figure.
    """
    if len(data.input_shape) != 3 or data.input_shape[0] not in (1, 3):
        return
    for split, part in (("train", data.train), ("test", data.test)):
        if split not in measured:
            continue
        decoded, targets = outputs[split].decoded.numpy(), outputs[split].targets.numpy()
        losses = measured[split].losses
        rows = np.argsort(-losses, kind="stable")[:LARGEST]
        images = part.inputs[_places(part, outputs[split].ids.numpy()[rows])]
        labels = [
            f"{data.class_names[targets[row]]}\n→ {data.class_names[decoded[row].argmax()]}\n"
            f"{losses[row]:.2f}"
            for row in rows
        ]
        title = f"{split}: given label → prediction, cross-entropy in nats"
        picture = image_grid(list(images), labels, title=title)
        writer.image(f"{split}/highest_loss", *picture, step=epoch)
