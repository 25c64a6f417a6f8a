"""The prepared data as Lightning wants it."""

from __future__ import annotations

import numpy as np
import pytorch_lightning as pl
import torch

from lossbench.data.loader import Batch, BatchLoader, EpochOrder
from lossbench.data.preparation import Augmentation, DataSettings, PreparedData, Split

EVALUATION_BATCH_SIZE = 1000  # images; changes speed and memory only


class LossbenchDataModule(pl.LightningDataModule):
    """Hands out loaders over one `PreparedData`; the tensors move to the device once.

    Args:
        prepared: the images of the run.
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
        self._tensors: dict[tuple[int, torch.device], Batch] = {}

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

    def _on_device(self, split: Split) -> Batch:
        """The tensors of ``split`` on the trainer's device, moved when first asked for."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        key = (id(split), device)
        if key not in self._tensors:
            arrays = (split.images, split.targets, split.ids)
            # torch wants writable memory; an array read from a file is not
            images, targets, ids = (
                torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device)
                for array in arrays
            )
            self._tensors[key] = images, targets, ids
        return self._tensors[key]
