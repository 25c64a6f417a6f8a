"""A sealed study as a user drives it: sweep, look, compare on validation, unseal, compare."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lossbench.cli import main
from tests.cli.test_sweep_command import (
    _nothing_is_left_running,  # noqa: F401  a fixture
    run_command,
)

SWEEP = (
    *("sweep", "data=digits", "imbalance=exponential", "imbalance.factor=10", "study=s"),
    *("trainer.max_epochs=1", "loss=cross_entropy,focal"),
)


def numbers_of_test(folder: Path) -> list[str]:
    """Every number of test that a run's folder shows, outputs.npz left out."""
    record = json.loads((folder / "record.json").read_text())
    found = [tag for tag in record["metrics"] if tag.startswith("test/")]
    header = (folder / "history.csv").read_text().splitlines()[0].split(",")
    found += [column for column in header if column.startswith("test/")]
    with np.load(folder / "arrays.npz") as arrays:
        found += [name for name in arrays.files if {"test", "overfitting"} & set(name.split("/"))]
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    tags = [tag for kind in events.Tags().values() if isinstance(kind, list) for tag in kind]
    return found + [tag for tag in tags if tag.startswith("test/")]


def test_a_study_is_sealed_until_it_is_unsealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = run_command(*SWEEP, "test=sealed", "workers=1", where=tmp_path)
    assert code == 0, said
    assert "compare them on validation with: lossbench compare study=s metric=val/cls/" in said
    folders = [path.parent for path in (tmp_path / "runs" / "s").glob("*/record.json")]
    assert len(folders) == 2
    for folder in folders:
        assert numbers_of_test(folder) == []
        leftover = {path.name for path in folder.iterdir()}
        assert leftover == {
            *("record.json", "config.yaml", "history.csv", "arrays.npz", "outputs.npz"),
            *("tensorboard", "checkpoint.ckpt"),
        }
    code, said = run_command(*SWEEP, where=tmp_path)  # without test=sealed: nothing is opened
    assert code == 0, said
    assert "2 runs are sealed: nothing of test is measured; lossbench unseal study=s opens" in said
    assert [numbers_of_test(folder) for folder in folders] == [[], []]

    monkeypatch.chdir(tmp_path)
    assert main(["status", "study=s"]) == 0
    assert "s: 2 done; test is sealed in 2" in capsys.readouterr().out
    assert main(["compare", "study=s"]) == 2
    assert "the test set of study s is sealed" in capsys.readouterr().err
    assert main(["unseal", "t"]) == 2
    assert "unknown study" in capsys.readouterr().err
    assert main(["unseal", "s"]) == 0
    assert "s: 2 of 2 sealed runs opened" in capsys.readouterr().out
    assert all(len(numbers_of_test(folder)) > 200 for folder in folders)
    code, said = run_command(*SWEEP, "test=sealed", where=tmp_path)
    assert code == 0, said
    assert "2 runs are open: finished without test=sealed, or unsealed since" in said
    assert main(["compare", "study=s"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "The test set was sealed until 20" in said
    assert "2 of 2 planned runs were finished" in said


def test_train_shows_validation_while_test_is_sealed(tmp_path: Path) -> None:
    run = ("train", "data=digits", "trainer.max_epochs=1", "study=s")
    code, said = run_command(*run, "test=sealed", where=tmp_path)
    assert code == 0, said
    assert "val balanced accuracy" in said
    assert "test balanced accuracy" not in said
    assert "1 run is sealed: nothing of test is measured" in said
