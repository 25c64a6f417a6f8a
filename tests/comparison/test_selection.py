"""The audit's rows on tuning and on the seal, for what may have come before what."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lossbench.comparison.audit import audit_sheets
from lossbench.comparison.compare import evaluate
from lossbench.comparison.sealing import OPEN
from lossbench.comparison.selection import read_selection
from lossbench.records import Opening, read_study
from lossbench.records.sealing import add_opening

from .synthetic import edit_record, write_synthetic_study, write_tuning

ARMS = {"cross_entropy": 0.0, "focal": 0.0, "focal (tuned)": 0.02}
TRIALS = {"focal": [0.7, 0.8, None], "cross_entropy": [0.7, 0.6, 0.65]}
ENDED = "2026-01-01T12:00:00+00:00"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Runs that ended 12.5 seconds after midnight, the first of January."""
    return write_synthetic_study(tmp_path / "s", ARMS, range(2))


def audit(study: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The rows of the table on choices, and how every arm came to its parameters."""
    found = evaluate(
        read_study(study), baseline="cross_entropy", metric="test/cls/balanced_accuracy", by="arm",
        selection=read_selection(study),
    )  # fmt: skip
    sheets = audit_sheets(found, *found.ranked)
    (choices,) = [sheet for sheet in sheets if sheet.rows[0][0].startswith("tuning")]
    (arms,) = [sheet for sheet in sheets if sheet.caption.startswith("Not equal")]
    place = arms.head.index("tuning") if "tuning" in arms.head else 0
    return dict(choices.rows), {row[0]: row[place] for row in arms.rows}


def test_without_tuning_it_says_so(study: Path) -> None:
    rows, _ = audit(study)
    assert rows == {"tuning": "none", "test set": OPEN}


def test_how_arms_were_tuned(study: Path) -> None:
    path = write_tuning(study, TRIALS, ended=ENDED, trial_seeds=(7, 8))
    rows, arms = audit(study)
    assert rows["tuning, trials per arm"] == "focal 3, cross_entropy 3"
    assert rows["objective of tuning"] == "balanced accuracy on balanced validation (oracle)"
    assert rows["sampler of tuning"].startswith("paired")
    assert rows["seeds per trial"] == "2 (7 and 8)"
    assert rows["seeds compared were unseen by tuning"] == "yes"
    assert rows["test set in the trials"] == "sealed"
    space = "loss.gamma: 0.5 to 5.0; optimizer.lr: 0.005 to 0.5 (log)"
    assert rows["search space of focal"] == space
    assert arms == {
        "cross_entropy": "3 trials, the defaults won",
        "focal": "defaults, not tuned",
        "focal (tuned)": "3 trials (1 failed)",
    }
    content = json.loads(path.read_text()) | {"trial_seeds": [1, 9], "sampler": "tpe"}
    content["arms"]["focal"]["space"] = {"loss.kind": {"choices": ["a", 2]}}
    path.write_text(json.dumps(content))
    edit_record(next(path.parent.glob("*/record.json")).parent, sealed=False)
    rows, _ = audit(study)
    assert rows["seeds compared were unseen by tuning"] == "no: 1 chose parameters"
    assert rows["sampler of tuning"].startswith("tpe: unpaired")
    assert rows["search space of focal"] == "loss.kind: a, 2"
    assert rows["test set in the trials"] == "not known to be sealed"


def test_what_came_first_the_choice_or_the_look(study: Path) -> None:
    write_tuning(study, TRIALS)
    assert audit(study)[0]["test set and tuning"].startswith("not known")
    write_tuning(study, TRIALS, ended=ENDED)
    assert audit(study)[0]["test set and tuning"] == (
        "the test set had been looked at before the parameters of focal and cross_entropy were "
        "chosen (first look 2026-01-01 00:00 UTC, last trial 2026-01-01 12:00 UTC)"
    )
    selection = {
        "declared": {"metric": "test/cls/accuracy", "margin": None, "baseline": "cross_entropy"},
        "runs": {"planned": 6, "done": 6, "failed": 0, "unfinished": []},
        "validation": {"metric": "val/cls/accuracy", "cells": {}},
    }
    runs = tuple(record.identity for record in read_study(study))
    add_opening(study, Opening("2026-01-01T13:30:00+01:00", runs, selection))  # 12:30 in UTC
    rows, _ = audit(study)
    assert rows["test set"].startswith("The test set was sealed until 2026-01-01 13:30")
    assert rows["test set and tuning"].startswith(
        "the trials for focal and cross_entropy had ended"
    )
    (study / "unsealed.json").write_text("{}")
    rows, _ = audit(study)
    assert "is not known" in rows["test set"]
    assert rows["test set and tuning"].startswith("not known")
