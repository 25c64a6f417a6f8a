"""What a finished run leaves: final metrics, arrays, outputs and figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from lossbench.data.preparation import PreparedData
from lossbench.evaluation.classification import rank_groups, recalls
from lossbench.evaluation.histograms import LOG10_LOSS_EDGES, reweight
from lossbench.evaluation.posthoc import Head, posthoc_matrix
from lossbench.evaluation.precision_recall import one_vs_rest_decisions
from lossbench.models import Classifier
from lossbench.records import files
from lossbench.records.record import ARRAYS, OUTPUTS
from lossbench.tensorboard import figures
from lossbench.tensorboard.writer import RunWriter
from lossbench.training import objective
from lossbench.training.measuring import Measured
from lossbench.training.passes import Outputs

HALF_PRECISION_ABOVE = 200 * 2**20  # bytes of float32 logits, or of a sample history

CURVES_UP_TO = 20
"""With more classes than this, TensorBoard has PR curves of class groups alone."""


def gradient_metrics(rows: Sequence[Mapping[str, float]], scale: float | None) -> dict[str, float]:
    """The gradient's size in the last epoch, beside cross-entropy's also in the first.

    It is that of the loss itself; ``scale`` is what training multiplied the loss by, if anything.
    """
    size, relative = "train/gradient/norm", "train/gradient/relative_to_cross_entropy"
    found = {tag: rows[-1].get(tag, math.nan) for tag in (size, relative)}
    found[f"{relative}_first_epoch"] = rows[0].get(relative, math.nan)
    return found | ({} if scale is None else {"train/gradient/loss_scale": scale})


def final_metrics(
    measured: dict[str, Measured],
    outputs: dict[str, Outputs],
    class_counts: ArrayLike,
    head: str,
    further: Mapping[str, float],
) -> dict[str, float | None]:
    """Every metric of every split, and each split's outputs under every loss of the catalogue.

    ``head`` is the model's, ``further`` metrics are put beside them. What is not finite is None.
    """
    found: dict[str, float] = dict(further)
    for split, result in measured.items():
        found |= result.metrics
        scores = objective.scores(result.decoded, outputs[split], class_counts, head)
        found |= {f"{split}/loss/{key}": value for key, value in scores.items()}
        # the yardstick is in float64; the catalogue's cross-entropy is the same up to rounding
        found |= {
            key: value for key, value in result.metrics.items() if key.endswith("/cross_entropy")
        }
    return {key: value if math.isfinite(value) else None for key, value in sorted(found.items())}


def linear_head(model: Classifier) -> dict[str, np.ndarray]:
    """``weight`` (C, F) and ``bias`` (C,), float32, of a model with a linear head; else nothing."""
    head: Any = model.head
    if getattr(head, "bias", None) is None:
        return {}
    parts = {"weight": head.weight, "bias": head.bias}
    return {name: value.detach().float().cpu().numpy() for name, value in parts.items()}


def posthoc(
    measured: dict[str, Measured],
    outputs: dict[str, Outputs],
    image_counts: ArrayLike,
    head: Mapping[str, np.ndarray],
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Metrics and arrays of every post-hoc method; ``head`` is what `linear_head` gives.

    ``image_counts`` (C,) rank the classes: training images per true class, whatever their labels.
    """
    splits = {split: result for split, result in measured.items() if split != "train"}
    raw = {
        split: outputs[split].logits.numpy()
        for split, result in splits.items()
        if not torch.equal(result.decoded, outputs[split].logits)
    }
    given = {
        split: (result.decoded.numpy(), outputs[split].targets.numpy())
        for split, result in splits.items()
    }
    return posthoc_matrix(
        given.get("val"),
        given["test"],
        train_counts=image_counts,
        log_prior_model=measured["test"].log_prior,
        head=Head(head["weight"], head["bias"], raw) if head else None,
    )


def write_arrays(
    folder: Path, measured: dict[str, Measured], further: Mapping[str, np.ndarray]
) -> None:
    """`arrays.npz`: confusion matrices, reliability bins and histograms of every split.

    ``further`` arrays are put beside them.
    """
    arrays = {name: array for result in measured.values() for name, array in result.arrays.items()}
    files.write_arrays(folder / ARRAYS, {"edges": LOG10_LOSS_EDGES, **arrays, **further})


def write_outputs(
    folder: Path,
    measured: dict[str, Measured],
    outputs: dict[str, Outputs],
    head: Mapping[str, np.ndarray],
) -> None:
    """`outputs.npz` of validation and test: decoded logits, targets and sample ids.

    Raw logits are added where they differ from the decoded ones. With them go the ``log_prior``
    that the decoded logits answer for, and the weights of a linear ``head``.
    """
    outputs = {split: output for split, output in outputs.items() if split != "train"}
    size = sum(measured[split].decoded.numel() * 4 for split in outputs)
    dtype = torch.float16 if size > HALF_PRECISION_ABOVE else torch.float32
    arrays = {f"head/{name}": value for name, value in head.items()}
    arrays["log_prior"] = measured["test"].log_prior
    for split, output in outputs.items():
        decoded = measured[split].decoded
        arrays[f"logits/{split}"] = decoded.to(dtype).numpy()
        if not torch.equal(decoded, output.logits):
            arrays[f"raw_logits/{split}"] = output.logits.to(dtype).numpy()
        arrays[f"targets/{split}"] = output.targets.numpy()
        arrays[f"ids/{split}"] = output.ids.numpy()
    files.write_arrays(folder / OUTPUTS, arrays)


def loss_curves(arrays: dict[str, np.ndarray], data: PreparedData) -> dict[str, np.ndarray]:
    """The yardstick's histograms of the splits; training also at the test's prior if it differs.

    Without that, the larger share of head classes in training would be read as over-fitting.
    """
    by_class = {
        words: arrays[f"histogram/cross_entropy/{split}"]
        for split, words in (("train", "training"), ("val", "validation"), ("test", "test"))
        if f"histogram/cross_entropy/{split}" in arrays
    }
    curves = {words: counts.sum(axis=0) for words, counts in by_class.items()}
    prior = data.priors["test"]
    if prior is not None and prior != data.priors["train"]:
        curves["training, test prior"] = reweight(by_class["training"], prior)
    return curves


def write_figures(
    writer: RunWriter,
    measured: dict[str, Measured],
    further: Mapping[str, np.ndarray],
    data: PreparedData,
    epoch: int,
) -> None:
    """The figures of TensorBoard's Images tab, drawn once, from the last epoch.

    ``further`` arrays are those of the post-hoc methods.
    """
    arrays = {name: array for result in measured.values() for name, array in result.arrays.items()}
    names = data.class_names
    drawn = {
        "loss_histogram/cross_entropy": figures.loss_histogram_figure(
            loss_curves(arrays, data), LOG10_LOSS_EDGES, num_classes=len(names)
        )
    }
    for split in ("val", "test"):
        if split in measured:
            drawn |= {
                f"{split}/reliability": figures.reliability_figure(
                    arrays[f"reliability/{split}/raw"],
                    arrays[f"reliability/{split}/adjusted"],
                    further.get(f"posthoc/temperature/reliability/{split}"),
                ),
                f"{split}/confusion": figures.confusion_figure(arrays[f"confusion/{split}"], names),
            }
    recall = recalls(arrays["confusion/test"])
    drawn["test/recall"] = figures.recall_figure(recall, data.image_counts, names)
    for tag, figure in drawn.items():
        png, width, height = figures.to_png(figure)
        writer.image(tag, png, width, height, step=epoch)


def write_pr_curves(
    writer: RunWriter,
    measured: Mapping[str, Measured],
    outputs: Mapping[str, Outputs],
    data: PreparedData,
    epoch: int,
) -> None:
    """TensorBoard's PR curves of test: macro averages of all classes and of each class group.

    With up to `CURVES_UP_TO` classes also of each class; TensorBoard shows tags by their names, so
    the averages come first. A class that test lacks is left out.
    """
    names = data.class_names
    decisions = one_vs_rest_decisions(
        measured["test"].decoded.numpy(), outputs["test"].targets.numpy()
    )
    groups = {"all": np.arange(len(names))} | rank_groups(data.image_counts)
    curves = {f"test/macro_precision_recall/{group}": groups[group] for group in groups}
    if len(names) <= CURVES_UP_TO:
        curves |= {
            f"test/precision_recall/{name.replace('/', '_')}": np.array([index])
            for index, name in enumerate(names)
        }
    for tag, classes in curves.items():
        present = classes[decisions.support[classes] > 0]
        if present.size:
            writer.pr_curve(tag, decisions.table(present), epoch)
