"""`lossbench sweep` as a user drives it: processes, signals, kills, and starting again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lossbench.records import read_study

ROOT = Path(__file__).parents[2]
BASE = ("data=digits", "imbalance=exponential", "imbalance.factor=10", "study=s", "workers=2")


started: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    yield
    while started:
        process = started.pop()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def command(*arguments: str, where: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "lossbench", *arguments],
        cwd=where,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
    )
    started.append(process)
    return process


def run_command(*arguments: str, where: Path, seconds: float = 600) -> tuple[int, str]:
    process = command(*arguments, where=where)
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out + err


def wait_for(condition: Callable[[], object], seconds: float = 300) -> object:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"did not happen within {seconds} s")


def holders(study: Path, at_epoch: int = 1) -> dict[str, int]:
    """The process of every run that has finished ``at_epoch``, by folder name."""
    found = {}
    for path in study.glob("*/lock"):
        try:
            holder = json.loads(path.read_text())
        except (ValueError, FileNotFoundError):
            continue
        if holder.get("epoch", -1) >= at_epoch:
            found[path.parent.name] = holder["process"]
    return found


def done(study: Path) -> int:
    return sum(record.status == "done" for record in read_study(study))


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"


def results(study: Path) -> dict[str, dict[str, float | None]]:
    return {record.identity: record.metrics for record in read_study(study)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 arms x 3 seeds of 12 epochs, never disturbed; the folder of its study."""
    where = tmp_path_factory.mktemp("undisturbed")
    code, said = run_command("sweep", *BASE, *SWEEP, where=where)
    assert code == 0, said
    return where / "runs" / "s"


SWEEP = ("loss=cross_entropy,focal", "seed=0,1,2", "trainer.max_epochs=12")


def test_a_sweep_trains_its_plan_and_a_second_call_finds_it_done(undisturbed: Path) -> None:
    records = read_study(undisturbed)
    assert [(record.arm, record.seed) for record in records] == [
        (arm, seed) for arm in ("cross_entropy", "focal") for seed in (0, 1, 2)
    ]
    plan = json.loads((undisturbed / "plan.json").read_text())
    assert {run["identity"] for run in plan["runs"]} == {record.identity for record in records}

    where = undisturbed.parents[1]
    code, said = run_command("sweep", *BASE, *SWEEP, where=where)
    assert code == 0
    assert "6 runs, 6 already done, 0 to do" in said
    # more seeds and another arm: only what is new is trained
    code, said = run_command(
        "sweep", *BASE, "loss=cross_entropy,focal", "seed=range(0,4)", "trainer.max_epochs=12",
        where=where,
    )  # fmt: skip
    assert code == 0
    assert "8 runs, 6 already done, 2 to do" in said
    assert done(undisturbed) == 8


def test_train_gives_the_same_bits_as_a_sweep(undisturbed: Path, tmp_path: Path) -> None:
    code, said = run_command(
        "train", *BASE, "loss=focal", "seed=1", "trainer.max_epochs=12", where=tmp_path
    )
    assert code == 0, said
    (record,) = read_study(tmp_path / "runs" / "s")
    assert record.metrics == results(undisturbed)[record.identity]


def test_the_run_of_a_killed_worker_goes_on_as_if_undisturbed(
    undisturbed: Path, tmp_path: Path
) -> None:
    study = tmp_path / "runs" / "s"
    process = command("sweep", *BASE, *SWEEP, where=tmp_path)
    for kill in range(3):  # each after a further epoch: no reason to give the run up
        found = wait_for(lambda: holders(study, at_epoch=1 + 3 * kill))  # noqa: B023
        os.kill(next(iter(found.values())), signal.SIGKILL)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "its worker process was killed by signal 9; it goes on after epoch" in err
    assert "6 trained" in err
    mine, theirs = results(study), results(undisturbed)
    assert len(mine) == 6
    assert mine == {identity: theirs[identity] for identity in mine}


@pytest.mark.slow
def test_a_run_that_kills_its_workers_fails_and_the_others_are_trained(tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "experiments").mkdir(parents=True)
    (own / "experiments" / "mine.yaml").write_text(
        "trainer: {max_epochs: 4}\n"
        "arms:\n"
        "  plain: {loss: cross_entropy}\n"
        "  deadly: {loss: custom, loss._target_: my_losses.Deadly}\n"
        "  greedy: {loss: custom, loss._target_: my_losses.Greedy}\n"
    )
    (own / "my_losses.py").write_text(
        "import os, torch\n"
        "class Deadly:\n"
        "    def __call__(self, logits, target):\n"
        "        return torch.nn.functional.cross_entropy(logits, target)\n"
        "    def set_epoch(self, epoch, max_epochs):\n"
        "        if epoch == 2:  # what the kernel does when memory runs out\n"
        "            os.kill(os.getpid(), 9)\n"
        "class Greedy(Deadly):\n"
        "    def set_epoch(self, epoch, max_epochs):\n"
        "        if epoch == 2:\n"
        "            torch.empty(2**60)\n"
    )
    code, said = run_command(
        "sweep", "--config-dir", str(own), "experiment=mine", "seed=0,1", "workers=2",
        "allow=[my_losses]", where=tmp_path,
    )  # fmt: skip
    assert code == 1, said
    records = {(record.arm, record.seed): record for record in read_study(tmp_path / "runs/mine")}
    for seed in (0, 1):
        assert records["plain", seed].status == "done"
        deadly, greedy = records["deadly", seed], records["greedy", seed]
        reason = "its worker process was killed by signal 9, 3 times in epoch 3; out of memory?"
        assert (deadly.status, deadly.reason) == ("failed", reason)
        assert greedy.status == "failed"
        assert "allocate" in (greedy.reason or "")
    assert "2 trained, 0 from before, 4 failed" in said
    assert "Traceback" not in said


def test_what_a_worker_refuses_is_said_and_not_recorded(tmp_path: Path) -> None:
    convnet = (*BASE, "model=convnet", "trainer.max_epochs=1", "seed=0,1")
    code, said = run_command("sweep", *convnet, "trainer.devices=2", where=tmp_path)
    assert code == 1, said
    assert said.count("REFUSED: ") == 2
    assert "BatchNorm on the CPU" in said
    assert "2 not finished" in said
    assert not read_study(tmp_path / "runs/s")
    code, said = run_command("sweep", *convnet, where=tmp_path)  # no retry_failed is needed
    assert code == 0, said
    assert len(read_study(tmp_path / "runs/s")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_a_closed_terminal_stop_a_sweep_now(
    tmp_path: Path, number: signal.Signals
) -> None:
    study = tmp_path / "runs" / "s"
    process = command("sweep", *BASE, "seed=0,1,2", "trainer.max_epochs=3000", where=tmp_path)
    running = wait_for(lambda: len(holders(study)) == 2 and holders(study))
    if number == signal.SIGHUP:  # a terminal tells all that run in it, a batch system the parent
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    wait_for(lambda: not any(alive(pid) for pid in running.values()), seconds=60)
    assert [record.status for record in read_study(study)] == ["running", "running"]


@pytest.mark.slow
def test_sigterm_stops_a_single_run_which_can_go_on(tmp_path: Path) -> None:
    study = tmp_path / "runs" / "s"
    process = command("train", *BASE, "trainer.max_epochs=3000", where=tmp_path)
    wait_for(lambda: holders(study))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    assert err.endswith("lossbench: interrupted; the same command goes on from here\n")
    assert "Traceback" not in err
    code, said = run_command("status", "study=s", where=tmp_path)
    assert "s: 1 interrupted" in said
    assert "continues after epoch" in said


@pytest.mark.slow
def test_killing_the_whole_sweep_loses_nothing(undisturbed: Path, tmp_path: Path) -> None:
    study = tmp_path / "runs" / "s"
    for kills in range(2):
        process = command("sweep", *BASE, *SWEEP, where=tmp_path)
        running = wait_for(lambda: holders(study, at_epoch=2 + 3 * kills))  # noqa: B023
        process.kill()  # the parent only: its workers must not train on as orphans
        process.communicate()
        wait_for(lambda: not any(alive(pid) for pid in running.values()), seconds=60)  # noqa: B023
    before = done(study)
    states = {record.identity: record.status for record in read_study(study)}
    assert set(states.values()) <= {"done", "running"}
    code, said = run_command("sweep", *BASE, *SWEEP, where=tmp_path)
    assert code == 0, said
    assert f"6 runs, {before} already done, {6 - before} to do" in said
    reference = results(undisturbed)
    mine = results(study)
    assert len(mine) == 6
    assert all(metrics == reference[run] for run, metrics in mine.items())


def test_one_ctrl_c_finishes_the_running_ones(tmp_path: Path) -> None:
    study = tmp_path / "runs" / "s"
    process = command("sweep", *BASE, *SWEEP, where=tmp_path)
    wait_for(lambda: len(holders(study)) == 2)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 130, err
    assert "the running ones are finished first" in err
    statuses = [record.status for record in read_study(study)]
    assert statuses == ["done", "done"]


def test_two_ctrl_c_stop_at_once_and_nothing_fails(tmp_path: Path) -> None:
    study = tmp_path / "runs" / "s"
    process = command("sweep", *BASE, "seed=0,1", "trainer.max_epochs=3000", where=tmp_path)
    running = wait_for(lambda: len(holders(study)) == 2 and holders(study))
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    assert not any(alive(pid) for pid in running.values())
    assert [record.status for record in read_study(study)] == ["running", "running"]
    code, said = run_command("status", "study=s", where=tmp_path)
    assert "s: 2 interrupted" in said


def test_failures_are_all_named_and_the_others_are_trained(tmp_path: Path) -> None:
    code, said = run_command(
        "sweep", *BASE, "loss=cross_entropy,focal", "optimizer.lr=0.05,1e30", "seed=0,1",
        "trainer.max_epochs=1", where=tmp_path,
    )  # fmt: skip
    assert code == 1
    assert "study s: 4 trained, 0 from before, 4 failed" in said
    for loss in ("cross_entropy", "focal"):
        for seed in (0, 1):
            assert f"{loss}, optimizer.lr=1e+30 seed {seed}" in said
    assert said.count("failed: runs/s/") == 4
    assert "became nan in epoch 1" in said

    code, said = run_command("status", "study=s", where=tmp_path)
    assert code == 0
    assert "s: 4 done, 4 failed" in said


def test_on_error_stop_finishes_the_running_ones_and_starts_no_further_run(tmp_path: Path) -> None:
    code, said = run_command(
        "sweep", *BASE, "optimizer.lr=1e30,0.05,0.04,0.03", "on_error=stop",
        "trainer.max_epochs=40", where=tmp_path,
    )  # fmt: skip
    assert code == 1
    statuses = sorted(record.status for record in read_study(tmp_path / "runs" / "s"))
    assert statuses == ["done", "failed"]
    assert "1 trained, 0 from before, 1 failed, 2 not finished" in said


@pytest.mark.slow
def test_a_damaged_record_is_named_moved_aside_and_trained_again(
    undisturbed: Path, tmp_path: Path
) -> None:
    arguments = ("sweep", *BASE, "seed=0,1", "trainer.max_epochs=1")
    assert run_command(*arguments, where=tmp_path)[0] == 0
    study = tmp_path / "runs" / "s"
    first, second = (record.folder for record in read_study(study))
    before = results(study)
    (first / "record.json").write_text('{"schema": 1, "stat')
    (second / "arrays.npz").write_bytes((second / "arrays.npz").read_bytes()[:100])
    code, said = run_command(*arguments, where=tmp_path)
    assert code == 0, said
    assert "0 already done, 2 to do" in said
    for folder in (first, second):
        assert f"moved aside to runs/s/damaged/{folder.name}-1" in said
        assert (study / "damaged" / f"{folder.name}-1").is_dir()
    assert results(study) == before


@pytest.mark.slow
def test_another_launcher_of_hydra_takes_the_runs(undisturbed: Path, tmp_path: Path) -> None:
    code, said = run_command(
        "sweep", *BASE, "loss=focal", "seed=0,1", "trainer.max_epochs=12", "hydra/launcher=basic",
        where=tmp_path,
    )  # fmt: skip
    assert code == 0, said
    reference = results(undisturbed)
    mine = results(tmp_path / "runs" / "s")
    assert len(mine) == 2
    assert all(metrics == reference[run] for run, metrics in mine.items())
    assert not (tmp_path / "multirun").exists()


def test_a_sweep_without_a_loss_of_its_own_uses_the_experiments_arms(tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "experiments").mkdir(parents=True)
    (own / "experiments" / "mine.yaml").write_text(
        "trainer: {max_epochs: 1}\n"
        "arms:\n"
        "  plain: {loss: cross_entropy}\n"
        "  'focal, hard [5]': {loss: focal, loss.gamma: 5}\n"
        "  own: {loss: custom, loss._target_: my_losses.Mine}\n"
        "hydra: {sweeper: {params: {seed: '4,5'}}}\n"
    )
    (own / "my_losses.py").write_text(
        "import torch\n"
        "class Mine:\n"
        "    def __init__(self, class_counts):\n"
        "        assert len(class_counts) == 10\n"
        "    def __call__(self, logits, target):\n"
        "        return torch.nn.functional.cross_entropy(logits, target, reduction='none')\n"
    )
    mine = ("sweep", "--config-dir", str(own), "experiment=mine")
    code, said = run_command(*mine, "allow=[my_losses]", where=tmp_path)
    assert code == 0, said
    records = read_study(tmp_path / "runs" / "mine")
    assert [(record.arm, record.seed) for record in records] == [
        (arm, seed) for arm in ("focal, hard [5]", "own", "plain") for seed in (4, 5)
    ]
    assert {record.loss for record in records} == {"cross_entropy", "focal", "Mine"}
