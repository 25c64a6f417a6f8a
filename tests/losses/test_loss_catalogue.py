"""The catalogue: facts, the check of parameters, and no torch."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench.errors import InputError
from lossbench.losses import create_loss, list_losses
from lossbench.losses.catalogue import LOSSES, check_parameters, facts
from lossbench.losses.display import (
    MARKERS,
    describe,
    docstring,
    readme_table,
    short_source,
    table,
    with_table,
)
from lossbench.parameters import Parameter

torch.set_num_threads(1)

# cross_entropy with a weight or a penalty, and logit_adjusted with τ = 1
WITHOUT_A_CORE = {"mmce", "inverse_frequency", "class_balanced", "balanced_softmax"}
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
    core = getattr(import_module(module), name, None)
    assert (core is None) == (name in WITHOUT_A_CORE)
    assert core is None or inspect.getdoc(core)
    assert "class_counts" in inspect.signature(loss_class).parameters
    assert about.needs <= {"class_counts", "epoch", "features", "batch", "state"}
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


def test_ignore_index_is_an_argument_of_every_loss_and_a_parameter_of_one():
    with pytest.raises(InputError) as caught:
        check_parameters("cross_entropy", {"ignore_index": 1.5})
    message = "loss.ignore_index=1.5 is not allowed for cross_entropy: a whole number"
    assert str(caught.value) == message
    for name in ("cross_entropy", "mae"):
        with pytest.raises(InputError, match=r"ignore_index=1\.5 is not allowed: a whole number"):
            create_loss(name, ignore_index=1.5)


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


# what is shown of the facts


def test_the_table_fits_a_terminal_and_names_every_loss_under_its_family():
    lines = table().splitlines()
    assert max(map(len, lines)) <= 100
    family, found = None, []
    for line in lines[1:-1]:
        if line and not line.startswith(" "):
            family = line
        elif line:
            about = facts(line.split()[0])
            found.append(about.key)
            assert about.family == family
            assert line.endswith(short_source(about.source)), "a source is cut off"
            for need in about.needs:
                assert f" {need} " in line
    assert found == list_losses()
    assert lines[-1].startswith(f"{len(LOSSES)} losses.")


@pytest.mark.parametrize(
    ("source", "short"),
    [
        ("Lin et al., Focal Loss for Dense Object Detection, ICCV 2017", "Lin et al., ICCV 2017"),
        ("Good, Rational Decisions, JRSS B 1952 (the logarithmic, old score)", "Good, JRSS B 1952"),
        ("A et al., One, CVPR 2018; A et al., Two, SPL 2018", "A et al., CVPR 2018, SPL 2018"),
        ("folklore", "folklore"),
    ],
)
def test_a_source_is_shortened_to_authors_and_year(source, short):
    assert short_source(source) == short


@EVERY_LOSS
def test_a_short_source_keeps_its_years(name):
    years = re.findall(r"\b(?:19|20)\d\d\b", re.sub(r"\(.*?\)", "", facts(name).source))
    assert years
    for year in years:
        assert year in short_source(facts(name).source)


def unwrapped(text: str) -> str:
    return " ".join(text.split())


@EVERY_LOSS
@pytest.mark.parametrize("render", [describe, docstring])
def test_all_that_is_known_of_a_loss_is_shown(name, render):
    text, about = render(name), facts(name)
    assert max(map(len, text.splitlines())) <= 100
    shown = unwrapped(text)
    for fact in (about.source, about.formula, about.summary, about.helps, about.fails):
        assert unwrapped(fact) in shown
    for need in about.needs:
        assert f"{need} (" in shown
    for parameter in about.parameters:
        assert re.search(rf"(loss\.|``){parameter.name}\b", shown)
        assert unwrapped(parameter.text) in shown
        assert parameter.allowed in shown
        words = {"None": "null", "True": "true", "False": "false"}
        default = str(parameter.default)
        assert f"Default {words.get(default, default)};" in shown


def test_a_docstring_says_what_is_raised():
    raised = unwrapped(docstring("balanced_softmax"))
    assert raised.startswith(facts("balanced_softmax").summary)
    assert "Raises `InputError` for shapes, dtypes and target values" in raised
    assert "class counts that are missing or not positive integers." in raised
    assert "a parameter out of its range" not in raised
    assert "a parameter out of its range." in unwrapped(docstring("focal"))
    assert "class counts" not in docstring("focal")


def test_the_readme_has_the_table_of_the_catalogue():
    page = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert page == with_table(page), "run: python -m lossbench.losses.display README.md"


def test_the_readme_table_has_a_row_of_four_cells_for_each_loss():
    header, rule, *rows = readme_table().splitlines()
    assert header == "| loss | family | formula | source |"
    assert rule == "| --- | --- | --- | --- |"
    for row, about in zip(rows, LOSSES.values(), strict=True):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row)]
        formula = f"`{about.formula}`"
        assert cells == ["", f"`{about.key}`", about.family, formula.replace("|", r"\|"),
                         about.source, ""]  # fmt: skip


def test_the_readme_is_written_anew_between_its_markers():
    start, end = MARKERS
    page = f"before\n{start}\nold\n{end}\nafter\n"
    assert with_table(page) == f"before\n{start}\n{readme_table()}\n{end}\nafter\n"
    for broken in ("no markers", f"{end} {start}", f"{start} {end} {start}", start):
        with pytest.raises(InputError, match="must hold"):
            with_table(broken)


def test_the_readme_is_written_by_its_command(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("\n".join(MARKERS), encoding="utf-8")
    command = [sys.executable, "-m", "lossbench.losses.display", str(page)]
    assert subprocess.run(command, check=False).returncode == 0
    assert page.read_text(encoding="utf-8").count("\n| `") == len(LOSSES)
