"""The wheel holds all that a run needs: it trains from another folder, without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lossbench.records import read_study
from lossbench.tensorboard.plugin.plugin import FILES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel."""
    where = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(where)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = where.glob("*.whl")
    site = where / "site"
    zipfile.ZipFile(wheel).extractall(site)
    return site


@pytest.mark.slow
def test_a_wheel_trains_and_sweeps_from_another_folder(installed: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(installed)},
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = [sys.executable, "-c", "import lossbench.config as c; print(c.folder('configs'))"]
    env = os.environ | {"PYTHONPATH": str(installed)}
    found = subprocess.run(where, cwd=tmp_path, env=env, capture_output=True, text=True).stdout
    assert Path(found.strip()) == installed / "lossbench" / "configs"
    page = installed / "lossbench" / "tensorboard" / "plugin" / "static"
    assert {path.name for path in page.iterdir()} == set(FILES)
    assert "balanced accuracy" in run("lossbench", "train", "trainer.max_epochs=1")
    run("lossbench", "sweep", "experiment=digits_quickstart", "seed=0", "trainer.max_epochs=1")
    assert len(read_study(tmp_path / "runs" / "digits_quickstart")) == 5
    run("lossbench", "compare", "study=digits_quickstart")
    report = tmp_path / "runs" / "digits_quickstart" / "comparison" / "report.html"
    assert report.stat().st_size < 8 * 2**20
