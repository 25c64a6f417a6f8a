"""The Lightning module: a model, a loss, an optimiser, a schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lossbench.seeding import derive_seed
from lossbench.training import objective
from lossbench.training.gradients import GradientSize, seed_generators, watched_batches
from lossbench.training.passes import outputs_of


@dataclass
class Running:
    """What the training steps of one epoch saw: logits in training mode, targets, losses.

    ``features`` are those of a loss that needs them, else none. ``gradients`` is measured at the
    batches ``watched``.
    """

    watched: frozenset[int] = frozenset()
    logits: list[Tensor] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)
    targets: list[Tensor] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    gradients: GradientSize = field(default_factory=GradientSize)

    def objective(self) -> float:
        """The mean training loss per sample over the epoch."""
        sizes = torch.tensor([len(targets) for targets in self.targets], dtype=torch.float64)
        losses = torch.stack(self.losses).cpu().double()
        return float((losses * sizes).sum() / sizes.sum())


class ClassificationModule(pl.LightningModule):
    """Trains ``model`` with ``loss``; what it measures is left to the callbacks.

    The global generators are seeded afresh for each epoch, so that whatever a loss or a dropout
    draws, the next epoch begins like that of every other run of the seed, and a resumed run goes
    on bit for bit. ``schedule(epoch)`` is the factor on the learning rate at a (fractional) epoch.
    ``loss_scale`` multiplies what is minimised; what is measured is the loss itself, without it.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        schedule: Callable[[float], float],
        seed: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.make_optimizer = optimizer
        self.schedule = schedule
        self.seed = seed
        self.loss_scale: float | None = None
        self.needs_features = objective.needs_features(loss)
        self.running = Running()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser over the model's and the loss's trainable parameters."""
        optimizer = self.make_optimizer([p for p in self.parameters() if p.requires_grad])
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
        return optimizer

    def on_train_epoch_start(self) -> None:
        """Begin the epoch: its seeds and its place in the loss's schedule."""
        seed_generators(derive_seed(self.seed, "global", self.current_epoch))
        self.begin_epoch(
            self.current_epoch, self.trainer.max_epochs or 1, int(self.trainer.num_training_batches)
        )

    def begin_epoch(self, epoch: int, max_epochs: int, batches: int) -> None:
        """Forget the last epoch, and tell the loss where in its schedule it is."""
        self.running = Running(watched_batches(batches))
        if hasattr(self.loss, "set_epoch"):
            self.loss.set_epoch(epoch, max_epochs)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of this step."""
        fraction = batch_idx / max(1, self.trainer.num_training_batches)
        factor = self.schedule(self.current_epoch + fraction)
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = group["base_lr"] * factor

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch of (images, targets, sample ids)."""
        images, targets, _ = batch
        logits, head = outputs_of(self.model, images, self.needs_features)
        loss = self.loss(logits, targets, **head)
        shape = getattr(loss, "shape", None)
        if shape not in ((), targets.shape[:1]):
            what = f"a tensor of shape {tuple(shape)}" if shape is not None else repr(type(loss))
            raise TypeError(
                f"the loss returned {what} for {len(targets)} images; it must return a tensor of "
                f"shape () or ({len(targets)},)"
            )
        loss = loss if loss.ndim == 0 else loss.mean()
        self.running.logits.append(logits.detach())
        self.running.targets.append(targets)
        self.running.losses.append(loss.detach())
        head = {name: tensor.detach() for name, tensor in head.items()}
        self.running.features += [head["features"]] if self.needs_features else []
        if batch_idx in self.running.watched:
            decode = partial(objective.decode, self.loss, **head)
            self.running.gradients.watch(loss, logits, targets, decode)
        return loss if self.loss_scale is None else loss * self.loss_scale
