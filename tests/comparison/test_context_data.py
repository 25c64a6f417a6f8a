"""The data of the figures against slow sums over the arrays and metrics of the records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from lossbench.comparison.aggregate import context_data
from lossbench.comparison.captions import captions
from lossbench.comparison.compare import Comparison, evaluate
from lossbench.comparison.posthoc import with_posthoc
from lossbench.comparison.report import _content
from lossbench.records import Record, read_study

from .synthetic import edit_record, runs_of, write_synthetic_study

METRIC = "test/cls/balanced_accuracy"
BASELINE, BEST, DERIVED = "cross_entropy", "balanced_softmax", "cross_entropy + logit adjustment"
ARMS = {BASELINE: 0.0, "focal": 0.01, BEST: 0.06}
GROUPS = {"all": range(10), "head": range(3), "mid": range(3, 7), "tail": range(7, 10)}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Three arms with five seeds and one post-hoc arm; one run of an arm has no calibration."""
    study = tmp_path_factory.mktemp("data") / "study"
    write_synthetic_study(study, ARMS, range(5), methods=["logit_adjustment"])
    (run,) = runs_of(study, "focal", 2)
    metrics = next(r.metrics for r in read_study(study) if r.folder == run)
    edit_record(run, metrics=metrics | {"test/cal/brier_score": None})
    records = with_posthoc(read_study(study), ["logit_adjustment"], BASELINE)
    return evaluate(records, baseline=BASELINE, metric=METRIC, by="arm")


@pytest.fixture(scope="module")
def data(found: Comparison) -> dict[str, Any]:
    (context,) = found.ranked
    return context_data(found, context)


def rows(columns: dict[str, list]) -> Iterator[dict[str, Any]]:
    for row in zip(*columns.values(), strict=True):
        yield dict(zip(columns, row, strict=True))


def runs(found: Comparison, label: str) -> list[Record]:
    return [record for record in found.records if record.arm == label]


def four(value: float) -> Any:
    """Equal to four significant digits."""
    return pytest.approx(value, rel=1e-3, abs=1e-12)


def test_losses_by_split_group_and_outcome(found: Comparison, data: dict[str, Any]) -> None:
    lines = [row for row in rows(data["losses"]) if row["split"] != "reweighted"]
    keys = [(row["arm"], row["split"], row["group"], row["outcome"]) for row in lines]
    assert len(set(keys)) == len(keys) == 3 * 3 * 4 * 3  # the post-hoc arm has none
    stored = {label: [record.arrays() for record in runs(found, label)] for label in ARMS}
    for row in lines:
        counts = np.zeros(102)
        for arrays in stored[found.labels[row["arm"]]]:
            everyone = arrays[f"histogram/cross_entropy/{row['split']}"]
            wrong = arrays[f"histogram/cross_entropy_of_errors/{row['split']}"]
            chosen = {"all": everyone, "wrong": wrong, "correct": everyone - wrong}[row["outcome"]]
            for label in GROUPS[row["group"]]:
                counts += chosen[label]
        assert row["samples"] == counts.sum()
        expected = counts / counts.sum()
        values = np.zeros(102)
        values[row["first"] : row["first"] + len(row["values"])] = row["values"]
        assert values == pytest.approx(expected, rel=1e-3, abs=1e-12)


def test_groups_follow_each_run_and_older_runs_lack_outcomes(tmp_path: Path) -> None:
    study = write_synthetic_study(tmp_path / "study", {BASELINE: 0.0, "focal": 0.0}, range(2))
    for folder in runs_of(study, "focal", 1):  # here the last class is the largest
        edit_record(folder, class_counts=list(range(1, 11)))
    (old,) = runs_of(study, BASELINE, 0)
    with np.load(old / "arrays.npz") as stored:
        kept = {name: stored[name] for name in stored.files if "of_errors" not in name}
    np.savez(old / "arrays.npz", **kept)
    comparison = evaluate(read_study(study), baseline=BASELINE, metric=METRIC, by="arm")
    (context,) = comparison.ranked
    lines = list(rows(context_data(comparison, context)["losses"]))
    assert {row["outcome"] for row in lines if row["arm"] == 0} == {"all"}
    assert {row["outcome"] for row in lines if row["arm"] == 1} == {"all", "correct", "wrong"}
    (line,) = [
        row["samples"]
        for row in lines
        if (row["arm"], row["split"], row["group"], row["outcome"]) == (1, "train", "tail", "all")
    ]
    first, second = (
        record.arrays()["histogram/cross_entropy/train"].sum(axis=1)
        for record in sorted(comparison.records, key=lambda record: record.seed)
        if record.arm == "focal"
    )
    assert line == first[7:].sum() + second[:3].sum()


def test_differences_have_points_and_both_intervals(
    found: Comparison, data: dict[str, Any]
) -> None:
    base = {record.seed: record.metrics[METRIC] for record in runs(found, BASELINE)}
    shown = {found.labels[row["arm"]]: row for row in rows(data["differences"])}
    assert set(shown) == {"focal", BEST, DERIVED}
    own = [record.metrics[METRIC] - base[record.seed] for record in runs(found, "focal")]
    assert shown["focal"]["points"] == four(own)
    assert shown["focal"]["mean"] == four(np.mean(own))
    half = stats.t.ppf(1 - 0.05 / 2 / 3, 4) * stats.sem(own)  # Bonferroni over three labels
    assert shown["focal"]["simultaneous_low"] == four(np.mean(own) - half)
    assert shown["focal"]["simultaneous_high"] == four(np.mean(own) + half)
    for row in shown.values():  # the one that holds for all together is the wider one
        assert row["simultaneous_low"] <= row["low"] <= row["mean"]
        assert row["mean"] <= row["high"] <= row["simultaneous_high"]


def test_reliability_with_temperature(found: Comparison, data: dict[str, Any]) -> None:
    counts, right = np.zeros(15), np.zeros(15)
    for record in runs(found, BEST):
        for place, (n, _, accuracy) in enumerate(
            record.arrays()["posthoc/temperature/reliability/test"]
        ):
            if n:
                counts[place] += n
                right[place] += n * accuracy
    shown = [
        row["accuracy"]
        for row in rows(data["reliability"])
        if (found.labels[row["arm"]], row["view"]) == (BEST, "temperature")
    ]
    assert shown == four(right[counts > 0] / counts[counts > 0])


def test_scatter_is_means_with_t_intervals(found: Comparison, data: dict[str, Any]) -> None:
    shown = {(found.labels[row["arm"]], row["view"]): row for row in rows(data["scatter"])}
    assert set(shown) == {
        (label, view) for label in [*ARMS, DERIVED] for view in ("raw", "adjusted")
    }
    for group, view in (("cal", "raw"), ("cal_adjusted", "adjusted")):
        row = shown[BEST, view]
        for name, tag in (
            ("accuracy", METRIC),
            ("calibration", f"test/{group}/expected_calibration_error"),
        ):
            values = [record.metrics[tag] for record in runs(found, BEST)]
            low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
            assert [row[name], row[f"{name}_low"], row[f"{name}_high"]] == four(
                [np.mean(values), low, high]
            )


def test_calibration_is_never_shown_against_itself(found: Comparison) -> None:
    metric = "test/cal/expected_calibration_error"
    other = evaluate(found.records, baseline=BASELINE, metric=metric, by="arm")
    (context,) = other.ranked
    row = next(rows(context_data(other, context)["scatter"]))
    values = [record.metrics[METRIC] for record in runs(other, other.labels[row["arm"]])]
    assert row["accuracy"] == four(np.mean(values))
    assert "test set" not in captions(other)["cross_loss"].text  # validation may decide
    assert _content(other)["beside"] == "balanced accuracy"  # what the words call it


def test_cross_loss_ranks_trained_arms_per_loss(found: Comparison, data: dict[str, Any]) -> None:
    shown = list(rows(data["cross_loss"]))
    losses = list(dict.fromkeys(row["loss"] for row in shown))
    # what was trained comes first, in the order of the table; a training objective is no loss
    assert losses == [BASELINE, BEST, "focal", "brier", "label_smoothing", "logit_adjusted"]
    means = {
        (label, loss): np.mean([r.metrics[f"test/loss/{loss}"] for r in runs(found, label)])
        for label in ARMS
        for loss in losses
    }
    assert len(shown) == len(means)
    for row in shown:
        label, loss = found.labels[row["arm"]], row["loss"]
        column = sorted(means[other, loss] for other in ARMS)
        assert row["value"] == four(means[label, loss])
        assert row["place"] == 1 + column.index(means[label, loss])
        assert row["own"] == (label == loss)


def test_every_metric_is_described(found: Comparison, data: dict[str, Any]) -> None:
    words = data["metrics"]
    tags = [word["tag"] for word in words]
    assert tags[0] == METRIC
    assert words[0] == {"tag": METRIC, "name": "balanced accuracy", "arrow": "↑"}
    shown = {
        (found.labels[row["arm"]], tags[row["metric"]]): row for row in rows(data["every_metric"])
    }
    expected = {
        (record.arm, tag)
        for record in found.records
        for tag, value in record.metrics.items()
        if value is not None
    }
    assert set(shown) == expected
    assert shown[DERIVED, METRIC]["pairs"] == 5
    assert shown[BASELINE, METRIC]["difference"] is None
    for label, tag in ((BEST, "val/loss/focal"), ("focal", "test/cal/brier_score")):
        row = shown[label, tag]
        own = {r.seed: r.metrics[tag] for r in runs(found, label) if r.metrics[tag] is not None}
        base = {r.seed: r.metrics[tag] for r in runs(found, BASELINE)}
        assert row["n"] == row["pairs"] == len(own)
        for name, values in (
            ("mean", list(own.values())),
            ("difference", [own[seed] - base[seed] for seed in own]),
        ):
            start = "" if name == "mean" else "difference_"
            low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
            assert [row[name], row[f"{start}low"], row[f"{start}high"]] == pytest.approx(
                [np.mean(values), low, high], rel=2e-3
            )


def test_a_difference_of_rounding_alone_is_none(tmp_path: Path) -> None:
    write_synthetic_study(tmp_path, {BASELINE: 0.0, "focal": 0.0}, range(3))
    records = read_study(tmp_path)
    tag = "test/cls/macro_f1"
    first = {record.seed: record.metrics[tag] for record in records if record.arm == BASELINE}
    for record in records:
        if record.arm == "focal":
            record.metrics[tag] = float(np.nextafter(first[record.seed], 1))
    found = evaluate(records, baseline=BASELINE, metric=METRIC, by="arm")
    (context,) = found.ranked
    shown = context_data(found, context)
    place = [each["tag"] for each in shown["metrics"]].index(tag)
    (row,) = (
        row
        for row in rows(shown["every_metric"])
        if row["metric"] == place and found.labels[row["arm"]] == "focal"
    )
    assert [row["difference"], row["difference_low"], row["difference_high"]] == [0, 0, 0]


def test_training_losses_are_weighted_to_the_prior_of_the_test(tmp_path: Path) -> None:
    write_synthetic_study(tmp_path, {BASELINE: 0.0}, [0])
    (folder,) = runs_of(tmp_path, BASELINE)
    prior = np.arange(1, 11) / 55  # the test need not be balanced
    stored = read_study(tmp_path)[0].priors
    edit_record(folder, priors=stored | {"test": prior.tolist()})
    found = evaluate(read_study(tmp_path), baseline=BASELINE, metric=METRIC, by="arm")
    (context,) = found.ranked
    (line,) = (
        row for row in rows(context_data(found, context)["losses"]) if row["split"] == "reweighted"
    )
    counts = runs(found, BASELINE)[0].arrays(["histogram/cross_entropy/train"])
    by_class = counts["histogram/cross_entropy/train"]
    shares = prior @ (by_class / by_class.sum(axis=1, keepdims=True))
    filled = np.flatnonzero(shares)
    assert line["first"] == filled[0]
    assert line["values"] == [four(share) for share in shares[filled[0] : filled[-1] + 1]]


@pytest.mark.parametrize(("classes", "listed"), [(10, 10), (40, 0)])
def test_recalls_of_many_classes_are_left_to_their_figure(
    tmp_path: Path, classes: int, listed: int
) -> None:
    write_synthetic_study(tmp_path / "study", ARMS, range(2), classes=classes)
    settings = {"baseline": BASELINE, "metric": METRIC, "by": "arm"}
    many = evaluate(read_study(tmp_path / "study"), **settings)
    (context,) = many.ranked
    tags = [metric["tag"] for metric in context_data(many, context)["metrics"]]
    assert sum(tag.startswith("test/recall/") for tag in tags) == listed
    assert "test/cls/worst_class_recall" in tags
