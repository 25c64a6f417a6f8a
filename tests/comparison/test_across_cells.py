"""What a comparison says over all its cells, through `evaluate` on records that were written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vl_convert

from lossbench.comparison.across_cells import across_data, across_sentence, across_sheets
from lossbench.comparison.across_figures import across_specifications
from lossbench.comparison.compare import Comparison, evaluate
from lossbench.comparison.tables import Sheet
from lossbench.records import read_study

from .synthetic import edit_record, runs_of, write_synthetic_study

ARMS = {"cross_entropy": 0.0, "focal": 0.002, "balanced_softmax": 0.05, "ldam": -0.03}
CELLS = [
    f"{data} | exponential {factor} | convnet | 15 epochs"
    for data in ("fashion_mnist", "kmnist", "svhn")
    for factor in (10, 20, 50, 100)
]


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four arms with three seeds in twelve cells: one better, one worse, one next to nothing."""
    study = tmp_path_factory.mktemp("wide") / "study"
    return write_synthetic_study(study, ARMS, range(3), cells=CELLS, epochs=1, validation=False)


@pytest.fixture(scope="module")
def found(wide: Path) -> Comparison:
    return of(wide, margin=0.01)


@pytest.fixture
def narrow(wide: Path, tmp_path: Path) -> Path:
    """A copy of the first three cells, to be changed."""
    study = tmp_path / "study"
    for folder in wide.iterdir():
        if cell_of(folder) in CELLS[:3]:
            shutil.copytree(folder, study / folder.name)
    return study


def cell_of(folder: Path) -> str:
    return str(json.loads((folder / "record.json").read_text())["cell"])


def of(study: Path, metric: str = "test/cls/balanced_accuracy", **settings: Any) -> Comparison:
    return evaluate(
        read_study(study), baseline="cross_entropy", metric=metric, by="arm", **settings
    )


def table(sheet: Sheet) -> dict[str, dict[str, str]]:
    return {row[0]: dict(zip(sheet.head[1:], row[1:], strict=True)) for row in sheet.rows}


def rows_of(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def named(sheets: list[Sheet], start: str) -> Sheet:
    return next(sheet for sheet in sheets if sheet.caption.startswith(start))


def test_twelve_cells_are_ranked_judged_and_summed_up(found: Comparison) -> None:
    ranks, tests, aggregates, bayesian = across_sheets(found)
    means = found.runs.groupby(["context", "label"])["test/cls/balanced_accuracy"].mean().unstack()
    average = means.rank(axis=1, ascending=False).mean().sort_values()
    assert [row[0] for row in ranks.rows] == average.index.to_list()
    assert [row[1] for row in ranks.rows] == [f"{rank:.2f}" for rank in average]
    assert "Critical difference (Nemenyi, 5 %) 1.35" in ranks.caption  # 2.569 sqrt(20 / 72)
    grades = {label: row["grade"] for label, row in table(tests).items()}
    assert grades == {"balanced_softmax": "better", "focal": "cannot tell", "ldam": "worse"}
    assert table(tests)["ldam"]["cells worse"] == "12"
    cells = table(aggregates)["balanced_softmax"]
    assert cells["mean over cells"] == f"{means['balanced_softmax'].mean():.3f}"
    assert cells["median over cells"] == f"{means['balanced_softmax'].median():.3f}"
    assert bayesian.rows == (
        ("balanced_softmax", "1.00", "0.00", "0.00"),
        ("focal", "0.00", "1.00", "0.00"),
        ("ldam", "0.00", "0.00", "1.00"),
    )
    sentence = across_sentence(found)
    assert "Over 12 cells the 4 arms differ (Friedman" in sentence
    assert "better than cross_entropy is balanced_softmax" in sentence
    assert "worse than cross_entropy is ldam" in sentence
    assert "4 of fashion_mnist, 4 of kmnist and 4 of svhn) are not independent" in sentence


def test_lower_is_better_is_the_mirror_image(wide: Path, found: Comparison) -> None:
    # test/cls/balanced_accuracy is a level, test/loss/cross_entropy is 2 (0.9 - level)
    cost = of(wide, "test/loss/cross_entropy", margin=0.02)
    sheets, mirrored = across_sheets(found), across_sheets(cost)
    assert mirrored[0].rows == sheets[0].rows
    assert mirrored[3].rows == sheets[3].rows
    for label, row in table(sheets[1]).items():
        other = list(table(mirrored[1])[label].values())
        assert other[1:] == list(row.values())[1:]
        assert float(other[0]) == pytest.approx(-2 * float(next(iter(row.values()))), abs=2e-3)
    improvement = "probability of improvement on cross_entropy"
    for label, row in table(sheets[2]).items():
        assert table(mirrored[2])[label][improvement] == row[improvement]
    data, other = across_data(found), across_data(cost)
    turned = 2 * (0.9 - np.array(data["aggregates"]["interquartile_mean"]))
    assert other["aggregates"]["interquartile_mean"] == pytest.approx(turned, abs=5e-4)
    assert all(np.array(other["aggregates"]["low"]) < other["aggregates"]["interquartile_mean"])
    values = 2 * (0.9 - np.array(data["profiles"]["value"]))
    assert other["profiles"]["value"] == pytest.approx(values, abs=1e-4)
    assert np.mean(np.array(other["profiles"]["share"]) == data["profiles"]["share"]) > 0.98


def test_profiles_count_the_runs_beyond_each_value(found: Comparison) -> None:
    profiles = across_data(found)["profiles"]
    assert profiles["arm"].count(0) <= 100
    runs = found.runs[found.runs["label"] == "ldam"]["test/cls/balanced_accuracy"]
    arm = found.labels.index("ldam")
    places = [place for place, number in enumerate(profiles["arm"]) if number == arm]
    expected = [float((runs > profiles["value"][place]).mean()) for place in places]
    shares = np.array([profiles["share"][place] for place in places])
    assert np.mean(abs(shares - expected) < 1e-4) > 0.95  # values are rounded to six digits
    low = np.array([profiles["low"][place] for place in places])
    high = np.array([profiles["high"][place] for place in places])
    assert np.all(low <= shares)
    assert np.all(shares <= high)


def test_few_cells_say_what_they_cannot_show(narrow: Path) -> None:
    found = of(narrow)
    ranks, tests, _ = across_sheets(found)  # no margin, no Bayesian table
    assert "No critical difference is drawn: with 3 cells it would be 2.71" in ranks.caption
    assert "it is used from 10 cells on" in ranks.caption
    assert "groups" not in ranks.head
    assert "The Bayesian signed-rank test is left out: it needs a margin" in tests.caption
    assert "0.25 before and 0.75 after Holm" in tests.caption
    assert "marks" not in across_data(found)
    sentence = across_sentence(found)
    assert "cannot tell any from cross_entropy with so few cells" in sentence
    assert "3 of fashion_mnist" in sentence


def test_a_cell_without_a_label_takes_no_part_and_missing_seeds_are_named(narrow: Path) -> None:
    first, second, third = CELLS[:3]
    for folder in runs_of(narrow, "focal"):
        if cell_of(folder) == first:
            edit_record(folder, status="failed", reason="diverged")
    ldam = [folder for folder in runs_of(narrow, "ldam", seed=1) if cell_of(folder) == second]
    shutil.rmtree(ldam[0])
    found = of(narrow)
    sheets = across_sheets(found)
    assert named(sheets, "Cells with missing runs").rows == (
        (first, "no finished run of focal", "left out"),
        (second, "runs of ldam 2 of 3", "means over what there is"),
    )
    assert "1 cell is left out, where not all arms have a finished run." in across_sentence(found)
    for folder in narrow.iterdir():
        if cell_of(folder) == first:
            shutil.rmtree(folder)
    alone = across_sheets(of(narrow))
    assert alone[:-1] == sheets[:-1]
    for folder in narrow.iterdir():
        if cell_of(folder) == third and folder in runs_of(narrow, "ldam"):
            edit_record(folder, status="failed", reason="diverged")
    left = of(narrow)
    assert [sheet.caption for sheet in across_sheets(left)] == ["Cells with missing runs"]
    assert across_data(left) == {}
    assert across_sentence(left).endswith("finished runs of all arms are in 1 of 2 cells.")


def test_a_label_that_is_undefined_everywhere_does_not_empty_the_cells(narrow: Path) -> None:
    for folder in runs_of(narrow, "focal"):
        content = json.loads((folder / "record.json").read_text())
        edit_record(folder, metrics=content["metrics"] | {"test/cls/balanced_accuracy": None})
    sheets = across_sheets(of(narrow))
    assert "focal" not in table(sheets[0])
    missing = ("every cell", "balanced accuracy of focal", "focal is left out")
    assert sheets[-1].rows == (missing,)


def test_one_cell_has_nothing_to_say(study: Path) -> None:
    found = of(study)
    assert across_sheets(found) == []
    assert across_data(found) == {}
    assert across_sentence(found) == ""


def test_the_figures_draw_every_label_and_the_bars_of_the_ranks(found: Comparison) -> None:
    data = across_data(found)
    assert data["marks"]["row"][0] == "critical difference"
    assert len(set(data["marks"]["row"])) == len(data["marks"]["row"])
    marks = rows_of(data["marks"])
    for name, specification in across_specifications(found.facts, len(found.labels)).items():
        look = {"colour": "#004c8c", "shape": "circle", "dash": [1, 0]}
        rows = [{**row, **look, "label": found.labels[row["arm"]]} for row in rows_of(data[name])]
        svg = vl_convert.vegalite_to_svg(
            {**specification, "width": 400, "datasets": {"rows": rows, "marks": marks}}
        )
        if name == "profiles":
            assert ">share of runs above<" in svg
            continue
        heights = [svg.index(f">{found.labels[arm]}<") for arm in data[name]["arm"]]
        assert heights == sorted(heights)  # rows from the best down, in the order of the text
        if name == "ranks":
            assert svg.index(">critical difference<") < heights[0]
