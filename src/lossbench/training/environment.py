"""The process a run happens in: its global switches, and what to record of it."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import warnings
from functools import cache
from importlib.metadata import version
from typing import Any

import torch

PACKAGES = ("lossbench", "torch", "torchvision", "pytorch-lightning", "hydra-core", "numpy")


def prepare_process(threads: int) -> None:
    """Set every global switch that a former run in this process may have moved."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    torch.set_default_dtype(torch.float32)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    # Lightning's advice is for loops over a DataLoader; ours are tensors in memory
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")


@cache
def versions() -> dict[str, str]:
    """The versions of what computed the run."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


@cache
def git_commit() -> str | None:
    """The commit of the checkout that lossbench runs from, with `+` if it was changed."""
    here = os.path.dirname(os.path.abspath(__file__))
    try:
        described = subprocess.run(
            ["git", "-C", here, "describe", "--always", "--abbrev=40", "--dirty=+"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None


def hardware(device: torch.device, devices: int) -> dict[str, Any]:
    """What the run was computed on; ``devices`` are named where there are several."""
    found = {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }
    return found | ({"devices": devices} if devices > 1 else {})
