from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lossbench.comparison.aggregate import context_data
from lossbench.comparison.compare import evaluate
from lossbench.records import DamagedRecordError, Record, read_study

from .synthetic import edit_record, runs_of, write_synthetic_study

METRIC = "test/cls/balanced_accuracy"
ARMS = ["cross_entropy", "balanced_softmax", "focal"]  # the order of labels: baseline, then names


def data_of(study: Path) -> tuple[list[Record], dict[str, Any]]:
    records = read_study(study)
    found = evaluate(records, baseline="cross_entropy", metric=METRIC, by="arm")
    assert found.labels == ARMS
    (context,) = found.ranked
    return records, context_data(found, context)


def line_of(
    losses: dict[str, list], arm: int, split: str, group: str = "all", outcome: str = "all"
) -> np.ndarray:
    """One histogram of the page on the full grid of 102 bins."""
    rows = zip(*(losses[name] for name in ("arm", "split", "group", "outcome")), strict=True)
    place = list(rows).index((arm, split, group, outcome))
    full = np.zeros(102)
    start, values = losses["first"][place], losses["values"][place]
    full[start : start + len(values)] = values
    return full


def test_histograms_are_fractions_summed_over_seeds(study: Path) -> None:
    records, data = data_of(study)
    for arm, split in ((0, "test"), (1, "train"), (2, "val")):
        counts = np.zeros(102)
        for record in records:
            if record.arm == ARMS[arm]:
                counts += record.arrays()[f"histogram/cross_entropy/{split}"].sum(axis=0)
        found = line_of(data["losses"], arm, split)
        assert found == pytest.approx(counts / counts.sum(), rel=1e-3, abs=1e-12)
        assert found.sum() == pytest.approx(1, abs=1e-3)


def test_train_is_reweighted_to_the_test_prior(study: Path) -> None:
    prior = np.arange(10, 0, -1) / 55
    for folder in study.iterdir():
        priors = {"train": [0.1] * 10, "val": None, "test": prior.tolist()}
        edit_record(folder, priors=priors)
    records, data = data_of(study)
    counts = sum(
        record.arrays()["histogram/cross_entropy/train"]
        for record in records
        if record.arm == "focal"
    )
    expected = np.zeros(102)
    for label in range(10):
        expected += prior[label] * counts[label] / counts[label].sum()
    assert line_of(data["losses"], 2, "reweighted") == pytest.approx(expected, rel=1e-3, abs=1e-12)


def test_equal_priors_need_no_reweighting(study: Path) -> None:
    for arm in ARMS:
        for folder in runs_of(study, arm):
            edit_record(folder, priors={"train": [0.1] * 10, "val": None, "test": [0.1] * 10})
    _, data = data_of(study)
    assert "reweighted" not in data["losses"]["split"]


def test_rules_stand_at_log_two_and_log_classes(study: Path) -> None:
    _, data = data_of(study)
    assert data["marks"]["half"] == pytest.approx(np.log10(np.log(2)), abs=1e-4)
    assert data["marks"]["chance"] == pytest.approx(np.log10(np.log(10)), abs=1e-4)


def test_curves_are_mean_and_error_over_seeds(study: Path) -> None:
    records, data = data_of(study)
    tag, words = "val/loss/cross_entropy", "validation cross-entropy"
    runs = [pd.DataFrame(r.history()).set_index("epoch")[tag] for r in records if r.arm == "focal"]
    curves = data["curves"]
    names = ("arm", "curve", "epoch", "mean", "low", "high")
    rows = zip(*(curves[name] for name in names), strict=True)
    found = {row[2]: row[3:] for row in rows if row[:2] == (2, words)}
    assert list(found) == list(range(1, 16))
    for epoch, (mean, low, high) in found.items():
        values = [run[epoch] for run in runs]
        error = np.std(values, ddof=1) / np.sqrt(5)
        assert mean == pytest.approx(np.mean(values), rel=1e-3)
        assert high - mean == pytest.approx(error, rel=0.05)
        assert mean - low == pytest.approx(error, rel=0.05)


def test_curves_of_unequal_length_and_holes(study: Path) -> None:
    short, *_ = runs_of(study, "focal", 0)
    short.joinpath("history.csv").write_text(
        "epoch,train/running/cross_entropy\n1,5.0\n2,\n", encoding="utf-8"
    )
    records, data = data_of(study)
    others = [pd.DataFrame(r.history()) for r in records if r.arm == "focal" and r.seed != 0]
    first = [history["train/running/cross_entropy"][0] for history in others]
    curves = data["curves"]
    place = curves["arm"].index(2)
    assert curves["mean"][place] == pytest.approx(np.mean([5.0, *first]), rel=1e-3)
    last = [history["train/running/cross_entropy"].iloc[-1] for history in others]
    assert curves["mean"][place + 14] == pytest.approx(np.mean(last), rel=1e-3)


def test_long_curves_keep_their_ends(tmp_path: Path) -> None:
    write_synthetic_study(tmp_path, dict.fromkeys(ARMS, 0.0), range(2), epochs=300)
    _, data = data_of(tmp_path)
    epochs = data["curves"]["epoch"][:60]
    assert (epochs[0], epochs[-1], len(set(epochs))) == (1, 300, 60)


def test_recall_is_ordered_by_training_count(study: Path) -> None:
    counts = [1, 2, 3, 4, 5, 10, 9, 8, 7, 6]
    for arm in ARMS:
        for folder in runs_of(study, arm):
            edit_record(folder, class_counts=counts)
    records, data = data_of(study)
    recall = data["recall"]
    assert recall["class"][:3] == ["class 5 (10)", "class 6 (9)", "class 7 (8)"]
    values = [r.metrics["test/recall/class 5"] for r in records if r.arm == "focal"]
    place = recall["arm"].index(2)
    assert recall["recall"][place] == pytest.approx(np.mean(values), rel=1e-3)


def test_recall_of_a_class_with_a_slash_in_its_name(study: Path) -> None:
    for arm in ARMS:
        for folder in runs_of(study, arm):
            record = json.loads((folder / "record.json").read_text())
            record["class_names"][0] = "T-shirt/top"
            found = record["metrics"]
            found["test/recall/T-shirt_top"] = found.pop("test/recall/class 0")
            edit_record(folder, class_names=record["class_names"], metrics=found)
    _, data = data_of(study)
    assert data["recall"]["class"][0] == "T-shirt/top (1000)"


def test_many_classes_are_put_together(tmp_path: Path) -> None:
    write_synthetic_study(tmp_path, dict.fromkeys(ARMS, 0.0), range(2), classes=100)
    records, data = data_of(tmp_path)
    recall = data["recall"]
    assert len(recall["class"]) == 3 * 30
    assert recall["class"][0] == f"4 classes (1000 to {records[0].class_counts[3]})"


def test_reliability_pools_seeds_by_count(study: Path) -> None:
    records, data = data_of(study)
    reliability = data["reliability"]
    count, right, sure = np.zeros(15), np.zeros(15), np.zeros(15)
    for record in records:
        if record.arm == "focal":
            for place, (n, confidence, accuracy) in enumerate(
                record.arrays()["reliability/test/adjusted"]
            ):
                if n:
                    count[place] += n
                    sure[place] += n * confidence
                    right[place] += n * accuracy
    rows = zip(reliability["arm"], reliability["view"], strict=True)
    places = [i for i, row in enumerate(rows) if row == (2, "adjusted")]
    filled = count > 0
    for name, total in (("confidence", sure), ("accuracy", right)):
        found = [reliability[name][i] for i in places]
        assert found == pytest.approx(total[filled] / count[filled], rel=1e-3)
    assert sum(reliability["share"][i] for i in places) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", ["arrays.npz", "history.csv"])
def test_a_lost_file_is_damage_and_named(study: Path, name: str) -> None:
    records = read_study(study)
    (records[0].folder / name).unlink()
    found = evaluate(records, baseline="cross_entropy", metric=METRIC, by="arm")
    (context,) = found.ranked
    with pytest.raises(DamagedRecordError, match=name) as error:
        context_data(found, context)
    assert error.value.folder == records[0].folder
