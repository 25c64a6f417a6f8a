"""Learning-rate schedules: pure functions of the time, so there is no state to save.

Each is called as ``schedule(epoch, max_epochs, **parameters)`` with ``epoch`` a float (2.5 is the
middle of the third epoch) and returns the factor on the base learning rate. A schedule of one's
own is a function like these, named by ``schedule._target_``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def cosine(epoch: float, max_epochs: int, warmup_epochs: int = 0) -> float:
    """Linear warm-up, then half a cosine down to 0 (Loshchilov & Hutter, ICLR 2017)."""
    if epoch < warmup_epochs:
        return epoch / warmup_epochs
    remaining = max(max_epochs - warmup_epochs, 1)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (epoch - warmup_epochs) / remaining)))


def warmup_step(
    epoch: float,
    max_epochs: int,
    warmup_epochs: int = 5,
    milestones: Sequence[float] = (0.8, 0.9),
    factor: float = 0.01,
) -> float:
    """Per-epoch warm-up (e + 1) / warmup_epochs, then x factor at each milestone.

    ``milestones`` are fractions of ``max_epochs``. The defaults are the schedule of LDAM-DRW (Cao
    et al., NeurIPS 2019) for 200 epochs: 5 warm-up epochs, x 0.01 from 160 and again from 180.
    """
    whole = math.floor(epoch)
    if whole < warmup_epochs:
        return (whole + 1) / warmup_epochs
    passed = sum(whole >= round(milestone * max_epochs) for milestone in milestones)
    return factor**passed


def constant(epoch: float, max_epochs: int) -> float:
    """The base learning rate throughout."""
    return 1.0
