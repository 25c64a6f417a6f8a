"""The tables beside the verdict: what seeds can show, other assumptions, test examples."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lossbench.comparison.tables import (
    Sheet,
    difference_sheet,
    example_uncertainty_sheet,
    label_noise_sheet,
    overfitting_sheet,
    resolution_sheet,
    sensitivity_sheet,
)

from .test_paragraph import CLEAR, METRIC, NOTHING, WIDE, judged, seeds_by_scipy, study, t_interval

LEVEL = 0.05 / 3
ARMS = {"good": CLEAR, "wide": WIDE, "same": NOTHING}


def cells_of(sheet: Sheet | None) -> dict[str, dict[str, str]]:
    """The cells by label and head."""
    assert sheet is not None
    return {row[0]: dict(zip(sheet.head, row, strict=True)) for row in sheet.rows}


def test_what_the_seeds_can_show(tmp_path: Path) -> None:
    records = study(tmp_path, ARMS)
    found = judged(records, 0.01)
    context = next(iter(found.ranked))
    rows = cells_of(resolution_sheet(found, context))
    for arm, values in ARMS.items():
        row = rows[arm]
        assert row["95 % simultaneous interval"] == t_interval(values, LEVEL)
        assert row["seeds needed for 0.01"] == str(seeds_by_scipy(values, 0.01, LEVEL))
        assert float(row["p"].strip("< ")) == pytest.approx(
            stats.ttest_1samp(values, 0).pvalue, rel=0.05, abs=1e-4
        )
        shown = float(row["smallest difference shown"])
        assert seeds_by_scipy(values, shown * 1.2, LEVEL) <= 5
        assert seeds_by_scipy(values, shown * 0.8, LEVEL) > 5
    assert rows["same"]["equivalence p"] != rows["good"]["equivalence p"] == "1"
    without = resolution_sheet(judged(records), context)
    assert without is not None
    assert "equivalence p" not in without.head
    assert cells_of(without)["same"]["seeds needed for the size seen"] == "> 1,000"
    verdicts = {
        arm: row["verdict"] for arm, row in cells_of(difference_sheet(found, context)).items()
    }
    assert verdicts == {
        "good": "better",
        "wide": "cannot tell",
        "same": "no relevant difference",
    }


def test_other_assumptions_stand_beside_the_verdict(tmp_path: Path) -> None:
    found = judged(study(tmp_path / "five", ARMS))
    sheet = sensitivity_sheet(found, next(iter(found.ranked)))
    assert sheet is not None
    assert "do not make it" in sheet.caption
    assert not any("bootstrap" in head for head in sheet.head)  # five seeds
    for arm, row in cells_of(sheet).items():
        exact = stats.wilcoxon(ARMS[arm], method="exact").pvalue
        assert float(row["Wilcoxon p"]) == pytest.approx(exact, rel=0.05)
        won = sum(value > 0 for value in ARMS[arm])
        ends = stats.binomtest(won, 5).proportion_ci(method="exact")
        expected = f"{won / 5:.3f} ({ends.low:.3f} to {ends.high:.3f})"
        assert row["probability of improvement"] == expected
    nine = {"good": (*CLEAR, 0.05, 0.06, 0.07, 0.055)}
    found = judged(study(tmp_path / "nine", nine))
    row = cells_of(sensitivity_sheet(found, next(iter(found.ranked))))["good"]
    low, high = map(float, row["95 % bootstrap interval"].split(" to "))
    assert 0.05 < low < np.mean(nine["good"]) < high < 0.07


def test_test_examples_are_a_table_of_their_own(tmp_path: Path) -> None:
    records = study(tmp_path, {"good": CLEAR, "none": NOTHING})
    assert example_uncertainty_sheet(judged(records), "a | b | c | d") is None
    changed = []
    for record in records:
        half = 0.01 + 0.002 * record.seed
        ends = {f"{METRIC}_low": 0.7 - half, f"{METRIC}_high": 0.7 + half}
        more = {} if record.arm == "none" else ends
        changed.append(dataclasses.replace(record, metrics=record.metrics | more))
    found = judged(changed)
    rows = cells_of(example_uncertainty_sheet(found, "a | b | c | d"))
    assert set(rows) == {"cross_entropy", "good"}
    assert rows["good"]["95 % over test examples, one run"] == "± 0.014"
    levels = [0.7 + 0.01 * seed + value for seed, value in enumerate(CLEAR)]
    over_seeds = stats.t.ppf(0.975, 4) * stats.sem(levels)
    assert rows["good"]["95 % over seeds, their mean"] == f"± {over_seeds:.3f}"
    other = judged(changed, metric="test/cls/accuracy")
    assert example_uncertainty_sheet(other, "a | b | c | d") is None


def test_over_fitting_and_label_noise_are_shown_where_they_were_measured(tmp_path: Path) -> None:
    records = study(tmp_path, {"good": CLEAR})
    found = judged(records)
    assert overfitting_sheet(found, "a | b | c | d") is None
    assert label_noise_sheet(found, "a | b | c | d") is None
    tags = {"test/overfitting/mean_gap": 0.4, "train/label_noise/recall": 0.9}
    found = judged([dataclasses.replace(r, metrics=r.metrics | tags) for r in records])
    gap = cells_of(overfitting_sheet(found, "a | b | c | d"))["good"]
    assert gap["mean gap of test to training losses ↓"] == "0.400 ± 0.000"
    assert cells_of(label_noise_sheet(found, "a | b | c | d"))["good"]["recall of flagged labels ↑"]
