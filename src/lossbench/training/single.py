"""`lossbench train`: one run, with its progress and its result on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from rich.console import Console

from lossbench.config import Run
from lossbench.errors import GO_ON
from lossbench.records import LockedError, LostLockError, read_record
from lossbench.sweeps.sealing import seal_notes
from lossbench.training.run import execute

SHOWN = {
    "cls/balanced_accuracy": "balanced accuracy",
    "cls/accuracy": "accuracy",
    "cls/worst_class_recall": "worst class recall",
    "loss/cross_entropy": "cross-entropy",
    "cal/expected_calibration_error": "expected calibration error",
}


def train(run: Run) -> int:
    """Train ``run``, say how it goes and how it ended; returns the exit code."""
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    epochs = run.config["trainer"]["max_epochs"]

    def progress(epoch: int, row: Mapping[str, float]) -> None:
        if epoch == 0:
            record = read_record(run.folder)
            console.print(f"{run.arm} on {run.cell}, seed {run.seed}; data: {record.origin}")
            for note in record.notes:
                console.print(note)
            return
        words = [f"epoch {epoch}/{epochs}", f"objective {row['train/running/objective']:.4f}"]
        if "val/cls/balanced_accuracy" in row:
            words.append(f"val balanced accuracy {row['val/cls/balanced_accuracy']:.4f}")
        console.print("  ".join(words))

    try:
        outcome = execute(run, progress)
    except LockedError as error:
        console.print(f"lossbench: {error}; wait for it, or stop it")
        return 1
    except LostLockError as error:
        console.print(f"lossbench: {error}; {GO_ON}")
        return 1
    if outcome.state == "failed":
        console.print(f"lossbench: the run failed: {outcome.reason} ({outcome.folder})")
        if not outcome.new:
            console.print("it failed earlier; repeat it with retry_failed=true")
        return 1
    if not outcome.new:
        console.print("already done; repeat it with rerun=true")
    record = read_record(outcome.folder)
    split = "val" if record.sealed else "test"
    for tag, words in SHOWN.items():
        value = record.metrics.get(f"{split}/{tag}")
        print(f"{split} {words:28} {'undefined' if value is None else f'{value:.4f}'}")
    for note in seal_notes([(run, record)]):
        print(note)
    print(f"results in {outcome.folder}")
    sys.stdout.flush()
    return 0
