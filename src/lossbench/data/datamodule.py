"""The prepared data as Lightning wants it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from lossbench.data.loader import BatchLoader, EpochOrder
from lossbench.data.preparation import Augmentation, DataSettings, PreparedData, Split
from lossbench.data.selection import FileRows
from lossbench.data.streaming import Decoder, Stream

EVALUATION_BATCH_SIZE = 1000  # images; changes speed and memory only


class LossbenchDataModule(pl.LightningDataModule):
    """Hands out loaders over one `PreparedData`; the tensors move to the device once.

    Images in files are decoded by one `Decoder` for all parts. With ``settings.cache_mb`` those
    that fit are decoded here; one that cannot be decoded raises `InputError`.

    Args:
        prepared: the samples of the run.
        settings: batch size and augmentation.
        seed: seed of the run; decides order and augmentation of every epoch.
        order: another order for the training images, see `BatchLoader`.
    """

    def __init__(
        self,
        prepared: PreparedData,
        settings: DataSettings,
        seed: int,
        order: EpochOrder | None = None,
    ) -> None:
        super().__init__()
        self.prepared = prepared
        self.settings = settings
        self.seed = seed
        self.order = order
        self._tensors: dict[tuple[int, torch.device], tuple[Tensor | Stream, Tensor, Tensor]] = {}
        parts = (prepared.train, prepared.validation, prepared.test)
        files = [part.inputs for part in parts if part and isinstance(part.inputs, FileRows)]
        self._decoder = Decoder(files, settings.cache_mb, settings.workers) if files else None

    def train_dataloader(self) -> BatchLoader:
        """Shuffled and augmented anew in every epoch."""
        settings = self.settings
        return self._loader(
            self.prepared.train, settings.batch_size, settings.augmentation, self.seed, self.order
        )

    def train_evaluation_loader(self) -> BatchLoader:
        """The training images in stored order, without augmentation."""
        return self._loader(self.prepared.train)

    def val_dataloader(self) -> BatchLoader | list[BatchLoader]:
        """The validation images; an empty list, which Lightning skips, if there are none."""
        validation = self.prepared.validation
        return [] if validation is None else self._loader(validation)

    def test_dataloader(self) -> BatchLoader:
        """The test images."""
        return self._loader(self.prepared.test)

    def _loader(
        self,
        split: Split,
        batch_size: int = EVALUATION_BATCH_SIZE,
        augmentation: Augmentation | None = None,
        seed: int | None = None,
        order: EpochOrder | None = None,
    ) -> BatchLoader:
        images, targets, ids = self._on_device(split)
        return BatchLoader(
            images,
            targets,
            ids,
            batch_size=batch_size,
            mean=self.prepared.mean,
            std=self.prepared.std,
            augmentation=augmentation,
            seed=seed,
            order=order,
        )

    def _on_device(self, split: Split) -> tuple[Tensor | Stream, Tensor, Tensor]:
        """What ``split`` holds, on the trainer's device, moved when first asked for."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        key = (id(split), device)
        if key not in self._tensors:
            inputs = split.inputs
            if isinstance(inputs, FileRows):
                assert self._decoder is not None
                images: Tensor | Stream = Stream(self._decoder, inputs.rows, device)
            else:
                images = _tensor(inputs, device)
            self._tensors[key] = images, _tensor(split.targets, device), _tensor(split.ids, device)
        return self._tensors[key]


def _tensor(array: np.ndarray[Any, Any], device: torch.device) -> Tensor:
    # torch wants writable memory; an array read from a file is not
    return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device)
