"""`lossbench tune` as a user drives it: the search, the winners, kills, and starting again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lossbench.cli import main
from lossbench.records import RunLock, read_study
from tests.cli.test_sweep_command import (
    _nothing_is_left_running,  # noqa: F401  a fixture
    command,
    done,
    run_command,
    wait_for,
)

TINY = ("data=digits", "imbalance=exponential", "imbalance.factor=10", "trainer.max_epochs=1")
TUNE = ("tune", *TINY, "study=s", "workers=2", "arms=focal,ldam", "budget=3", "seeds=1")
SHARED = ("lr", "weight_decay")


def result(where: Path) -> dict[str, Any]:
    """`tuning.json` without its time."""
    content = json.loads((where / "runs" / "s" / "tuning" / "tuning.json").read_text())
    del content["written"]
    return content


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A tuning of 2 arms with 3 trials; the folder it was started in, and what it said."""
    where = tmp_path_factory.mktemp("undisturbed")
    code, said = run_command(*TUNE, where=where)
    assert code == 0, said
    return where, said


def test_a_tuning_is_what_its_records_say(undisturbed: tuple[Path, str]) -> None:
    where, said = undisturbed
    study = where / "runs" / "s"
    trials = {record.folder.name: record for record in read_study(study / "tuning")}
    assert len(trials) == 6
    assert {record.seed for record in trials.values()} == {1_000_000}
    assert not any(tag.startswith("test/") for r in trials.values() for tag in r.metrics)
    found = result(where)
    assert set(found["arms"]) == {"focal", "ldam, cosine head"}
    drawn: dict[str, list[dict[str, float]]] = {}
    for label, entry in found["arms"].items():
        for number, trial in enumerate(entry["trials"]):
            (name,) = trial["folders"]
            record = trials[name]
            config = record.config()
            assert record.arm == f"{label}, trial {number}"
            for path, value in trial["parameters"].items():
                group, key = path.split(".")
                assert config[group][key] == value
            assert trial["value"] == record.metrics["val/cls/balanced_accuracy"]
            drawn.setdefault(label, []).append({key: config["optimizer"][key] for key in SHARED})
        values = [trial["value"] for trial in entry["trials"]]
        assert entry["chosen"]["number"] == values.index(max(values))
        assert entry["trials"][0]["parameters"]["optimizer.lr"] == 0.05
    assert drawn["focal"] == drawn["ldam, cosine head"]  # paired
    assert len({values["lr"] for values in drawn["focal"]}) == 3
    assert "on a cosine head, which it needs" in said
    assert "balanced validation (oracle)" in said


def test_the_winners_are_retrained_and_written_for_anyone(undisturbed: tuple[Path, str]) -> None:
    where, said = undisturbed
    study = where / "runs" / "s"
    records = {record.arm: record for record in read_study(study)}
    expected = set()
    for label, entry in result(where)["arms"].items():
        expected |= {entry["default_arm"], entry["tuned_arm"]}
        assert (entry["tuned_arm"] == label) == (entry["chosen"]["number"] == 0)
        config = records[entry["tuned_arm"]].config()
        for path, value in entry["chosen"]["parameters"].items():
            group, key = path.split(".")
            assert config[group][key] == value
    assert set(records) == expected
    assert {record.seed for record in records.values()} == {0}
    assert any("test/cls/balanced_accuracy" in record.metrics for record in records.values())
    # the same run again, by the config that was written: it is found
    assert "train with them: lossbench train loss=focal +tuned=s/focal" in said
    for loss in ("focal", "ldam"):
        code, again = run_command(
            "train", *TINY, "study=s", f"loss={loss}", f"+tuned=s/{loss}", where=where
        )
        assert code == 0, again
        assert "already done" in again
    code, again = run_command("train", *TINY, "loss=ldam", "+tuned=s/focal", where=where)
    assert code == 2
    assert "holds values for loss=focal, not for loss=ldam" in again
    code, again = run_command("train", *TINY, "optimizer=adamw", "+tuned=s/focal", where=where)
    assert code == 2
    assert "holds values for optimizer=sgd, not for optimizer=adamw" in again
    code, again = run_command("train", *TINY, "+tuned=s/foca", where=where)
    assert code == 2
    assert "did you mean 's/focal'" in again


@pytest.mark.slow
def test_a_larger_budget_extends_and_repeats_nothing(
    undisturbed: tuple[Path, str], tmp_path: Path
) -> None:
    shutil.copytree(undisturbed[0] / "runs", tmp_path / "runs")
    before = {r.folder.name: r.started for r in read_study(tmp_path / "runs" / "s" / "tuning")}
    code, said = run_command(*TUNE, "arms=focal", "budget=4", where=tmp_path)
    assert code == 2  # the other arm would have had fewer trials
    assert "ldam, cosine head of this study was tuned with budget=3, not 4" in said
    code, said = run_command(*TUNE, "budget=4", where=tmp_path)
    assert code == 0, said
    after = {r.folder.name: r.started for r in read_study(tmp_path / "runs" / "s" / "tuning")}
    assert len(after) == 8
    assert before.items() <= after.items()
    for label, entry in result(tmp_path)["arms"].items():
        assert entry["trials"][:3] == result(undisturbed[0])["arms"][label]["trials"]
    # nor is anything else changed once a result has been seen, whatever keeps the trials
    for key, given in {"objective": "objective=val/loss/cross_entropy", "study_seed": "tune_seed=5",
                       "cell": "imbalance.factor=20"}.items():  # fmt: skip
        code, said = run_command(*TUNE, "budget=4", given, "storage=sqlite:///x.db", where=tmp_path)
        assert (code, f"this study was tuned with {key}=" in said) == (2, True), said
    # a trial that was made is not taken back: the report would count too few
    found = (tmp_path / "runs/s/tuning/tuning.json").read_bytes()
    code, said = run_command(*TUNE, "budget=2", where=tmp_path)
    assert (code, "has had 4 trials, of which none may be left out" in said) == (2, True)
    assert (tmp_path / "runs/s/tuning/tuning.json").read_bytes() == found


@pytest.mark.slow
def test_a_kill_in_the_middle_changes_nothing(
    undisturbed: tuple[Path, str], tmp_path: Path
) -> None:
    trials = tmp_path / "runs" / "s" / "tuning"
    process = command(*TUNE, where=tmp_path)
    wait_for(lambda: done(trials) >= 1)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = {r.folder.name: r.started for r in read_study(trials) if r.status == "done"}
    assert not (trials / "tuning.json").exists()
    with RunLock(trials / "lock"):  # somebody else tunes this study
        code, said = run_command(*TUNE, where=tmp_path)
        assert code == 1
        assert f"tuning is being written by process {os.getpid()}" in said
    code, said = run_command(*TUNE, where=tmp_path)
    assert code == 0, said
    assert result(tmp_path) == result(undisturbed[0])
    after = {r.folder.name: r.started for r in read_study(trials)}
    assert before.items() <= after.items()
    assert len(after) == 6


@pytest.mark.slow
def test_an_experiment_with_own_parts_failing_trials_and_a_database(tmp_path: Path) -> None:
    own = tmp_path / "own"
    for name, text in {
        "experiments/mine.yaml": "defaults: [{override /optimizer: wild}]\n"
        "trainer: {max_epochs: 1}\nstudy: s\n"
        "arms:\n  'own, [1]': {loss: taylor, loss.order: 3}\n  plain: {loss: cross_entropy}\n"
        "hydra: {sweeper: {params: {seed: '4,5'}}}\n",
        "loss/taylor.yaml": "_target_: my_losses.Taylor\norder: 2\n",
        "search/taylor.yaml": "loss.order: {low: 1, high: 5, integer: true}\n",
        "optimizer/wild.yaml": "defaults: [sgd]\nname: wild\n",
        "search/optimizer/wild.yaml": "optimizer.lr: {low: 1.0e+29, high: 1.0e+30, log: true}\n",
        "my_losses.py": "import torch\n"
        "class Taylor:\n"
        "    def __init__(self, order):\n"
        "        if order > 3:\n"
        "            raise ValueError('too deep')\n"
        "        self.order = order\n"
        "    def __call__(self, logits, target):\n"
        "        miss = 1 - logits.softmax(1).gather(1, target[:, None])[:, 0]\n"
        "        return sum(miss**k / k for k in range(1, self.order + 1))\n",
    }.items():
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text(text)
    arguments = (
        *("tune", "--config-dir", str(own), "experiment=mine", "budget=3", "seeds=1", "workers=2"),
        *("storage=sqlite:///kept.db", "sampler=tpe", "allow=[my_losses]"),
    )
    code, said = run_command(*arguments, where=tmp_path)
    assert code == 0, said  # that a trial diverges is a result of the search
    found = result(tmp_path)
    assert found["sampler"] == "tpe"
    assert "TPE: adaptive, unpaired" in said
    for label in ("own, [1]", "plain"):
        entry = found["arms"][label]
        assert [trial["value"] is None for trial in entry["trials"]] == [False, True, True]
        assert entry["chosen"]["number"] == 0
        assert entry["tuned_arm"] == label
    orders = [trial["parameters"]["loss.order"] for trial in found["arms"]["own, [1]"]["trials"]]
    assert orders[0] == 3
    assert {record.arm for record in read_study(tmp_path / "runs" / "s")} == {"own, [1]", "plain"}
    import optuna

    kept = optuna.load_study(study_name="s/plain", storage=f"sqlite:///{tmp_path}/kept.db")
    assert [trial.state.name for trial in kept.get_trials()] == ["COMPLETE", "FAIL", "FAIL"]
    code, said = run_command(*arguments, where=tmp_path)
    assert code == 0, said
    assert result(tmp_path) == found


REFUSED = {
    "budget=3": "say what to tune",
    "arms=foca": "unknown arm 'foca'; did you mean 'focal'",
    "arms=focal,focal": "each of them once",
    "arms=focal budget=0": "budget=0 is not allowed",
    "arms=focal trial_seeds=0": "trial_seeds=0 is not allowed",
    "arms=focal seeds=1000001": "seeds=1000001 is not allowed",  # the trials' seeds begin there
    "arms=focal sampler=random": "paired or tpe",
    "arms=focal objective=test/cls/accuracy": "unknown objective 'test/cls/accuracy'",
    "arms=focal objective=val/recall/77": "unknown objective 'val/recall/77'",
    "arms=focal data.validation_per_class=0": "there is none; give data.validation_per_class=N",
    "arms=focal loss=ldam": "loss=ldam is not for lossbench tune: name the losses with arms=",
    "arms=focal seed=3": "seed=3 is not for lossbench tune",
    "arms=focal imbalance.factor=10,100": "several cells or arms",
    "arms=focal zip=[a,b]": "zip=[a,b] is not for lossbench tune",
    "arms=focal storage=nothing": "storage=nothing cannot be opened",
    "arms=focal foo=1": "unknown config key 'foo'",
    "arms=focal loss.gamma=1": "loss.gamma=1 is not for lossbench tune",
    "arms=focal optimizer.lr=-1": "optimizer.lr=-1 is not allowed",
}


def test_arms_whose_values_would_have_one_name_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "twins.yaml").write_text(
        "arms:\n  f a: {loss: focal}\n  f-a: {loss: cross_entropy}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main(["tune", "--config-dir", ".", "experiment=twins", "data=digits"]) == 2
    assert "'f a' and 'f-a' would both be called f-a" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["experiments"]


@pytest.mark.parametrize("arguments", REFUSED)
def test_bad_input_is_one_line_and_nothing_is_written(
    arguments: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["tune", "data=digits", *arguments.split()]) == 2
    said = capsys.readouterr().err
    assert REFUSED[arguments] in said
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_help_and_a_missing_optuna(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["tune", "--help"]) == 0
    said = capsys.readouterr().out
    for key in ("arms", "budget", "sampler", "objective", "trial_seeds", "seeds", "tune_seed"):
        assert f"  {key}=" in said
    find: Callable[..., Any] = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name == "optuna" else find(name, *a)
    )
    assert main(["tune", "arms=focal"]) == 2
    assert 'pip install "lossbench[tune]"' in capsys.readouterr().err
    assert sys.modules["lossbench.tuning.command"].FIRST_TRIAL_SEED == 1_000_000
