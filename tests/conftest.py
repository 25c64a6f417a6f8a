"""Shared by all tests: one torch thread, and runs made as the command line makes them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

TINY = ("data=digits", "trainer.max_epochs=4")
OWN = "allow=[tests]"  # losses, models and regimes of the tests may be named by `_target_`
TAIL = ("imbalance=exponential", "imbalance.factor=10")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable:
    """``make_run(*overrides)``: the `Run` that the command line would make of them, in tmp_path."""
    return lambda *overrides: run_of(tmp_path, *overrides)


def run_of(runs_dir: Path, *overrides: str):
    """The `Run` of a few seconds' training on digits, with ``overrides``, below ``runs_dir``.

    Digits have a long tail of factor 10, unless the overrides choose another imbalance.
    """
    from lossbench.application import compose
    from lossbench.config import Run

    tail = () if any(entry.startswith("imbalance=") for entry in overrides) else TAIL
    return Run(compose([*TINY, *tail, OWN, f"runs_dir={runs_dir}", *overrides]))
