"""`lossbench sweep hydra/launcher=...`: Ray, submitit, and a stand-in for Slurm's programs.

Whatever ran a sweep, its records are those of the local launcher, bit for bit.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lossbench.cli import main
from lossbench.records import read_study
from tests.cli.test_sweep_command import (
    _nothing_is_left_running,  # noqa: F401
    alive,
    command,
    holders,
    results,
    run_command,
    wait_for,
)

DIGITS = ("data=digits", "imbalance=exponential", "imbalance.factor=10", "study=s")
SWEEP = (*DIGITS, "seed=0,1", "trainer.max_epochs=60")

OWN_LOSS = """
import torch

class Halved(torch.nn.CrossEntropyLoss):
    def forward(self, logits, target):
        return super().forward(logits, target) / 2
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float | None]]:
    """The results of `SWEEP` on the local launcher, by identity."""
    where = tmp_path_factory.mktemp("undisturbed")
    code, said = run_command("sweep", *SWEEP, where=where)
    assert code == 0, said
    return results(where / "runs" / "s")


def test_a_sweep_on_ray_with_a_loss_of_ones_own_equals_the_local_one(tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "loss").mkdir(parents=True)
    (own / "loss" / "halved.yaml").write_text("_target_: ray_losses.Halved\n")
    (own / "ray_losses.py").write_text(OWN_LOSS)
    sweep = (
        "sweep", *DIGITS, "loss=focal,halved", "trainer.max_epochs=2", "--config-dir", "../own",
        "allow=[ray_losses]",
    )  # fmt: skip
    studies = []
    for launcher in ("ray", "local"):
        where = tmp_path / launcher
        where.mkdir()
        code, said = run_command(*sweep, f"hydra/launcher={launcher}", where=where)
        assert code == 0, said
        assert "2 trained, 0 from before, 0 failed; runs/s" in said
        assert len(said.splitlines()) < 12  # not drowned in a launcher's logs
        studies.append(results(where / "runs" / "s"))
    assert len(studies[0]) == 2
    assert studies[0] == studies[1]


@pytest.mark.parametrize(
    ("launcher", "package", "extra"),
    [("ray", "ray", "ray"), ("submitit_local", "submitit", "slurm")],
)
def test_a_missing_extra_is_named(
    launcher: str, package: str, extra: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["sweep", "seed=0,1", f"hydra/launcher={launcher}"]) == 2
    assert f'pip install "lossbench[{extra}]"' in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_slurm_is_missed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["sweep", "seed=0,1", "hydra/launcher=submitit_slurm"]) == 2
    assert "no sbatch on the PATH" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_job_that_dies_at_once_is_named_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node on which lossbench cannot be imported."""
    node = tmp_path / "node"
    node.mkdir()
    (node / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'SUBMITIT_LOCAL_JOB_ID' in os.environ: sys.modules['lossbench'] = None\n"
    )
    code, said = run_command(
        "sweep", *SWEEP, "hydra/launcher=submitit_local", "--config-dir", str(node), where=tmp_path
    )
    assert code == 1
    found = re.search(r"2 jobs died: ModuleNotFoundError: .*'lossbench.*; log: (\S+)", said)
    assert found, said
    assert "Traceback" in Path(found[1]).read_text()
    assert "0 trained, 0 from before, 0 failed, 2 not finished" in said
    code, said = run_command("status", where=tmp_path)
    assert "2 missing" in said  # and the folder of the jobs is taken for no study or run
    assert len(said.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("requeued", [True, False])
def test_a_preempted_job_goes_on_from_its_checkpoint(
    requeued: bool, undisturbed: dict[str, dict[str, float | None]], tmp_path: Path
) -> None:
    """By submitit where it requeues; else (out of time too often) the sweep submits it again."""
    limits = (
        () if requeued else ("hydra.launcher.timeout_min=9", "hydra.launcher.max_num_timeout=0")
    )
    study = tmp_path / "runs" / "s"
    process = command(
        "sweep", *SWEEP, "workers=1", "hydra/launcher=submitit_local", *limits, where=tmp_path
    )
    name, worker = next(iter(wait_for(lambda: holders(study, at_epoch=8)).items()))
    os.kill(worker, signal.SIGUSR2)  # submitit's sign of a preemption, or of time running out
    seen: set[int] = set()

    def goes_on() -> bool:
        try:
            holder = json.loads((study / name / "lock").read_text())
        except (ValueError, FileNotFoundError):
            return False
        if holder["process"] != worker:
            seen.add(holder.get("epoch", 0))
        return len(seen) > 5

    wait_for(goes_on, seconds=300)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert min(seen - {0}) >= 8  # 0 is said before the checkpoint is read
    assert ("timed-out too many times" in err) is not requeued
    assert results(study) == undisturbed


def listening(parent: int) -> set[str]:
    """On which addresses the process and all below it listen, in the kernel's writing."""
    family, parents = {parent}, {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            parents[int(place.name)] = int(fields[1])
    while more := {child for child, of in parents.items() if of in family} - family:
        family |= more
    sockets = set()
    for process in family:
        with suppress(OSError):
            for link in Path(f"/proc/{process}/fd").iterdir():
                with suppress(OSError):
                    sockets.add(os.readlink(link))
    rows = [
        row.split()
        for table in ("tcp", "tcp6")
        for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return {row[1].partition(":")[0] for row in rows if f"socket:[{row[9]}]" in sockets
            and row[3] == "0A"}  # fmt: skip


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@pytest.mark.slow
@pytest.mark.parametrize("end", ["Ctrl-C twice", "SIGKILL"])
def test_what_ray_began_the_local_launcher_finishes(
    end: str, undisturbed: dict[str, dict[str, float | None]], tmp_path: Path
) -> None:
    study = tmp_path / "runs" / "s"
    process = command("sweep", *SWEEP, "hydra/launcher=ray", where=tmp_path)
    workers = wait_for(lambda: holders(study, at_epoch=5))
    heard = listening(process.pid)
    assert heard
    assert heard <= LOOPBACK  # who can talk to Ray can have it run anything
    if end == "SIGKILL":
        process.kill()
        process.communicate()
    else:
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=120) == 130
    wait_for(lambda: not any(alive(worker) for worker in workers.values()), seconds=120)
    code, said = run_command("sweep", *SWEEP, where=tmp_path)
    assert code == 0, said
    assert results(study) == undisturbed


@pytest.mark.slow
def test_a_node_of_a_ray_cluster_is_lost_in_mid_sweep(
    undisturbed: dict[str, dict[str, float | None]], tmp_path: Path
) -> None:
    """Three nodes of one CPU each, which raylets of this machine stand for; one is killed."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        lost, _ = (cluster.add_node(num_cpus=1) for _ in range(2))
        study = tmp_path / "runs" / "s"
        process = command(
            "sweep", *SWEEP, "loss=cross_entropy,focal", "hydra/launcher=ray",
            f"hydra.launcher.ray.init.address={cluster.address}", where=tmp_path,
        )  # fmt: skip
        before = wait_for(lambda: len(holders(study)) == 3 and holders(study), seconds=300)
        cluster.remove_node(lost, allow_graceful=False)
        out, err = process.communicate(timeout=900)
    finally:
        cluster.shutdown()
    assert process.returncode == 0, err
    assert len(before) == 3
    assert "its job died: " in err  # and went on in the same sweep
    found = results(study)
    assert len(found) == 4
    assert all(found[identity] == metrics for identity, metrics in undisturbed.items())
    code, said = run_command("sweep", *SWEEP, "loss=cross_entropy,focal", where=tmp_path)
    assert "4 already done, 0 to do" in said


SBATCH = """\
import os, subprocess, sys
from pathlib import Path

text = Path(sys.argv[-1]).read_text()
options = dict(line[8:].partition("=")[::2] for line in text.splitlines() if line[:7] == "#SBATCH")
last = int(options["--array"].partition("%")[0].partition("-")[2])
for task in range(last + 1):
    environment = os.environ | {
        "SLURM_JOB_ID": str(700 + task),
        "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(task),
        "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_JOB_NODELIST": "node1",
        "SLURM_JOB_NUM_NODES": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0",
        "SLURM_JOB_NAME": "lossbench", "SLURM_CPUS_PER_TASK": options["--cpus-per-task"],
    }
    subprocess.Popen(["bash", sys.argv[-1]], env=environment, cwd=os.environ["ELSEWHERE"],
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print("Submitted batch job 7")
"""
SRUN = """\
import os, sys

command = sys.argv[1:]
while command[0] != sys.executable:
    command.pop(0)
os.execv(command[0], command)
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Programs with the names of Slurm's: the jobs run here, and begin in another folder."""
    programs = tmp_path / "slurm"
    programs.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", ""), ("scancel", "")):
        (programs / name).write_text(f"#!{sys.executable}\n{text}")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setenv("ELSEWHERE", str(programs))
    return programs


@pytest.mark.slow
def test_a_sweep_is_a_job_array_of_slurm(
    slurm: Path, undisturbed: dict[str, dict[str, float | None]], tmp_path: Path
) -> None:
    code, said = run_command(
        "sweep", *SWEEP, "hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu",
        "hydra.launcher.gres='gpu:a100:1'", "hydra.launcher.setup=['module() { :; }','module x']",
        "workers=5", where=tmp_path,
    )  # fmt: skip
    assert code == 0, said
    study = tmp_path / "runs" / "s"
    assert results(study) == undisturbed
    (script,) = (study / ".submitit").glob("*_submission.sh")
    lines = script.read_text().splitlines()
    for option in (
        "--array=0-1%2", "--partition=gpu", "--gres=gpu:a100:1", "--cpus-per-task=1",
        "--signal=USR2@60", "--time=240", "--job-name=lossbench", "--requeue",
    ):  # fmt: skip
        assert f"#SBATCH {option}" in lines, script.read_text()
    assert "module x" in lines
    assert len(read_study(study)) == 2
