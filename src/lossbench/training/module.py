"""The Lightning module: a model, a loss, an optimiser, a schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lossbench.models import Classifier
from lossbench.seeding import derive_seed
from lossbench.training import objective
from lossbench.training.distributed import Ranks
from lossbench.training.gradients import (
    GradientSize,
    kept_generators,
    seed_generators,
    watched_batches,
)
from lossbench.training.mixture import Mixture, Targets
from lossbench.training.passes import Outputs, collect, outputs_of
from lossbench.training.regimes import Plain


@dataclass
class Running:
    """What the training steps of one epoch saw: logits in training mode, targets, losses.

    ``features`` are those of a loss that needs them, else none. ``gradients`` is measured at the
    batches ``watched``. Targets are what the loss was given: mixed ones where images were mixed.
    """

    watched: frozenset[int] = frozenset()
    logits: list[Tensor] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)
    targets: list[Targets] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    gradients: GradientSize = field(default_factory=GradientSize)

    def objective(self) -> float:
        """The mean training loss per sample over the epoch."""
        sizes = torch.tensor([len(logits) for logits in self.logits], dtype=torch.float64)
        losses = torch.stack(self.losses).cpu().double()
        return float((losses * sizes).sum() / sizes.sum())

    def expected(self, values: Callable[[np.ndarray], np.ndarray]) -> float:
        """The mean of ``values(targets)`` (N,) over the epoch's samples.

        Of a mixed sample it is the mean over its two targets by their shares.
        """
        if not any(isinstance(targets, Mixture) for targets in self.targets):
            plain: list[Tensor] = self.targets  # type: ignore[assignment]
            return float(values(torch.cat(plain).cpu().numpy()).mean())
        total = 0.0
        for place in (0, 1):
            parts = [targets.parts[place] for targets in self.targets]  # type: ignore[union-attr]
            chosen = torch.cat([part for part, _ in parts]).cpu().numpy()
            shares = torch.cat([share.expand(len(part)) for part, share in parts]).cpu().numpy()
            total += float((values(chosen) * shares.astype(np.float64)).mean())
        return total


class ClassificationModule(pl.LightningModule):
    """Trains ``model`` with ``loss``; what it measures is left to the callbacks.

    The global generators are seeded afresh for each epoch, so that whatever a loss or a dropout
    draws, the next epoch begins like that of every other run of the seed, and a resumed run goes
    on bit for bit. ``schedule(epoch, epochs)`` is the factor on the learning rate at a (fractional)
    epoch of a stage with so many epochs. ``loss_scale`` multiplies what is minimised; what is
    measured is the loss itself, without it. What ``regime`` changes, and when, is said there.
    With ``ranks`` the model sees its share of each batch, and all else the whole batch.
    """

    def __init__(
        self,
        model: Classifier,
        loss: Callable[[Tensor, Tensor], Tensor],
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        schedule: Callable[[float, int], float],
        seed: int,
        regime: Plain,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.make_optimizer = optimizer
        self.schedule = schedule
        self.seed = seed
        self.regime = regime
        self.average: AveragedModel | None = None
        if regime.ema_decay is not None:
            self.average = AveragedModel(model, use_buffers=True).requires_grad_(False)
        self.loss_scale: float | None = None
        self.ranks: Ranks | None = None
        self.needs_features = objective.needs_features(loss)
        self.running = Running()

    @property
    def deployed(self) -> Classifier:
        """The model to evaluate: the average of the weights where there is one."""
        return self.model if self.average is None else cast(Classifier, self.average.module)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser over the model's and the loss's trainable parameters."""
        optimizer = self.make_optimizer([p for p in self.parameters() if p.requires_grad])
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
        return optimizer

    def on_train_epoch_start(self) -> None:
        """Begin the epoch: its seeds and its place in the loss's schedule."""
        seed_generators(derive_seed(self.seed, "global", self.current_epoch))
        if 0 < self.current_epoch == self.regime.stage(self.current_epoch).start:
            self.begin_stage()
        self.begin_epoch(
            self.current_epoch, self.trainer.max_epochs or 1, int(self.trainer.num_training_batches)
        )

    def begin_stage(self) -> None:
        """Go on from what was deployed, with an optimiser and an average that start afresh."""
        if self.average is not None:
            self.model.load_state_dict(self.average.module.state_dict())
            self.average.n_averaged.zero_()
        self.regime.begin_stage(self.model)
        self.trainer.optimizers[0].state.clear()

    def begin_epoch(self, epoch: int, max_epochs: int, batches: int) -> None:
        """Forget the last epoch, and tell regime and loss where in their schedules they are."""
        self.running = Running(watched_batches(batches))
        self.regime.begin_epoch(self.model, epoch)
        if hasattr(self.loss, "set_epoch"):
            self.loss.set_epoch(epoch, max_epochs)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of this step."""
        fraction = batch_idx / max(1, self.trainer.num_training_batches)
        stage = self.regime.stage(self.current_epoch)
        factor = self.schedule(self.current_epoch - stage.start + fraction, len(stage))
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = group["base_lr"] * factor

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch of (images, targets, sample ids)."""
        images, targets = self.regime.mix(batch[0], batch[1], batch_idx)
        logits, head = self.batch_outputs(images, batch_idx)
        loss = self.regime.objective(self.loss, logits, targets, **head)
        self.running.logits.append(logits.detach())
        self.running.targets.append(targets)
        self.running.losses.append(loss.detach())
        head = {name: tensor.detach() for name, tensor in head.items()}
        self.running.features += [head["features"]] if self.needs_features else []
        if batch_idx in self.running.watched:
            decode = partial(objective.decode, self.loss, **head)
            known = targets.soft(logits.shape[1]) if isinstance(targets, Mixture) else targets
            self.running.gradients.watch(loss, logits, known, decode)
        return loss if self.loss_scale is None else loss * self.loss_scale

    def batch_outputs(self, images: Tensor, batch: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The outputs for the whole batch, each rank's part computed by that rank.

        What the model draws comes from a seed of the rank: shares of different sizes would move the
        global generators by different amounts, and what the loss draws must be the same everywhere.
        """
        if self.ranks is None:
            return outputs_of(self.model, images, self.needs_features)
        count, ranks = len(images), self.ranks
        with kept_generators(derive_seed(self.seed, "rank", ranks.rank, self.current_epoch, batch)):
            part = images[ranks.share(count)]
            logits, head = outputs_of(self.model, part, self.needs_features)
        gathered = {"features": ranks.gather(head["features"], count)} if head else {}
        return ranks.gather(logits, count), head | gathered

    def on_after_backward(self) -> None:
        """Make one gradient of those of all ranks."""
        if self.ranks is not None:
            self.ranks.average_gradients(self.parameters())

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Take the step's weights into the average."""
        if self.average is not None:
            assert self.regime.ema_decay is not None
            steps = int(self.average.n_averaged)
            decay = min(self.regime.ema_decay, (1 + steps) / (10 + steps))
            self.average.multi_avg_fn = get_ema_multi_avg_fn(decay)
            self.average.update_parameters(self.model)

    def require_equal_ranks(self) -> None:
        """Raise `RanksDifferError` if the ranks have drifted apart."""
        if self.ranks is not None:
            self.ranks.require_equal(self)

    def end_epoch(self) -> dict[str, float]:
        """After the last epoch, let the regime finish the model; returns what it chose."""
        if self.current_epoch + 1 < (self.trainer.max_epochs or 1):
            return {}
        return self.regime.finish(self.deployed, self.validation_outputs)

    def validation_outputs(self) -> Outputs:
        """The outputs of the deployed model on the validation set."""
        plugin = self.trainer.precision_plugin
        loader = self.trainer.datamodule.val_dataloader()  # type: ignore[attr-defined]
        batches = map(plugin.convert_input, loader)
        return collect(self.deployed, batches, plugin.forward_context(), self.needs_features)
