"""Which runs a sweep consists of: arms, cells, seeds, and what they are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from lossbench.application import compose
from lossbench.errors import InputError
from lossbench.sweeps.grid import is_cell
from lossbench.sweeps.plan import Planned, make_plan, quoted


@pytest.fixture
def plan(tmp_path: Path):
    def make(*overrides: str, arms: dict | None = None, **choices: object) -> list[Planned]:
        parsed = OverridesParser.create().parse_overrides([f"runs_dir={tmp_path}", *overrides])
        return make_plan(parsed, arms, compose, **choices)

    return make


def labels(planned: list[Planned]) -> list[tuple[str, str, int]]:
    return [(entry.run.arm, entry.run.cell, entry.run.seed) for entry in planned]


CELL = "digits | none | mlp | 30 epochs"


@pytest.mark.parametrize("seeds", ["seed=4,7", "++seed=4,7"])
def test_losses_are_arms_and_seeds_come_first(plan, seeds: str) -> None:
    assert labels(plan("loss=focal,cross_entropy", seeds)) == [
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


def test_a_cell_is_whole_before_the_next_begins(plan) -> None:
    planned = plan("loss=focal,mae", "imbalance=exponential", "imbalance.factor=10,20", "seed=1,0")
    assert [(seed, cell.split(" | ")[1], arm) for arm, cell, seed in labels(planned)] == [
        (seed, f"exponential {factor}", arm)
        for seed in (0, 1)
        for factor in (10, 20)
        for arm in ("focal", "mae")
    ]


def values(planned: list[Planned], *paths: str) -> list[tuple]:
    """The values of ``paths`` in each run, with the seed."""
    found = []
    for entry in planned:
        row = [entry.run.config]
        for path in paths:
            value = entry.run.config
            for key in path.split("."):
                value = value[key]
            row.append(value)
        found.append((*row[1:], entry.run.seed))
    return found


GAMMAS, RATES, FACTORS, BATCHES = (1.0, 2.0, 3.0), (0.1, 0.05, 0.1), (5, 10, 20), (16, 32)


def swept(key: str, chosen: tuple) -> str:
    return f"{key}={','.join(map(str, chosen))}"


def test_zipped_keys_are_swept_side_by_side(plan) -> None:
    planned = plan(
        "loss=focal", swept("loss.gamma", GAMMAS), swept("optimizer.lr", RATES), "seed=0,1",
        zips=["loss.gamma", "optimizer.lr"],
    )  # fmt: skip
    expected = [(*pair, seed) for seed in (0, 1) for pair in zip(GAMMAS, RATES, strict=True)]
    assert values(planned, "loss.gamma", "optimizer.lr") == expected
    assert [arm for arm, _, _ in labels(planned)][:3] == [
        "focal(gamma=1.0), optimizer.lr=0.1",
        "focal, optimizer.lr=0.05",
        "focal(gamma=3.0), optimizer.lr=0.1",
    ]


def test_zips_are_crossed_with_each_other_and_with_what_is_not_zipped(plan) -> None:
    planned = plan(
        "loss=focal", "imbalance=exponential", "seed=0", "optimizer.momentum=0.5,0.9",
        swept("loss.gamma", GAMMAS), swept("optimizer.lr", RATES),
        swept("imbalance.factor", FACTORS[:2]), swept("data.batch_size", BATCHES),
        zips=[["loss.gamma", "optimizer.lr"], ["data.batch_size", "imbalance.factor"]],
    )  # fmt: skip
    expected = {
        (gamma, rate, factor, batch, momentum, 0)
        for gamma, rate in zip(GAMMAS, RATES, strict=True)
        for factor, batch in zip(FACTORS[:2], BATCHES, strict=True)
        for momentum in (0.5, 0.9)
    }
    paths = ("loss.gamma", "optimizer.lr", "imbalance.factor", "data.batch_size")
    found = values(planned, *paths, "optimizer.momentum")
    assert len(found) == len(expected) == 12
    assert set(found) == expected


def test_what_is_zipped_with_a_cell_goes_with_the_cell(plan) -> None:
    """A learning rate for each imbalance: the arms are the same in both cells."""
    planned = plan(
        "imbalance=exponential", "loss=focal,mae", "imbalance.factor=5,10", "optimizer.lr=0.1,0.2",
        "seed=0", zips=["optimizer.lr", "imbalance.factor"],
    )  # fmt: skip
    assert values(planned, "loss.name", "imbalance.factor", "optimizer.lr") == [
        ("focal", 5, 0.1, 0), ("mae", 5, 0.1, 0), ("focal", 10, 0.2, 0), ("mae", 10, 0.2, 0),
    ]  # fmt: skip
    assert [arm for arm, _, _ in labels(planned)] == ["focal", "mae"] * 2


def test_equal_rows_of_a_zip_are_one_run(plan) -> None:
    planned = plan(
        "loss=focal", "loss.gamma=1,1,2", "optimizer.lr=0.1,0.1,0.1", "seed=0",
        zips=["loss.gamma", "optimizer.lr"],
    )  # fmt: skip
    assert values(planned, "loss.gamma", "optimizer.lr") == [(1, 0.1, 0), (2, 0.1, 0)]


def matching(**wanted: object):
    return lambda run: all(run[key] == value for key, value in wanted.items())


def is_focal_above_10(run: dict) -> bool:
    return run["loss"] == "focal" and run["factor"] in (20, 40)


@pytest.mark.parametrize(
    ("exclude", "left_out"),
    [
        ([{"loss": "focal", "imbalance.factor": [20, 40.0]}], is_focal_above_10),
        (
            [{"seed": 1}, {"loss": "mae", "seed": 0}],
            lambda run: run["seed"] or run["loss"] == "mae",
        ),
        ([{"arm": "mae", "imbalance": "exponential"}], matching(loss="mae")),
        ({"imbalance.factor": 1e1, "label_noise": None}, matching(factor=10)),
    ],
)
def test_excluded_combinations_are_left_out(plan, exclude, left_out) -> None:
    sweep = ("loss=focal,mae", "imbalance=exponential", "imbalance.factor=10,20,40", "seed=0,1")
    everything = values(plan(*sweep), "loss.name", "imbalance.factor")
    kept = [
        row
        for row in everything
        if not left_out(dict(zip(("loss", "factor", "seed"), row, strict=True)))
    ]
    planned = plan(*sweep, exclude=exclude)
    assert values(planned, "loss.name", "imbalance.factor") == kept
    assert 0 < len(kept) < len(everything) == 12


def test_a_group_with_variants_is_excluded_by_the_name_of_its_file_too(plan) -> None:
    sweep = ("model=mlp,wide_resnet", "seed=0")
    for name in ("wide_resnet", "wide_resnet_16_4"):
        assert [
            row[0] for row in values(plan(*sweep, exclude=[{"model": name}]), "model.name")
        ] == ["mlp"]


def test_a_number_of_seeds_counts_from_0(plan) -> None:
    assert [seed for _, _, seed in labels(plan("loss=focal", "seed=7", seeds=3))] == [0, 1, 2]


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


PAIR = ("loss=focal", "loss.gamma=1,2", "optimizer.lr=0.1,0.2", "seed=0,1")
CELLS = ("imbalance=exponential", "imbalance.factor=10,20", "loss=focal,mae", "seed=0,1")


@pytest.mark.parametrize(
    ("overrides", "choices", "message"),
    [
        (PAIR, {"zips": ["loss.gamma", "loss.alpha"]}, "unknown swept key 'loss.alpha'"),
        (PAIR, {"zips": ["loss.gama", "optimizer.lr"]}, "did you mean 'loss.gamma'"),
        (PAIR, {"zips": ["loss.gamma"]}, "names fewer than two keys"),
        (PAIR, {"zips": ["loss.gamma", "loss.gamma"]}, "names fewer than two keys"),
        (PAIR, {"zips": []}, "names fewer than two keys"),
        (PAIR, {"zips": "loss.gamma"}, "a list of swept keys"),
        (PAIR, {"zips": [["loss.gamma", "optimizer.lr"], "seed"]}, "a list of swept keys"),
        (
            PAIR,
            {"zips": [["loss.gamma", "optimizer.lr"], ["loss.gamma", "seed"]]},
            "loss.gamma is named 2 times",
        ),
        (PAIR, {"zips": ["loss.gamma", "seed"]}, "seeds repeat every arm in every cell"),
        (
            (*PAIR, "optimizer.lr=0.1,0.2,0.3"),
            {"zips": ["loss.gamma", "optimizer.lr"]},
            "loss.gamma has 2, optimizer.lr has 3 values",
        ),
        (
            ("imbalance=exponential", "imbalance.factor=5,5", "optimizer.lr=0.1,0.2"),
            {"zips": ["imbalance.factor", "optimizer.lr"]},
            "imbalance.factor=5 stands beside 2 different values",
        ),
        (("seeds=1,2",), {}, "seeds=1,2 names several values; seeds has one"),
        (CELLS, {"exclude": [{"los": "focal"}]}, "unknown config key 'los'; did you mean 'loss'"),
        (CELLS, {"exclude": [{"imbalance.facto": 10}]}, "unknown key of imbalance 'facto'"),
        (
            CELLS,
            {"exclude": [{"loss": "focall"}]},
            "{loss: focall} leaves nothing out (the sweep has loss: focal, mae)",
        ),
        (CELLS, {"exclude": [{"seed": 1}, {"seed": True}]}, "{seed: True} leaves nothing out"),
        (CELLS, {"exclude": [{"trainer": "cpu"}]}, "trainer has no name to compare"),
        (CELLS, {"exclude": [{"seed": [0, 1]}]}, "leaves out all 8 runs"),
        (CELLS, {"exclude": ["focal"]}, "a list of combinations"),
        (CELLS, {"exclude": [{}]}, "a list of combinations"),
    ],
)
def test_a_zip_or_an_exclusion_that_makes_no_sense_is_refused(
    plan, overrides, choices, message
) -> None:
    with pytest.raises(InputError) as refused:
        plan(*overrides, **choices)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


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


def test_a_plus_before_a_key_makes_no_arm_of_a_cell_nor_a_cell_of_an_arm() -> None:
    assert is_cell("++trainer.max_epochs")
    assert not is_cell("++model.head")
