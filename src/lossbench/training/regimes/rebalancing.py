"""Regimes that give rare classes more weight in the loss or more places in an epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossbench.losses.reweighting import class_balanced_weight
from lossbench.models import Classifier
from lossbench.seeding import generator
from lossbench.training import objective
from lossbench.training.mixture import Targets
from lossbench.training.regimes.plain import Plain, Setting

POWERS = {"class_balanced": 0.0, "square_root": 0.5}  # of a class's count, in its share


class DeferredReweighting(Plain):
    """Class weights from a given moment on (DRW: Cao et al., NeurIPS 2019), around any loss.

    w_c is proportional to (1 - beta) / (1 - beta^n_c), the inverse effective number of samples (Cui
    et al., CVPR 2019), and sums to C. The mean over a batch is sum w_y v / sum w_y u, where v is
    the loss of a sample as the loss itself gives it, and u its own class weight if it divides by
    those, else 1 (`objective.weighted_mean`). A penalty on the whole batch keeps its weight of 1.

    Args:
        start: the fraction of the epochs after which the weights come in.
        beta: 0 means equal weights, near 1 the inverse class counts.

    Raises `InputError` if no epoch comes before the weights, and for a loss that gives only one
    number for a batch, as far as a trial shows it.
    """

    def __init__(self, setting: Setting, *, start: float, beta: float, **rest: Any) -> None:
        super().__init__(setting, **rest)
        self.start = setting.epoch_at(start)
        self.weight = class_balanced_weight(torch.from_numpy(setting.class_counts), beta)

    def prepare(self, model: Classifier, loss: objective.Loss) -> None:
        targets = torch.zeros(2, dtype=torch.int64)
        objective.refuse_scalar(loss, len(self.weight), [(targets, torch.ones(2))])

    def objective(
        self, loss: objective.Loss, logits: Tensor, targets: Targets, **head: Tensor
    ) -> Tensor:
        if self.epoch < self.start:
            return super().objective(loss, logits, targets, **head)
        assert isinstance(targets, Tensor)
        self.weight = self.weight.to(targets.device)
        return objective.weighted_mean(loss, logits, [(targets, self.weight[targets])], **head)

    def log_prior_shift(self) -> Tensor | None:
        """log w, once the weights are in."""
        return None if self.epoch < self.start else self.weight.log()


class Resampling(Plain):
    """Draws the images of an epoch by class, with replacement; as many as there are.

    A class's share of the draws is proportional to n_c^q: q = 0 for ``class_balanced``, 1/2 for
    ``square_root``. ``progressive`` goes from the data's shares to equal ones: in epoch t of T
    (from 0) it is (1 - t/T) n_c/N + (t/T)/C (Kang et al., ICLR 2020).

    Args:
        sampling: class_balanced, square_root or progressive.
    """

    def __init__(self, setting: Setting, *, sampling: str, **rest: Any) -> None:
        super().__init__(setting, **rest)
        self.sampling = sampling

    def shares(self, epoch: int) -> np.ndarray:
        """(C,) float64, the share of each class among the draws of ``epoch``; they sum to 1."""
        counts = self.setting.class_counts
        if self.sampling in POWERS:
            return class_shares(counts, POWERS[self.sampling])
        passed = epoch / self.setting.max_epochs
        return (1 - passed) * class_shares(counts, 1.0) + passed * class_shares(counts, 0.0)

    def order(self, epoch: int) -> Tensor:
        return resampled(self.setting, self.shares(epoch), epoch)

    def log_prior_shift(self) -> Tensor:
        """log of the class's share among the draws over that among the images."""
        given = class_shares(self.setting.class_counts, 1.0)
        return torch.from_numpy(np.log(self.shares(self.epoch) / given))


def class_shares(class_counts: np.ndarray, power: float) -> np.ndarray:
    """(C,) float64 proportional to n_c^power, summing to 1; 0 for a class without images."""
    raised = np.where(class_counts > 0, class_counts.astype(np.float64) ** power, 0.0)
    return raised / raised.sum()


def resampled(setting: Setting, shares: np.ndarray, epoch: int) -> Tensor:
    """(N,) int64 places, drawn with replacement: class c with probability ``shares[c]``.

    The images of a class are equally likely. Seeded by (seed, "resample", epoch).
    """
    each = shares / np.maximum(setting.class_counts, 1)
    probabilities = each[setting.targets]
    draws = generator(setting.seed, "resample", epoch)
    size = len(setting.targets)
    return torch.from_numpy(draws.choice(size, size, p=probabilities / probabilities.sum()))
