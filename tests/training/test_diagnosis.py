"""What a run says of its samples: history, suspicious labels, over-fitting, hardest images."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from lossbench.config import Run
from lossbench.records import read_record
from lossbench.training import diagnosis, sample_history
from lossbench.training.run import Training, execute
from tests.conftest import run_of
from tests.training.test_resume import (
    Stopped,
    assert_same_run,
    events,
    stop_after,
    stop_in_the_middle_of,
)

HISTORY = ("sample_history=true", "data.augmentation.crop_padding=1", "loss=temperature_scaled")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = run_of(tmp_path_factory.mktemp("runs"), *HISTORY)
    assert execute(run).state == "done"
    return run


def npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return dict(stored)


def test_the_history_is_that_of_the_deployed_logits_after_every_epoch(finished: Run) -> None:
    samples = npz(finished.folder / "sample_history.npz")
    train = Training(finished).prepared.train
    assert samples["loss"].shape == samples["margin"].shape == (4, len(train.ids))
    assert samples["ids"].tolist() == sorted(train.ids)
    assert samples["targets"].tolist() == train.targets[train.ids.argsort()].tolist()
    rows = read_record(finished.folder).history()
    np.testing.assert_allclose(
        samples["loss"].mean(axis=1), rows["train/loss/cross_entropy"], rtol=1e-6
    )
    assert np.array_equal((samples["margin"] > 0).mean(axis=1), rows["train/cls/accuracy"])
    arrays = read_record(finished.folder).arrays()
    expected = samples["margin"].astype(np.float64).mean(axis=0)
    assert np.array_equal(arrays["sample_history/mean_margin"], expected)


@pytest.mark.parametrize("stops", [(1, 3, 4), ()], ids=["between epochs", "within an epoch"])
def test_the_history_survives_a_kill_bit_for_bit(
    finished: Run, tmp_path: Path, stops: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tmp_path, *HISTORY)
    for epoch in stops:
        with pytest.raises(Stopped):
            execute(run, stop_after(epoch))
        assert not (run.folder / "sample_history.npz").exists()
    if not stops:
        stop_in_the_middle_of(run, 3, monkeypatch)
    assert execute(run).state == "done"
    assert_same_run(finished.folder, run.folder)
    first, second = (npz(r.folder / "sample_history.npz") for r in (finished, run))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    listed = [(r.folder / "suspicious_labels.csv").read_bytes() for r in (finished, run)]
    assert listed[0] == listed[1]


def test_the_history_is_its_own_run_and_changes_no_result(finished: Run, tmp_path: Path) -> None:
    plain = run_of(tmp_path, *HISTORY[1:])
    switched_off = run_of(tmp_path, "sample_history=false", *HISTORY[1:])
    assert plain.identity == switched_off.identity != finished.identity
    assert execute(plain).state == "done"
    assert not (plain.folder / "sample_history.npz").exists()
    with_history = read_record(finished.folder).metrics
    metrics = read_record(plain.folder).metrics
    assert metrics.items() <= with_history.items()
    extra = {tag for tag in with_history if tag not in metrics}
    assert extra == {"train/label_noise/share_flagged"}


def test_a_large_history_is_written_in_half_precision(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = npz(finished.folder / "sample_history.npz")
    assert stored["loss"].dtype == stored["margin"].dtype == np.float32
    limit = stored["loss"].nbytes + stored["margin"].nbytes
    samples = sample_history.SampleHistory()
    state = {name: torch.from_numpy(stored[name]) for name in ("ids", "targets")}
    state |= {"losses": list(torch.from_numpy(stored["loss"]))}
    samples.load_state_dict(state | {"margins": list(torch.from_numpy(stored["margin"]))})
    for allowed, dtype in ((limit, np.float32), (limit - 1, np.float16)):
        monkeypatch.setattr(sample_history, "HALF_PRECISION_ABOVE", allowed)
        samples.write(tmp_path)
        again = npz(tmp_path / "sample_history.npz")
        assert again["ids"].dtype == np.int64
        assert np.array_equal(again["margin"], stored["margin"].astype(dtype))
        assert again["loss"].dtype == dtype


def test_overfitting_is_that_of_the_last_epochs_losses(finished: Run) -> None:
    record = read_record(finished.folder)
    outputs = npz(finished.folder / "outputs.npz")
    samples = npz(finished.folder / "sample_history.npz")
    z, y = outputs["logits/test"].astype(np.float64), outputs["targets/test"]
    test_losses = np.logaddexp.reduce(z, axis=1) - z[np.arange(len(y)), y]
    share = np.bincount(y) / np.array(record.class_counts)
    weights = np.concatenate([share[samples["targets"]], np.ones(len(y))])
    both = np.concatenate([samples["loss"][-1], test_losses])
    members = np.arange(len(both)) >= len(samples["ids"])
    expected = roc_auc_score(members, both, sample_weight=weights)
    assert record.metrics["test/overfitting/loss_threshold_auc"] == pytest.approx(expected)
    assert record.arrays()["overfitting/by_class"].shape == (10, 7)


def test_known_label_noise_is_found_scored_and_kept_apart(make_run) -> None:
    run = make_run(
        *("sample_history=true", "label_noise=symmetric", "imbalance=none", "trainer.max_epochs=6")
    )
    assert execute(run).state == "done"
    metrics, arrays = read_record(run.folder).metrics, read_record(run.folder).arrays()
    data = Training(run).prepared
    noisy = data.train.targets != data.clean_targets
    noisy_ids = set(data.train.ids[noisy].tolist())
    listed = list(csv.DictReader((run.folder / "suspicious_labels.csv").open()))
    given = dict(zip(data.train.ids.tolist(), data.train.targets.tolist(), strict=True))
    assert all(row["given_label"] == str(given[int(row["id"])]) for row in listed)
    probabilities = [float(row["noise_probability"]) for row in listed]
    assert probabilities == sorted(probabilities, reverse=True)
    assert min(probabilities) > 0.5
    hits = sum(int(row["id"]) in noisy_ids for row in listed)
    assert metrics["train/label_noise/precision"] == pytest.approx(hits / len(listed))
    assert metrics["train/label_noise/recall"] == pytest.approx(hits / len(noisy_ids))
    assert metrics["train/label_noise/recall"] > 0.9
    assert metrics["train/label_noise/precision"] > 0.5  # 0.2 by chance
    assert metrics["train/label_noise/share_noisy"] == pytest.approx(0.2, abs=1e-3)
    wrong = arrays["label_noise/given"] != arrays["label_noise/clean"]
    assert set(arrays["label_noise/ids"][wrong].tolist()) == noisy_ids
    parts = [arrays[f"histogram/cross_entropy/train_{name}"] for name in ("clean", "noisy")]
    assert np.array_equal(sum(parts), arrays["histogram/cross_entropy/train"])
    assert parts[1].sum(axis=1).tolist() == np.bincount(data.train.targets[noisy]).tolist()


def test_the_images_of_the_highest_losses_are_shown(
    finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"train/highest_loss", "test/highest_loss"} <= set(events(finished.folder))
    training = Training(finished)
    recorder, shown = training.recorder, {}
    for split in ("train", "test"):
        recorder.evaluate(split, training.trainer, training.module)

    def drawn(images, labels, *, title):
        shown[title.partition(":")[0]] = images, labels
        return b"", 1, 1

    class Writer:
        def image(self, *arguments: object, step: int) -> None:
            assert step == 4

    monkeypatch.setattr(diagnosis, "image_grid", drawn)
    data, measured = training.prepared, recorder.measured
    diagnosis.write_hardest_images(Writer(), measured, recorder.outputs, data, 4)
    for split, part in (("train", data.train), ("test", data.test)):
        z = recorder.outputs[split].decoded.numpy().astype(np.float64)
        losses = np.logaddexp.reduce(z, axis=1) - z[np.arange(len(z)), part.targets]
        images, labels = shown[split]
        for image, label, row in zip(images, labels, np.argsort(-losses), strict=False):
            assert np.array_equal(image, part.inputs[row])
            assert label == f"{part.targets[row]}\n→ {z[row].argmax()}\n{losses[row]:.2f}"
        assert len(images) == 24
