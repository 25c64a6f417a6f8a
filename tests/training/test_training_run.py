"""One run, through `execute`: what it leaves behind, and that the same seed is the same result."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    roc_auc_score,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from lossbench.config import Run
from lossbench.errors import InputError
from lossbench.evaluation.classification import GROUPS
from lossbench.records import read_record
from lossbench.tensorboard.hparams import session_group
from lossbench.tensorboard.labels import TAG, RunLabels
from lossbench.tensorboard.layout import RUN_LAYOUT
from lossbench.training import events
from lossbench.training.outcome import record_failure
from lossbench.training.run import execute
from tests.conftest import run_of


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = run_of(tmp_path_factory.mktemp("runs"), "loss=focal", "seed=3")
    assert execute(run).state == "done"
    return run


def test_a_run_leaves_the_whole_record(finished: Run) -> None:
    record = json.loads((finished.folder / "record.json").read_text())
    assert set(record) == {
        *("schema", "status", "reason", "study", "arm", "cell", "identity", "seed"),
        *("loss", "model", "origin", "configuration"),
        *("fingerprints", "class_names", "class_counts", "priors", "metrics", "versions", "git"),
        *("hardware", "started", "seconds", "energy_joules", "notes", "sealed"),
    }
    assert record["status"] == "done"
    assert (record["arm"], record["seed"], record["study"]) == ("focal", 3, "default")
    assert record["cell"] == "digits | exponential 10 | mlp | 4 epochs"
    # 140 - 20 for validation = 120 images in the smallest class, by floor(120 * 0.1 ** (i / 9))
    assert record["class_counts"] == [int(120 * 0.1 ** (i / 9)) for i in range(10)]
    assert sorted(record["fingerprints"]) == ["batches", "init", "subset"]
    names = {path.name for path in finished.folder.iterdir()}
    assert names == {
        *("config.yaml", "record.json", "history.csv", "arrays.npz", "outputs.npz"),
        *("tensorboard", "checkpoint.ckpt"),
    }


def test_metrics_follow_from_the_stored_outputs(finished: Run) -> None:
    metrics = read_record(finished.folder).metrics
    with np.load(finished.folder / "outputs.npz") as outputs:
        for split in ("val", "test"):
            logits = outputs[f"logits/{split}"].astype(np.float64)
            targets = outputs[f"targets/{split}"]
            predicted = logits.argmax(axis=1)
            probabilities = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
            expected = {
                "cls/balanced_accuracy": balanced_accuracy_score(targets, predicted),
                "cls/macro_f1": f1_score(targets, predicted, average="macro"),
                "loss/cross_entropy": log_loss(targets, probabilities),
                "cal/negative_log_likelihood": log_loss(targets, probabilities),
            }
            auc = roc_auc_score(targets, probabilities, multi_class="ovr")
            expected["ranking/macro_area_under_roc_curve"] = auc
            for name, value in expected.items():
                assert metrics[f"{split}/{name}"] == pytest.approx(value, rel=1e-6)


def test_shifted_tests_reweight_the_same_outputs(finished: Run) -> None:
    record = read_record(finished.folder)
    with np.load(finished.folder / "outputs.npz") as outputs:
        targets, predicted = outputs["targets/test"], outputs["logits/test"].argmax(axis=1)
    shares = 50.0 ** (-np.arange(10) / 9)  # class 0 is the head here
    weights = (shares / np.bincount(targets))[targets]
    for prior, weight in (("forward_50", weights), ("uniform", 1 / np.bincount(targets)[targets])):
        expected = accuracy_score(targets, predicted, sample_weight=weight)
        assert record.metrics[f"test/shifted/accuracy_{prior}"] == pytest.approx(expected)
    assert not any("shifted" in tag for tag in record.metrics if tag.startswith("val/"))


def test_objective_is_the_runs_own_loss_and_every_catalogue_loss_is_scored(finished: Run) -> None:
    metrics = read_record(finished.folder).metrics
    with np.load(finished.folder / "outputs.npz") as outputs:
        logits = torch.from_numpy(outputs["logits/test"]).double()
        targets = torch.from_numpy(outputs["targets/test"])
    log_p = torch.log_softmax(logits, dim=1)[torch.arange(len(targets)), targets]
    focal = float((-((1 - log_p.exp()) ** 2) * log_p).mean())
    assert metrics["test/loss/objective"] == pytest.approx(focal, rel=1e-5)
    assert metrics["test/loss/focal"] == pytest.approx(focal, rel=1e-5)
    counts = torch.tensor(read_record(finished.folder).class_counts, dtype=torch.float64)
    balanced = torch.nn.functional.cross_entropy(logits + counts.log(), targets)
    assert metrics["test/loss/balanced_softmax"] == pytest.approx(float(balanced), rel=1e-5)


def test_arrays_hold_confusions_and_histograms_of_all_samples(finished: Run) -> None:
    record = read_record(finished.folder)
    arrays = record.arrays()
    with np.load(finished.folder / "outputs.npz") as outputs:
        targets, predicted = outputs["targets/test"], outputs["logits/test"].argmax(axis=1)
    assert np.array_equal(arrays["confusion/test"], confusion_matrix(targets, predicted))
    for name in ("cross_entropy", "objective"):
        per_class = arrays[f"histogram/{name}/train"].sum(axis=1)
        assert per_class.tolist() == record.class_counts
        assert arrays[f"histogram/{name}/test"].sum() == len(targets)
    assert arrays["reliability/test/raw"].shape == (15, 3)
    assert arrays["reliability/test/adjusted"][:, 0].sum() == len(targets)


def test_history_has_a_row_per_epoch_and_train_passes_at_log_spaced_ones(finished: Run) -> None:
    rows = list(csv.DictReader((finished.folder / "history.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert all(row["val/loss/cross_entropy"] for row in rows)
    passed = [row["epoch"] for row in rows if row["train/loss/cross_entropy"]]
    assert passed[-1] == "4"
    assert float(rows[-1]["learning_rate"]) < float(rows[0]["learning_rate"])


def test_done_runs_are_skipped_and_rerun_gives_the_same_numbers(
    finished: Run, tmp_path: Path
) -> None:
    before = (finished.folder / "record.json").stat().st_mtime_ns
    again = execute(finished)
    assert (again.state, again.new) == ("done", False)
    assert (finished.folder / "record.json").stat().st_mtime_ns == before

    first = read_record(finished.folder).metrics
    repeated = execute(Run(finished.config | {"rerun": True}))
    assert repeated.new
    assert repeated.folder == finished.folder
    assert read_record(finished.folder).metrics == first


def test_another_loss_of_the_seed_is_paired_and_another_seed_is_not(
    finished: Run, make_run
) -> None:
    prints = read_record(finished.folder).fingerprints
    same_seed = make_run("loss=cross_entropy", "seed=3")
    other_seed = make_run("loss=focal", "seed=4")
    execute(same_seed)
    execute(other_seed)
    assert read_record(same_seed.folder).fingerprints == prints
    others = read_record(other_seed.folder).fingerprints
    assert all(others[name] != prints[name] for name in ("subset", "init", "batches"))


def test_head_and_loss_leave_the_backbone_and_the_batches_alone(make_run, finished: Run) -> None:
    run = make_run("loss=custom", "loss._target_=tests.training.losses.Drawing", "seed=3")
    execute(run)
    assert read_record(run.folder).fingerprints == read_record(finished.folder).fingerprints


def test_what_a_loss_draws_moves_nothing_else(make_run) -> None:
    """A loss that draws at every step trains to the very weights of one that does not."""
    plain = make_run("loss=custom", "loss._target_=torch.nn.CrossEntropyLoss")
    drawing = make_run("loss=custom", "loss._target_=tests.training.losses.Drawing")
    weights = []
    for run in (plain, drawing):
        assert execute(run).state == "done"
        state = torch.load(run.folder / "checkpoint.ckpt", weights_only=True)["state_dict"]
        weights.append({name: value for name, value in state.items() if "model" in name})
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_foreign_loss_gets_the_class_counts_and_one_that_gives_a_scalar_has_no_histogram(
    make_run,
) -> None:
    run = make_run("loss=custom", "loss._target_=tests.training.losses.ScalarWithCounts")
    outcome = execute(run)
    assert outcome.state == "done", outcome.reason
    arrays = read_record(run.folder).arrays()
    assert "histogram/objective/test" not in arrays
    assert "histogram/cross_entropy/test" in arrays


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["loss=focal", "optimizer.lr=1e30"],
            r"the loss focal became (nan|inf) in epoch 1",
        ),
        (
            ["loss=custom", "loss._target_=tests.training.losses.NanFromEpoch3"],
            r"the loss NanFromEpoch3 became nan in epoch 3",
        ),
        (
            ["loss=custom", "loss._target_=tests.training.losses.NanWhenEvaluated"],
            r"under the loss NanWhenEvaluated, in epoch 1, the val split .* NaN",
        ),
        (
            ["loss=custom", "loss._target_=tests.training.losses.of_every_logit"],
            r"the loss returned a tensor of shape \(32, 10\) for 32 images",
        ),
        (
            ["loss=custom", "loss._target_=tests.training.losses.raising"],
            r"ZeroDivisionError: no such luck",
        ),
    ],
)
def test_a_failing_run_is_recorded_with_its_reason(make_run, overrides, expected) -> None:
    run = make_run(*overrides)
    outcome = execute(run)
    record = read_record(run.folder)
    assert (outcome.state, record.status) == ("failed", "failed")
    assert record.reason == outcome.reason
    import re

    assert re.search(expected, record.reason)
    assert "Traceback" in (run.folder / "traceback.txt").read_text()
    # not tried again unless asked to
    assert execute(run).new is False
    assert execute(Run(run.config | {"retry_failed": True})).new is True


def test_without_validation_images_the_published_counts_hold_and_val_is_absent(make_run) -> None:
    run = make_run("data.validation_per_class=0")
    execute(run)
    record = read_record(run.folder)
    # protocols.md: scikit-learn digits, factor 10
    assert record.class_counts == [140, 108, 83, 64, 50, 38, 30, 23, 18, 14]
    assert record.priors["val"] is None
    assert not any(tag.startswith("val/") for tag in record.metrics)
    assert record.metrics["test/cls/balanced_accuracy"] > 0.5


def test_an_undefined_metric_is_null_not_zero(make_run) -> None:
    run = make_run("imbalance=none")
    execute(run)
    record = read_record(run.folder)
    # digits differ a little in size: take counts that are all equal
    equal = make_run("imbalance=counts", "imbalance.counts=[50,50,50,50,50,50,50,50,50,50]")
    execute(equal)
    assert record.metrics["test/cls/tail_recall"] is not None
    assert read_record(equal.folder).metrics["test/cls/tail_recall"] is None


def test_fields_that_are_not_the_result_do_not_change_the_identity(make_run) -> None:
    run = make_run("loss=focal")
    same = make_run(
        "loss=focal", "trainer=auto", "trainer.threads=2", "workers=3", "on_error=stop",
        "study=elsewhere", "loss.gamma=2", "arm=my-focal", "retry_failed=true",
    )  # fmt: skip
    assert same.identity == run.identity
    others = ("loss.gamma=1", "seed=1", "data.batch_size=16", "trainer.max_epochs=5")
    others += ("model.head=linear", "optimizer.lr=0.1", "trainer.precision=64-true")
    for override in others:
        other = make_run("loss=focal", override)
        assert (other.identity == run.identity) == (override == "model.head=linear"), override


def test_source_of_a_foreign_loss_is_part_of_the_identity(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "own_loss_of_test.py"
    source.write_text("def loss(logits, target):\n    return logits.sum()\n")
    overrides = ("loss=custom", "loss._target_=own_loss_of_test.loss", "allow=[own_loss_of_test]")
    first = run_of(tmp_path, *overrides).identity
    assert run_of(tmp_path, *overrides).identity == first
    source.write_text("def loss(logits, target):\n    return logits.mean()\n")
    assert run_of(tmp_path, *overrides).identity != first


def test_a_record_of_another_status_is_not_taken_for_done(make_run) -> None:
    run = make_run()
    execute(run)
    record = read_record(run.folder)
    replace(record, status="running").write(run.folder)
    assert execute(run).new is True
    assert read_record(run.folder).metrics == record.metrics


def test_tensorboard_holds_figures_of_the_last_epoch_and_the_histograms_of_all_splits(
    finished: Run,
) -> None:
    board = EventAccumulator(str(finished.folder / "tensorboard"))
    board.Reload()
    plotted = set(board.Tags()["scalars"])
    tags = set(board.Tags()["tensors"]) | plotted
    figures = {"loss_histogram/cross_entropy", "test/recall"}
    figures |= {
        f"{split}/{name}" for split in ("val", "test") for name in ("reliability", "confusion")
    }
    histograms = {
        f"{split}/log10_loss/{loss}"
        for split in ("train", "val", "test")
        for loss in ("cross_entropy", "objective")
    } | {"train/log10_loss/cross_entropy_at_test_prior"}
    curves = {f"test/precision_recall/{name}" for name in range(10)}
    curves |= {f"test/macro_precision_recall/{group}" for group in ("all", *GROUPS)}
    scalars = {
        *("train/running/objective", "val/loss/cross_entropy", "val/cls/balanced_accuracy"),
        *("val/cls/tail_recall", "val/recall/9", "test/cal/classwise_calibration_error"),
        *("test/cal_adjusted/expected_calibration_error", "test/cls/worst_class_recall"),
    }
    assert figures | histograms | scalars | curves <= tags
    for charts in RUN_LAYOUT.values():
        for pattern in charts.values():
            assert any(re.fullmatch(pattern, tag) for tag in plotted), pattern
    assert "test/loss/cross_entropy" in plotted
    assert "test/loss/poly1" not in plotted  # but in the record
    for split, last in (("train", 4), ("val", 4), ("test", 4)):
        events = board.Tensors(f"{split}/log10_loss/cross_entropy")
        assert events[-1].step == last
        samples = [
            make_ndarray(board.Tensors(tag)[-1].tensor_proto)[:, 2].sum()
            for tag in [f"{split}/log10_loss_{group}/cross_entropy" for group in GROUPS]
        ]
        assert sum(samples) == make_ndarray(events[-1].tensor_proto)[:, 2].sum()
    labels = RunLabels.parse(board.SummaryMetadata(TAG).plugin_data.content)
    assert (labels.arm, labels.seed, labels.cell) == (finished.arm, 3, finished.cell)
    assert labels.group == session_group("default", finished.arm, finished.configuration)


def test_many_classes_leave_tensorboard_the_means_alone(
    make_run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Digits, for once, have more classes than the limits."""
    monkeypatch.setattr(events, "RECALLS_UP_TO", 9)
    monkeypatch.setattr(events, "CURVES_UP_TO", 9)
    run = make_run("trainer.max_epochs=1")
    execute(run)
    board = EventAccumulator(str(run.folder / "tensorboard"))
    board.Reload()
    assert not [tag for tag in board.Tags()["scalars"] if "/recall/" in tag]
    shown = {tag for tag in board.Tags()["tensors"] if "precision_recall" in tag}
    assert shown == {f"test/macro_precision_recall/{group}" for group in ("all", *GROUPS)}
    assert "val/recall/9" in (run.folder / "history.csv").read_text()
    assert "test/recall/9" in read_record(run.folder).metrics


def test_double_precision_trains_and_half_precision_wants_a_gpu(make_run) -> None:
    run = make_run("trainer.precision=64-true", "trainer.max_epochs=1")
    outcome = execute(run)
    assert outcome.state == "done", outcome.reason
    with np.load(run.folder / "outputs.npz") as outputs:
        assert np.isfinite(outputs["logits/test"]).all()
    if not torch.cuda.is_available():
        half = make_run("trainer.precision=16-mixed")
        with pytest.raises(InputError, match="16-mixed needs a GPU"):
            execute(half)
        assert not half.folder.exists()


def test_a_run_that_died_after_its_last_word_stays_done(finished: Run) -> None:
    before = read_record(finished.folder)
    assert record_failure(finished, "its worker process was killed").state == "done"
    assert read_record(finished.folder) == before


def test_the_name_of_an_arm_moves_no_run(make_run) -> None:
    assert make_run("loss=focal", "arm='a/b [c]'").folder == make_run("loss=focal").folder
    run = make_run("loss=focal", "seed=1")
    other = make_run("loss=focal", "seed=2", "optimizer.lr=0.1")
    assert run.configuration == make_run("loss=focal", "seed=2").configuration
    assert run.configuration != other.configuration


def test_data_without_checksums_is_identified_by_its_files(tmp_path: Path) -> None:
    for name, size in (("one", 3), ("two", 3), ("three", 4)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train-images-idx3-ubyte").write_bytes(bytes(size))
    unchecked = ("data=fashion_mnist", "data.checksums=null")
    identities = [
        run_of(tmp_path, *unchecked, f"data.archive={tmp_path / name}").identity
        for name in ("one", "two", "three")
    ]
    assert identities[0] == identities[1] != identities[2]
    checked = [
        run_of(tmp_path, "data=fashion_mnist", f"data.archive={tmp_path / name}").identity
        for name in ("one", "three")
    ]
    assert checked[0] == checked[1]  # the checksums say what the content must be
