"""The catalogue: facts, the check of parameters, and no torch."""

from __future__ import annotations

import dataclasses
import inspect
import math
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench.errors import InputError
from lossbench.losses import create_loss, list_losses
from lossbench.losses.catalogue import LOSSES, check_parameters, facts
from lossbench.parameters import Parameter

torch.set_num_threads(1)

EVERY_LOSS = pytest.mark.parametrize("name", list_losses())


def test_the_first_seven_losses_are_there():
    assert set(list_losses()) >= {
        "cross_entropy",
        "label_smoothing",
        "focal",
        "temperature_scaled",
        "class_balanced",
        "balanced_softmax",
        "logit_adjusted",
    }


def test_the_catalogue_and_the_package_import_no_torch():
    code = (
        "import sys, lossbench.losses, lossbench.losses.catalogue as c;"
        "c.check_parameters('focal', {'gamma': 1}); lossbench.losses.list_losses();"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@EVERY_LOSS
def test_facts_are_complete_and_true(name):
    about = facts(name)
    assert about is LOSSES[name]
    assert about.key == name
    for text in (about.source, about.formula, about.summary, about.helps, about.fails):
        assert text == text.strip() != ""
        assert "\n" not in text
    module, class_name = about.implementation.split(":")
    assert module == f"lossbench.losses.{about.family}"
    loss_class = getattr(import_module(module), class_name)
    assert loss_class.key == name
    assert inspect.getdoc(getattr(import_module(module), name)), "the functional core"
    assert "class_counts" in inspect.signature(loss_class).parameters
    assert about.needs <= {"class_counts", "epoch", "features"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        about.key = "other"


@EVERY_LOSS
def test_defaults_pass_their_own_check(name):
    defaults = check_parameters(name, {})
    assert list(defaults) == [parameter.name for parameter in facts(name).parameters]
    assert check_parameters(name, defaults) == defaults
    for parameter in facts(name).parameters:
        assert parameter.text == parameter.text.strip() != ""


@pytest.mark.parametrize(
    ("name", "defaults"),
    [
        (
            "cross_entropy",
            {"weight": None, "label_smoothing": 0, "ignore_index": -100, "normalizer": "weights"},
        ),
        (
            "label_smoothing",
            {"smoothing": 0.1, "variant": "uniform", "weight": None, "normalizer": "weights"},
        ),
        ("temperature_scaled", {"temperature": 2.0, "rescale": "none", "learnable": False}),
        ("focal", {"gamma": 2.0, "alpha": None, "normalizer": "weights"}),
        ("class_balanced", {"beta": 0.9999, "normalizer": "weights"}),
        ("balanced_softmax", {}),
        ("logit_adjusted", {"tau": 1.0}),
    ],
)
def test_names_and_defaults_are_the_agreed_ones(name, defaults):
    assert check_parameters(name, {}) == defaults


@pytest.mark.parametrize(
    ("name", "given_", "message"),
    [
        (
            "focal",
            {"gamma": -1},
            "loss.gamma=-1 is not allowed for focal: a finite number, at least 0",
        ),
        (
            "temperature_scaled",
            {"temperature": 0},
            "loss.temperature=0 is not allowed for temperature_scaled: a finite number, above 0",
        ),
        (
            "label_smoothing",
            {"smoothing": 1.5},
            "loss.smoothing=1.5 is not allowed for label_smoothing: a finite number in [0, 1)",
        ),
        (
            "label_smoothing",
            {"variant": "unifrm"},
            "loss.variant='unifrm' is not allowed for label_smoothing: uniform or off_target",
        ),
        (
            "temperature_scaled",
            {"learnable": 1},
            "loss.learnable=1 is not allowed for temperature_scaled: true or false",
        ),
        (
            "cross_entropy",
            {"ignore_index": 1.5},
            "loss.ignore_index=1.5 is not allowed for cross_entropy: a whole number",
        ),
        (
            "cross_entropy",
            {"weight": [1, 2, -1]},
            "loss.weight[2]=-1 is not allowed for cross_entropy: null or a list of finite numbers, "
            "one per class, at least 0",
        ),
        (
            "focal",
            {"gama": 1},
            "unknown parameter of the loss focal 'gama'; did you mean 'gamma'? "
            "(allowed: alpha, gamma, normalizer)",
        ),
        (
            "balanced_softmax",
            {"tau": 1},
            "the loss balanced_softmax has no parameters: leave out 'tau'",
        ),
    ],
)
def test_messages_are_these(name, given_, message):
    with pytest.raises(InputError) as caught:
        check_parameters(name, given_)
    assert str(caught.value) == message
    with pytest.raises(InputError) as caught:
        create_loss(name, class_counts=[3, 2, 1], **given_)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "key", "values"),
    [
        ("focal", "gamma", [True, None, "2", math.nan, math.inf, -0.1, [2.0], 10**400, 1j]),
        ("focal", "alpha", [0.25, True, "ab", [], [1], [1, -1], [1, math.nan], [1, True], {0: 1}]),
        ("focal", "alpha", [np.ones((2, 2)), np.float64(0.25), [[1, 2], [3, 4]], [1, None]]),
        ("cross_entropy", "weight", ["ones", [math.inf, 1], [1, "1"], b"12", {1, 2}]),
        ("cross_entropy", "ignore_index", [None, True, 1.0, "1", -1.5, math.nan]),
        ("cross_entropy", "label_smoothing", [1, 1.0, -0.1, None, False, math.nan]),
        ("label_smoothing", "smoothing", [1, 1.5, -1e-9, None, "0.1", np.nan]),
        ("label_smoothing", "variant", [None, 1, "Uniform", ["uniform"], np.array(["uniform"])]),
        ("temperature_scaled", "temperature", [0, -1, 0.0, math.inf, None, False]),
        ("temperature_scaled", "learnable", [0, 1, "true", None]),
        ("temperature_scaled", "rescale", [None, 2, "t", "T3"]),
        ("class_balanced", "beta", [1, 1.0, -0.1, 2, None]),
        ("class_balanced", "normalizer", ["none", None, True]),
        ("logit_adjusted", "tau", [-0.5, math.nan, None, "1"]),
    ],
)
def test_wrong_types_and_ranges_are_refused_in_one_line(name, key, values):
    for value in values:
        with pytest.raises(InputError) as caught:
            check_parameters(name, {key: value})
        assert str(caught.value).startswith(f"loss.{key}")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "key", "value", "expected"),
    [
        ("focal", "gamma", 2, 2.0),
        ("focal", "gamma", 0, 0.0),
        ("focal", "gamma", np.float32(0.5), 0.5),
        ("focal", "alpha", (1, 2), [1.0, 2.0]),
        ("focal", "alpha", np.array([1, 2]), [1.0, 2.0]),
        ("focal", "alpha", torch.tensor([1.0, 2.0]), [1.0, 2.0]),
        ("focal", "alpha", None, None),
        ("cross_entropy", "ignore_index", np.int64(255), 255),
        ("cross_entropy", "weight", [0, 1], [0.0, 1.0]),
        ("class_balanced", "beta", 0, 0.0),
        ("temperature_scaled", "learnable", True, True),
    ],
)
def test_good_values_come_back_in_their_type(name, key, value, expected):
    got = check_parameters(name, {key: value})[key]
    assert got == expected
    assert type(got) is type(expected)


def test_lists_of_a_configuration_are_lists():
    config = pytest.importorskip("omegaconf").OmegaConf.create({"weight": [1, 2.5, 0]})
    assert check_parameters("cross_entropy", config)["weight"] == [1.0, 2.5, 0.0]


def test_unknown_losses_are_refused_with_the_nearest_name():
    for call in (facts, create_loss, lambda name: check_parameters(name, {})):
        with pytest.raises(InputError, match="unknown loss 'focl'; did you mean 'focal'"):
            call("focl")
    with pytest.raises(InputError, match="unknown loss"):
        facts(["focal"])


@settings(derandomize=True, deadline=None)
@given(
    minimum=st.none() | st.floats(-5, 0),
    maximum=st.none() | st.floats(1, 5),
    open_minimum=st.booleans(),
    open_maximum=st.booleans(),
    value=st.floats() | st.integers(-9, 9) | st.sampled_from([-5.0, 0.0, 1.0, 5.0]),
)
def test_ranges_are_kept_at_their_ends(minimum, maximum, open_minimum, open_maximum, value):
    parameter = Parameter(
        name="size",
        default=0.5,
        kind="number",
        text="",
        minimum=minimum,
        maximum=maximum,
        open_minimum=open_minimum,
        open_maximum=open_maximum,
    )
    inside = math.isfinite(value)
    inside &= minimum is None or value > minimum or (value == minimum and not open_minimum)
    inside &= maximum is None or value < maximum or (value == maximum and not open_maximum)
    if inside:
        assert parameter.check(value, "x") == value
    else:
        with pytest.raises(InputError):
            parameter.check(value, "x")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    parameter=st.sampled_from([p for entry in LOSSES.values() for p in entry.parameters]),
    value=ANYTHING,
)
def test_anything_is_either_taken_or_refused_in_one_line(parameter, value):
    try:
        taken, refusal = parameter.check(value, "x"), ""
    except InputError as error:
        taken, refusal = parameter.default, str(error)
    assert "\n" not in refusal
    assert parameter.check(taken, "x") == taken
