"""Every random draw has a name, and a seed that depends on nothing but (seed, name, epoch).

So nothing one part draws can move another part's draws, an interrupted run needs no generator
state to go on bit for bit, and two runs of one seed draw the same split, order and augmentation
whatever their losses do.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the draws called ``names`` in the run of ``seed``."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A fresh numpy generator for the draws called ``names`` in the run of ``seed``."""
    return np.random.default_rng(derive_seed(seed, *names))
