"""Which runs a sweep consists of: arms, cells, seeds, and what they are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from lossbench.application import compose
from lossbench.errors import InputError
from lossbench.sweeps.plan import Planned, make_plan, quoted


@pytest.fixture
def plan(tmp_path: Path):
    def make(*overrides: str, arms: dict | None = None) -> list[Planned]:
        parsed = OverridesParser.create().parse_overrides([f"runs_dir={tmp_path}", *overrides])
        return make_plan(parsed, arms, compose)

    return make


def labels(planned: list[Planned]) -> list[tuple[str, str, int]]:
    return [(entry.run.arm, entry.run.cell, entry.run.seed) for entry in planned]


CELL = "digits | none | mlp | 30 epochs"


def test_losses_are_arms_and_seeds_come_first(plan) -> None:
    assert labels(plan("loss=focal,cross_entropy", "seed=4,7")) == [
        ("focal", CELL, 4), ("cross_entropy", CELL, 4),
        ("focal", CELL, 7), ("cross_entropy", CELL, 7),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "arms"),
    [
        (["loss=focal", "loss.gamma=1,2"], ["focal(gamma=1)", "focal"]),
        (["optimizer.lr=0.1,0.2"], [f"cross_entropy, optimizer.lr={lr}" for lr in ("0.1", "0.2")]),
        (["loss=label_smoothing", "loss.smoothing=0.2"], ["label_smoothing(smoothing=0.2)"]),
        (["loss=focal", "loss_scale=none,match_ce"], ["focal", "focal, matched scale"]),
        (
            ["loss=ldam", "model.head=cosine", "loss_scale=match_ce"],
            ["ldam, cosine head, matched scale"],
        ),
    ],
)
def test_what_the_loss_does_not_show_is_in_the_label(plan, overrides, arms) -> None:
    assert [arm for arm, _, _ in labels(plan(*overrides))] == arms


def test_data_imbalance_model_and_epochs_are_cells(plan) -> None:
    planned = plan(
        "imbalance=exponential", "imbalance.factor=10,20", "model=mlp,convnet",
        "trainer.max_epochs=1,2", "seed=0",
    )  # fmt: skip
    assert {arm for arm, _, _ in labels(planned)} == {"cross_entropy"}
    assert {cell for _, cell, _ in labels(planned)} == {
        f"digits | exponential {factor} | {model} | {epochs}"
        for factor in (10, 20)
        for model in ("mlp", "convnet")
        for epochs in ("1 epoch", "2 epochs")
    }


def test_arms_of_an_experiment_are_crossed_with_swept_keys(plan) -> None:
    arms = {"plain": {"loss": "cross_entropy"}, "hard": {"loss": "focal", "loss.gamma": 5}}
    planned = plan("seed=0", arms=arms)
    assert [arm for arm, _, _ in labels(planned)] == ["plain", "hard"]
    assert [entry.run.config["loss"].get("gamma") for entry in planned] == [None, 5]
    crossed = plan("optimizer.lr=0.1,0.2", arms=arms)
    assert [arm for arm, _, _ in labels(crossed)] == [
        f"{arm}, optimizer.lr={lr}" for arm in arms for lr in ("0.1", "0.2")
    ]


def test_the_overrides_of_a_planned_run_give_that_run(plan) -> None:
    """Any launcher gets these overrides and nothing else."""
    arms = {"it's [odd], {yes}": {"loss": "focal", "loss.alpha": [1.0] * 10}}
    for entry in plan("imbalance=exponential", "data.batch_size=16,64", "seed=3", arms=arms):
        composed = compose(entry.overrides)
        assert composed == entry.run.config


@pytest.mark.parametrize(
    ("overrides", "arms", "message"),
    [
        (["loss=focal,focal_", "seed=0"], None, "focal_"),
        (["seed=0,x"], None, "seed=x is not allowed"),
        (["seed=interval(0,1)"], None, "list the values"),
        ([], {"a": {"loss": "focal"}, "b": {"loss": "focal"}}, "'a' and 'b' have the same config"),
        (["loss=focal"], {"a": {"loss": "focal"}}, "arms=null"),
    ],
)
def test_what_cannot_be_planned_is_refused(plan, overrides, arms, message) -> None:
    with pytest.raises(InputError, match=message):
        plan(*overrides, arms=arms)


@pytest.mark.parametrize(
    "value", [None, True, 1, 0.5, 1e-30, "word", "two words", "it's, [{odd}]", [1, "a b", None]]
)
def test_a_value_survives_the_grammar_of_overrides(value) -> None:
    (parsed,) = OverridesParser.create().parse_overrides([f"key={quoted(value)}"])
    read = parsed.value()
    plain = [getattr(part, "text", part) for part in read] if isinstance(value, list) else read
    assert (getattr(plain, "text", plain)) == value


def test_arms_may_differ_in_their_loss_scale(plan) -> None:
    arms = {"plain": {"loss": "mae"}, "matched": {"loss": "mae", "loss_scale": "match_ce"}}
    planned = plan("seed=0", arms=arms)
    assert [entry.run.config["loss_scale"] for entry in planned] == ["none", "match_ce"]
    assert len({entry.run.identity for entry in planned}) == 2
    spelt_out = plan("seed=0", "loss=mae", "loss_scale=none")[0]
    assert spelt_out.run.identity == planned[0].run.identity
