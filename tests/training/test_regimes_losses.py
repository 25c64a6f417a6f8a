"""Every loss of the catalogue under every kind of regime, on tiny tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lossbench.losses import create_loss
from lossbench.losses.catalogue import LOSSES
from lossbench.models.classifier import Classifier
from lossbench.models.heads import HEADS
from lossbench.training import objective
from lossbench.training.gradients import GradientSize
from lossbench.training.mixture import Mixture
from lossbench.training.regimes import (
    ClassifierRetraining,
    DeferredReweighting,
    LearnableWeightScaling,
    Mixup,
    Plain,
    Remix,
)

COUNTS = np.array([40, 12, 3])
CLASSES, N = 3, 7


def setting(max_epochs: int = 2):
    from lossbench.training.regimes import Setting

    return Setting(0, max_epochs, np.repeat(np.arange(3), COUNTS), COUNTS, (1, 2, 2), True)


class Case:
    """A batch for one loss: logits of a head, its features where the loss needs them."""

    def __init__(self, key: str) -> None:
        torch.manual_seed(1)
        self.loss = create_loss(key, class_counts=COUNTS)
        self.slow = create_loss(key, class_counts=COUNTS, reduction="none")
        for loss in (self.loss, self.slow):
            loss.set_epoch(1, 2)
        self.head = HEADS["cosine" if LOSSES[key].heads == "cosine" else "linear"](4, CLASSES)
        self.model = Classifier(torch.nn.Linear(4, 4), self.head)
        self.features = torch.randn(N, 4, dtype=torch.float64)
        self.model.double()
        self.logits = self.head(self.features).detach().requires_grad_()
        needs = objective.needs_features(self.loss)
        extra = {"features": self.features, "weight": self.head.weight.detach()}
        self.extra: dict[str, Tensor] = extra if needs else {}
        self.first = torch.tensor([0, 0, 1, 2, 1, 0, 2])
        self.second = self.first[torch.tensor([3, 2, 1, 0, 6, 5, 4])]

    def values(self, targets: Tensor) -> np.ndarray:
        """(N,) by a loss made to return them."""
        return self.slow(self.logits, targets, **self.extra).detach().numpy()

    def own(self, targets: Tensor) -> np.ndarray:
        """(N,), the class weight of each sample if the loss divides by it, else 1."""
        weight = self.slow.class_weight if self.slow.normalizer == "weights" else None
        return np.ones(N) if weight is None else weight.numpy()[targets.numpy()]

    def of(self, regime: Plain, targets: Tensor | Mixture) -> Tensor:
        regime.epoch = 1
        return regime.objective(self.loss, self.logits, targets, **self.extra)


@pytest.fixture(params=sorted(LOSSES))
def case(request) -> Case:
    return Case(request.param)


def test_deferred_weights(case: Case) -> None:
    effective = [(1 - 0.9**n) / (1 - 0.9) for n in COUNTS]
    weight = np.array([1 / e for e in effective]) / sum(1 / e for e in effective) * CLASSES
    w = weight[case.first.numpy()]
    wanted = (w * case.values(case.first)).sum() / (w * case.own(case.first)).sum()
    regime = DeferredReweighting(setting(), start=0.5, beta=0.9)
    regime.prepare(case.model, case.loss)
    found = case.of(regime, case.first)
    assert float(found.detach()) == pytest.approx(wanted, rel=1e-9)
    # with equal weights, and before them, it is the loss itself
    itself = float(case.loss(case.logits, case.first, **case.extra).detach())
    equal = DeferredReweighting(setting(), start=0.5, beta=0.0)
    assert float(case.of(equal, case.first).detach()) == pytest.approx(itself, rel=1e-9)
    sizes = GradientSize()
    decode = lambda z: objective.decode(case.loss, z, **case.extra)  # noqa: E731
    sizes.watch(found, case.logits, case.first, decode)
    found.backward()
    gradient = torch.linalg.vector_norm(case.logits.grad, dim=1).sum()
    assert sizes.norm == pytest.approx(float(gradient), rel=1e-6)


@pytest.mark.parametrize("regime", ["mixup", "remix"])
def test_mixtures(case: Case, regime: str) -> None:
    if regime == "mixup":
        made: Mixup = Mixup(setting(), alpha=1.0)
    else:
        made = Remix(setting(), alpha=1.0, kappa=3.0, tau=0.5)
    made.prepare(case.model, case.loss)
    mixture = made.mixture(case.first, case.second, 0.3)
    share = mixture.share.expand(N).double().numpy()
    own = share * case.own(case.first) + (1 - share) * case.own(case.second)
    if LOSSES[case.loss.key].soft_targets == "direct":
        probabilities = torch.zeros(N, CLASSES, dtype=torch.float64)
        for row in range(N):
            probabilities[row, case.first[row]] += share[row]
            probabilities[row, case.second[row]] += 1 - share[row]
        values = case.values(probabilities)
    else:
        values = share * case.values(case.first) + (1 - share) * case.values(case.second)
    found = case.of(made, mixture)
    assert float(found.detach()) == pytest.approx(values.sum() / own.sum(), rel=1e-5)
    found.backward()
    assert case.logits.grad is not None
    assert case.logits.grad.isfinite().all()
    # unmixed, it is the loss itself
    alone = case.of(made, Mixture(case.first, case.second, torch.ones(())))
    itself = float(case.loss(case.logits, case.first, **case.extra).detach())
    assert float(alone.detach()) == pytest.approx(itself, rel=1e-6)


@pytest.mark.parametrize("kind", [ClassifierRetraining, LearnableWeightScaling])
def test_second_stages_train_no_more_than_they_say(case: Case, kind: type[Plain]) -> None:
    regime = kind(setting(), start=0.5)
    regime.prepare(case.model, case.loss)
    case.model.train()
    regime.begin_epoch(case.model, 0)
    regime.begin_stage(case.model)
    regime.begin_epoch(case.model, 1)
    logits, features = case.model.with_features(case.features)
    extra = {"features": features, "weight": case.model.head.weight} if case.extra else {}
    regime.objective(case.loss, logits, case.first, **extra).backward()
    moved = {name for name, p in case.model.named_parameters() if p.grad is not None}
    wanted = {"crt": {"head.weight", "head.bias"}, "lws": {"head.scale"}}
    allowed = wanted["crt" if kind is ClassifierRetraining else "lws"]
    assert moved
    assert moved <= allowed
    assert not case.model.backbone.training
