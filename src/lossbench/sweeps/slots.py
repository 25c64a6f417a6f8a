"""Where the workers of a sweep run on this machine: on how many cores, or on which GPUs."""

from __future__ import annotations

import os
import re
import subprocess
from typing import Any

from lossbench.errors import InputError

VISIBLE = "CUDA_VISIBLE_DEVICES"


def worker_slots(config: Any) -> list[dict[str, str]]:
    """For each worker that fits here, the environment variables that give it its place.

    ``config`` is the composed config of the sweep: `trainer.accelerator`, `.threads`, `.devices`,
    `workers` and `runs_per_gpu` count. On the CPU there are as many workers as the cores can feed,
    unless `workers` says otherwise. On GPUs a worker is pinned to `trainer.devices` of them, which
    `runs_per_gpu` workers share; GPUs are filled one run each before any is shared.

    Raises `InputError` if there are fewer GPUs than `trainer.devices`, or if `workers` is more than
    they have room for: the excess would only run out of the GPU's memory.
    """
    trainer, wanted = config.trainer, config.workers
    gpus = [] if trainer.accelerator == "cpu" else visible_gpus()
    if not gpus and trainer.accelerator != "gpu":
        return [{}] * (wanted or max(1, cores() // (trainer.threads * trainer.devices)))
    if len(gpus) < trainer.devices:
        raise InputError(
            f"trainer.devices={trainer.devices} with trainer.accelerator={trainer.accelerator}: "
            f"GPUs found: {len(gpus)} (nvidia-smi -L and {VISIBLE} say which); use trainer=cpu"
        )
    if trainer.devices > 1 and any(gpu.startswith("MIG") for gpu in gpus):
        raise InputError(
            f"trainer.devices={trainer.devices} needs whole GPUs, and {VISIBLE} or nvidia-smi -L "
            "lists MIG instances, of which a process can use one; use trainer.devices=1"
        )
    ends = range(trainer.devices, len(gpus) + 1, trainer.devices)
    places = [{VISIBLE: ",".join(gpus[end - trainer.devices : end])} for end in ends]
    slots = places * config.runs_per_gpu
    if wanted is not None and wanted > len(slots):
        raise InputError(
            f"workers={wanted} is not allowed: {len(gpus)} GPUs, trainer.devices={trainer.devices} "
            f"and runs_per_gpu={config.runs_per_gpu} leave room for {len(slots)}; "
            "raise runs_per_gpu to share GPUs"
        )
    return slots[:wanted]


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, each in the words that CUDA_VISIBLE_DEVICES takes.

    That variable counts as it is if it is set: numbers, UUIDs or MIG ids; CUDA stops reading at
    -1. Otherwise `nvidia-smi -L` is asked; of a GPU that is cut into MIG instances the instances
    count. No driver, no GPU.
    """
    given = os.environ.get(VISIBLE)
    if given is not None:
        names = [name.strip() for name in given.split(",")]
        end = next((at for at, name in enumerate(names) if name in ("", "-1")), len(names))
        return names[:end]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    gpus: list[list[str]] = []
    for line in listed.splitlines():
        if found := re.search(r"\(UUID: ([^)\s]+)\)", line):
            if line.startswith("GPU"):
                gpus.append([found[1]])
            elif gpus:
                gpus[-1].append(found[1])
    return [name for gpu in gpus for name in gpu[1:] or gpu]


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
