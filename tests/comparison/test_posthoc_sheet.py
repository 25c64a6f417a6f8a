"""The baseline under a post-hoc method as an arm, and the table of losses by methods."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lossbench.comparison.compare import evaluate
from lossbench.comparison.posthoc import with_posthoc
from lossbench.comparison.tables import posthoc_sheet
from lossbench.errors import InputError
from lossbench.records import read_study
from lossbench.settings import POSTHOC
from tests.comparison.synthetic import edit_record, runs_of, write_synthetic_study

GAIN = 0.05
METRIC = "test/cls/balanced_accuracy"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Cross-entropy and a loss 0.03 better; logit adjustment gains 0.05 on cross-entropy only."""
    folder = write_synthetic_study(
        tmp_path / "study", {"cross_entropy": 0.0, "focal": 0.03}, range(5), noise=0.001
    )
    for arm, gain in (("cross_entropy", GAIN), ("focal", 0.0)):
        for run in runs_of(folder, arm):
            metrics = json.loads((run / "record.json").read_text())["metrics"]
            metrics["test/posthoc_logit_adjustment/balanced_accuracy"] = metrics[METRIC] + gain
            edit_record(run, metrics=metrics)
    return folder


def test_the_baseline_under_a_method_is_an_arm_that_is_paired(study: Path) -> None:
    records = with_posthoc(read_study(study), ["logit_adjustment"], "cross_entropy")
    comparison = evaluate(records, baseline="cross_entropy", metric=METRIC, by="arm")
    found = {entry.label: entry for entry in comparison.differences}
    assert set(found) == {"focal", "cross_entropy + logit adjustment"}
    assert found["cross_entropy + logit adjustment"].mean == pytest.approx(GAIN)
    assert found["cross_entropy + logit adjustment"].n == 5

    turned = evaluate(
        records, baseline="cross_entropy + logit adjustment", metric=METRIC, by="loss"
    )
    focal = next(entry for entry in turned.differences if entry.label == "focal")
    assert focal.mean == pytest.approx(found["focal"].mean - GAIN)


def test_the_table_has_a_row_per_loss_and_a_column_per_method_that_was_measured(
    study: Path,
) -> None:
    records = with_posthoc(read_study(study), ["logit_adjustment"], "cross_entropy")
    comparison = evaluate(records, baseline="cross_entropy", metric=METRIC, by="arm")
    sheet = posthoc_sheet(comparison, next(iter(comparison.ranked)))
    assert sheet is not None
    assert sheet.head == ("arm", "as trained", "logit adjustment")
    rows = {label: [float(cell.split()[0]) for cell in cells] for label, *cells in sheet.rows}
    assert set(rows) == {"cross_entropy", "focal"}
    assert rows["cross_entropy"][1] - rows["cross_entropy"][0] == pytest.approx(GAIN, abs=0.0011)
    assert rows["focal"][0] == rows["focal"][1]


def test_another_arm_with_the_loss_of_the_baseline_is_not_taken_for_it(study: Path) -> None:
    for run in runs_of(study, "focal"):
        edit_record(run, loss="cross_entropy")
    arms = {r.arm for r in with_posthoc(read_study(study), ["logit_adjustment"], "cross_entropy")}
    assert arms == {"cross_entropy", "focal", "cross_entropy + logit adjustment"}


def test_what_cannot_be_derived_is_refused(study: Path) -> None:
    records = read_study(study)
    with pytest.raises(InputError, match=r"posthoc.*temprature.*temperature"):
        with_posthoc(records, ["temprature"], "cross_entropy")
    with pytest.raises(InputError, match=r"lossbench rescore study=study"):
        with_posthoc(records, ["temperature"], "cross_entropy")
    assert len(with_posthoc(records, [], "cross_entropy")) == len(records)
    assert "temperature" in POSTHOC
