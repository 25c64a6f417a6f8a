"""The learning rate hidden in a loss, as the tables show it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossbench.comparison.compare import Comparison, evaluate
from lossbench.comparison.export import write_markdown
from lossbench.comparison.report import render
from lossbench.comparison.tables import gradient_sheet, sheets
from lossbench.records import read_record, read_study

from .synthetic import edit_record, runs_of

RELATIVE = "train/gradient/relative_to_cross_entropy_first_epoch"
SCALE = "train/gradient/loss_scale"
HEADS = ("gradient relative to cross-entropy, first epoch", "loss scale")


def with_metrics(study: Path, arm: str, tag: str, values: list[float]) -> None:
    """Add a metric to the runs of an arm, a value per seed."""
    for seed, value in enumerate(values):
        (folder,) = runs_of(study, arm, seed)
        edit_record(folder, metrics=read_record(folder).metrics | {tag: value})


def compared(study: Path) -> tuple[Comparison, str]:
    found = evaluate(
        read_study(study), baseline="cross_entropy", metric="test/cls/balanced_accuracy", by="arm"
    )
    return found, next(iter(found.ranked))


def everywhere(comparison: Comparison, folder: Path) -> list[str]:
    """What markdown and page say."""
    markdown = write_markdown(comparison, folder / "results.md").read_text()
    return [markdown, render(comparison, bundle="")]


def test_every_arm_has_the_means_over_its_seeds(study: Path, tmp_path: Path) -> None:
    with_metrics(study, "cross_entropy", RELATIVE, [1.0] * 5)
    with_metrics(study, "focal", RELATIVE, [1.0, 1.2, 1.4, 1.2, 1.2])
    with_metrics(study, "balanced_softmax", RELATIVE, [29.0, 31.0, 33.0, 31.0, 31.0])
    with_metrics(study, "balanced_softmax", SCALE, [0.03, 0.034, 0.032, 0.032, 0.032])
    comparison, context = compared(study)
    sheet = gradient_sheet(comparison, context)
    assert sheet is not None
    assert sheet.head == ("arm", *HEADS)
    assert {row[0]: row[1:] for row in sheet.rows} == {
        "cross_entropy": ("1", "–"),
        "focal": ("1.2", "–"),
        "balanced_softmax": ("31", "0.032"),
    }
    assert [row[0] for row in sheet.rows] == comparison.ranked[context]
    for text in everywhere(comparison, tmp_path):
        for words in ("before the loss scale", "0.032"):
            assert words in text.lower()
    for text in everywhere(comparison, tmp_path)[1:]:
        assert HEADS[0] in text
        assert "AdamW hardly notices it" in text


def test_without_a_scale_there_is_no_column_of_scales(study: Path) -> None:
    with_metrics(study, "focal", RELATIVE, [1.0, 2.0])  # three seeds have not measured it
    comparison, context = compared(study)
    sheet = gradient_sheet(comparison, context)
    assert sheet is not None
    assert sheet.head == ("arm", HEADS[0])
    assert dict(sheet.rows) == {"cross_entropy": "–", "focal": "1.5", "balanced_softmax": "–"}


def test_records_that_measured_nothing_are_shown_as_before(study: Path, tmp_path: Path) -> None:
    comparison, context = compared(study)
    assert gradient_sheet(comparison, context) is None
    assert not any("gradient" in sheet.caption for sheet in sheets(comparison, context))
    for text in everywhere(comparison, tmp_path):
        assert "loss's gradient" not in text
        assert "size of a gradient" not in text


@pytest.mark.parametrize(
    ("value", "text"), [(31.62, "31.6"), (0.0190123, "0.019"), (1e-5, "1e-05")]
)
def test_ratios_keep_three_digits_over_orders_of_magnitude(study: Path, value, text) -> None:
    with_metrics(study, "focal", RELATIVE, [value] * 5)
    comparison, context = compared(study)
    sheet = gradient_sheet(comparison, context)
    assert sheet is not None
    assert dict(sheet.rows)["focal"] == text


def test_an_old_config_without_the_key_does_not_differ_by_it(study: Path) -> None:
    """Configs told apart under one label are told apart by what differs, not by a new default."""
    import json

    for seed in range(5):
        (folder,) = runs_of(study, "focal", seed)
        config = json.loads((folder / "config.yaml").read_text())
        newer = seed > 2
        config |= {"optimizer": {"lr": 0.1 if newer else 0.2}}
        config |= {"loss_scale": "none"} if newer else {}
        (folder / "config.yaml").write_text(json.dumps(config))
        edit_record(folder, configuration="newer" if newer else "older")
    comparison, context = compared(study)
    assert set(comparison.ranked[context]) == {
        "cross_entropy", "balanced_softmax", "focal (optimizer.lr=0.1)", "focal (optimizer.lr=0.2)",
    }  # fmt: skip
