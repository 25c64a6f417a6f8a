"""A place for the Vega script that outlives one session, no pictures, and a small study."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lossbench.comparison import figure_files

from .synthetic import write_synthetic_study

ARMS = {"cross_entropy": 0.0, "focal": 0.0, "balanced_softmax": 0.06}


@pytest.fixture(autouse=True, scope="session")
def _cache(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(request.config.cache.mkdir("lossbench")))
        yield


@pytest.fixture(autouse=True)
def _few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """`compare` draws none here, which takes 5 s: test_files.py and tests/cli draw them."""
    monkeypatch.setattr(figure_files, "write_figures", lambda comparison, folder, processes: {})


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Three arms with five seeds in one cell; balanced_softmax is better by 0.06."""
    return write_synthetic_study(tmp_path / "study", ARMS, range(5))
