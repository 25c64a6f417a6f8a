"""Losses that need more than logits: features, the epoch, a whole batch, running counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from lossbench.config import Run
from lossbench.errors import InputError
from lossbench.losses import create_loss
from lossbench.losses.catalogue import LOSSES
from lossbench.records import read_record
from lossbench.training import objective
from lossbench.training.passes import Outputs, collect, outputs_of
from lossbench.training.run import Training, execute

FEATURES = {
    "influence_balanced": (),
    "large_margin_softmax": (),
    "sphereface": ("model.head=cosine",),
}


@pytest.fixture(scope="module", params=FEATURES)
def finished(request, tmp_path_factory: pytest.TempPathFactory) -> Run:
    from tests.conftest import run_of

    name = request.param
    run = run_of(tmp_path_factory.mktemp(name), f"loss={name}", *FEATURES[name])
    outcome = execute(run)
    assert outcome.state == "done", outcome.reason
    return run


def trained(run: Run) -> Training:
    """The model and loss of a finished run, from its checkpoint."""
    training = Training(run)
    saved = torch.load(run.folder / "checkpoint.ckpt", weights_only=True)["state_dict"]
    training.module.load_state_dict(saved)
    training.module.eval()
    return training


def by_hand(run: Run, training: Training, loader) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, raw logits, decoded logits and targets, without the passes of lossbench."""
    model = training.module.model.eval()
    batches = list(loader)
    features = torch.cat([model.backbone(images) for images, *_ in batches])
    logits = model.head(features)
    cosines = normalize(features) @ normalize(model.head.weight).T
    decoded = features.norm(dim=1, keepdim=True) * cosines
    targets = torch.cat([targets for _, targets, _ in batches])
    return features, logits, decoded if run.loss == "sphereface" else logits, targets


@torch.no_grad()
def test_evaluation_gives_the_loss_features_and_weight_of_the_same_samples(finished: Run) -> None:
    training = trained(finished)
    features, logits, decoded, targets = by_hand(
        finished, training, training.data.test_dataloader()
    )
    loss = create_loss(finished.loss, class_counts=training.prepared.class_counts)
    loss.set_epoch(3, 4)
    weight = training.module.model.head.weight
    expected = float(loss(logits, targets, features=features, weight=weight))
    metrics = read_record(finished.folder).metrics
    assert metrics["test/loss/objective"] == pytest.approx(expected, rel=1e-4)
    with np.load(finished.folder / "outputs.npz") as stored:
        assert np.allclose(stored["logits/test"], decoded, rtol=1e-4, atol=1e-4)
        assert ("raw_logits/test" in stored) == (finished.loss == "sphereface")

    loss.reduction = "none"
    logs = loss(logits, targets, features=features, weight=weight).clamp(1e-8, 1e2).log10()
    histogram = read_record(finished.folder).arrays()["histogram/objective/test"]
    centres = np.concatenate([[-8], np.linspace(-7.95, 1.95, 100), [2]])
    assert histogram.sum() == len(targets)
    mean = (histogram.sum(axis=0) * centres).sum() / len(targets)
    assert mean == pytest.approx(float(logs.mean()), abs=0.06)


@pytest.mark.parametrize("name", FEATURES)
@torch.no_grad()
def test_curves_are_of_the_decoded_logits(make_run, name: str) -> None:
    run = make_run(
        f"loss={name}", *FEATURES[name], "optimizer.lr=1e-12", "trainer.max_epochs=1"
    )  # the weights stay as they were built
    with torch.enable_grad():
        assert execute(run).state == "done"
    training = Training(run)
    *_, decoded, targets = by_hand(run, training, training.data.train_evaluation_loader())
    found = read_record(run.folder).history()["train/running/cross_entropy"]
    assert found == pytest.approx([float(cross_entropy(decoded, targets))], rel=1e-4)


class Watching(torch.nn.Module):
    """A loss that notes what it was called with."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.facts = inner.facts
        self.calls: list[dict[str, Tensor]] = []

    def decode(self, logits: Tensor, **head: Tensor) -> Tensor:
        return self.inner.decode(logits, **head)

    def forward(self, logits: Tensor, target: Tensor, **head: Tensor) -> Tensor:
        self.calls.append(head)
        return self.inner(logits, target, **head)


@pytest.mark.parametrize("name", ["cross_entropy", *FEATURES])
def test_a_training_step_hands_over_features_with_their_gradient(make_run, name: str) -> None:
    training = Training(make_run(f"loss={name}", *FEATURES.get(name, ())))
    module = training.module
    module.loss = Watching(training.loss)
    passes = []
    module.model.backbone.register_forward_hook(lambda *call: passes.append(call))
    images, targets, ids = next(iter(training.data.train_dataloader()))
    module.training_step((images, targets, ids), 0)
    assert len(passes) == 1
    (head,) = module.loss.calls
    if name == "cross_entropy":
        assert head == {}
        assert not module.running.features
        return
    assert head["weight"] is module.model.head.weight
    assert torch.equal(head["features"], module.model.backbone(images))
    assert head["features"].requires_grad
    (kept,) = module.running.features
    assert torch.equal(kept, head["features"])
    assert not kept.requires_grad


def test_features_are_kept_for_those_that_need_them_only(make_run) -> None:
    training = Training(make_run())
    model, loader = training.model, training.data.val_dataloader()
    assert collect(model, loader).head == {}
    outputs = collect(model, loader, features=True)
    model.eval()
    images = torch.cat([images for images, *_ in loader])
    assert torch.allclose(outputs.head["features"], model.backbone(images), atol=1e-6)
    assert torch.equal(outputs.logits, collect(model, loader).logits)
    with torch.no_grad():
        model.head.weight += 1
    assert not torch.equal(outputs.head["weight"], model.head.weight)  # that of its moment
    assert outputs_of(model, images, False)[1] == {}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("loss=large_margin_softmax", "loss.annealing=[1]"), "loss.annealing"),
        (("loss=sphereface", "model.head=cosine", "loss.annealing=[1,2]"), "loss.annealing"),
    ],
)
def test_bad_parameters_are_refused_before_a_file_is_written(make_run, overrides, message) -> None:
    run = make_run(*overrides)
    with pytest.raises(InputError, match=message):
        execute(run)
    assert not run.folder.exists()


def test_only_training_steps_count_samples(make_run) -> None:
    """Evaluation, the gradient's size and the matched scale leave seesaw's counts alone."""
    run = make_run("loss=seesaw", "loss_scale=match_ce")
    assert execute(run).state == "done"
    seen = torch.load(run.folder / "checkpoint.ckpt", weights_only=True)["state_dict"]["loss.seen"]
    counts = read_record(run.folder).class_counts
    assert seen.tolist() == [4 * count for count in counts]
    training = trained(run)
    with torch.no_grad():
        _, logits, _, targets = by_hand(run, training, training.data.test_dataloader())
        expected = float(training.loss.eval()(logits, targets))
    assert read_record(run.folder).metrics["test/loss/objective"] == pytest.approx(expected)


def test_a_loss_of_the_whole_batch_is_taken_over_batches_of_1000() -> None:
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(2300, 4, generator=draws)
    targets = torch.randint(4, (2300,), generator=draws)
    outputs = Outputs(logits, targets, torch.arange(2300))
    loss = create_loss("mmce")
    parts = [slice(0, 1000), slice(1000, 2000), slice(2000, 2300)]
    expected = sum(float(loss(logits[cut], targets[cut])) * len(logits[cut]) for cut in parts)
    assert objective.mean(loss, outputs) == pytest.approx(expected / 2300, rel=1e-6)
    values = objective.per_sample(loss, outputs)
    assert values is not None
    assert values.shape == (2300,)
    assert values.mean() == pytest.approx(expected / 2300, rel=1e-6)
    # the other losses see the split as a whole: the mean over class weights is of all samples
    weighted = create_loss("cross_entropy", weight=[1.0, 2.0, 3.0, 40.0])
    assert objective.mean(weighted, outputs) == pytest.approx(float(weighted(logits, targets)))


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_every_other_loss_of_the_catalogue_scores_the_final_outputs(head: str) -> None:
    draws = torch.Generator().manual_seed(1)
    cosines = torch.rand(50, 4, generator=draws) * 2 - 1
    targets = torch.randint(4, (50,), generator=draws)
    counts = [40, 30, 20, 10]
    outputs = Outputs(cosines, targets, torch.arange(50))
    decoded = 30 * cosines
    found = objective.scores(decoded, outputs, counts, head)
    expected = {
        key
        for key, facts in LOSSES.items()
        if "features" not in facts.needs and (facts.heads != "cosine" or head == "cosine")
    }
    assert set(found) == expected
    assert all(np.isfinite(value) for value in found.values())
    for key in expected:
        loss = create_loss(key, class_counts=counts).eval()
        given = cosines if LOSSES[key].heads == "cosine" else decoded
        assert found[key] == pytest.approx(float(loss(given, targets)), rel=1e-6), key
    # as before any training: at epoch 0 and with nothing counted
    start = create_loss("maxsup")
    start.set_epoch(0, 10)
    assert found["maxsup"] == pytest.approx(float(start(decoded, targets)))
    assert len(create_loss("seesaw").eval().seen) == 0


def test_scores_of_a_run_with_cosines_are_those_of_its_cosines(tmp_path: Path) -> None:
    from tests.conftest import run_of

    run = run_of(tmp_path, "loss=norm_softmax", "model.head=cosine", "trainer.max_epochs=1")
    assert execute(run).state == "done"
    metrics = read_record(run.folder).metrics
    # decode is s cos, so the run's own loss, its score and the yardstick are one number
    for tag in ("test/loss/norm_softmax", "test/loss/cross_entropy"):
        assert metrics[tag] == pytest.approx(metrics["test/loss/objective"], rel=1e-6)
    assert "test/loss/arcface" in metrics
    linear = run_of(tmp_path, "trainer.max_epochs=1")
    execute(linear)
    assert "test/loss/arcface" not in read_record(linear.folder).metrics
