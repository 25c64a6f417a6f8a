"""What `compare` does with a study whose test set is sealed, opened, open, or some of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from lossbench.cli import main
from lossbench.comparison.sealing import OPEN, sealing
from lossbench.records import Opening, read_record, read_study
from lossbench.records.sealing import add_opening

from .synthetic import edit_record

VAL = "metric=val/cls/balanced_accuracy"


def seal(folder: Path) -> None:
    """What `test=sealed` leaves out, taken out of a run that was open."""
    record = read_record(folder)
    kept = {tag: value for tag, value in record.metrics.items() if not tag.startswith("test/")}
    edit_record(folder, sealed=True, metrics=kept)


def runs(study: Path) -> list[Path]:
    return sorted(path.parent for path in study.glob("*/record.json"))


def compared(study: Path, *arguments: str) -> int:
    return main(["compare", f"study={study.name}", f"runs_dir={study.parent}", *arguments])


@pytest.mark.parametrize("count", [15, 4])
def test_test_metrics_are_refused_in_one_line_while_a_run_is_sealed(
    study: Path, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in runs(study)[:count]:
        seal(folder)
    how_many = "is sealed" if count == 15 else "is, in 4 of 15 runs, sealed"
    for arguments in ((), ("metric=test/cls/macro_f1",)):
        assert compared(study, *arguments) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"the test set of study study {how_many}" in said
        on = arguments[0].replace("test/", "val/") if arguments else VAL
        assert f"{on} compares on balanced validation (oracle)" in said
        assert "lossbench unseal study=study opens it" in said
    assert main(["power", "study=study", f"runs_dir={study.parent}"]) == 2
    assert "sealed" in capsys.readouterr().err
    for folder in runs(study):  # a declared metric is no way around it
        config = yaml.safe_load((folder / "config.yaml").read_text())
        (folder / "config.yaml").write_text(yaml.dump(config | {"metric": "test/cls/accuracy"}))
    assert compared(study) == 2
    assert how_many in capsys.readouterr().err


def test_a_sealed_study_is_compared_on_validation_and_says_so_everywhere(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in runs(study):
        seal(folder)
    assert compared(study, VAL) == 0
    sentence = "The test set has not been looked at: it is sealed in every run."
    assert sentence in " ".join(capsys.readouterr().out.split())
    for name in ("report.html", "results.md"):
        text = (study / "comparison" / name).read_text()
        assert sentence in text
        assert "none of the test set" in text
        assert "test/cls/" not in text
    assert "test/" not in (study / "comparison" / "results.csv").read_text()


def test_after_the_opening_it_says_when_and_what_had_been_chosen(study: Path) -> None:
    records = read_study(study)
    assert sealing(records) == OPEN
    selection = {
        "declared": {"metric": "test/cls/accuracy", "margin": 0.01, "baseline": "focal"},
        "runs": {"planned": 20, "done": 15, "failed": 1, "unfinished": ["a", "b"]},
        "validation": {
            "metric": "val/cls/accuracy",
            "cells": {"one": {"ahead": "ldam"}, "two": {"ahead": "ldam"}, "three": {"ahead": None}},
        },
    }
    identities = tuple(record.identity for record in records)
    add_opening(study, Opening("2026-11-22T18:40:00+00:00", identities, selection))
    assert sealing(records) == (
        "The test set was sealed until 2026-11-22 18:40 UTC, when metric test/cls/accuracy, "
        "margin 0.01, baseline focal had been declared; 15 of 20 planned runs were finished, 2 "
        "still to come, and ldam had the best mean val/cls/accuracy."
    )
    assert compared(study) == 0
    for name in ("report.html", "results.md"):
        assert "sealed until 2026-11-22 18:40 UTC" in (study / "comparison" / name).read_text()
    seal(runs(study)[0])
    told = sealing(read_study(study))
    assert told.endswith("The test set is still sealed in 1 of 15 runs.")
    add_opening(study, Opening("2026-11-23T09:00:00+01:00", identities[:1], selection))
    told = sealing(records)
    assert "until 2026-11-22 18:40 UTC" in told
    assert "More runs were opened at 2026-11-23 09:00 UTC+01:00" in told
    content = json.loads((study / "unsealed.json").read_text())
    content["opened"] = content["opened"][1:]
    (study / "unsealed.json").write_text(json.dumps(content))
    assert "In 14 of 15 runs it was never sealed" in sealing(records)
    content["opened"][0]["selection"] = {"declared": None}
    (study / "unsealed.json").write_text(json.dumps(content))
    assert "2026-11-23 09:00 UTC+01:00, what had been declared by then is not" in sealing(records)
    (study / "unsealed.json").write_text("[]")
    assert "is not known" in sealing(records)


def test_an_open_study_says_that_test_could_be_seen_all_the_time(study: Path) -> None:
    assert compared(study) == 0
    assert OPEN in (study / "comparison" / "results.md").read_text()
