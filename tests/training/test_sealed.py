"""`test=sealed`: nothing depends on the test outputs, until `unseal` measures them.

The reference of an unsealed run is an open run of the same config, file by file.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from lossbench.cli import main
from lossbench.config import Run
from lossbench.records import Record, RunLock, files, read_openings, read_record
from lossbench.training import events as events_module
from lossbench.training import recorder, results, unseal
from lossbench.training.run import execute
from tests.conftest import run_of
from tests.training.test_resume import Stopped, stop_after

EPOCHS = "trainer.max_epochs=1"
NOISY = ("label_noise=symmetric", "label_noise.rate=0.3", "sample_history=true")
CASES = {
    "cross-entropy, wrong labels, sample history": ("loss=cross_entropy", *NOISY),
    "focal, half precision": ("loss=focal", "regime=ema", "trainer.precision=64-true"),
    "running counts": ("loss=seesaw", "loss_scale=match_ce", "data.validation_prior=training"),
    "cosine head, no validation": (
        *("loss=norm_softmax", "model.head=cosine", "data.validation_per_class=0"),
        *("regime=drw", "trainer.max_epochs=2"),
    ),
    "features": ("loss=large_margin_softmax",),
    "learnable temperature": ("loss=temperature_scaled", "loss.learnable=true"),
}


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return dict(stored)


def events(folder: Path) -> dict[tuple[str, int], bytes]:
    """The newest value of every tag and epoch in the event files of a run; no clock, no label."""
    found = {}
    for path in sorted((folder / "tensorboard").iterdir(), key=lambda path: path.suffix):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if not value.tag.startswith("_hparams_"):  # times, and the study's name
                    found[value.tag, event.step] = value.SerializeToString(deterministic=True)
    return found


def assert_equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.dtype == other[name].dtype, name
        assert np.array_equal(array, other[name], equal_nan=array.dtype.kind == "f"), name


def assert_as_if_never_sealed(found: Path, reference: Path) -> None:
    first, second = read_record(found), read_record(reference)
    assert first.metrics == second.metrics
    assert list(first.metrics) == list(second.metrics)
    clock = {"started": "", "seconds": 0.0, "energy_joules": None}
    assert replace(first, **clock) == replace(second, **clock)
    for name in ("arrays.npz", "outputs.npz"):
        assert_equal(arrays_of(found / name), arrays_of(reference / name))
    for name in ("history.csv", "suspicious_labels.csv"):
        contents = [f / name for f in (found, reference)]
        assert contents[0].exists() == contents[1].exists()
        assert not contents[0].exists() or contents[0].read_bytes() == contents[1].read_bytes()
    assert {path.name for path in found.iterdir()} == {path.name for path in reference.iterdir()}
    assert events(found) == events(reference)


SLOW = ("focal, half precision", "learnable temperature")


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(overrides, id=name, marks=[pytest.mark.slow] * (name in SLOW))
        for name, overrides in CASES.items()
    ],
)
def test_unsealed_it_is_what_it_would_have_been_had_it_been_open(
    overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "trainer.precision=64-true" in overrides:
        monkeypatch.setattr(results, "HALF_PRECISION_ABOVE", 1000)
    open_ = run_of(tmp_path / "open", EPOCHS, "study=s", *overrides)
    sealed = run_of(tmp_path / "sealed", EPOCHS, "study=s", "test=sealed", *overrides)
    assert open_.folder.name == sealed.folder.name  # the seal is no part of the identity
    assert execute(open_).state == execute(sealed).state == "done"
    assert not read_record(open_.folder).sealed
    assert read_record(sealed.folder).sealed
    assert main(["unseal", "s", f"runs_dir={tmp_path / 'sealed'}"]) == 0
    assert_as_if_never_sealed(sealed.folder, open_.folder)
    assert any(tag.startswith("test/overfitting/") for tag in read_record(sealed.folder).metrics)
    if "trainer.precision=64-true" in overrides:
        assert arrays_of(sealed.folder / "outputs.npz")["logits/test"].dtype == np.float16


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished sealed run, with all that a run can have."""
    run = run_of(tmp_path_factory.mktemp("sealed"), EPOCHS, "test=sealed", "study=s", *NOISY)
    assert execute(run).state == "done"
    return run


@pytest.fixture
def study(trained: Run, tmp_path: Path) -> Path:
    """A copy of the study of `trained`."""
    return Path(shutil.copytree(trained.folder.parent, tmp_path / "s"))


def opened(study: Path, *more: str) -> int:
    return main(["unseal", "study=s", f"runs_dir={study.parent}", *more])


def record_of(study: Path) -> Record:
    (path,) = study.glob("*/record.json")
    return read_record(path.parent)


def test_nothing_but_the_stored_outputs_depends_on_test(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same run once more, whose model says something else of each test image."""
    collect = recorder.collect
    test_ids = set(arrays_of(trained.folder / "outputs.npz")["ids/test"].tolist())

    def other(*arguments):
        outputs = collect(*arguments)
        of_test = set(outputs.ids.tolist()) == test_ids
        return replace(outputs, logits=outputs.logits.flip(0) * 3) if of_test else outputs

    monkeypatch.setattr(recorder, "collect", other)
    run = run_of(tmp_path, EPOCHS, "test=sealed", "study=s", *NOISY)
    assert execute(run).state == "done"
    first, second = (arrays_of(r.folder / "outputs.npz") for r in (trained, run))
    assert {name for name in first if not np.array_equal(first[name], second[name])} == {
        "logits/test"
    }
    assert_equal(*(arrays_of(r.folder / "arrays.npz") for r in (trained, run)))
    assert read_record(trained.folder).metrics == read_record(run.folder).metrics
    assert events(trained.folder) == events(run.folder)
    for name in ("history.csv", "suspicious_labels.csv", "sample_history.npz", "config.yaml"):
        if name != "config.yaml":
            assert (run.folder / name).read_bytes() == (trained.folder / name).read_bytes()


def test_a_sealed_run_has_no_number_of_test(trained: Run) -> None:
    record = read_record(trained.folder)
    assert not [tag for tag in record.metrics if "test" in tag.split("/")]
    assert not [name for name in record.arrays() if "test" in name.split("/")]
    assert "overfitting/by_class" not in record.arrays()
    assert not [tag for tag, _ in events(trained.folder) if tag.startswith("test/")]
    assert not [column for column in record.history() if "test" in column.split("/")]
    validation = {"val/cls/accuracy", "val/posthoc_vector/accuracy", "train/loss/focal"}
    assert validation <= record.metrics.keys()
    assert {"logits/test", "targets/test", "ids/test"} <= record.outputs().keys()


def test_what_was_chosen_is_written_down_before_the_first_run_is_opened(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = record_of(study)

    def killed(folder: Path, allow: object) -> str:
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(unseal, "open_run", killed)
        with pytest.raises(Stopped):
            opened(study)
    (opening,) = read_openings(study)
    assert record_of(study) == record
    assert opening.runs == (record.identity,)
    found = opening.selection["validation"]["cells"][record.cell]
    mean = record.metrics["val/cls/balanced_accuracy"]
    assert found == {"arms": {record.arm: {"seeds": 1, "mean": mean}}, "ahead": record.arm}
    assert opening.selection["declared"]["metric"] == "test/cls/balanced_accuracy"
    assert opening.selection["runs"]["planned"] == 1
    assert opening.when[-6] in "+-"  # the offset to UTC
    assert opened(study) == 0
    assert read_openings(study) == [opening]  # it went on, and was no second look
    assert not record_of(study).sealed


def test_what_cannot_be_opened_is_no_opening(study: Path, capsys: pytest.CaptureFixture) -> None:
    """A loss of one's own that was not allowed: refused before the date is written down."""
    config = record_of(study).folder / "config.yaml"
    text = config.read_text()
    foreign = yaml.safe_load(text) | {"loss": {"name": "own", "_target_": "my_losses.Own"}}
    config.write_text(yaml.safe_dump(foreign))
    assert opened(study) == 2
    assert "add allow=[my_losses]" in capsys.readouterr().err
    assert read_openings(study) == []
    config.write_text(text)
    assert opened(study) == 0
    assert len(read_openings(study)) == 1


def test_killed_at_any_write_a_run_is_sealed_or_whole(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = Path(shutil.copytree(study, tmp_path / "reference" / "s"))
    assert opened(reference) == 0
    before, whole = record_of(study), record_of(reference)
    places = (
        (files, "write_arrays"),  # arrays.npz, the first of the four
        (events_module, "write_figures"),  # in the middle of the event file
        (Record, "write"),
        (results, "write_outputs"),
    )

    def killed(*arguments: object, **named: object) -> None:
        raise Stopped

    for place in places:
        with monkeypatch.context() as patched:
            patched.setattr(*place, killed)
            with pytest.raises(Stopped):
                opened(study)
        now = record_of(study)
        assert now == (whole if place[1] == "write_outputs" else before)
    assert_equal(now.arrays(), whole.arrays())
    replace(now, sealed=True, metrics=before.metrics).write(now.folder)
    assert opened(study) == 0
    assert_as_if_never_sealed(now.folder, whole.folder)
    assert len(list((now.folder / "tensorboard").iterdir())) == 2
    assert len(read_openings(study)) == 1


def test_a_seal_outlives_whatever_starts_the_run_again(tmp_path: Path) -> None:
    """Interrupted, and repeated with rerun=true: only `unseal` opens."""
    with pytest.raises(Stopped):
        execute(run_of(tmp_path, EPOCHS, "test=sealed"), stop_after(0))
    for again in ((), ("rerun=true",)):
        run = run_of(tmp_path, EPOCHS, *again)
        assert execute(run).new
        assert read_record(run.folder).sealed
        assert not [tag for tag in read_record(run.folder).metrics if tag.startswith("test/")]


def test_what_was_open_is_not_sealed_again(tmp_path: Path) -> None:
    """Its test numbers could be seen; compare would say that nobody had looked at them."""
    execute(run_of(tmp_path, EPOCHS))
    run = run_of(tmp_path, EPOCHS, "test=sealed", "rerun=true")
    assert execute(run).new
    assert not read_record(run.folder).sealed


def test_rescoring_leaves_test_sealed(study: Path) -> None:
    before = record_of(study)
    tag = "val/posthoc_vector/accuracy"
    fewer = {name: value for name, value in before.metrics.items() if name != tag}
    replace(before, metrics=fewer).write(before.folder)
    assert main(["rescore", "study=s", f"runs_dir={study.parent}"]) == 0
    assert record_of(study) == before
    assert not [name for name in record_of(study).arrays() if "test" in name.split("/")]


def test_what_is_unfinished_or_a_trial_or_damaged_is_not_opened_in_silence(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = record_of(study)
    running = study / "still-training"
    running.mkdir()
    replace(record, status="running", identity="f" * 64).write(running)
    assert opened(study) == 2
    said = capsys.readouterr().err
    assert "s has 1 run to come (still-training)" in said
    assert "partial=true" in said
    assert read_openings(study) == []
    with RunLock(record.folder / "lock"):
        assert opened(study, "partial=true") == 1
    assert "not opened:" in capsys.readouterr().out
    (opening,) = read_openings(study)
    assert opening.selection["runs"]["unfinished"] == ["still-training"]
    assert opened(study, "partial=true") == 0
    assert opened(study) == 0
    assert "no finished run is sealed" in capsys.readouterr().out
    assert opened(study, "partial=1") == 2
    (study / "unsealed.json").write_text("{")
    replace(record, sealed=True).write(record.folder)
    assert opened(study, "partial=true") == 2
    assert "unsealed.json cannot be read" in capsys.readouterr().err
    (study / "tuning.json").write_text("{}")
    assert opened(study) == 2
    assert "holds the trials of lossbench tune" in capsys.readouterr().err


def test_trials_of_tuning_are_not_opened_and_what_they_chose_is_written_down(study: Path) -> None:
    trial = shutil.copytree(record_of(study).folder, study / "tuning" / "trial")
    chosen = {"loss.gamma": 1.5}
    arm = {"chosen": {"number": 3, "parameters": chosen, "value": 0.7}}
    content = {"schema": 1, "arms": {"focal": arm, "ldam": {"chosen": None}}}
    (study / "tuning" / "tuning.json").write_text(json.dumps(content))
    assert opened(study) == 0
    assert read_record(trial).sealed
    (opening,) = read_openings(study)
    assert opening.selection["tuned"] == {"focal": chosen}
    assert len(opening.runs) == 1


@pytest.fixture(autouse=True)
def _float32() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)
