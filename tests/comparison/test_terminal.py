from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from lossbench.comparison.compare import evaluate
from lossbench.comparison.terminal import show
from lossbench.records import read_study

from .synthetic import edit_record, runs_of, write_synthetic_study

LONG = "class_balanced(beta=0.9999, normalizer=batch), cosine head"


def printed(study: Path, width: int) -> str:
    found = evaluate(
        read_study(study),
        baseline="cross_entropy",
        metric="test/cls/balanced_accuracy",
        by="arm",
    )
    stream = io.StringIO()
    show(found, Console(file=stream, width=width))
    return stream.getvalue()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_nothing_is_cut_at_any_width(tmp_path: Path, width: int) -> None:
    arms = {"cross_entropy": 0.0, "[red]ldam[/red]": 0.05, LONG: 0.0}
    write_synthetic_study(tmp_path, arms, range(5))
    text = printed(tmp_path, width)
    words = text.split()
    assert "…" not in text
    assert "[red]ldam[/red]" in words  # not read as markup
    for name in ("macro-F1", "prior-adjusted", "fingerprints", "verdict", "tail", "worst-class"):
        assert name in words
    assert "n = 5 paired seeds)." in text
    assert "[red]ldam[/red] is better than cross_entropy: balanced accuracy +0.0" in text
    tables = [line for line in text.splitlines() if " is " not in line and " | " not in line]
    assert max(map(len, tables)) <= width


def test_failed_runs_and_missing_baselines_are_named(tmp_path: Path) -> None:
    cells = ["a | none | mlp | 1 epoch", "b | none | mlp | 1 epoch"]
    write_synthetic_study(tmp_path, {"cross_entropy": 0.0, "focal": 0.0}, range(2), cells=cells)
    for folder in runs_of(tmp_path, "cross_entropy", 1):
        edit_record(folder, status="failed", reason="loss is not finite")
    text = printed(tmp_path, 80)
    for cell in cells:
        line = f"not used: {cell}: cross_entropy: 1 run failed: loss is not finite (seed 1)"
        assert line in text.splitlines()
