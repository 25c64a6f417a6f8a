"""The data module under a real Lightning trainer."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from lossbench.data.datamodule import LossbenchDataModule
from lossbench.data.imbalance import ImbalanceSettings, exponential
from lossbench.data.loader import BatchLoader
from lossbench.data.preparation import Augmentation, DataSettings, prepare
from lossbench.data.sources import ImageDataset


class Recorder(pl.LightningModule):
    """A linear classifier that writes down what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(60, 3)
        self.seen: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self.validated: list[Tensor] = []
        self.tested: list[Tensor] = []

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], index: int) -> Tensor:
        images, targets, ids = batch
        torch.rand(1)  # what a loss might do
        self.seen.setdefault(self.current_epoch, []).append((ids, images))
        return torch.nn.functional.cross_entropy(self.linear(images.flatten(1)), targets)

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], index: int) -> None:
        self.validated.append(batch[2])

    def test_step(self, batch: tuple[Tensor, Tensor, Tensor], index: int) -> None:
        self.tested.append(batch[2])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def make_module(
    dataset: ImageDataset, validation_per_class: int = 2, seed: int = 0
) -> LossbenchDataModule:
    settings = DataSettings(7, validation_per_class, augmentation=Augmentation(1, True))
    tail = ImbalanceSettings(partial(exponential, factor=2))
    return LossbenchDataModule(prepare(dataset, settings, tail, seed), settings, seed)


def make_trainer(folder: Path, epochs: int) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def assert_same_epochs(ours: Recorder, theirs: Recorder, epochs: list[int]) -> None:
    for epoch in epochs:
        pairs = zip(ours.seen[epoch], theirs.seen[epoch], strict=True)
        for (our_ids, our_images), (their_ids, their_images) in pairs:
            assert our_ids.tolist() == their_ids.tolist()
            assert torch.equal(our_images, their_images)


@pytest.mark.filterwarnings("ignore")  # Lightning's advice
def test_a_run_resumed_at_an_epoch_sees_the_same_batches(
    small_dataset: ImageDataset, tmp_path: Path
) -> None:
    through = Recorder()
    make_trainer(tmp_path, 4).fit(through, datamodule=make_module(small_dataset))
    assert sorted(through.seen) == [0, 1, 2, 3]
    orders = {tuple(torch.cat([ids for ids, _ in through.seen[e]]).tolist()) for e in range(4)}
    assert len(orders) == 4  # Lightning did set the epoch

    torch.manual_seed(12345)
    first = Recorder()
    trainer = make_trainer(tmp_path, 2)
    trainer.fit(first, datamodule=make_module(small_dataset, validation_per_class=2))
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    second = Recorder()
    make_trainer(tmp_path, 4).fit(
        second, datamodule=make_module(small_dataset), ckpt_path=str(tmp_path / "half.ckpt")
    )
    assert sorted(second.seen) == [2, 3]
    assert_same_epochs(first, through, [0, 1])
    assert_same_epochs(second, through, [2, 3])


@pytest.mark.filterwarnings("ignore")
def test_trainer_gets_every_part_and_no_validation_is_fine(
    small_dataset: ImageDataset, tmp_path: Path
) -> None:
    data, model = make_module(small_dataset), Recorder()
    trainer = make_trainer(tmp_path, 1)
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)
    assert data.prepared.validation is not None
    assert torch.cat(model.validated).tolist() == data.prepared.validation.ids.tolist()
    assert torch.cat(model.tested).tolist() == list(range(12))

    without, model = make_module(small_dataset, validation_per_class=0), Recorder()
    make_trainer(tmp_path, 1).fit(model, datamodule=without)
    assert model.validated == []
    assert len(model.seen[0]) == len(without.train_dataloader())


def test_the_training_images_can_be_evaluated_plain_and_are_stored_once(
    small_dataset: ImageDataset,
) -> None:
    data = make_module(small_dataset)
    plain = data.train_evaluation_loader()
    ((images, targets, ids),) = plain
    np.testing.assert_array_equal(ids, data.prepared.train.ids)
    np.testing.assert_array_equal(targets, data.prepared.train.targets)
    scaled = data.prepared.train.inputs / 255
    mean, std = (np.array(part)[:, None, None] for part in ((0.3, 0.6), (0.2, 0.4)))
    np.testing.assert_allclose(images, (scaled - mean) / std, atol=1e-6)
    assert plain.images is data.train_dataloader().images


def test_seed_batch_size_and_augmentation_reach_the_training_loader(
    small_dataset: ImageDataset,
) -> None:
    data = make_module(small_dataset, seed=3)
    train = data.prepared.train
    expected = BatchLoader(
        torch.from_numpy(train.inputs),
        torch.from_numpy(train.targets),
        torch.from_numpy(train.ids),
        batch_size=7,
        mean=(0.3, 0.6),
        std=(0.2, 0.4),
        augmentation=Augmentation(1, True),
        seed=3,
    )
    for ours, theirs in zip(data.train_dataloader(), expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
