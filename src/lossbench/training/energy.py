"""The energy that a run's GPU used, by NVML (NVIDIA Management Library).

The driver counts millijoules per device since it was loaded (Volta and later). The count is of the
*whole device*: whatever other processes did on it meanwhile is in it, and the CPU, the memory and
the fans are not. So it says most where one run had a GPU to itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch


class EnergyMeter:
    """The energy of all ``devices`` since the meter was made; None where nobody can tell.

    Nobody can on a CPU, without nvidia-ml-py (the extra ``energy``), without an NVIDIA driver and
    on devices without the counter.
    """

    def __init__(self, *devices: torch.device) -> None:
        self._before: float | None = 0.0
        self._counters = [_counter(device) for device in devices]
        self._start = self._count()

    def resume(self, joules: float | None) -> None:
        """Count on from the ``joules`` of an interrupted run; None makes the sum unknown."""
        self._before = joules

    def joules(self) -> float | None:
        """The energy so far, interruptions left out, in joules."""
        now = self._count()
        if self._before is None or self._start is None or now is None or now < self._start:
            return None  # the counter begins again when the driver is loaded again
        return self._before + now - self._start

    def _count(self) -> float | None:
        counts = [counter() for counter in self._counters]
        return None if None in counts else sum(count for count in counts if count is not None)


def _counter(device: torch.device) -> Callable[[], float | None]:
    """A function that reads the energy counter of ``device``, in joules since a fixed moment."""
    if device.type != "cuda":
        return lambda: None
    try:
        import pynvml
    except ImportError:
        return lambda: None
    try:
        pynvml.nvmlInit()
        # CUDA_VISIBLE_DEVICES renumbers torch's devices, but not NVML's
        uuid = torch.cuda.get_device_properties(device).uuid
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except (pynvml.NVMLError, AttributeError):  # a torch for AMD or of old has no uuid
        return lambda: None

    def read() -> float | None:
        try:
            return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
        except pynvml.NVMLError:
            return None

    return read
