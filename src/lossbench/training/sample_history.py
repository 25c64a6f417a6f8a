"""Each training sample's loss and margin after every epoch (`sample_history: true`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossbench.evaluation.trajectories import margins, per_sample
from lossbench.records import files
from lossbench.records.record import SAMPLE_HISTORY
from lossbench.training.measuring import Measured
from lossbench.training.passes import Deployed
from lossbench.training.results import HALF_PRECISION_ABOVE


class SampleHistory:
    """Grows by a row per epoch; samples stand in the order of their ids.

    Attributes:
        ids: ``(N,)`` int64, rising.
        targets: ``(N,)`` int64, the labels that were trained on.
        losses: a float32 ``(N,)`` per epoch, cross-entropy of the deployed logits in nats.
        margins: a float32 ``(N,)`` per epoch, target logit minus the largest other.
    """

    def __init__(self) -> None:
        self.ids = self.targets = torch.empty(0, dtype=torch.int64)
        self.losses: list[Tensor] = []
        self.margins: list[Tensor] = []

    def add(self, outputs: Deployed, measured: Measured) -> None:
        """Append one epoch: the training set's ``outputs`` and what was ``measured`` of them."""
        order = outputs.ids.argsort(stable=True)
        self.ids, self.targets = outputs.ids[order], outputs.targets[order]
        margin = per_sample(margins, outputs.decoded.numpy(), outputs.targets.numpy())
        self.losses.append(torch.from_numpy(measured.losses).float()[order])
        self.margins.append(torch.from_numpy(margin).float()[order])

    def arrays(self) -> dict[str, np.ndarray]:
        """``ids`` and ``targets`` (N,) int64, ``loss`` and ``margin`` (E, N) float32."""
        return {
            "ids": self.ids.numpy(),
            "targets": self.targets.numpy(),
            "loss": torch.stack(self.losses).numpy(),
            "margin": torch.stack(self.margins).numpy(),
        }

    def write(self, folder: Path) -> None:
        """`sample_history.npz`: `arrays`, the matrices in float16 where they pass 200 MB."""
        arrays = self.arrays()
        if arrays["loss"].nbytes + arrays["margin"].nbytes > HALF_PRECISION_ABOVE:
            arrays |= {name: arrays[name].astype(np.float16) for name in ("loss", "margin")}
        files.write_arrays(folder / SAMPLE_HISTORY, arrays)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {
            "ids": self.ids,
            "targets": self.targets,
            "losses": self.losses,
            "margins": self.margins,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the epochs of an interrupted run."""
        self.ids, self.targets = state["ids"], state["targets"]
        self.losses, self.margins = state["losses"], state["margins"]
