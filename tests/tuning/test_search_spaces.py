"""The shipped search spaces against the catalogue; draws against their definition."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lossbench.application import compose
from lossbench.config import folder
from lossbench.errors import InputError
from lossbench.losses.catalogue import LOSSES
from lossbench.settings import check
from lossbench.tuning.search import catalogue_arm
from lossbench.tuning.space import Dimension, draw, read, space_of, with_values

FILES = sorted((folder("configs") / "search").glob("*.yaml"))

# nothing but class weights, reductions and the like; lists are not searched
NOTHING_OF_ITS_OWN = {
    *("cross_entropy", "l1", "mse", "mae", "nce", "balanced_softmax"),
    "focal_flsd",
}


def test_every_loss_has_a_space_or_nothing_to_search() -> None:
    assert {file.stem for file in FILES} == set(LOSSES) - NOTHING_OF_ITS_OWN


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_both_ends_of_every_range_are_allowed_and_the_default_lies_within(name: str) -> None:
    # independent of the reader: the plain YAML against the catalogue's parameters
    file = folder("configs") / "search" / f"{name}.yaml"
    parameters = {f"loss.{entry.name}": entry for entry in LOSSES[name].parameters}
    for path, entry in (yaml.safe_load(file.read_text()) if file.exists() else {}).items():
        values = entry.get("choices") or [entry["low"], entry["high"]]
        for value in values:
            parameters[path].check(value, path)
        default = parameters[path].default
        if "choices" in entry:
            assert default in values
        else:
            assert entry["low"] <= default <= entry["high"]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_any_draw_of_any_loss_makes_a_config_that_is_accepted(optimizer: str) -> None:
    base = compose([f"optimizer={optimizer}"])
    for name in LOSSES:
        chosen = yaml.safe_load((folder("configs") / "loss" / f"{name}.yaml").read_text())
        parents = chosen.pop("defaults", [])
        for parent in parents:
            file = folder("configs") / "loss" / f"{parent}.yaml"
            chosen = yaml.safe_load(file.read_text()) | chosen
        chosen.pop("defaults", None)
        head = catalogue_arm(name).get("model.head", "linear")
        config = with_values(base, {"model.head": head}) | {"loss": chosen}
        space = space_of(name, optimizer, config, None)
        assert {"optimizer.lr", "optimizer.weight_decay"} <= set(space)
        for number in range(1, 20):
            check(with_values(config, {p: draw(0, p, number, d) for p, d in space.items()}))


numbers = st.floats(-100, 100, allow_nan=False)
dimensions = st.one_of(
    st.tuples(numbers, numbers)
    .filter(lambda ends: ends[0] < ends[1])
    .map(lambda ends: Dimension(*ends)),
    st.tuples(st.floats(1e-6, 1), st.floats(2, 1e3)).map(lambda ends: Dimension(*ends, log=True)),
    st.tuples(st.integers(1, 5), st.integers(6, 99)).map(lambda e: Dimension(*e, integer=True)),
    st.tuples(st.integers(1, 5), st.integers(6, 99)).map(
        lambda e: Dimension(*e, integer=True, log=True)
    ),
    st.lists(st.integers(), min_size=2, unique=True).map(lambda c: Dimension(choices=tuple(c))),
)


@given(dimensions, st.integers(0, 9), st.integers(1, 500))
def test_a_draw_lies_in_its_range(entry: Dimension, seed: int, number: int) -> None:
    value = draw(seed, "loss.p", number, entry)
    assert draw(seed, "loss.p", number, entry) == value
    if entry.choices:
        assert value in entry.choices
    else:
        assert entry.low <= value <= entry.high
    assert isinstance(value, int) or not entry.integer


def test_draws_fill_their_range_evenly() -> None:
    # log-uniform: a third of the draws in each of three decades; 4 standard deviations
    entry = Dimension(1e-3, 1.0, log=True)
    found = [math.floor(math.log10(draw(0, "optimizer.lr", k, entry))) for k in range(3000)]
    for decade in (-3, -2, -1):
        assert abs(found.count(decade) - 1000) < 4 * math.sqrt(3000 * 2 / 9)
    whole = [draw(0, "loss.margin", k, Dimension(1, 4, integer=True)) for k in range(4000)]
    assert all(abs(whole.count(value) - 1000) < 4 * math.sqrt(750) for value in (1, 2, 3, 4))


def test_ones_own_space_comes_before_the_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "search/optimizer").mkdir(parents=True)
    (tmp_path / "search/focal.yaml").write_text("loss.gamma: {low: 1, high: 2}\n")
    (tmp_path / "search/optimizer/sgd.yaml").write_text("optimizer.lr: {low: 0.1, high: 0.2}\n")
    config = compose(["loss=focal", "--config-dir", str(tmp_path)])
    space = space_of("focal", "sgd", config, tmp_path)
    assert space == {"loss.gamma": Dimension(1, 2), "optimizer.lr": Dimension(0.1, 0.2)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("loss.gama: {low: 0, high: 1}", "did you mean 'gamma'"),
        ("loss.gamma: {low: -1, high: 1}", "loss.gamma=-1 is not allowed"),
        ("loss.gamma: {low: 2, high: 1}", "with A below B"),
        ("loss.gamma: {low: 0, high: 1, log: true}", "with A below B"),
        ("loss.gamma: {low: 0, heigh: 1}", "with A below B"),
        ("loss.gamma: [0, 1]", "with A below B"),
        ("loss.gamma: {choices: [1]}", "with A below B"),
        ("optimizer.lr: {low: 0, high: 1}", "optimizer.lr=0 is not allowed"),
        ("- loss.gamma", "must map paths"),
        ("{", "is not YAML"),
    ],
)
def test_a_space_that_cannot_be_used_is_refused(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "focal.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as refused:
        read(file, compose(["loss=focal"]))
    assert said in str(refused.value)
    assert str(file) in str(refused.value)
    assert "\n" not in str(refused.value)
