"""Energy by NVML, with a stand-in for pynvml: no test machine of ours has an NVIDIA GPU."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from lossbench.records import read_record
from lossbench.training import run as training_run
from lossbench.training.energy import EnergyMeter
from lossbench.training.run import execute
from tests.conftest import run_of

GPU = torch.device("cuda", 0)


class NVMLError(Exception):
    """What pynvml raises for whatever it cannot do."""


@pytest.fixture
def millijoules(monkeypatch: pytest.MonkeyPatch) -> dict[str, int | None]:
    """The counters of two GPUs by UUID; None: not supported. torch's device 0 is NVML's second."""
    counters: dict[str, int | None] = {"GPU-first": 5_000_000, "GPU-second": 1_000}

    def handle(uuid: str) -> str:
        if uuid not in counters:
            raise NVMLError("Not Found")
        return uuid

    def consumption(handle: str) -> int:
        if counters[handle] is None:
            raise NVMLError("Not Supported")
        return counters[handle]

    module = ModuleType("pynvml")
    module.NVMLError = NVMLError
    module.nvmlInit = lambda: None
    module.nvmlDeviceGetHandleByUUID = handle
    module.nvmlDeviceGetTotalEnergyConsumption = consumption
    monkeypatch.setitem(sys.modules, "pynvml", module)
    properties = SimpleNamespace(uuid="second")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    return counters


def test_the_counter_of_the_runs_own_gpu_is_read(millijoules: dict[str, int | None]) -> None:
    meter = EnergyMeter(GPU)
    millijoules["GPU-first"] += 99_000  # another process, on another device
    millijoules["GPU-second"] += 2_500
    assert meter.joules() == 2.5
    meter.resume(10.0)
    assert meter.joules() == 12.5
    meter.resume(None)
    assert meter.joules() is None


def test_what_cannot_be_told_is_none(
    millijoules: dict[str, int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert EnergyMeter(torch.device("cpu")).joules() is None
    meter = EnergyMeter(GPU)
    millijoules["GPU-second"] = 10  # the driver was loaded again
    assert meter.joules() is None
    millijoules["GPU-second"] = None
    assert meter.joules() is None
    assert EnergyMeter(GPU).joules() is None
    del millijoules["GPU-second"]
    assert EnergyMeter(GPU).joules() is None

    def no_driver() -> None:
        raise NVMLError("Driver Not Loaded")

    monkeypatch.setattr(sys.modules["pynvml"], "nvmlInit", no_driver)
    assert EnergyMeter(GPU).joules() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as where it is not installed
    assert EnergyMeter(GPU).joules() is None


def test_an_interrupted_run_adds_up_its_parts(
    millijoules: dict[str, int | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_run, "EnergyMeter", lambda device: EnergyMeter(GPU))

    def used(epoch: int, row: object) -> None:  # before the first epoch, and after each
        millijoules["GPU-second"] += 7_000

    def stopped(epoch: int, row: object) -> None:
        used(epoch, row)
        if epoch == 1:
            raise KeyboardInterrupt

    whole = run_of(tmp_path / "whole", "trainer.max_epochs=2")
    execute(whole, used)
    assert read_record(whole.folder).energy_joules == 21.0

    parts = run_of(tmp_path / "parts", "trainer.max_epochs=2")
    with pytest.raises(KeyboardInterrupt):
        execute(parts, stopped)
    millijoules["GPU-second"] += 1_000_000  # somebody else, meanwhile
    execute(parts, used)
    assert read_record(parts.folder).energy_joules == 21.0

    here = run_of(tmp_path / "cpu", "trainer.max_epochs=1")
    monkeypatch.undo()
    execute(here)
    assert read_record(here.folder).energy_joules is None
