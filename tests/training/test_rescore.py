"""`rescore`: a run's metrics once more, from its stored outputs, through the command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lossbench.cli import main
from lossbench.records import Record, RunLock, files, read_record
from lossbench.training.run import execute
from tests.conftest import run_of

METRIC = "test/posthoc_temperature/cross_entropy"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    """A finished run of a loss that decodes and shifts no prior, on noisy labels, and of another.

    The other does neither, and has no label noise.
    """
    folder = tmp_path_factory.mktemp("runs")
    overrides = {
        "temperature_scaled": [
            *("loss=temperature_scaled", "label_noise=symmetric", "label_noise.rate=0.6")
        ],
        "class_balanced": ["loss=class_balanced", "data.validation_prior=training"],
    }
    runs = {name: run_of(folder, *o, "trainer.max_epochs=2") for name, o in overrides.items()}
    assert all(execute(run).state == "done" for run in runs.values())
    return {name: read_record(run.folder) for name, run in runs.items()}


@pytest.fixture
def copied(tmp_path: Path, trained: dict[str, Record]) -> Callable[[str], Record]:
    """The finished run of a name, alone in the study `s` of tmp_path."""

    def copy(name: str) -> Record:
        folder = tmp_path / "s" / name
        shutil.copytree(trained[name].folder, folder)
        return read_record(folder)

    return copy


def rescored(record: Record, expected_code: int = 0) -> Record:
    """The record after the command."""
    runs_dir = record.folder.parents[1]
    assert main(["rescore", "study=s", f"runs_dir={runs_dir}"]) == expected_code
    return read_record(record.folder)


@pytest.mark.parametrize("name", ["temperature_scaled", "class_balanced"])
def test_it_finds_again_exactly_what_the_run_wrote(copied, name: str) -> None:
    record = copied(name)
    arrays = record.arrays()
    assert METRIC in record.metrics
    before = {path: path.stat().st_mtime_ns for path in record.folder.iterdir()}
    assert rescored(record) == record
    assert {path: path.stat().st_mtime_ns for path in record.folder.iterdir()} == before

    # a record of before post-hoc, with a metric that was wrong and ones that nobody can redo
    kept = {"train/loss/cross_entropy": 77.0, "test/loss/objective": 88.0, "test/own/metric": 99.0}
    old = {tag: value for tag, value in record.metrics.items() if "posthoc" not in tag}
    replace(record, metrics=old | {"test/cls/accuracy": 0.0} | kept).write(record.folder)
    fewer = {k: v for k, v in arrays.items() if "reliability/val" not in k}
    files.write_arrays(record.folder / "arrays.npz", fewer)
    again = rescored(record)
    assert again.metrics == record.metrics | kept
    assert list(again.metrics) == sorted(again.metrics)
    found = again.arrays()
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[k], arrays[k], equal_nan=True) for k in arrays)
    files_before = (record.folder / "record.json").read_bytes()
    rescored(record)
    assert (record.folder / "record.json").read_bytes() == files_before


def test_outputs_of_before_the_prior_was_stored_take_it_from_the_loss(copied) -> None:
    record = copied("class_balanced")
    outputs = record.outputs()
    weights = {key: value for key, value in outputs.items() if key.startswith("logits")}
    assert "raw_logits/test" not in outputs
    assert len(weights) == 2
    del outputs["log_prior"], outputs["head/weight"], outputs["head/bias"]
    files.write_arrays(record.folder / "outputs.npz", outputs)
    old = {tag: value for tag, value in record.metrics.items() if "posthoc" not in tag}
    replace(record, metrics=old).write(record.folder)
    expected = {tag: v for tag, v in record.metrics.items() if "tau_normalization" not in tag}
    assert rescored(record).metrics == expected


def test_the_head_is_the_one_that_made_the_raw_logits(copied) -> None:
    record = copied("temperature_scaled")
    outputs = record.outputs()
    state = torch.load(record.folder / "checkpoint.ckpt", weights_only=True)["state_dict"]
    for name in ("weight", "bias"):
        assert np.array_equal(outputs[f"head/{name}"], state[f"model.head.{name}"].numpy())
    assert not np.allclose(outputs["raw_logits/val"], outputs["logits/val"])
    predicted = (outputs["raw_logits/test"] - outputs["head/bias"]) / np.linalg.norm(
        outputs["head/weight"], axis=1
    ) ** record.metrics["val/posthoc_tau_normalization/tau"]
    right = (predicted.argmax(axis=1) == outputs["targets/test"]).mean()
    assert record.metrics["test/posthoc_tau_normalization/accuracy"] == pytest.approx(right)


def test_half_precision_is_said_and_is_near(copied, capsys) -> None:
    record = copied("temperature_scaled")
    half = {
        key: value.astype(np.float16) if "logits" in key else value
        for key, value in record.outputs().items()
    }
    files.write_arrays(record.folder / "outputs.npz", half)
    again = rescored(record)
    assert "float16" in capsys.readouterr().out
    assert again.metrics != record.metrics
    near = pytest.approx(record.metrics["test/loss/cross_entropy"], abs=1e-3)
    assert again.metrics["test/loss/cross_entropy"] == near
    assert rescored(record) == again


def test_what_cannot_be_rescored_is_named_and_left(copied, capsys) -> None:
    record, other = copied("temperature_scaled"), copied("class_balanced")
    with RunLock(record.folder / "lock"):
        assert rescored(record) == record
    said = capsys.readouterr().out
    assert "temperature_scaled: left alone: running" in said
    assert "s: 1 of 1 finished runs rescored" in said

    outputs = record.outputs()
    del outputs["targets/test"]
    files.write_arrays(record.folder / "outputs.npz", outputs)
    assert rescored(record, expected_code=1) == record
    assert "temperature_scaled: not rescored: outputs.npz lacks 'targets/test'" in (
        capsys.readouterr().out
    )
    # a finished run without outputs is damaged: moved aside, as by every command
    (record.folder / "outputs.npz").unlink()
    assert rescored(other, expected_code=1) == other
    assert "s: 1 of 2 finished runs rescored" in capsys.readouterr().out
    assert not record.folder.exists()
    assert (record.folder.parent / "damaged" / "temperature_scaled-1").is_dir()


def test_wrong_questions_are_refused_in_one_line(copied, capsys) -> None:
    record = copied("class_balanced")
    runs_dir = f"runs_dir={record.folder.parents[1]}"
    for arguments, words in (
        (["study=t", runs_dir], "unknown study in"),
        ([runs_dir], "say which study to rescore, as in lossbench rescore study=NAME"),
        (["study=s", "metric=x", runs_dir], "unknown key of lossbench rescore 'metric'"),
        (["s", runs_dir], "'s' is not KEY=VALUE"),
    ):
        assert main(["rescore", *arguments]) == 2
        said = capsys.readouterr()
        assert words in said.err
        assert (said.out, said.err.count("\n")) == ("", 1)
    content = json.loads((record.folder / "record.json").read_text()) | {"status": "failed"}
    (record.folder / "record.json").write_text(json.dumps(content))
    assert main(["rescore", "study=s", runs_dir]) == 2
    assert "no run of study=s is done" in capsys.readouterr().err
