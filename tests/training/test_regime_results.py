"""What a regime does to a run's results: the prior they answer for, the average of the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, f1_score, log_loss
from torch.nn.functional import cross_entropy

from lossbench.cli import main
from lossbench.config import Run
from lossbench.records import read_record
from lossbench.seeding import derive_seed
from lossbench.training.run import Training
from tests.training.test_regimes import ONE, SHORT, done, train_by_hand, weights

FACTOR_20 = (*SHORT, "imbalance=exponential", "imbalance.factor=20")
PRIORS = {
    "of the data": (),
    "uniform by the regime": ("regime=crt", "regime.start=0.5"),
    "uniform by the loss": ("loss=balanced_softmax",),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    place = tmp_path_factory.mktemp("runs")
    return {name: done(place, *FACTOR_20, *overrides) for name, overrides in PRIORS.items()}


@pytest.mark.parametrize("name", PRIORS)
def test_results_answer_for_the_prior_of_loss_and_regime(
    name: str, finished: dict[str, Run]
) -> None:
    record = read_record(finished[name].folder)
    counts = np.array(record.class_counts)
    prior = counts / counts.sum() if name == "of the data" else np.full(10, 0.1)
    outputs = record.outputs()
    np.testing.assert_allclose(outputs["log_prior"], np.log(prior), rtol=1e-9)

    z, y = outputs["logits/test"].astype(np.float64), outputs["targets/test"]
    balanced = z - np.log(prior)
    at_tests_prior = softmax(balanced + np.log(np.bincount(y)), axis=1)
    predicted = balanced.argmax(axis=1)
    expected = {
        "posthoc_logit_adjustment/balanced_accuracy": balanced_accuracy_score(y, predicted),
        "posthoc_logit_adjustment/macro_f1": f1_score(y, predicted, average="macro"),
        "posthoc_logit_adjustment/cross_entropy": log_loss(y, softmax(balanced, axis=1)),
        "posthoc_logit_adjustment/adjusted_cross_entropy": log_loss(y, at_tests_prior),
        "cal_adjusted/negative_log_likelihood": log_loss(y, at_tests_prior),
        "cal_adjusted/brier_score": brier_score_loss(y, at_tests_prior, scale_by_half=False),
        "shifted/adjusted_accuracy_uniform": balanced_accuracy_score(y, predicted),
        "shifted/adjusted_cross_entropy_uniform": -np.mean(
            [log_softmax(balanced[y == c], axis=1)[:, c].mean() for c in range(10)]
        ),
    }
    found = record.metrics
    for metric, value in expected.items():
        assert found[f"test/{metric}"] == pytest.approx(value, rel=1e-6), metric


@pytest.mark.parametrize("name", [name for name in PRIORS if name.startswith("uniform")])
def test_logits_of_the_uniform_prior_are_not_adjusted(name: str, finished: dict[str, Run]) -> None:
    metrics = read_record(finished[name].folder).metrics
    for metric in (
        *("cls/balanced_accuracy", "cls/accuracy", "cls/macro_f1", "cls/worst_class_recall"),
        *("cls/tail_recall", "cls/head_recall", "loss/cross_entropy"),
        *("cal/brier_score", "cal/expected_calibration_error"),
    ):
        for method in ("logit_adjustment", "logit_adjustment_tuned"):
            adjusted = metrics[f"test/posthoc_{method}/{metric.rpartition('/')[2]}"]
            assert adjusted == pytest.approx(metrics[f"test/{metric}"], rel=1e-9), metric


def test_rescore_takes_the_prior_that_was_stored(finished: dict[str, Run]) -> None:
    folder = finished["uniform by the regime"].folder
    files = [path for run in finished.values() for path in run.folder.iterdir()]
    before = {path: path.stat().st_mtime_ns for path in files}
    assert main(["rescore", f"study={folder.parent.name}", f"runs_dir={folder.parents[1]}"]) == 0
    assert {path: path.stat().st_mtime_ns for path in files} == before


class Average:
    """Called after a step: a <- d a + (1 - d) w with d = min(decay, (1 + t) / (10 + t))."""

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        self.model, self.decay, self.steps = model, decay, 0
        self.state: dict[str, torch.Tensor] = {}

    def __call__(self) -> None:
        d = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.state else 0.0
        for name, tensor in self.model.state_dict().items():
            self.state[name] = d * self.state.get(name, 0) + (1 - d) * tensor
        self.steps += 1


def test_a_second_stage_goes_on_from_the_average_and_averages_afresh(tmp_path: Path) -> None:
    overrides = ("model.hidden=[16]", "regime=crt", "regime.start=0.5", "regime.ema_decay=0.9")
    run = done(tmp_path, *overrides)
    training = Training(run)
    model = training.model.train()

    def step(images, targets, epoch, place):
        return cross_entropy(model(images), targets)

    first = Average(model, 0.9)
    train_by_hand(training, model.parameters(), range(2), step, first)
    last_step = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(first.state)
    torch.manual_seed(derive_seed(run.seed, "second head"))
    model.head = torch.nn.Linear(16, 10)
    model.backbone.requires_grad_(False)
    second = Average(model, 0.9)
    train_by_hand(training, model.head.parameters(), range(2, 4), step, second)

    found = weights(run)
    for name, average in second.state.items():
        torch.testing.assert_close(found[f"average.module.{name}"], average, rtol=1e-4, atol=1e-5)
        trained = model.state_dict()[name]
        torch.testing.assert_close(found[f"model.{name}"], trained, rtol=1e-4, atol=1e-5)
        unlike = last_step[name] if "backbone" in name else trained
        assert not torch.allclose(average, unlike, rtol=1e-3, atol=1e-4)
    assert found["average.n_averaged"] == second.steps
    model.load_state_dict(second.state)
    with np.load(run.folder / "outputs.npz") as outputs, torch.no_grad():
        logits = torch.cat([model(images) for images, *_ in training.data.test_dataloader()])
        np.testing.assert_allclose(outputs["logits/test"], logits, rtol=1e-3, atol=1e-3)


def test_it_is_the_averaged_head_that_is_normalised(tmp_path: Path) -> None:
    decay = "regime.ema_decay=0.9"
    averaged = done(tmp_path, *ONE, "regime=ema", decay)
    normalised = done(tmp_path, *ONE, "regime=tau_norm", "regime.tau=null", decay)
    outputs = read_record(averaged.folder).outputs()
    weight, y = outputs["head/weight"], outputs["targets/val"]
    length = np.linalg.norm(weight, axis=1)
    logits, taus = outputs["logits/val"] - outputs["head/bias"], np.arange(31) / 10
    recalls = [balanced_accuracy_score(y, (logits / length**tau).argmax(axis=1)) for tau in taus]
    tau = read_record(normalised.folder).metrics["val/regime/tau"]
    assert recalls[list(taus).index(tau)] == pytest.approx(max(recalls))

    expected = weights(averaged) | {
        "average.module.head.weight": torch.from_numpy(weight / length[:, None] ** tau),
        "average.module.head.bias": torch.zeros(10),
    }
    found = weights(normalised)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=0)
