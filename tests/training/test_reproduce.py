"""`lossbench reproduce`: the same run again, what differs, and what a stranger's record may not."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from lossbench.cli import main
from lossbench.records import Record, read_record
from lossbench.training.reproduce import pip_line
from lossbench.training.reproduction import LIMIT, reproduction
from lossbench.training.run import execute
from tests.comparison.synthetic import edit_record
from tests.conftest import run_of

DECIDES = "test/cls/balanced_accuracy"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of one configuration with three seeds, and a rerun of seed 0 in `reproduced`."""
    where = tmp_path_factory.mktemp("reproduce")
    for seed in (0, 1, 2):
        assert execute(
            run_of(where / "runs", "trainer.max_epochs=2", "study=s", f"seed={seed}")
        ).new
    return where


@pytest.fixture
def place(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the study, and the current folder beside it."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def folder_of(place: Path, seed: int = 0) -> Path:
    (found,) = (place / "runs" / "s").glob(f"*-s{seed}-*")
    return found


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def reproduce(capfd: pytest.CaptureFixture, *arguments: object) -> tuple[int, str]:
    code = main(["reproduce", *map(str, arguments)])
    captured = capfd.readouterr()
    return code, captured.out if code < 2 else captured.err


def test_a_run_with_a_loss_of_ones_own_and_a_parameter_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "loss_of_mine.py").write_text(
        "from torch.nn.functional import cross_entropy\n"
        "class Mine:\n    def __init__(self, factor):\n        self.factor = factor\n"
        "    def __call__(self, logits, target):\n"
        "        return self.factor * cross_entropy(logits, target)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    mine = ("--config-dir", "mine", "allow=[loss_of_mine]")
    custom = ("loss=custom", "loss._target_=loss_of_mine.Mine", "+loss.factor=2")
    assert main(["train", "data=digits", "trainer.max_epochs=1", "study=s", *custom, *mine]) == 0
    capfd.readouterr()
    folder = folder_of(tmp_path)
    assert "=" in folder.name
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "mine" not in path])
    sys.modules.pop("loss_of_mine", None)
    code, said = reproduce(capfd, folder, "allow=[loss_of_mine]")
    assert (code, "cannot be imported" in said) == (2, True)
    code, said = reproduce(capfd, folder, *mine)
    assert code == 0, said
    assert said.startswith("reproduced bit for bit")


def test_the_same_machine_gives_the_same_run_and_a_tampered_metric_shows(
    place: Path, capfd
) -> None:
    folder = folder_of(place)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    # where the record says that it was written is nobody's command
    edit_config(folder, runs_dir=str(place / "elsewhere"), allow=["os"])
    code, said = reproduce(capfd, folder)
    assert code == 0, said
    assert said.splitlines()[:3] == ["reproduced bit for bit", "versions: equal", "hardware: equal"]
    assert "stored outputs (logits, targets): equal" in said
    again = read_record(place / "reproduced" / "s" / folder.name)
    assert again.metrics == read_record(folder).metrics
    assert again.config()["allow"] is None
    assert not (place / "elsewhere").exists()
    assert {path: path.read_bytes() for path in before if path.name != "config.yaml"} == {
        path: text for path, text in before.items() if path.name != "config.yaml"
    }

    metrics = read_record(folder).metrics
    edit_record(folder, metrics=metrics | {"test/cal/brier_score": 0.001})
    edit_record(folder, versions=read_record(folder).versions | {"torch": "2.9.0"})
    code, said = reproduce(capfd, folder / "record.json")  # of the rerun that is there
    assert code == 1
    assert said.startswith("NOT reproduced: the outputs are equal and the metrics are not")
    assert "brier_score" in said
    assert "pip install torch==2.9.0\n" in said


def test_another_number_of_threads_is_said_and_is_at_most_rounding(place: Path, capfd) -> None:
    code, said = reproduce(capfd, folder_of(place), "trainer.threads=2", "runs_dir=two")
    assert code == 0
    assert "hardware: threads 1 -> 2" in said


def seeds(*values: float, sealed: bool = False) -> list[Record]:
    split = "val" if sealed else "test"
    blank = Record("done", "s", "a", "c", "0" * 64, 0, "l", "m")
    numbers = [{DECIDES.replace("test", split): v, f"{split}/cls/worst": v} for v in values]
    return [replace(blank, seed=i, metrics=n) for i, n in enumerate(numbers)]


@pytest.mark.parametrize(("deviations", "within"), [(0.5, True), (2.9, True), (3.1, False)])
def test_the_seed_spread_is_the_standard_deviation_over_seeds(deviations, within) -> None:
    record, *others = seeds(0.70, 0.72, 0.75)
    sd = np.std([0.70, 0.72, 0.75], ddof=1)
    again = replace(record, metrics=dict.fromkeys(record.metrics, 0.7 - deviations * sd))
    found = reproduction(record, again, others)
    assert found.reproduced is within
    expected = "reproduced within the seed spread" if within else "NOT reproduced"
    assert found.headline.startswith(expected)
    assert f"{DECIDES} by {deviations:.2g} standard deviations over 3 seeds" in found.headline
    assert LIMIT == 3


def test_what_cannot_be_told_is_not_called_reproduced() -> None:
    record, other = seeds(0.7, 0.8)
    again = replace(record, metrics=dict.fromkeys(record.metrics, 0.71))
    alone = reproduction(record, again, [])
    assert "nobody can say" in alone.headline
    assert not alone.reproduced
    for metrics in ({}, dict.fromkeys(record.metrics)):  # gone, or undefined now
        assert not reproduction(record, replace(record, metrics=metrics), [other]).reproduced
    rounded = replace(record, metrics=dict.fromkeys(record.metrics, 0.7 * (1 + 1e-07)))
    assert reproduction(record, rounded, []).headline.startswith("reproduced up to rounding")
    moved = replace(record, fingerprints={"init": "other"})
    assert "bit for bit" not in reproduction(record, moved, []).headline


REFUSED = {
    "over itself": (lambda folder: ["runs_dir=runs"], "is the run itself"),
    "no run": (lambda folder: [], "has no record.json"),
    "not a location": (lambda folder: ["trainer.max_epochs=1"], "key of lossbench reproduce"),
    "hostile code": (
        lambda folder: edit_config(
            folder, loss={"_target_": "hostile_of_test.loss"}, allow=["hostile_of_test"]
        ),
        "loss._target_=hostile_of_test.loss is not allowed",
    ),
    "edited config": (
        lambda folder: edit_config(folder, loss={"name": "mae"}),
        "config.yaml is not the config that record.json is of",
    ),
    "failed": (lambda folder: edit_record(folder, status="failed"), "is failed; only a finished"),
    "escapes": (lambda folder: edit_record(folder, arm="\x1b[2J"), "has control characters"),
    "no config": (lambda folder: (folder / "config.yaml").write_text("data: 5"), "no run's config"),
}


@pytest.mark.parametrize(("prepare", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused_is_one_line_and_writes_nothing(
    prepare, reason: str, place: Path, capfd, monkeypatch
) -> None:
    monkeypatch.syspath_prepend(place)
    (place / "hostile_of_test.py").write_text(f"open({str(place / 'ran')!r}, 'w').close()\n")
    folder = folder_of(place)
    given = prepare(folder)
    named = [place / "nowhere"] if given == [] else [folder]
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    code, said = reproduce(capfd, *named, *(given if isinstance(given, list) else []))
    assert code == 2
    assert said.count("\n") == 1, said
    assert reason in said
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before


def test_a_copy_of_the_run_is_not_taken_for_its_rerun(place: Path, capfd) -> None:
    folder = folder_of(place)
    shutil.copytree(place / "runs", place / "copy")
    code, said = reproduce(capfd, folder, "runs_dir=copy")
    assert code == 2
    assert "is the run itself" in said


def test_the_line_to_paste_holds_nothing_but_versions() -> None:
    recorded = {"torch": "2.9.0+cpu", "numpy": "1; rm -rf ~", "x; id": "1.0", "python": "3.9.1"}
    assert pip_line(recorded | {"scipy": "1.14"}, {"scipy": "1.14"}) == "pip install torch==2.9.0"
    assert pip_line({"torch": "2.9.0"}, {"torch": "2.9.0"}) is None
    assert json.dumps(pip_line({"numpy": "$(id)"}, {})) == "null"
