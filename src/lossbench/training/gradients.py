"""How large a loss's gradient is beside cross-entropy's: the learning rate hidden in a loss.

At the start the losses differ by orders of magnitude. An optimiser that divides by the size of the
gradient (AdamW) hardly notices a constant factor; SGD takes it for a factor on the learning rate.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lossbench.losses.contract import at_least_float32
from lossbench.seeding import derive_seed

if TYPE_CHECKING:
    from lossbench.training.module import ClassificationModule

MOST_BATCHES = 8  # measured per epoch


class LossScaleError(RuntimeError):
    """The gradient at the start has no size to match; the message names the loss."""


def watched_batches(count: int) -> frozenset[int]:
    """At most 8 of ``count`` batches, spread evenly, the first and the last among them."""
    places = np.linspace(0, count - 1, min(count, MOST_BATCHES)).round()
    return frozenset(places.astype(int).tolist())


class GradientSize:
    """The size of dL/dz over some batches of an epoch, and that of cross-entropy's on the same.

    L is the mean over a batch of N samples, so N |dL/dz_i| is what sample i would get by itself:
    that is its size. For plain cross-entropy it is |p - e_y|. z are the raw logits of both.
    """

    def __init__(self) -> None:
        self._factor: Tensor | float = 1.0
        self._own: list[Tensor] = []
        self._reference: list[Tensor] = []
        self._samples = 0

    def watch(
        self, loss: Tensor, logits: Tensor, targets: Tensor, decode: Callable[[Tensor], Tensor]
    ) -> None:
        """Take the gradient that the coming backward pass brings from ``loss`` () to ``logits``.

        ``targets`` are (N,) class indices or, of mixed images, (N, C) probabilities.
        No loss is called a second time, so none changes its state or draws for this, and a foreign
        one cannot fail here. What the loss is multiplied by later (a scale, a GradScaler) is
        divided out. Without a graph there is nothing to measure, and the sizes are NaN.
        """
        if not (loss.requires_grad and logits.requires_grad):
            return
        count = len(targets)
        loss.register_hook(self._keep_factor)
        logits.register_hook(lambda gradient: self._keep_own(gradient, count))
        z = at_least_float32(logits.detach()).requires_grad_()
        with torch.enable_grad(), torch.autocast(z.device.type, enabled=False):
            decoded = decode(z)
            mixed = targets.is_floating_point()
            yardstick = cross_entropy(decoded, targets.to(decoded.dtype) if mixed else targets)
        # a foreign decode may work without gradients: then there is nothing to compare with
        known = yardstick.requires_grad
        slope = torch.autograd.grad(yardstick, z)[0] if known else torch.full_like(z, math.nan)
        self._reference.append(count * _summed_norms(slope))
        self._samples += count

    def _keep_factor(self, gradient: Tensor) -> None:
        self._factor = gradient  # backward reaches the loss before the logits

    def _keep_own(self, gradient: Tensor, count: int) -> None:
        self._own.append(count * _summed_norms(gradient) / self._factor)

    @property
    def norm(self) -> float:
        """The mean size over the samples, NaN where it is undefined."""
        return _finite(_total(self._own), self._samples)

    @property
    def relative_to_cross_entropy(self) -> float:
        """The sum of the sizes over that of cross-entropy of the decoded logits, or NaN."""
        return _finite(_total(self._own), _total(self._reference))


def matched_scale(
    module: ClassificationModule,
    batches: Iterable[tuple[Tensor, Tensor, Tensor]],
    trainer: pl.Trainer,
    name: str,
) -> float:
    """The factor that makes the loss's gradient as large as cross-entropy's at the start.

    1 / `relative_to_cross_entropy` over the first 8 ``batches``, with the weights that ``module``
    has now, in training mode, at epoch 0, with the device and precision of ``trainer``. A copy
    takes the steps and the generators are put back, so nothing changes. Raises `LossScaleError`
    if the gradient is zero or not finite; ``name`` is the loss's, for the message.
    """
    device, plugin = trainer.strategy.root_device, trainer.precision_plugin
    trial = copy.deepcopy(module).to(device).train()
    plugin.convert_module(trial)
    trial.begin_epoch(0, trainer.max_epochs or 1, MOST_BATCHES)
    with kept_generators(derive_seed(module.seed, "loss_scale")), torch.enable_grad():
        for place, batch in enumerate(islice(batches, MOST_BATCHES)):
            images, targets, ids = (tensor.to(device) for tensor in batch)
            with plugin.forward_context():
                loss = trial.training_step((plugin.convert_input(images), targets, ids), place)
            loss.backward()
    relative = trial.running.gradients.relative_to_cross_entropy
    scale = 1 / relative if relative else math.nan
    if not math.isfinite(scale):
        raise LossScaleError(
            f"loss_scale=match_ce: the gradient of the loss {name} at the initial weights is "
            f"{relative:g} times that of cross-entropy, and no factor matches that; "
            "use loss_scale=none"
        )
    return scale


@contextmanager
def kept_generators(seed: int) -> Iterator[None]:
    """Run with all global generators at ``seed``; put them back."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        try:
            seed_generators(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def seed_generators(seed: int) -> None:
    """Seed the global generators of torch, numpy and python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def _summed_norms(gradient: Tensor) -> Tensor:
    return torch.linalg.vector_norm(at_least_float32(gradient), dim=1).sum()


def _total(sums: list[Tensor]) -> float:
    return float(torch.stack(sums).cpu().double().sum()) if sums else 0.0


def _finite(own: float, reference: float) -> float:
    ratio = own / reference if reference else math.nan
    return ratio if math.isfinite(ratio) else math.nan
