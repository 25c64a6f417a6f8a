from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossbench.comparison.audit import audit_sheets
from lossbench.comparison.compare import evaluate
from lossbench.comparison.posthoc import with_posthoc
from lossbench.comparison.tables import Sheet
from lossbench.records import Record, read_study

from .synthetic import edit_record, runs_of, write_synthetic_study

ARMS = {"cross_entropy": 0.0, "focal": 0.0, "ldam": 0.03}


def configure(arm: str) -> dict[str, Any]:
    return {
        "loss": {"name": arm, "gamma": 2.0, "weight": None},
        "model": {"name": "convnet", "head": "cosine" if arm == "ldam" else "linear", "width": 16},
        "optimizer": {"name": "sgd", "lr": 0.05, "nesterov": False, "weight_decay": 0.0005},
        "trainer": {"max_epochs": 15},
    }


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_synthetic_study(tmp_path / "study", ARMS, range(3), configure=configure)


def sheets_of(records: list[Record]) -> list[Sheet]:
    comparison = evaluate(
        records, baseline="cross_entropy", metric="test/cls/balanced_accuracy", by="arm"
    )
    (context,) = comparison.ranked
    return audit_sheets(comparison, context)


def column(sheet: Sheet, head: str) -> dict[str, str]:
    place = sheet.head.index(head)
    return {row[0]: row[place] for row in sheet.rows}


def test_what_all_arms_share_is_told_once_and_the_rest_per_arm(study: Path) -> None:
    for folder in runs_of(study, "focal", 1):
        edit_record(folder, versions={"lossbench": "0.2.0", "torch": "2.9.0"})
    equal, different, *_ = sheets_of(read_study(study))
    same = dict(equal.rows)
    assert same["learning rate"] == "0.05"
    assert same["weight decay"] == "0.0005"
    assert same["optimiser"] == "sgd (nesterov=false)"
    assert same["backbone"] == "convnet (width=16)"
    # 1000 * 100 ** (-i / 9) images, cut to whole numbers
    counts = [int(1000 * 100 ** (-i / 9)) for i in range(10)]
    assert same["training images"] == f"{sum(counts)}, largest to smallest class 100 : 1"
    assert same["validation set, largest to smallest class"] == (
        "1 : 1, balanced validation (oracle)"
    )
    assert column(different, "head") == {
        "cross_entropy": "linear", "focal": "linear", "ldam": "cosine",
    }  # fmt: skip
    assert column(different, "loss")["focal"] == "focal (gamma=2.0)"
    one, two = ("lossbench 0.1.0, torch 2.9.0", "lossbench 0.2.0, torch 2.9.0")
    assert column(different, "versions") == {
        "cross_entropy": one, "focal": f"{one} / {two}", "ldam": one,
    }  # fmt: skip
    told = {name for name, _ in equal.rows}
    assert not told & set(different.head)


def test_a_fingerprint_that_differs_names_the_arm(study: Path) -> None:
    (folder,) = runs_of(study, "ldam", 1)
    prints = json.loads((folder / "record.json").read_text())["fingerprints"]
    edit_record(folder, fingerprints=prints | {"batches": "f" * 64})
    (sheet,) = [sheet for sheet in sheets_of(read_study(study)) if sheet.head[0] == "seed"]
    assert column(sheet, "batches")["1"] == f"{prints['batches'][:8]}; another in ldam"
    assert column(sheet, "subset")["1"] == prints["subset"][:8]
    assert all(len(text) == 8 for text in column(sheet, "batches").values() if "in" not in text)
    assert [row[0] for row in sheet.rows] == ["0", "1", "2"]


def test_failures_time_and_energy_per_arm(study: Path) -> None:
    for seed in range(3):
        for arm, factor in (("cross_entropy", 1.0), ("focal", 1.5)):
            (folder,) = runs_of(study, arm, seed)
            # the seeds differ more than the arms: the ratio is that of equal seeds
            edit_record(folder, seconds=factor * 10.0**seed, energy_joules=factor * 100)
    (failed,) = runs_of(study, "focal", 2)
    edit_record(failed, status="failed", reason="the loss became nan in epoch 3")
    for folder in runs_of(study, "ldam"):
        edit_record(folder, status="failed", reason="out of memory")
    records = read_study(study)
    costs = sheets_of(records)[-1]
    assert column(costs, "finished runs") == {"cross_entropy": "3", "focal": "2", "ldam": "0"}
    assert column(costs, "failed, missing or not used") == {
        "cross_entropy": "none",
        "focal": "1 run failed: the loss became nan in epoch 3 (seed 2)",
        "ldam": "3 runs failed: out of memory (seeds 0, 1, 2)",
    }
    assert column(costs, "seconds per run") == {
        "cross_entropy": "37", "focal": "8.25", "ldam": "–",
    }  # fmt: skip
    assert column(costs, "seconds in all")["cross_entropy"] == "111"
    assert column(costs, "seconds over cross_entropy's") == {
        "cross_entropy": "1.00", "focal": "1.50", "ldam": "–",
    }  # fmt: skip
    assert column(costs, "joules per run")["focal"] == "150"
    for record in records:
        edit_record(record.folder, energy_joules=None)
    assert not any("joule" in head for head in sheets_of(read_study(study))[-1].head)


def test_the_prior_that_the_logits_answer_for_is_read(study: Path) -> None:
    train = read_study(study)[0].priors["train"]
    assert train is not None
    priors = {"cross_entropy": train, "focal": [0.1] * 10, "ldam": [np.nan] * 10}
    for arm, prior in priors.items():
        for folder in runs_of(study, arm):
            stream = io.BytesIO()
            np.savez_compressed(stream, log_prior=np.log(prior) + 3.0)
            (folder / "outputs.npz").write_bytes(stream.getvalue())
    assert column(sheets_of(read_study(study))[1], "class prior that the logits answer for") == {
        "cross_entropy": "that of training",
        "focal": "uniform",
        "ldam": "unknown, so nothing is adjusted",
    }


def test_arms_made_by_posthoc_methods_are_not_audited(study: Path) -> None:
    for folder in runs_of(study, "cross_entropy"):
        metrics = json.loads((folder / "record.json").read_text())["metrics"]
        metrics["test/posthoc_logit_adjustment/balanced_accuracy"] = 0.8
        edit_record(folder, metrics=metrics)
    records = with_posthoc(read_study(study), ["logit_adjustment"], "cross_entropy")
    assert len({record.arm for record in records}) == 4
    for sheet in sheets_of(records):
        assert not any("logit adjustment" in row[0] for row in sheet.rows)
    models = evaluate(records, baseline="convnet", metric="test/cls/balanced_accuracy", by="model")
    audited = {context: bool(audit_sheets(models, context)) for context in models.ranked}
    assert sorted(audited.values()) == [False, True, True, True]
