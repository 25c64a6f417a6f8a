"""The loss of a run, made from its config, and what else the run is scored under."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from lossbench import targets
from lossbench.config import Config
from lossbench.losses import catalogue, create_loss
from lossbench.losses.catalogue import LossFacts
from lossbench.training.passes import Outputs

Loss = Callable[..., Tensor]

BATCH = 1000  # samples at once of a loss that couples them


def build_loss(config: Config, class_counts: ArrayLike) -> Loss:
    """The loss that ``config`` names: one of the catalogue, or any callable by `_target_`.

    A foreign loss gets ``class_counts`` if its signature has a parameter of that name.
    Raises `InputError` if it cannot be made.
    """
    parameters = {key: value for key, value in config.items() if key not in ("name", "_target_")}
    if "_target_" not in config:
        return create_loss(config["name"], class_counts=class_counts, **parameters)
    found = targets.find(config["_target_"], "loss")
    if not isinstance(found, type) and not parameters:
        return found
    given = {}
    if targets.accepts(found, "class_counts"):
        given["class_counts"] = np.asarray(class_counts).tolist()
    bound = targets.bind(found, "loss", parameters, *given)
    return targets.call(found, "loss", **bound, **given)


def try_out(loss: Loss, config: Config, num_classes: int) -> None:
    """Call a loss of the catalogue once, for what only a call can tell: a weight of wrong length.

    Raises `InputError`. A foreign loss is not called: its bugs are failures of the run.
    """
    if "_target_" not in config:
        logits, target = torch.zeros(1, num_classes), torch.zeros(1, dtype=torch.int64)
        head = {"features": torch.ones(1, 1), "weight": torch.ones(num_classes, 1)}
        with torch.no_grad():
            frozen(loss)(logits, target, **(head if needs_features(loss) else {}))


def needs(loss: Loss) -> frozenset[str]:
    """What a loss of the catalogue needs, by its facts; a foreign one needs nothing."""
    facts = getattr(loss, "facts", None)
    return facts.needs if isinstance(facts, LossFacts) else frozenset()


def needs_features(loss: Loss) -> bool:
    """Whether ``loss`` is called with the features and the head's weight beside the logits."""
    return "features" in needs(loss)


def decode(loss: Loss, logits: Tensor, **head: Tensor) -> Tensor:
    """The logits to deploy and to evaluate, as the loss says; a foreign loss leaves them alone.

    ``head`` is what a loss that needs features is given beside the logits.
    """
    decoder = getattr(loss, "decode", None)
    return logits if decoder is None else decoder(logits, **head)


def model_log_prior(loss: Loss, class_counts: ArrayLike) -> np.ndarray:
    """log of the class prior whose posterior the decoded logits estimate, up to a constant.

    Cross-entropy learns the posterior under the training prior; a loss with class weights or
    adjusted logits learns that of another one, by its ``log_prior_shift()``.
    """
    counts = np.asarray(class_counts, dtype=np.float64)
    log_prior = np.log(counts / counts.sum())
    shift = getattr(loss, "log_prior_shift", lambda: None)()
    if shift is not None:
        log_prior = log_prior + shift.detach().double().cpu().numpy()
    return log_prior - np.log(np.exp(log_prior).sum())


def frozen(loss: Loss) -> Loss:
    """A copy of ``loss`` on the CPU in evaluation mode, so that measuring changes no state."""
    return copy.deepcopy(loss).cpu().eval() if isinstance(loss, nn.Module) else loss


@torch.no_grad()
def mean(loss: Loss, outputs: Outputs) -> float:
    """The mean of ``loss`` over a split.

    A loss that couples the samples of a batch is taken over batches of 1000, as in training: over
    a whole split at once, a number for every pair would fill the memory.
    """
    means = [
        float(loss(part.logits, part.targets, **part.head).mean()) for part in _parts(loss, outputs)
    ]
    sizes = [len(part.targets) for part in _parts(loss, outputs)]
    return float(np.average(means, weights=sizes))


@torch.no_grad()
def per_sample(loss: Loss, outputs: Outputs) -> np.ndarray | None:
    """The run's own loss of each sample (N,), or None if it can only give one number."""
    if hasattr(loss, "reduction"):
        loss = copy.copy(loss)
        loss.reduction = "none"
    values = [loss(part.logits, part.targets, **part.head) for part in _parts(loss, outputs)]
    single = any(value.ndim == 0 for value in values)
    return None if single else torch.cat(values).double().numpy()


def _parts(loss: Loss, outputs: Outputs) -> Iterator[Outputs]:
    if "batch" not in needs(loss):
        yield outputs
        return
    for start in range(0, len(outputs.targets), BATCH):
        cut = slice(start, start + BATCH)
        yield Outputs(outputs.logits[cut], outputs.targets[cut], outputs.ids[cut])


def scores(
    decoded: Tensor, outputs: Outputs, class_counts: ArrayLike, head: str
) -> dict[str, float]:
    """The mean of the losses of the catalogue that need no features, at their defaults.

    Each is given the ``decoded`` logits of ``outputs``, without any training: at epoch 0, and with
    no samples counted by a loss that counts them. The losses for a cosine head are given the raw
    cosines, and left out where the ``head`` is another: of anything else they say nothing.
    """
    given = {"any": decoded, "linear": decoded, "cosine": outputs.logits}
    found = {}
    for key, facts in catalogue.LOSSES.items():
        if "features" in facts.needs or (facts.heads == "cosine" and head != "cosine"):
            continue
        loss = create_loss(key, class_counts=class_counts).eval()
        found[key] = mean(loss, replace(outputs, logits=given[facts.heads]))
    return found
