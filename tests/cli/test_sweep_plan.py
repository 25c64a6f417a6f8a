"""`lossbench sweep --plan`, extensions of a study, and refusals before anything is written."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lossbench.cli import main
from lossbench.records import read_study

ROOT = Path(__file__).parents[2]
TINY = (
    *("data=digits", "imbalance=exponential", "imbalance.factor=10"),
    *("trainer.max_epochs=1", "study=s", "workers=1"),
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def tree(place: Path) -> dict[str, tuple[int, bytes | None]]:
    """Every file and folder below ``place``: when it was changed, and what is in it."""
    return {
        str(path.relative_to(place)): (
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else None,
        )
        for path in place.rglob("*")
    }


def lossbench(*arguments: str) -> tuple[int, str, str]:
    """`lossbench` in a process of its own: exit code, stdout, stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "lossbench", *arguments],
        capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_a_study_is_planned_trained_extended_and_compared(tmp_path: Path) -> None:
    """A run, then an arm, a cell and a seed more: 8 runs, of which one is there."""
    code, _, err = lossbench("sweep", *TINY, "loss=cross_entropy", "seeds=1")
    assert code == 0, err
    assert "time    unknown, no finished run to go by" in err
    before = tree(tmp_path)

    more = ("sweep", *TINY, "loss=cross_entropy,focal", "seeds=2", "imbalance.factor=10,20")
    code, out, err = lossbench(*more, "--plan")
    assert (code, err) == (0, "")
    assert "study s: 8 runs, 1 already done, 7 to do" in out
    assert (
        "with 1 worker, by 1 finished run of the same arm and cell, 1 of the same cell, "
        "1 of the same data and model, scaled by epochs"
    ) in out
    assert tree(tmp_path) == before

    code, _, err = lossbench(*more)
    assert code == 0, err
    assert "study s: 7 trained, 1 from before, 0 failed" in err
    after = tree(tmp_path)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"runs/s", "runs/s/plan.json"}
    code, out, err = lossbench("compare", "study=s")
    assert code == 0, err
    assert "interim" not in out
    with Path("runs/s/comparison/results.csv").open(newline="") as stream:
        used = {(row["arm"], row["cell"], row["seed"]) for row in csv.DictReader(stream)}
    assert len(used) == 8


@pytest.mark.slow
def test_what_was_planned_and_given_up_is_told_and_can_be_forgotten() -> None:
    mistyped = ("sweep", *TINY, "optimizer.lr=1e30", "seeds=4", "on_error=stop")
    code, _, err = lossbench(*mistyped)
    assert code == 1
    assert "1 failed, 3 not finished" in err
    code, _, err = lossbench("sweep", *TINY, "loss=cross_entropy,focal", "seeds=2")
    assert code == 0, err
    told = "3 runs are planned by earlier sweeps of this study and not done; to forget plans, "
    assert f"{told}remove runs/s/plan.json" in err
    assert "s: 4 done, 1 failed, 3 missing" in lossbench("status", "study=s")[1]
    interim = "This is an interim look: 3 planned runs are still to come."
    assert lossbench("compare", "study=s")[0] == 0
    report = Path("runs/s/comparison/results.md")
    assert interim in report.read_text()
    assert "forgotten by removing the study's plan.json" in report.read_text()
    Path("runs/s/plan.json").unlink()
    assert "s: 4 done, 1 failed\n" in lossbench("status", "study=s")[1]
    assert lossbench("compare", "study=s")[0] == 0
    assert "interim" not in report.read_text()


def test_a_plan_imports_no_torch(tmp_path: Path) -> None:
    program = (
        "import sys; from lossbench.cli import main; code = main(sys.argv[1:]);"
        "sys.exit(code or ('torch' in sys.modules) * 77)"
    )
    for data in ("digits", "cifar10"):  # the second is nowhere here, and is not downloaded
        done = subprocess.run(
            [sys.executable, "-c", program, "sweep", "--plan", f"data={data}", "seeds=2"],
            capture_output=True, text=True, check=False,
            env=os.environ
            | {"LOSSBENCH_DATA": str(tmp_path / "none"), "PYTHONPATH": str(ROOT / "src")},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "2 runs, 0 already done, 2 to do" in done.stdout
        assert ("not on this machine and will be downloaded" in done.stdout) == (data != "digits")
    assert not any(tmp_path.iterdir())


BAD = {
    "loss": "loss=focal,focall",
    "seed": "seed=0,-1",
    "value": "loss=focal loss.gamma=1,-1",
    "workers": "workers=0 seed=0,1",
    "counts": "imbalance=counts imbalance.counts=[7] seed=0,1",
    "place": "runs_dir=file/below seed=0,1",
    "sweeper": "hydra/sweeper=basic seed=0,1",
    "option": "--gamma 3",
    "seed and seeds": "seed=1 seeds=3",
    "seeds": "seeds=0",
    "seeds fraction": "seeds=1.5",
    "zip": "loss=focal loss.gamma=1,2 optimizer.lr=0.1,0.2,0.3 zip=[loss.gamma,optimizer.lr]",
    "exclude": "loss=focal,mae exclude=[{loss:ldam}]",
    "plan": "runs_dir=damaged seed=0,1",
}


@pytest.mark.parametrize("given", BAD.values(), ids=BAD.keys())
def test_a_plan_refuses_what_the_sweep_refuses(given: str, tmp_path: Path, capfd) -> None:
    Path("file").touch()
    Path("damaged/default").mkdir(parents=True)
    Path("damaged/default/plan.json").write_text("{")
    before = tree(tmp_path)
    said = []
    for option in ([], ["--plan"]):
        assert main(["sweep", *option, "data=digits", *given.split()]) == 2
        out, err = capfd.readouterr()
        assert out == ""
        said.append(err)
    assert said[0] == said[1]
    assert said[0].startswith("lossbench: ")
    assert said[0].count("\n") == 1
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("train --gamma 3", "unrecognized arguments: --gamma; settings are KEY=VALUE"),
        ("train --plan", "--plan is for lossbench sweep"),
        ("train seeds=3", "seeds=3: lossbench train trains one run"),
        ("train zip=[seed,loss]", "use lossbench sweep"),
        ("train exclude=[{loss:mae}]", "use lossbench sweep"),
        (
            "train experiment=digits_quickstart",
            "lists arms (cross_entropy, label_smoothing, focal, temperature_scaled, "
            "balanced_softmax), and lossbench train trains one run: use lossbench sweep",
        ),
        ("train hydra/sweeper=basic", "hydra/sweeper=basic is not allowed"),
    ],
)
def test_train_refuses_what_is_meant_for_many_runs(command: str, expected: str, capfd) -> None:
    assert main(command.split()) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert expected in err
    assert not any(Path().iterdir())


def write_experiment(text: str) -> list[str]:
    Path("own/experiments").mkdir(parents=True, exist_ok=True)
    Path("own/experiments/mine.yaml").write_text(text)
    return ["--config-dir", "own", "experiment=mine"]


def planned(capfd, *arguments: str) -> list[tuple[str, str]]:
    """Arm and seed of every run that `--plan` lists."""
    assert main(["sweep", *arguments, "--plan"]) == 0, capfd.readouterr().err
    rows = [line.split("  ") for line in capfd.readouterr().out.splitlines()]
    rows = [[cell.strip() for cell in row if cell] for row in rows]
    return [(row[1], row[2]) for row in rows if row[:1] == ["to do"]]


EXPERIMENT = """
defaults: [{override /data: digits}, {override /imbalance: exponential}]
arms:
  ce: {loss: cross_entropy}
  margin: {loss: ldam}
  cosine: {loss: ldam, model.head: cosine}
exclude: [{arm: margin}]  # which would be refused: it needs a cosine head
"""


def test_an_experiment_may_say_all_of_it(capfd) -> None:
    """What the command line says of the seeds comes before what the experiment says."""
    mine = write_experiment(EXPERIMENT + "seeds: 2\n")
    arms = ("ce", "cosine")
    assert planned(capfd, *mine) == [(arm, f"seed {seed}") for seed in (0, 1) for arm in arms]
    assert planned(capfd, *mine, "seed=7") == [(arm, "seed 7") for arm in arms]
    mine = write_experiment(EXPERIMENT + "hydra: {sweeper: {params: {seed: '5,6'}}}\n")
    assert planned(capfd, *mine) == [(arm, f"seed {seed}") for seed in (5, 6) for arm in arms]
    assert planned(capfd, *mine, "seeds=1") == [(arm, "seed 0") for arm in arms]

    assert main(["sweep", "--plan", *mine, "exclude=null"]) == 2
    assert "model.head=linear is not allowed for loss=ldam" in capfd.readouterr().err
    zipped = write_experiment(
        "defaults: [{override /data: digits}]\nloss: {gamma: 1}\nzip: [loss.gamma, optimizer.lr]\n"
        "hydra: {sweeper: {params: {loss: focal, loss.gamma: '1,2', optimizer.lr: '0.1,0.2'}}}\n"
    )
    assert planned(capfd, *zipped) == [
        ("focal(gamma=1), optimizer.lr=0.1", "seed 0"),
        ("focal, optimizer.lr=0.2", "seed 0"),
    ]
    for text, expected in (
        ("seeds: 2\nhydra: {sweeper: {params: {seed: '5,6'}}}\n", "seed= and seeds=2 both say"),
        ("hydra: {sweeper: {params: {seeds: 2}}}\n", "write it at the top of the experiment"),
    ):
        assert main(["sweep", "--plan", *write_experiment(EXPERIMENT + text)]) == 2
        assert expected in capfd.readouterr().err


def test_the_plan_file_gives_overrides_that_train_takes(capfd) -> None:
    """`seeds`, `zip` and `exclude` are of the sweep: no run has them among its overrides."""
    assert lossbench(
        "sweep", *TINY, "loss=focal,mae", "optimizer.lr=0.1,0.2", "seeds=1",
        "zip=[loss,optimizer.lr]", "exclude=[{loss: mae}]",
    )[0] == 0  # fmt: skip
    (run,) = json.loads(Path("runs/s/plan.json").read_text())["runs"]
    (record,) = read_study(Path("runs/s"))
    assert run["folder"] == record.folder.name
    assert main(["train", *run["overrides"]]) == 0
    assert "already done" in capfd.readouterr().err
