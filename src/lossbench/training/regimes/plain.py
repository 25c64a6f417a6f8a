"""The regime that changes nothing, and with it all that a regime may change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lossbench.errors import InputError
from lossbench.models import Classifier
from lossbench.training import objective
from lossbench.training.mixture import Targets
from lossbench.training.passes import Outputs


@dataclass(frozen=True, eq=False)
class Setting:
    """What a regime may know of its run.

    Attributes:
        seed: of the run.
        max_epochs: of the run, all stages together.
        targets: (N,) int64, the labels of the training images.
        class_counts: (C,) int64, how often each occurs.
        input_shape: of one sample, (channels, height, width) or (features,).
        has_validation: whether there is a validation set.
    """

    seed: int
    max_epochs: int
    targets: NDArray[np.int64]
    class_counts: NDArray[np.int64]
    input_shape: tuple[int, ...]
    has_validation: bool

    def epoch_at(self, start: float) -> int:
        """The epoch (from 0) at the fraction ``start`` of the training, at the latest the last.

        Raises `InputError` if no epoch comes before it.
        """
        epoch = min(round(start * self.max_epochs), self.max_epochs - 1)
        if epoch < 1:
            raise InputError(
                f"regime.start={start:g} of trainer.max_epochs={self.max_epochs} leaves no epoch "
                "before it: train longer, or start later"
            )
        return epoch


class Plain:
    """One stage, every image once per epoch, the loss as it is.

    Other regimes are subclasses that override what they change; one of your own is too. Called
    with a `Setting` and the keys of its config. It draws from seeds of its own only, and keeps
    nothing that does not follow from its config and the epoch: whatever is learned lives in the
    model.

    Args:
        setting: what the run is like.
        ema_decay: with a number d, what is evaluated and deployed is an exponential moving average
            of the weights and of BatchNorm's statistics, a <- d_t a + (1 - d_t) w after each step.
            d_t = min(d, (1 + t) / (10 + t)) at step t lets it forget the first steps soon
            (TensorFlow's ExponentialMovingAverage with num_updates); the average of the first step
            is that step's weights. None: no average.
    """

    def __init__(self, setting: Setting, *, ema_decay: float | None = None) -> None:
        self.setting = setting
        self.ema_decay = ema_decay
        self.epoch = 0

    def prepare(self, model: Classifier, loss: objective.Loss) -> None:
        """Called once, with the initial weights: change the model, or raise `InputError`.

        The backbone must stay as it is, for the runs of a seed share it.
        """

    def order(self, epoch: int) -> Tensor | None:
        """(N,) int64 places of the training images in ``epoch``; None for each one once."""
        return None

    def stage(self, epoch: int) -> range:
        """The epochs of the stage that ``epoch`` belongs to.

        The learning-rate schedule runs once over each stage.
        """
        return range(self.setting.max_epochs)

    def begin_stage(self, model: Classifier) -> None:
        """Called before the first epoch of every stage but the first.

        ``model`` has the weights that were deployed; the optimiser and the average start afresh.
        """

    def begin_epoch(self, model: Classifier, epoch: int) -> None:
        """Called before ``epoch`` (from 0), in a resumed run too: freeze what is to be frozen."""
        self.epoch = epoch

    def mix(self, images: Tensor, targets: Tensor, batch: int) -> tuple[Tensor, Targets]:
        """What the model and the loss get of the batch number ``batch`` of the epoch."""
        return images, targets

    def objective(
        self, loss: objective.Loss, logits: Tensor, targets: Targets, **head: Tensor
    ) -> Tensor:
        """What is minimised, (), of a batch; ``head`` is for losses that need features."""
        assert isinstance(targets, Tensor)
        return objective.of_batch(loss, logits, targets, **head)

    def log_prior_shift(self) -> Tensor | None:
        """What the regime adds to the loss's own ``log_prior_shift``: (C,) float64, None for 0.

        NaN where the prior that the logits answer for is unknown.
        """
        return None

    def finish(
        self, model: Classifier, validation: Callable[[], Outputs] | None
    ) -> dict[str, float]:
        """Called after the last step with the ``model`` to deploy, before it is evaluated.

        May change the weights; returns what it chose, as ``val/regime/NAME``. ``validation()`` are
        the outputs of the model on the validation set.
        """
        return {}
