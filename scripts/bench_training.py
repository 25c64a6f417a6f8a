"""How long an epoch of `lossbench train` takes, as ratios against two other ways.

    python scripts/bench_training.py [--epochs 6] [--rounds 5]

Fashion-MNIST exponential 100, convnet, batch 128, one torch thread, everything in one process;
the three ways take turns, and the ratios are medians over the rounds.

- lossbench: `execute` of a run, with all its logging, records and checkpoints.
- bare loop: hand-written PyTorch with the same tensors, model, batch order, augmentation,
  validation and train passes, and nothing else but the mean losses. It ends with bit for bit the
  weights of lossbench, which is checked.
- usual way: torchvision's dataset and transforms, a DataLoader without workers, Lightning with its
  defaults, torchmetrics updated in every step; the same number of images.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lossbench.application import compose
from lossbench.config import Run
from lossbench.data.configured import prepared_data
from lossbench.data.datamodule import LossbenchDataModule
from lossbench.data.preparation import PreparedData
from lossbench.training import build
from lossbench.training.recorder import train_pass_epochs
from lossbench.training.run import execute
from lossbench.training.schedules import cosine

RATIO_TO_BARE, RATIO_TO_USUAL = 1.15, 1.7  # the targets


def run_of(folder: str, epochs: int) -> Run:
    return Run(
        compose(
            [
                *("data=fashion_mnist", "imbalance=exponential", "model=convnet"),
                *("optimizer=sgd", f"trainer.max_epochs={epochs}", f"runs_dir={folder}"),
            ]
        )
    )


def lossbench_way(epochs: int) -> tuple[float, float, dict[str, torch.Tensor]]:
    """Seconds per epoch, seconds after the last epoch, final weights."""
    with tempfile.TemporaryDirectory() as folder:
        run = run_of(folder, epochs)
        times: dict[int, float] = {}
        outcome = execute(run, lambda epoch, row: times.setdefault(epoch, time.perf_counter()))
        end = time.perf_counter()
        assert outcome.state == "done", outcome.reason
        state = torch.load(run.folder / "checkpoint.ckpt", weights_only=True)["state_dict"]
    weights = {name.removeprefix("model."): value for name, value in state.items()}
    return (times[epochs] - times[0]) / epochs, end - times[epochs], weights


def bare_way(run: Run, prepared: PreparedData, data: LossbenchDataModule, epochs: int):
    """Seconds per epoch and final weights of a plain loop."""
    model = build.build_model(run.config["model"], prepared, run.seed)
    settings = run.config["optimizer"]
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=settings["lr"],
        momentum=settings["momentum"],
        weight_decay=settings["weight_decay"],
    )
    train, val = data.train_dataloader(), data.val_dataloader()
    train_pass = data.train_evaluation_loader()
    began = time.perf_counter()
    for epoch in range(epochs):
        model.train()
        train.set_epoch(epoch)
        losses = []
        for step, (images, targets, _) in enumerate(train):
            for group in optimizer.param_groups:
                group["lr"] = settings["lr"] * cosine(epoch + step / len(train), epochs)
            loss = cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        torch.stack(losses).mean().item()
        model.eval()
        with torch.no_grad():
            for loader in [val, *([train_pass] if epoch + 1 in train_pass_epochs(epochs) else [])]:
                logits = torch.cat([model(images) for images, _, _ in loader])
                cross_entropy(logits, loader.targets).item()
                (logits.argmax(1) == loader.targets).float().mean().item()
    return (time.perf_counter() - began) / epochs, model.state_dict()


class UsualModule:
    """Made when called, because pytorch_lightning and torchmetrics are slow to import."""

    def __new__(cls, model: nn.Module):
        import pytorch_lightning as pl
        from torchmetrics.classification import (
            MulticlassAccuracy,
            MulticlassCalibrationError,
            MulticlassF1Score,
        )

        class Usual(pl.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.model = model
                metrics = lambda: nn.ModuleDict(  # noqa: E731
                    {
                        "accuracy": MulticlassAccuracy(10, average="micro"),
                        "balanced_accuracy": MulticlassAccuracy(10, average="macro"),
                        "f1": MulticlassF1Score(10, average="macro"),
                        "calibration": MulticlassCalibrationError(10),
                    }
                )
                self.train_metrics, self.val_metrics = metrics(), metrics()

            def step(self, batch, metrics, stage):
                images, targets = batch
                logits = self.model(images)
                loss = cross_entropy(logits, targets)
                self.log(f"{stage}/loss", loss, on_epoch=True)
                probabilities = logits.softmax(1)
                for name, metric in metrics.items():
                    metric(probabilities, targets)
                    self.log(f"{stage}/{name}", metric, on_step=False, on_epoch=True)
                return loss

            def training_step(self, batch, index):
                return self.step(batch, self.train_metrics, "train")

            def validation_step(self, batch, index):
                self.step(batch, self.val_metrics, "val")

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)

        return Usual()


def usual_way(prepared: PreparedData, run: Run, epochs: int) -> float:
    """Seconds per epoch with torchvision's dataset, DataLoader and Lightning's defaults."""
    import pytorch_lightning as pl
    from torch.utils.data import DataLoader, Subset
    from torchvision import transforms
    from torchvision.datasets import FashionMNIST

    normalise = [transforms.ToTensor(), transforms.Normalize((0.2860,), (0.3530,))]
    augment = [transforms.RandomCrop(28, padding=2), transforms.RandomHorizontalFlip()]
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        write_idx(raw, prepared)
        train = FashionMNIST(folder, train=True, transform=transforms.Compose(augment + normalise))
        val = FashionMNIST(folder, train=False, transform=transforms.Compose(normalise))
        train_loader = DataLoader(
            Subset(train, range(len(prepared.train.ids))), batch_size=128, shuffle=True
        )
        val_loader = DataLoader(val, batch_size=128)
        model = UsualModule(build.build_model(run.config["model"], prepared, 0))
        trainer = pl.Trainer(
            max_epochs=epochs, accelerator="cpu", default_root_dir=folder,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        )  # fmt: skip
        began = time.perf_counter()
        trainer.fit(model, train_loader, val_loader)
        return (time.perf_counter() - began) / epochs


def write_idx(folder: Path, prepared: PreparedData) -> None:
    """The run's training and validation images as the files that torchvision reads."""
    for prefix, part in (("train", prepared.train), ("t10k", prepared.validation)):
        count = len(part.ids)
        header = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (count, 28, 28))
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + part.inputs.tobytes())
        labels = b"\0\0\x08\x01" + count.to_bytes(4, "big") + part.targets.astype("u1").tobytes()
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    run = run_of("unused", arguments.epochs)
    prepared, settings = prepared_data(run.config)
    data = LossbenchDataModule(prepared, settings, run.seed)
    print(
        f"Fashion-MNIST exponential 100, convnet, batch 128, {len(prepared.train.ids)} training "
        f"and {len(prepared.validation.ids)} validation images, {arguments.epochs} epochs, "
        f"{arguments.rounds} rounds"
    )
    print("seconds per epoch:  lossbench  bare loop  usual way  (after the last epoch)")
    rows = []
    for number in range(arguments.rounds):
        ours, end, weights = lossbench_way(arguments.epochs)
        bare, bare_weights = bare_way(run, prepared, data, arguments.epochs)
        usual = usual_way(prepared, run, arguments.epochs)
        assert all(torch.equal(weights[name], bare_weights[name]) for name in bare_weights)
        rows.append((ours, bare, usual))
        values = f"{ours:9.2f}  {bare:9.2f}  {usual:9.2f}  ({end:.2f})"
        print(f"  round {number + 1}:        {values}", flush=True)
    to_bare = statistics.median(ours / bare for ours, bare, _ in rows)
    to_usual = statistics.median(usual / ours for ours, _, usual in rows)
    print("final weights of lossbench and the bare loop: equal bit for bit, in every round")
    print(f"lossbench / bare loop: {to_bare:.3f} (target: at most {RATIO_TO_BARE})")
    print(f"usual way / lossbench: {to_usual:.2f} (target: at least {RATIO_TO_USUAL})")


if __name__ == "__main__":
    main()
