"""Regimes against hand-written training loops, and the rules that all of them keep."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from scipy.stats import chisquare
from torch.nn.functional import cross_entropy, one_hot

from lossbench.application import compose
from lossbench.config import Run, digest, identity_of
from lossbench.errors import InputError
from lossbench.losses import create_loss
from lossbench.records import read_record
from lossbench.seeding import derive_seed, generator
from lossbench.sweeps.plan import make_plan
from lossbench.training import objective
from lossbench.training.regimes import CutMix, Remix, Resampling, Setting
from lossbench.training.run import Training, execute
from tests.conftest import run_of

ONE = ("trainer.max_epochs=1", "model.hidden=[16]")
SHORT = ("trainer.max_epochs=2", "model.hidden=[16]")


def weights(run: Run) -> dict[str, torch.Tensor]:
    return torch.load(run.folder / "checkpoint.ckpt", weights_only=True)["state_dict"]


def done(tmp_path: Path, *overrides: str) -> Run:
    run = run_of(tmp_path, *overrides)
    outcome = execute(run)
    assert outcome.state == "done", outcome.reason
    return run


def history(run: Run) -> list[dict[str, str]]:
    with open(run.folder / "history.csv", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def train_by_hand(training: Training, parameters, epochs: range, step, after=lambda: None) -> None:
    """Two for-loops: SGD with half a cosine over ``epochs``; ``step`` gives the loss of a batch."""
    loader = training.data.train_dataloader()
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4)
    for epoch in epochs:
        loader.set_epoch(epoch)
        for place, (images, targets, _) in enumerate(loader):
            passed = (epoch - epochs.start + place / len(loader)) / len(epochs)
            optimizer.param_groups[0]["lr"] = 0.05 * 0.5 * (1 + math.cos(math.pi * passed))
            optimizer.zero_grad()
            step(images, targets, epoch, place).backward()
            optimizer.step()
            after()


def assert_same_weights(run: Run, model: torch.nn.Module, prefix: str = "model.") -> None:
    found = weights(run)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(found[prefix + name], tensor, rtol=1e-4, atol=1e-6)


def test_deferred_weights_are_those_of_a_loop_by_hand(tmp_path: Path) -> None:
    run = done(tmp_path, *SHORT, "regime=drw", "regime.start=0.5", "regime.beta=0.99")
    training = Training(run_of(tmp_path, *SHORT))
    effective = (1 - 0.99**training.prepared.class_counts) / (1 - 0.99)
    weight = torch.tensor(10 / effective / (1 / effective).sum(), dtype=torch.float32)

    def step(images, targets, epoch, place):
        return cross_entropy(training.model(images), targets, weight if epoch >= 1 else None)

    train_by_hand(training, training.model.parameters(), range(2), step)
    assert_same_weights(run, training.model)


@pytest.mark.parametrize("loss", ["cross_entropy", "seesaw"])
def test_mixup_and_its_running_numbers_are_those_of_a_loop_by_hand(
    loss: str, tmp_path: Path
) -> None:
    """cross_entropy takes probabilities; of seesaw, which does not, two losses are mixed."""
    run = done(tmp_path, *SHORT, "regime=mixup", f"loss={loss}")
    training = Training(run_of(tmp_path, *SHORT, f"loss={loss}"))
    own = training.loss.train()
    nats: list[float] = []
    hits: list[float] = []

    def step(images, targets, epoch, place):
        draws = generator(run.seed, "mix", epoch, place)
        share = draws.beta(1.0, 1.0)
        partners = torch.from_numpy(draws.permutation(len(images)))
        logits = training.model(share * images + (1 - share) * images[partners])
        mixed = share * one_hot(targets, 10) + (1 - share) * one_hot(targets[partners], 10)
        if epoch == 1:
            with torch.no_grad():
                nats.extend((-mixed * logits.log_softmax(1)).sum(1).tolist())
                hits.extend(mixed[torch.arange(len(images)), logits.argmax(1)].tolist())
        if loss == "cross_entropy":
            return cross_entropy(logits, mixed)
        return share * own(logits, targets) + (1 - share) * own(logits, targets[partners])

    train_by_hand(training, training.model.parameters(), range(2), step)
    assert_same_weights(run, training.model)
    row = history(run)[-1]
    assert float(row["train/running/cross_entropy"]) == pytest.approx(np.mean(nats), rel=1e-4)
    assert float(row["train/running/accuracy"]) == pytest.approx(np.mean(hits), rel=1e-4)
    if loss == "cross_entropy":
        relative = float(row["train/gradient/relative_to_cross_entropy"])
        assert relative == pytest.approx(1, rel=1e-4)


def test_the_average_is_that_of_a_loop_by_hand_and_is_what_is_evaluated(tmp_path: Path) -> None:
    convnet = ("model=convnet", "model.width=4", "trainer.max_epochs=2")
    run = done(tmp_path, *convnet, "regime=ema", "regime.ema_decay=0.6")
    training = Training(run_of(tmp_path, *convnet))
    model = training.model.train()
    average: dict[str, torch.Tensor] = {}
    steps = 0

    def after() -> None:
        nonlocal steps
        decay = min(0.6, (1 + steps) / (10 + steps)) if average else 0.0
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                before = average.get(name, torch.zeros_like(tensor))
                average[name] = decay * before + (1 - decay) * tensor
        steps += 1

    def step(images, targets, epoch, place):
        return cross_entropy(model(images), targets)

    train_by_hand(training, model.parameters(), range(2), step, after)
    assert steps > 14  # past the point where 0.6 is the smaller of the two
    model.load_state_dict(average, strict=False)
    found = weights(run)
    for name, tensor in average.items():  # the statistics of BatchNorm too
        torch.testing.assert_close(found[f"average.module.{name}"], tensor, rtol=1e-4, atol=1e-5)
    model.eval()
    with np.load(run.folder / "outputs.npz") as outputs, torch.no_grad():
        logits = torch.cat([model(images) for images, *_ in training.data.test_dataloader()])
        np.testing.assert_allclose(outputs["logits/test"], logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sampling", ["class_balanced", "square_root", "progressive"])
def test_classes_are_drawn_as_often_as_the_formula_says(sampling: str, tmp_path: Path) -> None:
    training = Training(run_of(tmp_path, "regime=resample", f"regime.sampling={sampling}"))
    counts, targets = training.prepared.class_counts, training.prepared.train.targets
    size, root = len(targets), np.sqrt(counts) / np.sqrt(counts).sum()
    for epoch in (0, 3):
        mixed = (1 - epoch / 4) * counts / size + epoch / 4 / 10
        wanted = {"class_balanced": np.full(10, 0.1), "square_root": root, "progressive": mixed}
        settings = [replace(training.regime.setting, seed=seed) for seed in range(100)]
        orders = [Resampling(each, sampling=sampling).order(epoch).numpy() for each in settings]
        assert {len(order) for order in orders} == {size}
        drawn = np.concatenate(orders)
        observed = np.bincount(targets[drawn], minlength=10)
        assert chisquare(observed, wanted[sampling] * observed.sum()).pvalue > 1e-3
        within = np.bincount(drawn, minlength=size)[targets == 0]
        assert chisquare(within).pvalue > 1e-3  # the images of a class are equally likely
    assert not np.array_equal(training.regime.order(2), training.regime.order(3))
    # what the loader hands out in an epoch is that order
    loader = training.data.train_dataloader()
    loader.set_epoch(3)
    ids = training.prepared.train.ids[training.regime.order(3)]
    assert np.array_equal(torch.cat([batch[2] for batch in loader]), ids)


def test_an_image_drawn_twice_is_augmented_twice(tmp_path: Path) -> None:
    overrides = ("data.augmentation.crop_padding=4", "regime=resample")
    training = Training(run_of(tmp_path, *overrides))
    loader = training.data.train_dataloader()
    pixels, _, ids = (torch.cat(parts) for parts in zip(*loader.pixel_batches(0), strict=True))
    most = torch.mode(ids).values
    copies = pixels[ids == most].flatten(1)
    assert len(copies) > 5
    assert len(copies.unique(dim=0)) > len(copies) // 2


@pytest.mark.parametrize("regime", ["crt", "lws"])
def test_the_second_stage_is_a_loop_by_hand_on_balanced_draws(regime: str, tmp_path: Path) -> None:
    """Frozen features, fresh optimiser, the schedule once more; the loss is the run's own."""
    run = run_of(tmp_path, "model=convnet", "model.width=4", f"regime={regime}", "regime.start=0.5")
    stage_one: dict[str, torch.Tensor] = {}

    def keep(epoch: int, row: object) -> None:
        if epoch == 2:
            stage_one.update(weights(run))

    assert execute(run, keep).state == "done"
    found = weights(run)
    backbone = [name for name in found if ".backbone." in name]
    assert any("running_mean" in name for name in backbone)
    for name in backbone:  # the first stage is a plain run, and nothing moves in the second
        assert torch.equal(stage_one[name], found[name])
    if regime == "crt":
        plain = done(tmp_path, "model=convnet", "model.width=4", "trainer.max_epochs=2")
        assert all(torch.equal(weights(plain)[name], found[name]) for name in backbone)

    training = Training(run)
    training.module.load_state_dict(stage_one)
    model = training.model
    backbone_of = model.backbone.eval()
    if regime == "crt":
        torch.manual_seed(derive_seed(run.seed, "second head"))
        head = torch.nn.Linear(model.head.in_features, 10)
        learned = list(head.parameters())
    else:
        scale = torch.ones(10, requires_grad=True)
        original = model.head.head.requires_grad_(False)
        learned = [scale]

        def head(features):
            return scale * original(features)

    def step(images, targets, epoch, place):
        shares = np.bincount(training.prepared.train.targets[training.regime.order(epoch)])
        assert shares.min() > 0.6 * shares.mean()  # of a tail of factor 10
        with torch.no_grad():
            features = backbone_of(images)
        return cross_entropy(head(features), targets)

    train_by_hand(training, learned, range(2, 4), step)
    if regime == "crt":
        torch.testing.assert_close(found["model.head.weight"], head.weight, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found["model.head.bias"], head.bias, rtol=1e-4, atol=1e-5)
    else:
        torch.testing.assert_close(found["model.head.scale"], scale, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(scale, torch.ones(10), atol=0.01)
        for name in ("weight", "bias"):
            kept = f"model.head.head.{name}"
            assert torch.equal(stage_one[kept], found[kept])


def test_tau_normalised_rows_by_numpy_and_tau_by_trying_all(tmp_path: Path) -> None:
    plain, fixed, chosen = (
        done(tmp_path, *ONE, *overrides)
        for overrides in (
            (),
            ("regime=tau_norm", "regime.tau=0.7"),
            ("regime=tau_norm", "regime.tau=null"),
        )
    )
    weight = weights(plain)["model.head.weight"].numpy()
    length = np.linalg.norm(weight, axis=1, keepdims=True)
    np.testing.assert_allclose(weights(fixed)["model.head.weight"], weight / length**0.7, rtol=1e-5)
    assert not weights(fixed)["model.head.bias"].any()

    training = Training(plain)
    training.module.load_state_dict(weights(plain))
    images, targets, _ = next(iter(training.data.val_dataloader()))
    features = training.model.backbone.eval()(images).detach().numpy()
    taus = np.arange(31) / 10
    right = [(features @ (weight / length**tau).T).argmax(1) == targets.numpy() for tau in taus]
    recalls = np.array([np.mean([r[targets == c].mean() for c in range(10)]) for r in right])
    equal = taus[recalls >= recalls.max() - 1e-9]
    best = equal[np.abs(equal - 1).argmin()]
    metrics = read_record(chosen.folder).metrics
    assert metrics["val/regime/tau"] == best
    assert metrics["val/cls/balanced_accuracy"] == pytest.approx(max(recalls))
    assert "val/regime/tau" not in read_record(fixed.folder).metrics


def test_cutmix_pastes_one_box_and_the_share_is_what_is_left_of_the_image() -> None:
    setting = Setting(3, 4, np.zeros(8, int), np.array([8, 4]), (1, 12, 9), True)
    regime = CutMix(setting, alpha=1.0)
    images = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 1, 12, 9)
    cut_off = 0
    for batch in range(50):
        mixed, targets = regime.mix(images, torch.arange(8), batch)
        draws = generator(3, "mix", 0, batch)
        side = math.sqrt(1 - draws.beta(1.0, 1.0))
        partners = draws.permutation(8)
        row, column = draws.integers(12), draws.integers(9)
        half, across = int(side * 12) // 2, int(side * 9) // 2
        inside = [
            [abs(r + 0.5 - row) < half and abs(c + 0.5 - column) < across for c in range(9)]
            for r in range(12)
        ]
        wanted = np.where(inside, partners[:, None, None], np.arange(8)[:, None, None])
        assert np.array_equal(mixed[:, 0], wanted)
        assert targets.second.tolist() == partners.tolist()
        assert float(targets.share) == pytest.approx(1 - np.mean(inside))
        cut_off += np.sum(inside) < 4 * half * across
    assert 0 < cut_off < 50


def test_remix_gives_the_label_to_the_rarer_class() -> None:
    """The table of the paper for kappa 3, tau 0.5: counts 90, 30, 29."""
    setting = Setting(3, 4, np.zeros(8, int), np.array([90, 30, 29]), (4,), True)
    regime = Remix(setting, alpha=1.0, kappa=3.0, tau=0.5)
    first, second = torch.tensor([0, 1, 1, 2, 0]), torch.tensor([1, 0, 2, 0, 0])
    low, high = regime.mixture(first, second, 0.4), regime.mixture(first, second, 0.6)
    assert low.share.tolist() == pytest.approx([0, 0.4, 0.4, 0.4, 0.4])
    assert high.share.tolist() == pytest.approx([0.6, 1, 0.6, 1, 0.6])


REGIMES = {
    "plain": (), "ema": (), "drw": ("regime.start=0.5",), "resample": (), "lws": (),
    "crt": (), "tau_norm": (), "mixup": (), "cutmix": (), "remix": (),
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Training]:
    place = tmp_path_factory.mktemp("built")
    return {
        name: Training(run_of(place, f"regime={name}", *overrides))
        for name, overrides in REGIMES.items()
    }


def test_runs_of_a_seed_stay_paired(built: dict[str, Training]) -> None:
    prints = {name: training._record().fingerprints for name, training in built.items()}
    for name, found in prints.items():
        assert found["subset"] == prints["plain"]["subset"]
        assert found["init"] == prints["plain"]["init"]
        assert (found["batches"] == prints["plain"]["batches"]) == (name != "resample")
        head = list(built[name].model.head.state_dict().values())
        assert torch.equal(head[-2], built["plain"].model.head.weight)


def test_the_regime_is_part_of_the_identity_and_plain_is_not(
    built: dict[str, Training], tmp_path: Path
) -> None:
    identities = {training.run.identity for training in built.values()}
    assert len(identities) == len(built)
    plain = built["plain"].run
    without = {key: value for key, value in plain.config.items() if key != "regime"}
    assert digest(identity_of(without)) == plain.identity
    assert run_of(tmp_path, "regime.ema_decay=0.999").identity == built["ema"].run.identity
    own = run_of(tmp_path, "regime._target_=tests.training.own_regime.Mirrored")
    assert "_source_" in identity_of(own.config)["regime"]


def test_a_regime_is_part_of_an_arm(tmp_path: Path) -> None:
    arms = {"ldam_drw": {"loss": "ldam", "model.head": "cosine", "regime": "drw"}, "plain": {}}
    given = OverridesParser.create().parse_overrides(["data=digits", f"runs_dir={tmp_path}"])
    ldam, plain = (entry.run for entry in make_plan(given, arms, compose))
    assert (ldam.config["regime"]["name"], plain.config["regime"]["name"]) == ("drw", "plain")
    assert ldam.cell == plain.cell
    swept = OverridesParser.create().parse_overrides(["regime=plain,drw", f"runs_dir={tmp_path}"])
    planned = make_plan(swept, None, compose)
    assert len({entry.run.arm for entry in planned}) == 2
    assert len({entry.run.cell for entry in planned}) == 1


def test_the_prior_that_a_model_has_learned(built: dict[str, Training]) -> None:
    counts = built["plain"].prepared.class_counts
    effective = (1 - 0.9999**counts) / (1 - 0.9999)
    priors = {
        "plain": counts, "drw": counts / effective, "resample": np.ones(10), "crt": np.ones(10),
        "lws": np.ones(10), "tau_norm": np.full(10, np.nan), "mixup": counts, "ema": counts,
    }  # fmt: skip
    for name, prior in priors.items():
        training = built[name]
        for epoch, wanted in ((0, counts if name != "resample" else prior), (3, prior)):
            training.module.begin_epoch(epoch, 4, 0)
            shift = training.regime.log_prior_shift()
            found = np.exp(objective.model_log_prior(training.loss, counts, shift))
            np.testing.assert_allclose(found, wanted / wanted.sum(), rtol=1e-9)
    # with a loss that adjusts by itself both shifts count
    balanced = create_loss("balanced_softmax", class_counts=counts)
    shift = Resampling(built["plain"].regime.setting, sampling="square_root").log_prior_shift()
    found = np.exp(objective.model_log_prior(balanced, counts, shift))
    np.testing.assert_allclose(found, counts**-0.5 / (counts**-0.5).sum(), rtol=1e-9)


def test_a_regime_of_ones_own_is_used(tmp_path: Path) -> None:
    own = "regime._target_=tests.training.own_regime.Mirrored"
    mirrored, plain = (done(tmp_path, *ONE, *each) for each in ((own,), ()))
    name = "model.head.weight"
    assert not torch.equal(weights(mirrored)[name], weights(plain)[name])


SCALAR = ("loss=custom", "loss._target_=tests.training.losses.ScalarWithCounts")
REFUSED = {
    "tau without validation": (
        ("regime=tau_norm", "regime.tau=null", "data.validation_per_class=0"), "on validation",
    ),
    "tau of cosines": (
        ("regime=tau_norm", "model.head=cosine", "loss=norm_softmax"), "model.head=linear",
    ),
    "one epoch for two stages": (("regime=crt", "trainer.max_epochs=1"), "no epoch before it"),
    "weights that are not deferred": (("regime=drw", "regime.start=0.1"), "no epoch before it"),
    "never": (("regime=drw", "regime.start=1"), "regime.start=1 is not allowed"),
    "weights for one number": (("regime=drw", *SCALAR), 'reduction is "none"'),
    "remix for one number": (("regime=remix", *SCALAR), 'reduction is "none"'),
    "tau of remix": (("regime=remix", "regime.tau=2"), "regime.tau=2"),
    "not a number": (("regime=mixup", "regime.alpha=0"), "regime.alpha=0"),
    "a name": (("regime=resample", "regime.sampling=cubic"), "class_balanced or square_root"),
    "a key of another": (("regime=mixup", "+regime.start=0.8"), "start"),
    "not a regime": (("regime._target_=tests.training.own_regime.nothing",), "subclass of"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line_before_anything_is_written(case: str, tmp_path: Path) -> None:
    overrides, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as caught:
        execute(run_of(tmp_path, *overrides))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_cutmix_of_a_table_is_refused() -> None:
    setting = Setting(0, 4, np.zeros(8, int), np.array([8, 4]), (5,), True)
    with pytest.raises(InputError, match="needs images"):
        CutMix(setting, alpha=1.0)


def test_one_number_per_batch_is_enough_for_mixup(tmp_path: Path) -> None:
    done(tmp_path, *ONE, "regime=mixup", *SCALAR)


@pytest.mark.parametrize("regime", ["drw", "mixup"])
def test_a_matched_scale_goes_with_a_regime(regime: str, tmp_path: Path) -> None:
    """1024 times a loss is scaled back to the same training, whatever is around it."""
    overrides = (*SHORT, f"regime={regime}", "loss_scale=match_ce", "loss=custom")
    one, large = (
        done(tmp_path, *overrides, f"loss._target_=tests.training.losses.{name}")
        for name in ("each", "each_times_1024")
    )
    assert torch.equal(weights(one)["model.head.weight"], weights(large)["model.head.weight"])
