from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lossbench.comparison.compare import evaluate
from lossbench.comparison.notes import measured
from lossbench.comparison.table import find_gaps, metric_tags, run_table, summarise
from lossbench.errors import InputError
from lossbench.records import read_study

from .synthetic import edit_record, runs_of, write_synthetic_study

METRIC = "test/cls/balanced_accuracy"


def test_a_row_per_run_with_every_metric(study: Path) -> None:
    records = read_study(study)
    table = run_table(records)
    assert len(table) == 15
    for row, record in zip(table.to_dict("records"), records, strict=True):
        assert (row["arm"], row["seed"]) == (record.arm, record.seed)
        assert (row["label"], row["context"]) == (record.arm, record.cell)
        assert {tag: row[tag] for tag in record.metrics} == record.metrics
        assert row["subset"] == record.fingerprints["subset"]
    assert set(metric_tags(table)) == set(records[0].metrics)


def test_summary_is_mean_error_and_interval_over_defined_values(study: Path) -> None:
    undefined = runs_of(study, "focal", 2)[0]
    edit_record(undefined, metrics={METRIC: None, "test/cls/accuracy": 0.5})
    records = read_study(study)
    summary = summarise(run_table(records), [METRIC]).set_index("label")
    for arm, n in (("cross_entropy", 5), ("focal", 4)):
        values = [r.metrics[METRIC] for r in records if r.arm == arm and r.metrics[METRIC]]
        row = summary.loc[arm]
        assert row["n"] == len(values) == n
        assert row["mean"] == pytest.approx(np.mean(values))
        assert row["standard_error"] == pytest.approx(stats.sem(values))
        expected = stats.t.interval(0.95, n - 1, np.mean(values), stats.sem(values))
        assert (row["low"], row["high"]) == pytest.approx(expected)


def test_gaps_name_what_failed_runs_is_missing_or_undefined(study: Path) -> None:
    for seed in (1, 3):
        reason = "Traceback\nloss is not finite at epoch 2"
        edit_record(runs_of(study, "focal", seed)[0], status="failed", reason=reason)
    edit_record(runs_of(study, "focal", 0)[0], status="running")
    edit_record(runs_of(study, "balanced_softmax", 4)[0], metrics={"test/cls/accuracy": 0.5})
    (runs_of(study, "cross_entropy", 2)[0] / "record.json").unlink()
    gaps = find_gaps(run_table(read_study(study)), METRIC)
    assert {gap.sentence for gap in gaps} == {
        "focal: 2 runs failed: loss is not finite at epoch 2 (seeds 1, 3)",
        "focal: 1 run not finished (seed 0)",
        f"balanced_softmax: 1 run without {METRIC} (seed 4)",
        "cross_entropy: 1 run missing (seed 2)",
    }


def test_a_complete_study_has_no_gaps(study: Path) -> None:
    assert find_gaps(run_table(read_study(study)), METRIC) == []


def test_cells_need_not_have_the_same_seeds(tmp_path: Path) -> None:
    for cell, seeds in (("a | none | mlp | 1 epoch", range(2)), ("b | none | mlp | 1 epoch", [7])):
        write_synthetic_study(tmp_path, {"focal": 0, "ldam": 0}, seeds, cells=[cell])
    assert find_gaps(run_table(read_study(tmp_path)), METRIC) == []


@pytest.mark.parametrize("seeds", [range(3), range(3, 6)], ids=["same seeds", "other seeds"])
def test_two_configurations_under_one_label_are_told_apart(tmp_path: Path, seeds: range) -> None:
    def configure(rate: float):
        return lambda arm: {"optimizer": {"name": "sgd", "lr": rate}, "runs_dir": f"runs{rate}"}

    arms = {"cross_entropy": 0.0, "focal": 0.0}
    write_synthetic_study(tmp_path / "s", arms, range(3), configure=configure(0.1))
    for folder in sorted((tmp_path / "s").iterdir()):
        folder.rename(tmp_path / "s" / f"first-{folder.name}")
    write_synthetic_study(tmp_path / "s", {"focal": 0.0}, seeds, configure=configure(0.01))
    for folder in (tmp_path / "s").glob("run-*"):
        edit_record(folder, identity=folder.name, configuration="another")
    labels = run_table(read_study(tmp_path / "s"))["label"].value_counts()
    assert labels.to_dict() == {
        "cross_entropy": 3,
        "focal (optimizer.lr=0.1)": 3,
        "focal (optimizer.lr=0.01)": 3,
    }


def test_with_equal_configs_two_configurations_are_named_by_their_hash(tmp_path: Path) -> None:
    write_synthetic_study(tmp_path, {"focal": 0.0}, [0])
    (folder,) = tmp_path.iterdir()
    folder.rename(tmp_path / "first")
    write_synthetic_study(tmp_path, {"focal": 0.0}, [0])
    # not by the identity, which has the seed in it: the seeds would be separated
    edit_record(tmp_path / "first", identity="1", configuration="0123456789abcdef")
    edit_record(next(tmp_path.glob("run-*")), identity="2", configuration="fedcba9876543210")
    labels = set(run_table(read_study(tmp_path))["label"])
    assert labels == {"focal (configuration 01234567)", "focal (configuration fedcba98)"}


def test_along_models_the_rest_is_the_context(tmp_path: Path) -> None:
    cells = [f"digits | exponential 10 | {model} | 5 epochs" for model in ("mlp", "convnet")]
    write_synthetic_study(tmp_path, {"focal": 0.0, "ldam": 0.0}, range(2), cells=cells)
    table = run_table(read_study(tmp_path), by="model")
    assert set(table["label"]) == {"mlp", "convnet"}
    assert set(table["context"]) == {
        "digits | exponential 10 | 5 epochs | focal",
        "digits | exponential 10 | 5 epochs | ldam",
    }


def test_along_losses_several_arms_of_one_loss_stay_apart(tmp_path: Path) -> None:
    arms = {"cross_entropy": 0.0, "focal(gamma=1)": 0.0, "focal(gamma=2)": 0.0, "ldam(s=3)": 0.0}
    write_synthetic_study(tmp_path, arms, range(2))
    table = run_table(read_study(tmp_path), by="loss")
    assert set(table["label"]) == {"cross_entropy", "focal(gamma=1)", "focal(gamma=2)", "ldam"}


def test_nothing_finished_is_one_line(study: Path) -> None:
    for place, folder in enumerate(sorted(study.iterdir())):
        edit_record(folder, status="failed" if place else "running")
    with pytest.raises(InputError, match=r"no finished run \(14 failed, 1 running\)"):
        run_table(read_study(study))
    with pytest.raises(InputError, match="no run is recorded"):
        run_table([])


def test_an_unknown_axis_is_refused(study: Path) -> None:
    with pytest.raises(InputError, match="unknown by 'arms'; did you mean 'arm'"):
        run_table(read_study(study), by="arms")


def test_runs_of_different_commits_are_said_to_be(tmp_path: Path) -> None:
    write_synthetic_study(tmp_path, {"cross_entropy": 0.0, "focal": 0.0}, range(2))
    for arm, commit in (("cross_entropy", "a" * 40), ("focal", "b" * 40)):
        for folder in runs_of(tmp_path, arm):
            edit_record(folder, git=commit)
    comparison = evaluate(read_study(tmp_path), baseline="cross_entropy", metric=METRIC, by="arm")
    said = measured(comparison)[-1]
    assert "commit aaaaaaaaaaaa, commit bbbbbbbbbbbb" in said
    assert said.endswith("The runs are of different commits, which may be part of a difference.")
