"""What a foreign launcher returns decides nothing, and is no traceback."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lossbench.sweeps.sweeper import launch


@pytest.mark.parametrize("returned", [None, [None], 7])
def test_a_launcher_that_returns_no_jobs_is_named_in_a_line(
    returned: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher: Any = SimpleNamespace(launch=lambda overrides, initial_job_idx: returned)
    entry: Any = SimpleNamespace(overrides=["seed=0"])
    launch(launcher, [entry])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("the launcher gave up: ")
