"""Regimes that treat the classifier apart from the features (Kang et al., ICLR 2020)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lossbench.errors import InputError
from lossbench.evaluation.posthoc import choose_tau
from lossbench.models import Classifier
from lossbench.seeding import derive_seed
from lossbench.training import objective
from lossbench.training.passes import Outputs
from lossbench.training.regimes.plain import Plain, Setting
from lossbench.training.regimes.rebalancing import class_shares, resampled


class ClassifierRetraining(Plain):
    """Two stages: the whole model on the data, then a new head on class-balanced draws (cRT).

    In the second stage the backbone is frozen, without gradients and in evaluation mode, so that
    BatchNorm's statistics and dropout rest too. The head starts from weights drawn from a seed of
    its own, the optimiser from no state, and the schedule runs once over each stage. Both stages
    together have the epochs of a plain run. The loss is the run's own in both.

    Args:
        start: the fraction of the epochs after which the second stage begins.

    Raises `InputError` if the first stage would have no epoch.
    """

    def __init__(self, setting: Setting, *, start: float, **rest: Any) -> None:
        super().__init__(setting, **rest)
        self.start = setting.epoch_at(start)

    def order(self, epoch: int) -> Tensor | None:
        if epoch < self.start:
            return None
        return resampled(self.setting, class_shares(self.setting.class_counts, 0.0), epoch)

    def stage(self, epoch: int) -> range:
        last = self.setting.max_epochs
        return range(self.start) if epoch < self.start else range(self.start, last)

    def begin_stage(self, model: Classifier) -> None:
        """Draw the weights of the head anew."""
        head = model.head
        classes, features = head.get_parameter("weight").shape
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive_seed(self.setting.seed, "second head"))
            head.load_state_dict(type(head)(features, classes).state_dict())

    def begin_epoch(self, model: Classifier, epoch: int) -> None:
        super().begin_epoch(model, epoch)
        if epoch >= self.start:
            model.backbone.requires_grad_(False).eval()

    def log_prior_shift(self) -> Tensor | None:
        """-log of a class's share in the second stage: there the head sees balanced data."""
        return None if self.epoch < self.start else balanced(self.setting)


class ScaledHead(nn.Module):
    """``s_c z_c``: the logits z of a head, each times a learned scale; the scales start at 1.

    ``weight`` (C, F) and ``bias`` (C,) are those of the head, each class times its scale.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        weight = head.get_parameter("weight")
        self.scale = nn.Parameter(torch.ones(len(weight), dtype=weight.dtype))

    @property
    def weight(self) -> Tensor:
        return self.head.get_parameter("weight") * self.scale[:, None]

    @property
    def bias(self) -> Tensor:
        return self.head.get_parameter("bias") * self.scale

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``(N, C)`` of features ``(N, F)``."""
        logits: Tensor = self.head(features)
        return logits * self.scale


class LearnableWeightScaling(ClassifierRetraining):
    """Like `ClassifierRetraining`, but the head is kept and only a scale per class learned (LWS).

    The scale multiplies a class's logit, bias included, as the authors' code does.
    """

    def prepare(self, model: Classifier, loss: objective.Loss) -> None:
        model.head = ScaledHead(model.head)

    def begin_stage(self, model: Classifier) -> None:
        """The head is kept."""

    def begin_epoch(self, model: Classifier, epoch: int) -> None:
        super().begin_epoch(model, epoch)
        second = epoch >= self.start
        model.head.get_parameter("scale").requires_grad_(second)
        if second:
            model.head.get_submodule("head").requires_grad_(False)


class TauNormalization(Plain):
    """Trains like `Plain`; then each row of the head's weight is divided by |w_c|^tau.

    The bias is dropped, as Kang et al. do. Only the last epoch is evaluated so.

    Args:
        tau: 0 drops the bias only, 1 makes all rows equally long. None chooses the value with the
            highest balanced accuracy on validation, as the post-hoc method does (`choose_tau`).

    Raises `InputError` for a head that is not linear, and for None without validation.
    """

    def __init__(self, setting: Setting, *, tau: float | None, **rest: Any) -> None:
        super().__init__(setting, **rest)
        self.tau = tau
        if tau is None and not setting.has_validation:
            raise InputError(
                "regime.tau=null chooses tau on validation, and there is none: give a number, or "
                "data.validation_per_class"
            )

    def prepare(self, model: Classifier, loss: objective.Loss) -> None:
        if not isinstance(model.head, nn.Linear):
            raise InputError(
                "regime=tau_norm needs model.head=linear: the rows of a cosine head are all "
                "equally long already"
            )

    @torch.no_grad()
    def finish(
        self, model: Classifier, validation: Callable[[], Outputs] | None
    ) -> dict[str, float]:
        head = model.head
        assert isinstance(head, nn.Linear)
        length = head.weight.norm(dim=1).clamp(min=torch.finfo(head.weight.dtype).tiny)
        head.bias.zero_()
        tau = self.tau
        if tau is None:
            assert validation is not None
            outputs, of_class = validation(), length.cpu().numpy()
            logits = outputs.logits.numpy()
            tau = choose_tau(lambda tau: logits / of_class**tau, outputs.targets.numpy())
        head.weight /= (length**tau)[:, None]
        return {"val/regime/tau": tau} if self.tau is None else {}

    def log_prior_shift(self) -> Tensor | None:
        """NaN after the last epoch, unless tau is 0: which prior normalised logits answer for is
        unknown, so nothing can be adjusted to another one.
        """
        if self.tau == 0 or self.epoch < self.setting.max_epochs - 1:
            return None
        return torch.full((len(self.setting.class_counts),), torch.nan, dtype=torch.float64)


def balanced(setting: Setting) -> Tensor:
    """(C,) float64: from the prior of the training data to equal shares."""
    return torch.from_numpy(-np.log(class_shares(setting.class_counts, 1.0)))
