"""Regimes that train on mixtures of two images and of their targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossbench.errors import InputError
from lossbench.losses.catalogue import LossFacts
from lossbench.models import Classifier
from lossbench.seeding import generator
from lossbench.training import objective
from lossbench.training.mixture import Mixture, Targets
from lossbench.training.regimes.plain import Plain, Setting
from lossbench.training.regimes.rebalancing import class_shares


class Mixup(Plain):
    """x = lam x_i + (1 - lam) x_j, and so the targets (mixup: Zhang et al., ICLR 2018).

    One lam ~ Beta(alpha, alpha) per batch; the partners j are a permutation of the batch. Both
    are drawn from (seed, "mix", epoch, batch). Images are mixed after augmentation and
    normalisation. Losses that take probabilities get the mixed targets; of all others two losses
    are mixed, lam L(z, y_i) + (1 - lam) L(z, y_j), which for cross-entropy is the same. Where a
    loss divides by its class weights, it divides by those of the mixed targets.

    The running numbers of such an epoch are those of the mixed batches, by the shares of both
    targets: the cross-entropy against the mixed targets, and the accuracy as the share of the
    predicted class in them.

    Args:
        alpha: 1 draws lam uniformly; near 0 hardly mixes.
    """

    def __init__(self, setting: Setting, *, alpha: float, **rest: Any) -> None:
        super().__init__(setting, **rest)
        self.alpha = alpha

    def prepare(self, model: Classifier, loss: objective.Loss) -> None:
        targets = torch.zeros(2, dtype=torch.int64)
        mixture = self.mixture(targets, targets, 0.5)
        classes = len(self.setting.class_counts)
        objective.refuse_scalar(loss, classes, parts_for(loss, mixture, classes))

    def mix(self, images: Tensor, targets: Tensor, batch: int) -> tuple[Tensor, Mixture]:
        draws = generator(self.setting.seed, "mix", self.epoch, batch)
        share = float(draws.beta(self.alpha, self.alpha))
        partners = torch.from_numpy(draws.permutation(len(images))).to(images.device)
        images, share = self.blend(images, images[partners], share, draws)
        return images, self.mixture(targets, targets[partners], share)

    def blend(
        self, images: Tensor, others: Tensor, share: float, draws: np.random.Generator
    ) -> tuple[Tensor, float]:
        """The mixed images, and the share that the first ones have in them."""
        return torch.lerp(others, images, share), share

    def mixture(self, first: Tensor, second: Tensor, share: float) -> Mixture:
        """The mixed targets of images that are mixed by ``share``."""
        return Mixture(first, second, torch.tensor(share, device=first.device))

    def objective(
        self, loss: objective.Loss, logits: Tensor, targets: Targets, **head: Tensor
    ) -> Tensor:
        assert isinstance(targets, Mixture)
        parts = parts_for(loss, targets, logits.shape[1])
        return objective.weighted_mean(loss, logits, parts, **head)


def parts_for(loss: objective.Loss, mixture: Mixture, classes: int) -> objective.Parts:
    """Mixed targets as the loss takes them: as probabilities, or each with its share."""
    facts = getattr(loss, "facts", None)
    soft = isinstance(facts, LossFacts) and facts.soft_targets == "direct"
    # an ignored class can be told from the others in labels, not in probabilities
    if soft and not 0 <= getattr(loss, "ignore_index", -1) < classes:
        return [(mixture.soft(classes), torch.ones((), device=mixture.first.device))]
    return list(mixture.parts)


class CutMix(Mixup):
    """A box of x_j is put into x_i (CutMix: Yun et al., ICCV 2019); else as `Mixup`.

    The box has the image's shape, the share 1 - lam of its area and a centre drawn uniformly; what
    lies outside of the image is cut off, and lam becomes the share that is left of x_i.

    Raises `InputError` for data that are not images.
    """

    def __init__(self, setting: Setting, **rest: Any) -> None:
        super().__init__(setting, **rest)
        if len(setting.input_shape) != 3:
            raise InputError(
                f"regime=cutmix needs images, not samples of shape {setting.input_shape}; "
                "regime=mixup takes any"
            )

    def blend(
        self, images: Tensor, others: Tensor, share: float, draws: np.random.Generator
    ) -> tuple[Tensor, float]:
        height, width = images.shape[-2:]
        side = np.sqrt(1 - share)
        row, column = draws.integers(height), draws.integers(width)
        rows, columns = int(side * height) // 2, int(side * width) // 2
        top, bottom = np.clip((row - rows, row + rows), 0, height).tolist()
        left, right = np.clip((column - columns, column + columns), 0, width).tolist()
        images = images.clone()
        images[..., top:bottom, left:right] = others[..., top:bottom, left:right]
        return images, 1 - (bottom - top) * (right - left) / (height * width)


class Remix(Mixup):
    """`Mixup` whose targets favour the rarer class (Chou et al., ECCV workshops 2020).

    With n_i and n_j the counts of the two classes, the share of y_i is 0 if n_i / n_j >= kappa and
    lam < tau, 1 if n_i / n_j <= 1 / kappa and 1 - lam < tau, and lam else. The images are mixed by
    lam as ever. The shares differ within a batch, so a loss that gives one number only is refused.

    Args:
        kappa: the ratio of counts from which a class is the rarer one.
        tau: how small the share of the more frequent class must be to be dropped.
    """

    def __init__(self, setting: Setting, *, kappa: float, tau: float, **rest: Any) -> None:
        super().__init__(setting, **rest)
        if tau is None or tau > 1:
            raise InputError(f"regime.tau={tau} is not allowed for remix: a number in [0, 1]")
        self.kappa, self.tau = kappa, tau
        self.counts = torch.from_numpy(setting.class_counts).double()

    def log_prior_shift(self) -> Tensor:
        """log of a class's expected share among the targets over that among the images."""
        from scipy.special import betainc

        def mean_below(x: float) -> float:  # E[lam; lam <= x]
            return 0.5 * float(betainc(self.alpha + 1, self.alpha, x))

        given = class_shares(np.maximum(self.setting.class_counts, 1), 1.0)
        ratio = given[:, None] / given
        cut = 1 - self.tau
        taken = 1 - float(betainc(self.alpha, self.alpha, cut)) - (0.5 - mean_below(cut))
        # the expected share of the first target of a pair of classes
        share = 0.5 - (ratio >= self.kappa) * mean_below(self.tau)
        share = share + (ratio <= 1 / self.kappa) * taken
        targets = given * ((share + 1 - share.T) @ given)
        return torch.from_numpy(np.log(targets / given))

    def mixture(self, first: Tensor, second: Tensor, share: float) -> Mixture:
        self.counts = self.counts.to(first.device)
        ratio = self.counts[first] / self.counts[second]
        shares = torch.full_like(ratio, share, dtype=torch.float32)
        if share < self.tau:
            shares[ratio >= self.kappa] = 0
        if 1 - share < self.tau:
            shares[ratio <= 1 / self.kappa] = 1
        return Mixture(first, second, shares)
