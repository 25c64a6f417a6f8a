"""The loss of a run, made from its config, and what else the run is scored under."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from lossbench import targets
from lossbench.config import Config
from lossbench.errors import InputError
from lossbench.losses import catalogue, create_loss
from lossbench.losses.catalogue import LossFacts
from lossbench.losses.contract import Loss as CatalogueLoss
from lossbench.training.passes import Outputs

Loss = Callable[..., Tensor]
Parts = Sequence[tuple[Tensor, Tensor]]  # targets (N,) or (N, C), weights (N,) or ()

BATCH = 1000  # samples at once of a loss that couples them


def build_loss(config: Config, class_counts: ArrayLike, allow: Sequence[str] | None = ()) -> Loss:
    """The loss that ``config`` names: one of the catalogue, or any callable by `_target_`.

    A foreign loss gets ``class_counts`` if its signature has a parameter of that name.
    Raises `InputError` if it cannot be made.
    """
    parameters = {key: value for key, value in config.items() if key not in ("name", "_target_")}
    if "_target_" not in config:
        loss = create_loss(config["name"], class_counts=class_counts, **parameters)
        loss.whole_batches = True  # on several ranks too, see `training.distributed`
        return loss
    found = targets.find(config["_target_"], "loss", allow)
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


class PerSampleLossError(TypeError):
    """A loss gave one number for a batch where one per sample is needed."""


def of_batch(loss: Loss, logits: Tensor, targets: Tensor, **head: Tensor) -> Tensor:
    """The loss (), of a batch; one that returns values per sample is averaged.

    Raises `TypeError` for any other shape.
    """
    found = loss(logits, targets, **head)
    shape = getattr(found, "shape", None)
    if shape not in ((), targets.shape[:1]):
        what = f"a tensor of shape {tuple(shape)}" if shape is not None else repr(type(found))
        raise TypeError(
            f"the loss returned {what} for {len(targets)} images; it must return a tensor of "
            f"shape () or ({len(targets)},)"
        )
    return found if found.ndim == 0 else found.mean()


def weighted_mean(loss: Loss, logits: Tensor, parts: Parts, **head: Tensor) -> Tensor:
    """sum w v / sum w u over the samples of all ``parts``, ().

    A part is (targets, weights w), all for the same ``logits``. v is the loss of a sample, as
    ``reduction="none"`` gives it; u its own class weight where the loss divides by those, else 1.
    So weights of 1 give the loss's own mean. A loss that gives one number for a batch counts with
    it for every sample, which is right for the weights of a part that are one number, (); for
    others it raises `PerSampleLossError`.

    How a foreign loss makes one number of a batch (a sum, weights of its own) is nobody's to know:
    it is called as ever, and per-sample weights only change it by the ratio sum w v / sum w to
    sum v / N.
    """
    total = count = torch.zeros((), device=logits.device)
    for target, weights in parts:
        values = values_of(loss, logits, target, **head)
        if values.shape not in ((), target.shape[:1]) or values.ndim < weights.ndim:
            raise PerSampleLossError(
                f"the loss returned a tensor of shape {tuple(values.shape)} for {len(target)} "
                f"images, and this regime weights each one: it must return ({len(target)},), by "
                'itself or when its attribute reduction is "none"'
            )
        weights = weights.to(values.dtype)
        if not isinstance(loss, CatalogueLoss):
            with torch.no_grad():
                own, mean = of_batch(loss, logits, target, **head), values.mean()
            values = values * (own / mean).where(mean != 0, 1)
        total = total + (weights * values).expand(len(target)).sum()
        count = count + (weights * _own_share(loss, target, values.dtype)).sum()
    return total / count.where(count > 0, 1)


def _own_share(loss: Loss, target: Tensor, dtype: torch.dtype) -> Tensor:
    """(N,) how much each sample counts in what the loss's own mean divides by."""
    share = loss.share(target, dtype) if isinstance(loss, CatalogueLoss) else None
    share = torch.ones(len(target), dtype=dtype, device=target.device) if share is None else share
    if isinstance(loss, CatalogueLoss) and target.ndim == 1:
        share = share.where(target != loss.ignore_index, 0)
    return share


def values_of(loss: Loss, logits: Tensor, targets: Tensor, **head: Tensor) -> Tensor:
    """The loss of each sample (N,), or () of one that can only give one number."""
    reduction = getattr(loss, "reduction", None)
    if reduction is None:
        return loss(logits, targets, **head)
    loss.reduction = "none"  # type: ignore[attr-defined]
    try:
        return loss(logits, targets, **head)
    finally:
        loss.reduction = reduction  # type: ignore[attr-defined]


def refuse_scalar(loss: Loss, num_classes: int, parts: Parts) -> None:
    """Raise `InputError` for a ``loss`` of which `weighted_mean` cannot be taken over ``parts``.

    A copy of it is tried on logits of 0. What else a foreign loss raises is a failure of the run.
    """
    size = len(parts[0][0])
    logits = torch.zeros(size, num_classes)
    given = {"features": torch.ones(size, 1), "weight": torch.ones(num_classes, 1)}
    head = given if needs_features(loss) else {}
    try:
        with torch.no_grad():
            weighted_mean(frozen(copy.deepcopy(loss)), logits, parts, **head)
    except PerSampleLossError as error:
        raise InputError(str(error)) from error
    except Exception:
        if isinstance(loss, CatalogueLoss):
            raise


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


def model_log_prior(
    loss: Loss, class_counts: ArrayLike, regime_shift: Tensor | None = None
) -> np.ndarray:
    """log of the class prior whose posterior the decoded logits estimate, up to a constant.

    Cross-entropy learns the posterior under the training prior; a loss with class weights or
    adjusted logits learns that of another one, by its ``log_prior_shift()``; ``regime_shift`` (C,)
    is what the regime adds to that. NaN throughout where that prior is unknown.
    """
    counts = np.asarray(class_counts, dtype=np.float64)
    log_prior = np.log(counts / counts.sum())
    for shift in (getattr(loss, "log_prior_shift", lambda: None)(), regime_shift):
        if shift is not None:
            log_prior = log_prior + shift.detach().double().cpu().numpy()
    return log_prior - np.log(np.exp(log_prior).sum())


def corrected_twice(loss: Loss, regime_shift: Tensor | None) -> list[str]:
    """A sentence where the loss and the regime both move the prior, and the same way."""
    own = getattr(loss, "log_prior_shift", lambda: None)()
    if own is None or regime_shift is None:
        return []
    both = torch.stack([own.detach().cpu().double(), regime_shift.detach().cpu().double()])
    centred = both - both.mean(dim=1, keepdim=True)
    if not float(centred.prod(dim=0).sum()) > 1e-6:
        return []
    return ["the loss and the regime both correct for the class counts: once too often"]


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
