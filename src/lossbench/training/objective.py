"""The loss of a run, made from its config, and what else the run is scored under."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from lossbench import targets
from lossbench.config import Config
from lossbench.losses import catalogue, create_loss

Loss = Callable[[Tensor, Tensor], Tensor]


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
        with torch.no_grad():
            frozen(loss)(torch.zeros(1, num_classes), torch.zeros(1, dtype=torch.int64))


def decode(loss: Loss, logits: Tensor) -> Tensor:
    """The logits to deploy and to evaluate, as the loss says; a foreign loss leaves them alone."""
    decoder = getattr(loss, "decode", None)
    return logits if decoder is None else decoder(logits)


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
def per_sample(loss: Loss, logits: Tensor, target: Tensor) -> np.ndarray | None:
    """The run's own loss of each sample (N,), or None if it can only give one number."""
    if hasattr(loss, "reduction"):
        loss = copy.copy(loss)
        loss.reduction = "none"
    values = loss(logits, target)
    return values.double().numpy() if values.shape == target.shape[:1] else None


@torch.no_grad()
def scores(logits: Tensor, target: Tensor, class_counts: ArrayLike) -> dict[str, float]:
    """The mean of every loss of the catalogue that needs no features, at its defaults."""
    return {
        key: float(create_loss(key, class_counts=class_counts).eval()(logits, target))
        for key, facts in catalogue.LOSSES.items()
        if "features" not in facts.needs
    }
