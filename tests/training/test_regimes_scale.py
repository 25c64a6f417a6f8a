"""A regime changes neither the scale of a loss nor the prior that its outputs answer for unsaid."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lossbench.losses import create_loss
from lossbench.records import read_record
from lossbench.training import objective
from lossbench.training.regimes import Mixup, Remix, Setting
from lossbench.training.run import execute

LOGITS = torch.linspace(-2, 3, 24).view(8, 3).roll(5, 0)
TARGETS = torch.tensor([0, 1, 2, 2, 1, 0, 0, 1])
FOREIGN = {
    "weights of its own": torch.nn.CrossEntropyLoss(weight=torch.tensor([0.2, 5.0, 30.0])),
    "a sum": torch.nn.CrossEntropyLoss(reduction="sum"),
    "an ignored class": torch.nn.CrossEntropyLoss(ignore_index=2),
    "one number": lambda logits, target: torch.nn.functional.cross_entropy(logits, target) * 7,
}


def setting(counts: tuple[int, ...]) -> Setting:
    targets = np.repeat(np.arange(len(counts)), counts)
    return Setting(0, 4, targets, np.array(counts), (1, 8, 8), True)


@pytest.mark.parametrize("name", FOREIGN)
def test_equal_weights_leave_a_foreign_loss_as_it_is(name: str) -> None:
    loss = FOREIGN[name]
    own = loss(LOGITS, TARGETS)
    weights = [torch.ones(())] if name == "one number" else [torch.ones(()), torch.full((8,), 0.25)]
    for weight in weights:
        found = objective.weighted_mean(loss, LOGITS, [(TARGETS, weight)])
        torch.testing.assert_close(found, own)


def test_a_foreign_loss_with_weights_is_its_own_times_the_ratio_of_means() -> None:
    loss = torch.nn.CrossEntropyLoss(reduction="sum")
    weight = torch.arange(1.0, 9)
    values = torch.nn.functional.cross_entropy(LOGITS, TARGETS, reduction="none")
    found = objective.weighted_mean(loss, LOGITS, [(TARGETS, weight)])
    expected = values.sum() * (weight * values).sum() / weight.sum() / values.mean()
    torch.testing.assert_close(found, expected)


def test_an_ignored_class_stays_ignored_in_mixed_batches() -> None:
    loss = create_loss("cross_entropy", ignore_index=2)
    regime = Mixup(setting((5, 5, 5)), alpha=1.0)
    mixture = regime.mixture(TARGETS, TARGETS.flip(0), 0.3)
    found = regime.objective(loss, LOGITS, mixture)
    values = torch.nn.functional.cross_entropy(
        LOGITS.repeat(2, 1), torch.cat((TARGETS, TARGETS.flip(0))), reduction="none"
    )
    kept = torch.cat((TARGETS, TARGETS.flip(0))) != 2
    shares = torch.tensor([0.3] * 8 + [0.7] * 8)
    expected = (values * shares)[kept].sum() / shares[kept].sum()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("kappa", "tau", "alpha"), [(3.0, 0.5, 1.0), (2.0, 0.3, 0.4), (9.0, 0, 1)])
def test_the_prior_of_remix_is_that_of_its_targets(kappa: float, tau: float, alpha: float) -> None:
    counts = (60, 25, 10, 5)
    regime = Remix(setting(counts), alpha=alpha, kappa=kappa, tau=tau)
    rng = np.random.default_rng(0)
    first, second = (
        torch.from_numpy(rng.choice(4, 2000, p=np.array(counts) / 100)) for _ in range(2)
    )
    drawn = [
        regime.mixture(first, second, float(share)).soft(4).double().mean(dim=0)
        for share in rng.beta(alpha, alpha, 4000)
    ]
    found = torch.stack(drawn).mean(dim=0)
    expected = regime.log_prior_shift().exp() * torch.tensor(counts) / 100
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.05)
    assert float(expected.sum()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("overrides", "twice"),
    [
        (("loss=balanced_softmax", "regime=resample"), True),
        (("loss=class_balanced", "regime=drw"), True),
        (("loss=balanced_softmax", "regime=mixup"), False),
        (("loss=cross_entropy", "regime=resample"), False),
    ],
)
def test_a_prior_that_is_corrected_twice_is_noted(make_run, overrides, twice: bool) -> None:
    run = make_run(*overrides, "trainer.max_epochs=2", "regime.ema_decay=null")
    assert execute(run).state == "done"
    notes = read_record(run.folder).notes
    assert any("once too often" in note for note in notes) == twice


def test_tau_normalised_outputs_answer_for_no_known_prior(make_run) -> None:
    unknown = make_run("regime=tau_norm")
    nothing = make_run("regime=tau_norm", "regime.tau=0")
    assert execute(unknown).state == execute(nothing).state == "done"
    metrics = read_record(unknown.folder).metrics
    assert metrics["test/cal_adjusted/expected_calibration_error"] is None
    assert metrics["test/cal/expected_calibration_error"] is not None
    assert metrics["test/shifted/adjusted_accuracy_uniform"] is None
    assert not any("posthoc_logit_adjustment" in tag for tag in metrics)
    with np.load(nothing.folder / "outputs.npz") as outputs:  # tau 0 only drops the bias
        prior = np.exp(outputs["log_prior"])
    counts = np.array(read_record(nothing.folder).class_counts)
    np.testing.assert_allclose(prior, counts / counts.sum(), rtol=1e-6)
