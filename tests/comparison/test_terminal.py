from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from lossbench.comparison.compare import compare, evaluate
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
    for name in ("macro-F1", "prior-adjusted", "verdict", "tail", "worst-class"):
        assert name in words
    assert "Use [red]ldam[/red]: better than cross_entropy in balanced" in " ".join(words)
    assert max(map(len, text.splitlines())) <= width


def test_thirteen_arms_are_a_hundred_lines_and_the_files_have_the_rest(tmp_path: Path) -> None:
    arms = {"cross_entropy": 0.0} | {f"arm_{place}": 0.01 * place for place in range(12)}
    write_synthetic_study(tmp_path / "study", arms, range(5))
    found = compare(read_study(tmp_path / "study"), out=tmp_path / "out")
    stream = io.StringIO()
    show(found, Console(file=stream, width=80))
    lines = stream.getvalue().splitlines()
    assert len(lines) <= 110
    assert lines[-1].startswith("All tables, sentences and figures are in report.html")
    for arm in arms:
        assert sum(line.startswith(f"{arm} ") for line in lines) >= 3


def test_of_many_cells_only_the_words_are_shown(tmp_path: Path) -> None:
    cells = [f"a{place} | none | mlp | 1 epoch" for place in range(4)]
    write_synthetic_study(tmp_path, {"cross_entropy": 0.0, "mae": -0.1}, range(3), cells=cells)
    (gone,) = [run for run in runs_of(tmp_path, "cross_entropy", 0) if "a3 " in run_cell(run)]
    for run in runs_of(tmp_path, "cross_entropy"):
        if run_cell(run) == run_cell(gone):
            edit_record(run, status="failed", reason="loss is not finite")
    text = " ".join(printed(tmp_path, 80).split())
    assert "3 of 4 cells are judged; compared with cross_entropy: mae is worse in 3" in text
    assert "Nothing is judged here: no finished run of cross_entropy" in text
    assert all(cell in text for cell in cells)
    assert "±" not in text


def run_cell(folder: Path) -> str:
    return json.loads((folder / "record.json").read_text())["cell"]


def test_failed_runs_and_missing_baselines_are_named(tmp_path: Path) -> None:
    cells = ["a | none | mlp | 1 epoch", "b | none | mlp | 1 epoch"]
    write_synthetic_study(tmp_path, {"cross_entropy": 0.0, "focal": 0.0}, range(2), cells=cells)
    for folder in runs_of(tmp_path, "cross_entropy", 1):
        edit_record(folder, status="failed", reason="loss is not finite")
    text = printed(tmp_path, 80)
    for cell in cells:
        line = f"not used: {cell}: cross_entropy: 1 run failed: loss is not finite (seed 1)"
        assert line in text.splitlines()
