"""What a finished run leaves: final metrics, arrays and outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from lossbench.evaluation.histograms import LOG10_LOSS_EDGES
from lossbench.evaluation.posthoc import Head, posthoc_matrix
from lossbench.losses.contract import at_least_float32
from lossbench.models import Classifier
from lossbench.records import files
from lossbench.records.record import ARRAYS, OUTPUTS
from lossbench.training import objective
from lossbench.training.measuring import Measured
from lossbench.training.passes import Deployed

HALF_PRECISION_ABOVE = 200 * 2**20  # bytes of float32 logits, or of a sample history


def gradient_metrics(rows: Sequence[Mapping[str, float]], scale: float | None) -> dict[str, float]:
    """The gradient's size in the last epoch, beside cross-entropy's also in the first.

    It is that of the loss itself; ``scale`` is what training multiplied the loss by, if anything.
    """
    size, relative = "train/gradient/norm", "train/gradient/relative_to_cross_entropy"
    found = {tag: rows[-1].get(tag, math.nan) for tag in (size, relative)}
    found[f"{relative}_first_epoch"] = rows[0].get(relative, math.nan)
    return found | ({} if scale is None else {"train/gradient/loss_scale": scale})


def final_metrics(
    measured: Mapping[str, Measured],
    outputs: Mapping[str, Deployed],
    class_counts: ArrayLike,
    head: str,
    further: Mapping[str, float],
) -> dict[str, float | None]:
    """Every metric of what is ``measured``, and its outputs under every loss of the catalogue.

    ``head`` is the model's, ``further`` metrics are put beside them. What is not finite is None.
    """
    found: dict[str, float] = dict(further)
    for split, result in measured.items():
        found |= result.metrics
        scores = objective.scores(outputs[split].decoded, outputs[split], class_counts, head)
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
    outputs: Mapping[str, Deployed], image_counts: ArrayLike, head: Mapping[str, np.ndarray]
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Metrics and arrays of every post-hoc method on validation and test, those that there are.

    ``head`` is what `linear_head` gives. ``image_counts`` (C,) rank the classes: training images
    per true class, whatever their labels.
    """
    splits = {split: outputs[split] for split in ("val", "test") if split in outputs}
    if not splits:
        return {}, {}
    raw = {
        split: output.logits.numpy()
        for split, output in splits.items()
        if not torch.equal(output.decoded, output.logits)
    }
    given = {
        split: (output.decoded.numpy(), output.targets.numpy()) for split, output in splits.items()
    }
    return posthoc_matrix(
        given.get("val"),
        given.get("test"),
        train_counts=image_counts,
        log_prior_model=next(iter(splits.values())).log_prior,
        head=Head(head["weight"], head["bias"], raw) if head else None,
    )


def write_arrays(
    folder: Path, measured: Mapping[str, Measured], further: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """`arrays.npz`: confusion matrices, reliability bins and histograms of what is measured.

    ``further`` arrays are put beside them; returns all.
    """
    arrays = {name: array for result in measured.values() for name, array in result.arrays.items()}
    arrays |= {"edges": LOG10_LOSS_EDGES, **further}
    files.write_arrays(folder / ARRAYS, arrays)
    return arrays


def write_outputs(
    folder: Path,
    outputs: Mapping[str, Deployed],
    head: Mapping[str, np.ndarray],
    unmeasured: Mapping[str, np.ndarray] | None = None,
) -> None:
    """`outputs.npz` of validation and test: decoded logits, targets and sample ids.

    Raw logits are added where they differ from the decoded ones. With them go the ``log_prior``
    that the decoded logits answer for, and the weights of a linear ``head``. While test is sealed,
    ``unmeasured`` is what it takes to open it (`sealed_arrays`), and nothing is rounded.
    """
    outputs = {split: output for split, output in outputs.items() if split != "train"}
    size = sum(output.decoded.numel() * 4 for output in outputs.values())
    dtype = torch.float16 if size > HALF_PRECISION_ABOVE else torch.float32
    arrays = {f"head/{name}": value for name, value in head.items()}
    arrays["log_prior"] = outputs["test"].log_prior
    arrays |= unmeasured or {}
    for split, output in outputs.items():
        logits = {"logits": output.decoded}
        if not torch.equal(output.decoded, output.logits):
            logits["raw_logits"] = output.logits
        for name, values in logits.items():
            kept = values if unmeasured is not None else values.to(dtype)
            arrays[f"{name}/{split}"] = kept.numpy()
        arrays[f"targets/{split}"] = output.targets.numpy()
        arrays[f"ids/{split}"] = output.ids.numpy()
    files.write_arrays(folder / OUTPUTS, arrays)


def read_outputs(stored: Mapping[str, np.ndarray], log_prior: np.ndarray) -> dict[str, Deployed]:
    """The splits of `outputs.npz`, ``stored``, in float32 or better.

    Raises KeyError, which names the array, where a part of one is missing.
    """
    found = {}
    for split in ("val", "test"):
        if f"logits/{split}" not in stored:
            continue
        decoded = at_least_float32(torch.from_numpy(stored[f"logits/{split}"]))
        raw = stored.get(f"raw_logits/{split}")
        found[split] = Deployed(
            decoded if raw is None else at_least_float32(torch.from_numpy(raw)),
            torch.from_numpy(stored[f"targets/{split}"]),
            torch.from_numpy(stored[f"ids/{split}"]),
            decoded=decoded,
            log_prior=log_prior,
        )
    return found


def stored_head(stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What `linear_head` gave, from the arrays of `outputs.npz`."""
    return {
        name.removeprefix("head/"): value
        for name, value in stored.items()
        if name.startswith("head/")
    }


def sealed_arrays(
    train: Measured, outputs: Mapping[str, Deployed], loss: objective.Loss
) -> dict[str, np.ndarray]:
    """What it takes, beside the outputs of test, to measure on test all that a run measures.

    The last epoch's training losses with their targets, which over-fitting is measured by; the
    state of ``loss`` and what it is given beside the logits, for the run's own objective.
    """
    arrays = {"train_losses": train.losses, "train_targets": outputs["train"].targets.numpy()}
    state = loss.state_dict() if isinstance(loss, nn.Module) else {}
    arrays |= {f"loss/{name}": tensor.cpu().numpy() for name, tensor in state.items()}
    arrays |= {f"test/{name}": tensor.numpy() for name, tensor in outputs["test"].head.items()}
    return {f"sealed/{name}": array for name, array in arrays.items()}
