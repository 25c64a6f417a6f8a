"""What is measured at the end of each epoch, and kept: history, TensorBoard, checkpoint.

The whole history travels in the checkpoint. A resumed run writes history.csv and the TensorBoard
file again from it, so neither has a seam where the run was interrupted.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from lossbench import targets
from lossbench.config import Run, imbalance_label, name_of, noise_label
from lossbench.data.datamodule import LossbenchDataModule
from lossbench.evaluation.histograms import LOG10_LOSS_EDGES
from lossbench.evaluation.probabilities import cross_entropy
from lossbench.records import files
from lossbench.records.record import CHECKPOINT, HISTORY, TENSORBOARD
from lossbench.tensorboard.hparams import ColumnValue, session_group
from lossbench.tensorboard.labels import RunLabels
from lossbench.tensorboard.layout import RUN_LAYOUT
from lossbench.tensorboard.writer import RunWriter
from lossbench.training import objective
from lossbench.training.energy import EnergyMeter
from lossbench.training.events import loss_histograms, shown, write_end
from lossbench.training.measuring import Classes, Measured, deployed, measure
from lossbench.training.module import ClassificationModule, Running
from lossbench.training.passes import Deployed, collect, head_of, stored
from lossbench.training.sample_history import SampleHistory

Report = Callable[[int, Mapping[str, float]], None]

HEADLINE = (
    "test/cls/balanced_accuracy",
    "test/cls/accuracy",
    "test/cls/macro_f1",
    "test/cls/worst_class_recall",
    "test/cls/tail_recall",
    "test/loss/cross_entropy",
    "test/cal/expected_calibration_error",
    "test/cal_adjusted/expected_calibration_error",
)


class NonFiniteLossError(RuntimeError):
    """The training loss became NaN or infinite; the message names the loss and the epoch."""


def train_pass_epochs(max_epochs: int) -> set[int]:
    """The last epoch and up to five log-spaced ones before it, counted from 1.

    A pass over the training set after every epoch would cost more than half as much again as
    training and validation together.
    """
    return {round(epoch) for epoch in np.geomspace(1, max_epochs, 6)}


class Follower(pl.Callback):
    """What the ranks after the first do at the end of an epoch: see that they agree with rank 0."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, ClassificationModule)
        pl_module.require_equal_ranks()


class Recorder(pl.Callback):
    """Measures each epoch and writes what it measured into the run's folder.

    ``report(epoch, row)``, which the owner may set, is called after each epoch, and ``check()``
    before a checkpoint takes the place of the one before it; what it raises stops that.
    """

    def __init__(self, run: Run, data: LossbenchDataModule) -> None:
        self.run = run
        self.data = data.prepared
        self.classes = Classes.of_data(self.data)
        self.loaders: dict[str, Callable[[], Any]] = {
            "train": data.train_evaluation_loader,
            "test": data.test_dataloader,
        }
        if data.prepared.validation is not None:
            self.loaders["val"] = data.val_dataloader
        self.report: Report = lambda epoch, row: None
        self.check: Callable[[], None] = lambda: None
        self.rows: list[dict[str, float]] = []
        self.histograms: list[tuple[int, str, torch.Tensor]] = []
        self.times: list[float] = []
        self.measured: dict[str, Measured] = {}
        self.outputs: dict[str, Deployed] = {}
        self.samples = SampleHistory() if run.config.get("sample_history") else None
        self.writer: RunWriter | None = None
        self._before = 0.0  # seconds spent before the interruption
        self._began = time.perf_counter()
        self.energy = EnergyMeter(torch.device("cpu"))  # the owner sets that of its device

    def seconds(self) -> float:
        """The time spent on the run so far, interruptions left out."""
        return self._before + time.perf_counter() - self._began

    def state_dict(self) -> dict[str, Any]:
        """What the checkpoint keeps: the history so far."""
        return {
            "rows": self.rows,
            "histograms": self.histograms,
            "times": self.times,
            "seconds": self.seconds(),
            "energy_joules": self.energy.joules(),
        } | ({} if self.samples is None else {"samples": self.samples.state_dict()})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the history of an interrupted run."""
        self.rows = state_dict["rows"]
        self.histograms = state_dict["histograms"]
        self.times = state_dict["times"]
        self._before = state_dict["seconds"]
        self.energy.resume(state_dict.get("energy_joules"))
        if self.samples is not None:
            self.samples.load_state_dict(state_dict["samples"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the TensorBoard file once the checkpoint is loaded."""
        self.open_writer()

    def open_writer(self) -> None:
        """Open the TensorBoard file; write the history so far into it, and history.csv again."""
        if self.rows:  # an interruption between the checkpoint and history.csv left it a row short
            files.write_text(self.run.folder / HISTORY, self.history_csv())
        self.writer = RunWriter(self.run.folder / TENSORBOARD, replace=True)
        self.writer.hparams(hparams(self.run), group=group_of(self.run), metrics=headline(self.run))
        self.writer.labels(labels(self.run, len(self.data.class_names)))
        self.writer.layout(RUN_LAYOUT)
        for row, wall_time in zip(self.rows, self.times, strict=True):
            self._write_scalars(row, wall_time)
        for epoch, tag, counts in self.histograms:
            self._write_histogram(epoch, tag, counts, self.times[epoch - 1])
        self.writer.flush()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure, then keep: checkpoint first, for all else can be written again from it."""
        assert isinstance(pl_module, ClassificationModule)
        epoch = pl_module.current_epoch + 1
        row: dict[str, float] = {
            "epoch": epoch,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
        }
        row |= self._running(pl_module, epoch)
        pl_module.require_equal_ranks()
        row |= pl_module.end_epoch()
        splits = ["val"] if "val" in self.loaders else []
        if self.samples is not None or epoch in train_pass_epochs(trainer.max_epochs or epoch):
            splits.append("train")
        for split in splits:
            row |= self.evaluate(split, trainer, pl_module).metrics
        if self.samples is not None:
            self.samples.add(self.outputs["train"], self.measured["train"])
        histograms = [
            (epoch, tag, torch.from_numpy(counts))
            for split in splits
            for tag, counts in loss_histograms(split, self.measured[split].arrays, self.classes)
        ]
        self.rows.append(row)
        self.histograms += histograms
        self.times.append(time.time())
        with files.replacing(self.run.folder / CHECKPOINT) as temporary:
            trainer.save_checkpoint(temporary)
            self.check()
        files.write_text(self.run.folder / HISTORY, self.history_csv())
        self._write_scalars(row, self.times[-1])
        for _, tag, counts in histograms:
            self._write_histogram(epoch, tag, counts, self.times[-1])
        assert self.writer is not None
        self.writer.flush()
        self.report(epoch, row)

    def evaluate(self, split: str, trainer: pl.Trainer, module: ClassificationModule) -> Measured:
        """One pass over ``split``, measured and remembered as the newest of that split."""
        self.collect(split, trainer, module)
        return self.measure(split, module)

    def collect(self, split: str, trainer: pl.Trainer, module: ClassificationModule) -> None:
        """One pass over ``split``; its outputs are remembered, and nothing is measured."""
        plugin = trainer.precision_plugin
        batches = map(plugin.convert_input, self.loaders[split]())
        model, features = module.deployed, module.needs_features
        outputs = collect(model, batches, plugin.forward_context(), features)
        shift, counts = module.regime.log_prior_shift(), self.classes.counts
        self.outputs[split] = deployed(outputs, module.loss, counts, shift)

    def measure(self, split: str, module: ClassificationModule) -> Measured:
        """Measure the newest outputs of ``split``, and remember it."""
        try:
            measured = measure(split, self.outputs[split], module.loss, self.classes)
        except ValueError as error:
            raise NonFiniteLossError(
                f"under the loss {self.run.loss}, in epoch {module.current_epoch + 1}, the "
                f"{split} split cannot be measured: {error}"
            ) from error
        self.measured[split] = measured
        return measured

    def write_final(
        self, metrics: Mapping[str, float | None], arrays: Mapping[str, np.ndarray]
    ) -> None:
        """The last line of the history, so to say: what is known since the last epoch, figures.

        ``arrays`` are those of `arrays.npz`.
        """
        if self.writer is None:  # resumed after its last epoch: fit had nothing to start
            self.open_writer()
        assert self.writer is not None
        rest = {tag: value for tag, value in metrics.items() if tag not in self.rows[-1]}
        found = self.measured, self.outputs, arrays
        write_end(self.writer, len(self.rows), rest, *found, self.classes, self.data)

    def close(self, success: bool) -> None:
        """Say in TensorBoard how the run ended."""
        if self.writer is not None:
            self.writer.session_end(success=success)
            self.writer.close()

    def history_csv(self) -> str:
        """The history as CSV: a row per epoch, empty where a metric was not computed."""
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        stream = io.StringIO()
        table = csv.DictWriter(stream, columns, restval="")
        table.writeheader()
        for row in self.rows:
            table.writerow({k: "" if math.isnan(v) else repr(v) for k, v in row.items()})
        return stream.getvalue()

    def _running(self, module: ClassificationModule, epoch: int) -> dict[str, float]:
        running: Running = module.running
        value = running.objective()
        if not math.isfinite(value):
            raise NonFiniteLossError(
                f"the loss {self.run.loss} became {value} in epoch {epoch}; "
                "try a smaller optimizer.lr"
            )
        loss = objective.frozen(module.loss)
        logits = torch.cat(running.logits).float().cpu()
        features = running.features
        head = head_of(module.model, torch.cat(features)) if features else {}
        decoded = objective.decode(loss, logits, **stored(head)).detach().numpy()
        predicted = decoded.argmax(axis=1)
        return {
            "train/running/objective": value,
            "train/running/cross_entropy": running.expected(lambda y: cross_entropy(decoded, y)),
            "train/running/accuracy": running.expected(lambda y: predicted == y),
            "train/gradient/norm": running.gradients.norm,
            "train/gradient/relative_to_cross_entropy": running.gradients.relative_to_cross_entropy,
        }

    def _write_scalars(self, row: Mapping[str, float], wall_time: float) -> None:
        assert self.writer is not None
        scalars = {tag: value for tag, value in row.items() if tag != "epoch"}
        found = shown(scalars, self.classes)
        self.writer.scalars(found, step=int(row["epoch"]), wall_time=wall_time)

    def _write_histogram(
        self, epoch: int, tag: str, counts: torch.Tensor, wall_time: float
    ) -> None:
        assert self.writer is not None
        self.writer.histogram(
            tag, counts.numpy(), LOG10_LOSS_EDGES, step=epoch, wall_time=wall_time
        )


def headline(run: Run) -> tuple[str, ...]:
    """The metrics of the HParams tab: of test, and before them of validation while it is sealed."""
    validation = tuple(tag.replace("test/", "val/", 1) for tag in HEADLINE)
    return validation + HEADLINE if run.sealed else HEADLINE


def group_of(run: Run) -> str:
    """The row of the HParams tab that the run shares with its other seeds."""
    return session_group(run.study, run.arm, run.configuration)


def labels(run: Run, classes: int) -> RunLabels:
    """Who the run is, for the tab "Losses"."""
    edges = LOG10_LOSS_EDGES
    return RunLabels(
        study=run.study,
        arm=run.arm,
        cell=run.cell,
        seed=run.seed,
        configuration=run.configuration,
        group=group_of(run),
        grid=(float(edges[0]), float(edges[-1]), len(edges) - 1),
        classes=classes,
    )


def hparams(run: Run) -> dict[str, ColumnValue]:
    """The run's values for the columns of the HParams tab."""
    config = run.config
    parameters = {k: v for k, v in targets.arguments_of(config["loss"]).items() if v is not None}
    return {
        "study": run.study,
        "arm": run.arm,
        "loss": run.loss,
        "loss_parameters": ", ".join(f"{name}={value}" for name, value in parameters.items()),
        "dataset": name_of(config["data"]),
        "imbalance": imbalance_label(config),
        "factor": config["imbalance"].get("factor"),
        "model": run.model,
        "head": config["model"]["head"],
        "regime": name_of(config["regime"]),
        "label_noise": ", ".join(noise_label(config)) or "none",
        "optimizer": name_of(config["optimizer"]),
        "learning_rate": config["optimizer"].get("lr"),
        "weight_decay": config["optimizer"].get("weight_decay"),
        "batch_size": config["data"]["batch_size"],
        "epochs": config["trainer"]["max_epochs"],
    }
