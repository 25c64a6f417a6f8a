"""What compare says of tuning, against numbers worked out from the records by hand."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lossbench.cli import main
from lossbench.comparison.aggregate import context_data
from lossbench.comparison.compare import Comparison, evaluate
from lossbench.comparison.selection import selected_folders, selected_runs, selection_sheet
from lossbench.comparison.tables import Sheet
from lossbench.comparison.tuning import best_so_far, expected_best, read_tuning
from lossbench.comparison.tuning_effect import tuning_sheets
from lossbench.records import read_study, studies
from lossbench.sweeps.status import study_states

from .synthetic import runs_of, write_synthetic_study, write_tuning

ARMS = {
    "cross_entropy": 0.0, "cross_entropy (tuned)": 0.03, "focal": 0.01, "focal (tuned)": 0.02,
    "ldam": -0.02, "ldam (tuned)": 0.06, "mae": -0.1,
}  # fmt: skip
TRIALS: dict[str, list[float | None]] = {
    "cross_entropy": [0.70, 0.66, 0.72],
    "focal": [0.69, None, 0.74],
    "ldam": [0.66, 0.76, 0.60],
}
TAG = "test/cls/balanced_accuracy"


def tuned_study(
    folder: Path,
    trials: Mapping[str, Sequence[float | None]] = TRIALS,
    arms: Mapping[str, float] = ARMS,
    **choices: object,
) -> Path:
    """Five seeds of each arm, and what tuning left."""
    write_synthetic_study(folder, arms, range(5), noise=0.002)
    write_tuning(folder, trials, **choices)  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three arms tuned with three trials, one left as it is; nobody writes to it."""
    return tuned_study(tmp_path_factory.mktemp("tuning") / "s")


def compared(study: Path, baseline: str = "cross_entropy", metric: str = TAG) -> Comparison:
    records, selection = selected_runs(study)
    return evaluate(records, baseline=baseline, metric=metric, by="arm", selection=selection)


def tables(found: Comparison) -> list[Sheet]:
    (context,) = found.ranked
    return tuning_sheets(found, context)


def said(found: Comparison) -> str:
    (context,) = found.ranked
    return found.paragraph(context)


def values(study: Path, arm: str, seeds: Sequence[int] = range(5)) -> np.ndarray:
    """The metric of the runs of ``arm``, straight from their records."""
    folders = [runs_of(study, arm, seed)[0] for seed in seeds]
    return np.array([json.loads((f / "record.json").read_text())["metrics"][TAG] for f in folders])


def interval(differences: np.ndarray) -> str:
    low, high = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    return f"{low:+.3f} to {high:+.3f}"


@pytest.mark.parametrize("trial_seeds", [(1_000_000,), (7, 4, 3)])
def test_the_table_holds_means_and_paired_differences_of_unseen_seeds(
    tmp_path: Path, trial_seeds: tuple[int, ...]
) -> None:
    study = tuned_study(tmp_path / "s", trial_seeds=trial_seeds)
    seeds = [seed for seed in range(5) if seed not in trial_seeds]
    sheet, order = tables(compared(study))
    rows = {row[0]: dict(zip(sheet.head, row, strict=True)) for row in sheet.rows}
    assert list(rows) == list(TRIALS)
    for arm in TRIALS:
        default, tuned = (values(study, name, seeds) for name in (arm, f"{arm} (tuned)"))
        row = rows[arm]
        for cell, numbers in ((row["defaults ↑"], default), (row["tuned ↑"], tuned)):
            assert cell == f"{numbers.mean():.3f} ± {stats.sem(numbers):.3f}"
        assert row["tuned minus defaults"] == f"{(tuned - default).mean():+.3f}"
        assert row["95 % t-interval"] == interval(tuned - default)
        assert row["paired seeds"] == str(len(seeds))
    best = {arm: row["its validation value"] for arm, row in rows.items()}
    assert best == {"cross_entropy": "0.720", "focal": "0.740", "ldam": "0.760"}
    assert rows["ldam"]["trial chosen"] == "1"
    assert rows["ldam"]["its parameters"] == "loss.gamma=3, optimizer.lr=0.05"
    assert [row["failed"] for row in rows.values()] == ["0", "1", "0"]
    ranked = [(row[0], row[3], row[6]) for row in order.rows]
    assert ranked == [("ldam", "3", "1"), ("cross_entropy", "2", "2"), ("focal", "1", "3")]
    base = values(study, "cross_entropy (tuned)", seeds)
    gap = values(study, "ldam (tuned)", seeds) - base
    assert order.rows[0][4:6] == (f"{gap.mean():+.3f}", interval(gap))


def test_the_paragraph_says_what_tuning_changed(study: Path) -> None:
    gains = [values(study, f"{arm} (tuned)") - values(study, arm) for arm in TRIALS]
    sizes = [f"{gain.mean():+.3f} for {arm}" for arm, gain in zip(TRIALS, gains, strict=True)]
    text = said(compared(study))
    assert (
        "Tuning with 3 trials each on balanced validation (oracle) changes balanced accuracy (test "
        f"set) by {sizes[0]} (95 % t-interval {interval(gains[0])}), {sizes[1]} "
        f"({interval(gains[1])}) and {sizes[2]} ({interval(gains[2])}); described, not judged."
    ) in text
    assert "The best mean is focal's with defaults, ldam's when each is tuned." in text


def test_the_paragraph_of_one_arm_of_defaults_that_won_and_of_none_trained(tmp_path: Path) -> None:
    one = tuned_study(tmp_path / "one", {"focal": [0.7, 0.8]}, prior="training")
    text = said(compared(one))
    assert "Tuning with 2 trials on validation (training prior) changes balanced accuracy" in text
    assert "The best mean is" not in text  # the baseline was not tuned
    won = {arm: [0.8, 0.7] for arm in ("cross_entropy", "focal")}
    plain = {"cross_entropy": 0.0, "focal": 0.01}
    kept = compared(tuned_study(tmp_path / "kept", won, plain), baseline="cross_entropy (tuned)")
    assert kept.baseline == "cross_entropy"  # that is what the tuned one is
    text = said(kept)
    assert "changed nothing: the defaults of cross_entropy and focal won." in text
    assert "Not like with like" not in text
    row = tables(kept)[0].rows[0]
    assert row[1] == row[2]
    assert row[3:8] == ("–", "–", "–", "0", "the defaults")
    waiting = {"cross_entropy": [0.7, 0.8], "focal": [None, None]}
    text = said(compared(tuned_study(tmp_path / "waiting", waiting, plain)))
    assert (
        "Tuned with 2 trials each on balanced validation (oracle); no tuned arm is paired" in text
    )
    assert "Not like with like" not in text  # nothing but defaults is compared
    untuned = write_synthetic_study(tmp_path / "untuned", plain, range(3))
    assert "uned" not in said(compared(untuned))
    assert tables(compared(untuned)) == []


def test_unequal_budgets_are_named_whichever_side_was_tuned(study: Path, tmp_path: Path) -> None:
    text = said(compared(study))
    assert (
        "Not like with like: ldam (tuned), cross_entropy (tuned) and focal (tuned) were tuned with "
        "3 trials and cross_entropy was not tuned. "
        'Tuned ones are compared with baseline="cross_entropy (tuned)".'
    ) in text
    text = said(compared(study, baseline="cross_entropy (tuned)"))
    assert "Not like with like: focal, cross_entropy, ldam and mae were not tuned and" in text
    assert 'Defaults are compared with baseline="cross_entropy".' in text
    alike = {name: ARMS[name] for name in ("cross_entropy (tuned)", "focal (tuned)")}
    fair = tuned_study(tmp_path / "fair", TRIALS, alike)
    assert "Not like" not in said(compared(fair, baseline="cross_entropy (tuned)"))
    more = {**TRIALS, "focal": [0.6, 0.5, 0.7, 0.8]}
    uneven = tuned_study(tmp_path / "uneven", more, alike)
    assert (
        "focal (tuned) was tuned with 4 trials and cross_entropy (tuned) was tuned with 3 trials"
    ) in said(compared(uneven, baseline="cross_entropy (tuned)"))


def test_seeds_that_chose_parameters_are_named(tmp_path: Path) -> None:
    study = tuned_study(tmp_path / "s", trial_seeds=(3, 1, 9))
    assert (
        "The parameters of ldam (tuned), cross_entropy (tuned) and focal (tuned) were chosen on "
        "seeds 1 and 3"
    ) in said(compared(study))


@pytest.mark.parametrize("defaults_won", [False, True])
def test_runs_of_a_choice_that_a_larger_budget_changed_are_left_out(
    tmp_path: Path, defaults_won: bool
) -> None:
    chosen, former = {"loss": {"gamma": 4.0}}, {"loss": {"gamma": 9.0}}
    folder = tmp_path / "s"
    kinds = {"focal (tuned)": {**chosen, "optimizer": {"lr": 0.05}}}
    arms = {"cross_entropy": 0.0, "focal": 0.0, "focal (tuned)": 0.02}
    write_synthetic_study(folder, arms, range(4), configure=lambda arm: kinds.get(arm, {}))
    write_synthetic_study(
        tmp_path / "former", {"focal (tuned)": 0.09}, range(4),
        cells=["fashion_mnist | exponential 100 | convnet | 15 epochs"],
        configure=lambda arm: {**former, "optimizer": {"lr": 0.05}},
    )  # fmt: skip
    expected = values(folder, "focal (tuned)", range(4)) - values(folder, "focal", range(4))
    for run in (tmp_path / "former").iterdir():
        content = json.loads((run / "record.json").read_text())
        changes = {"identity": run.name, "configuration": "another", "study": "s"}
        (run / "record.json").write_text(json.dumps(content | changes))
        run.rename(folder / f"former-{run.name}")
    write_tuning(folder, {"focal": [0.8, 0.6, 0.7] if defaults_won else [0.7, 0.6, 0.8]})
    found = compared(folder)
    (row,) = tables(found)[0].rows
    if defaults_won:
        assert set(found.labels) == {"cross_entropy", "focal"}
    else:
        assert set(found.labels) == {"cross_entropy", "focal", "focal (tuned)"}
        assert row[3] == f"{expected.mean():+.3f}"
    plan = [
        {"folder": name, "arm": "focal (tuned)", "overrides": ["arm='focal (tuned)'", value]}
        for name, value in {"now": "loss.gamma=4.0", "then": "loss.gamma=9.0"}.items()
    ]
    (folder / "plan.json").write_text(json.dumps({"runs": [*plan, {"folder": "x", "arm": "x"}]}))
    expected_plan = ["x"] if defaults_won else ["now", "x"]
    assert selected_folders(folder, found.tuning) == expected_plan
    audit = {row[0]: row[1] for row in selection_sheet(found, range(4)).rows}
    number = 8 if defaults_won else 4
    assert audit["runs left out"].startswith(f"{number}: ")


def test_the_budget_curve_is_that_of_the_trials(tmp_path: Path) -> None:
    study = tuned_study(tmp_path / "s", arms={"cross_entropy": 0.0, "focal (tuned)": 0.0})
    found = compared(study)
    (context,) = found.ranked
    curve = context_data(found, context)["budget"]
    rows = [dict(zip(curve, row, strict=True)) for row in zip(*curve.values(), strict=True)]
    focal = [row for row in rows if found.labels[row["arm"]] == "focal (tuned)"]
    run = [(r["trial"], r["value"], r["best"], r["mark"]) for r in focal if r["view"] == "as run"]
    assert run == [(0, 0.69, 0.69, ""), (1, None, 0.69, "failed"), (2, 0.74, 0.74, "chosen")]
    # one of the two draws, or both
    mean = [row["best"] for row in focal if row["view"] != "as run"]
    assert mean == [0.69, pytest.approx((0.69 + 0.74) / 2), 0.74]
    write_tuning(study, TRIALS, sampler="tpe")
    assert set(context_data(compared(study), context)["budget"]["view"]) == {"as run"}


@pytest.mark.parametrize("first", [0.3, 0.9, math.nan])
def test_the_expected_best_is_the_mean_over_all_orders(first: float) -> None:
    drawn = [0.5, 0.2, math.nan, 0.8, 0.2]
    brute = np.mean(
        [best_so_far([first, *order]) for order in itertools.permutations(drawn)], axis=0
    )
    np.testing.assert_allclose(expected_best([first, *drawn]), brute, rtol=1e-12)
    assert best_so_far([math.nan, 0.2, math.nan, 0.1, 0.4])[1:] == [0.2, 0.2, 0.2, 0.4]


def test_a_lower_objective_is_better_where_the_file_says_so(tmp_path: Path) -> None:
    arms = {"cross_entropy": 0.0, "focal (tuned)": 0.0}
    study = tuned_study(tmp_path / "s", {"focal": [0.7, 0.6, 0.8]}, arms)
    path = study / "tuning" / "tuning.json"
    content = json.loads(path.read_text())
    content |= {"objective": "val/loss/cross_entropy", "higher_is_better": False}
    path.write_text(json.dumps(content))
    found = compared(study)
    (context,) = found.ranked
    curve = context_data(found, context)["budget"]
    assert curve["best"] == [0.7, 0.6, 0.6, 0.7, pytest.approx(0.65), 0.6]


DAMAGE = {
    "no JSON": lambda text: text[:80],
    "another schema": lambda text: text.replace('"schema": 1', '"schema": 9'),
    "no arms": lambda text: text.replace('"arms"', '"legs"'),
    "a list": lambda text: "[]",
    "a word for a value": lambda text: text.replace("0.69", '"much"'),
    "a choice of no trial": lambda text: text.replace('n": {"number": 2', 'n": {"number": 99'),
    "an unknown objective": lambda text: text.replace("val/cls/balanced_accuracy", "val/cls/luck"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named_in_one_line_and_stops_nothing(
    tmp_path: Path,
    damage: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    study = write_synthetic_study(tmp_path / "runs" / "s", {"cross_entropy": 0, "focal": 0}, [0, 1])
    path = write_tuning(study, TRIALS)
    text = path.read_text()
    path.write_text(DAMAGE[damage](text))
    assert path.read_text() != text
    if damage == "no JSON":
        monkeypatch.chdir(tmp_path)
        assert main(["compare", "study=s"]) == 0
        (warning,) = [each.getMessage() for each in caplog.records]
        assert "tuning.json cannot be read" in warning
        assert "\n" not in warning
        assert "cannot be read" in (study / "comparison" / "results.md").read_text()
    assert read_tuning(study).arms == {}
    assert str(path) in read_tuning(study).problem
    assert "\n" not in read_tuning(study).problem


def test_trials_are_no_runs_of_the_study(tmp_path: Path) -> None:
    study = write_synthetic_study(tmp_path / "s", {"cross_entropy": 0.0}, range(2))
    write_tuning(study, TRIALS, ended="2026-01-01T12:00:00+00:00")
    assert len(list((study / "tuning").glob("*/record.json"))) == 9
    assert len(read_study(study)) == 2
    assert [path.name for path in studies(tmp_path)] == ["s"]
    assert len(study_states(study)) == 2
