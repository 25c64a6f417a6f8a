"""GPU slots: which there are, and that a worker keeps to its own."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from lossbench.errors import InputError
from lossbench.sweeps.slots import VISIBLE, cores, worker_slots
from tests.cli.test_sweep_command import run_command

LISTED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aa)
  MIG 3g.20gb     Device  0: (UUID: MIG-a0)
  MIG 3g.20gb     Device  1: (UUID: MIG-a1)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bb)
"""


def slots(accelerator: str = "gpu", **given: int) -> list[str | None]:
    settings = {"threads": 1, "devices": 1, "workers": None, "runs_per_gpu": 1} | given
    trainer = SimpleNamespace(
        accelerator=accelerator, threads=settings["threads"], devices=settings["devices"]
    )
    config = SimpleNamespace(trainer=trainer, **settings)
    return [slot.get(VISIBLE) for slot in worker_slots(config)]


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name, first on the PATH, that lists `LISTED`; the variable is not set."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n[ \"$1\" = -L ] && cat <<'END'\n{LISTED}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv(VISIBLE, raising=False)
    return program


def test_gpus_are_those_of_the_variable_as_they_stand_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VISIBLE, "3, GPU-5e,MIG-GPU-5e/1/0")
    assert slots() == ["3", "GPU-5e", "MIG-GPU-5e/1/0"]
    assert slots("auto", workers=2) == ["3", "GPU-5e"]
    monkeypatch.setenv(VISIBLE, "0,1,2,3,4")
    assert slots(devices=2) == ["0,1", "2,3"]  # the odd one is left over
    # every GPU gets a run before any gets a second
    assert slots(devices=2, runs_per_gpu=2, workers=3) == ["0,1", "2,3", "0,1"]
    monkeypatch.setenv(VISIBLE, "1,-1,0")  # CUDA reads up to the first that is none
    assert slots() == ["1"]


def test_without_the_variable_nvidia_smi_is_asked_and_mig_instances_count(nvidia_smi: Path) -> None:
    assert slots() == ["MIG-a0", "MIG-a1", "GPU-bb"]
    nvidia_smi.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n")
    assert slots("auto") == [None] * cores()


def test_on_the_cpu_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "0,1")
    monkeypatch.setattr("lossbench.sweeps.slots.cores", lambda: 13)
    assert slots("cpu", threads=2, devices=3) == [None] * 2
    assert slots("cpu", threads=64) == [None]
    assert slots("cpu", workers=20) == [None] * 20  # slower, but nothing breaks
    monkeypatch.setenv(VISIBLE, "")
    assert slots("auto", threads=4) == [None] * 3


def test_what_has_no_room_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "0,1,2")
    with pytest.raises(InputError, match=r"workers=7 .* leave room for 6; raise runs_per_gpu"):
        slots(workers=7, runs_per_gpu=2)
    with pytest.raises(InputError, match=r"trainer.devices=4 .*GPUs found: 3"):
        slots(devices=4)
    monkeypatch.setenv(VISIBLE, "")
    with pytest.raises(InputError, match="GPUs found: 0"):
        slots()
    monkeypatch.setenv(VISIBLE, "MIG-a0,MIG-a1")
    with pytest.raises(InputError, match="needs whole GPUs"):
        slots(devices=2)


PROBE = """
import json, os, signal
import torch

class Probe(torch.nn.CrossEntropyLoss):
    def __init__(self):
        super().__init__()
        seen = {"gpu": os.environ["CUDA_VISIBLE_DEVICES"], "process": os.getpid(),
                "early": not torch.cuda.is_initialized()}
        with open("seen", "a") as file:
            file.write(json.dumps(seen) + "\\n")

    def forward(self, logits, target):
        try:
            os.close(os.open("killed", os.O_CREAT | os.O_EXCL))  # once in the whole sweep
        except FileExistsError:
            return super().forward(logits, target)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_each_worker_sees_its_own_gpu_and_so_does_the_one_that_replaces_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """trainer=auto takes what the variable names for GPUs, and torch, which finds none, the CPU."""
    own = tmp_path / "own"
    (own / "loss").mkdir(parents=True)
    (own / "loss" / "probe.yaml").write_text("_target_: slot_probe.Probe\n")
    (own / "slot_probe.py").write_text(PROBE)
    monkeypatch.setenv(VISIBLE, "GPU-5e,MIG-7f")
    code, said = run_command(
        "sweep", "data=digits", "trainer=auto", "trainer.max_epochs=1", "loss=probe",
        "seed=range(0,6)", "--config-dir", str(own), "allow=[slot_probe]", where=tmp_path,
    )  # fmt: skip
    seen = [json.loads(line) for line in (tmp_path / "seen").read_text().splitlines()]
    processes: dict[str, set[int]] = defaultdict(set)
    for line in seen:
        assert line["early"]
        processes[line["gpu"]].add(line["process"])
    assert set(processes) == {"GPU-5e", "MIG-7f"}, said
    assert sorted(map(len, processes.values())) == [1, 2]  # the killed one, and its replacement
