"""`lossbench compare`: what decides is what is given, else what the study declares."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from lossbench.cli import main

from .synthetic import edit_record, runs_of, write_synthetic_study

DECLARED = {"metric": "test/cls/tail_recall", "margin": 0.02}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(**config: object) -> Path:
    arms = {"cross_entropy": 0.0, "focal": 0.001}
    return write_synthetic_study(Path("runs/s"), arms, range(5), configure=lambda arm: config)


def said(study: Path, command: str, capfd: pytest.CaptureFixture[str]) -> str:
    """What results.md says after the command."""
    assert main(["compare", "study=s", *command.split()]) == 0, capfd.readouterr().err
    return (study / "comparison" / "results.md").read_text()


def test_the_studys_metric_and_margin_decide(capfd) -> None:
    study = write(**DECLARED)
    for command, metric, margin in (
        ("", "tail recall", "0.02"),
        ("metric=test/cls/accuracy", "accuracy", ""),  # the margin is of another metric
        ("metric=test/cls/accuracy margin=3e-2", "accuracy", "0.03"),
    ):
        text = said(study, command, capfd)
        assert f"Compared with cross_entropy on {metric}, test set" in text
        told = f"The margin is {margin} in {metric}" if margin else "No margin is declared"
        assert told in text


def test_without_a_declaration_balanced_accuracy_decides(capfd) -> None:
    text = said(write(metric=None, margin=None), "", capfd)
    assert "on balanced accuracy, test set" in text
    assert "No margin is declared" in text


def test_a_look_before_the_sweep_is_through_says_so(capfd) -> None:
    study = write(metric=None, margin=None)
    folders = [path.parent.name for path in study.glob("*/record.json")]
    plan = {"runs": [{"folder": name} for name in [*folders, "to come", "to come too"]]}
    (study / "plan.json").write_text(json.dumps(plan))
    text = said(study, "", capfd)
    assert "This is an interim look: 2 planned runs are still to come." in text
    plan["runs"] = plan["runs"][:-2]
    (study / "plan.json").write_text(json.dumps(plan))
    edit_record(*runs_of(study, "focal", 1), status="failed", reason="boom", metrics={})
    assert "interim" not in said(study, "", capfd)  # a failed run will not come by itself


@pytest.mark.parametrize(
    ("config", "command", "expected"),
    [
        ({}, "margin=0", "margin=0.0 is not allowed: null or a finite number, above 0"),
        ({}, "margin=nan", "margin=nan is not allowed"),
        ({}, "margin=-0.01", "margin=-0.01 is not allowed"),
        ({}, "margin=1", "margin=1 is not allowed: balanced accuracy lies between 0 and 1"),
        ({}, "metric=balanced_accuracy", "did you mean 'test/cls/balanced_accuracy'?"),
        ({}, "metric=nonsense", "test/cls/tail_recall, test/loss/cross_entropy"),
        ({}, "out=runs/s/plain", "out=runs/s/plain: results cannot be written there (File exists)"),
        ({}, "out=runs/s/plain/in", "out=runs/s/plain/in: results cannot be written there (Not a"),
        ({}, "margin=small", "margin='small' is not allowed"),
        ({}, "metric=test/cls/tail", "did you mean 'test/cls/tail_recall'?"),
        ({"margin": "small"}, "", "config.yaml: margin='small' is not allowed"),
        (
            {"metric": "test/cls/tail_recal"},
            "",
            "config.yaml: unknown metric 'test/cls/tail_recal'; did you mean 'test/cls/tail_",
        ),
    ],
)
def test_bad_values_are_one_line_and_nothing_is_written(
    config: dict[str, object], command: str, expected: str, capfd
) -> None:
    study = write(**config)
    (study / "plain").touch()
    assert main(["compare", "study=s", *command.split()]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert expected in error
    assert not (study / "comparison").exists()
    if "metric" in config:
        assert "metric in runs/s/run-" in error
        assert main(["compare", "study=s", "metric=test/cls/accuracy"]) == 0


def test_damage_that_shows_only_in_compare_is_moved_aside_too(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    study = write()
    (folder,) = runs_of(study, "focal", 2)
    with zipfile.ZipFile(folder / "arrays.npz") as arrays:  # one that compare reads
        place = arrays.getinfo("histogram/cross_entropy/test.npy").header_offset + 100
    content = bytearray((folder / "arrays.npz").read_bytes())
    content[place : place + 100] = bytes(100)  # still a zip, but its content is not
    (folder / "arrays.npz").write_bytes(content)
    assert "4 paired seeds" in said(study, "", capfd)
    assert f"{folder.name}/arrays.npz cannot be read" in caplog.text
    assert (study / "damaged" / f"{folder.name}-1").is_dir()
