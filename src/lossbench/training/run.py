"""One run from one config: skip it if it is done, resume it if it was interrupted, record it."""

from __future__ import annotations

import logging
import os
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from lossbench.config import Config, Run
from lossbench.data import label_noise
from lossbench.data.configured import notes, prepared_data
from lossbench.data.datamodule import LossbenchDataModule
from lossbench.data.loader import first_batches_fingerprint
from lossbench.data.preparation import PreparedData
from lossbench.errors import machine_fault
from lossbench.records import LostLockError, Record, RunLock, files, run_state
from lossbench.records.record import CHECKPOINT, CONFIG, LOCK, TRACEBACK, finished_epochs
from lossbench.seeding import derive_seed
from lossbench.training import build, diagnosis, objective, results
from lossbench.training.distributed import Seat
from lossbench.training.energy import EnergyMeter
from lossbench.training.environment import git_commit, hardware, prepare_process, versions
from lossbench.training.gradients import matched_scale
from lossbench.training.measuring import in_detail
from lossbench.training.module import ClassificationModule
from lossbench.training.outcome import (
    Outcome,
    already_ended,
    blank_record,
    clear,
    dump,
    make_folder,
    time_ago,
)
from lossbench.training.rank_processes import lead
from lossbench.training.recorder import Follower, Recorder
from lossbench.training.regimes import Setting

log = logging.getLogger("lossbench")

Progress = Callable[[int, Mapping[str, float]], None]


def execute(run: Run, progress: Progress | None = None) -> Outcome:
    """Make sure that ``run`` is done: find it finished, resume it, or train it.

    ``progress(epoch, row)`` is called before the first epoch, with 0, and after each. A run that
    fails in training is recorded and returned as failed. `InputError` is raised before anything
    is written, `LockedError` if another process writes the run. Where the machine is at fault (an
    OSError of `MACHINE_FAULTS`, or `LostLockError`) the error goes out and the run can go on.
    """
    ended = already_ended(run)
    if ended is not None:
        return ended
    run = kept_sealed(run)
    training = Training(run)
    make_folder(run.folder)
    with closing(training.data), RunLock(run.folder / LOCK) as lock:
        ended = already_ended(run)  # another process may have finished it in the meantime
        if ended is not None:
            return ended
        files.remove_leftovers(run.folder)
        before = run_state(run.folder).record
        if before is not None and not goes_on(run, before):
            # a kill in between finds no ruin, and no checkpoint that would pass for a new one
            (run.folder / CHECKPOINT).unlink(missing_ok=True)
            replace(before, status="running").write(run.folder)
            clear(run.folder)
        training.recorder.check = lock.check
        began, before_now = time.monotonic(), finished_epochs(run.folder)

        def report(epoch: int, row: Mapping[str, float]) -> None:
            facts: dict[str, float] = {"epoch": max(epoch, before_now)}
            if epoch > before_now:
                facts["pace"] = (time.monotonic() - began) / (epoch - before_now)
            lock.beat(**facts, epochs=run.config["trainer"]["max_epochs"])
            if progress is not None:
                progress(epoch, row)

        return training.train_and_record(report)


class Training:
    """One run, built from its config; building raises `InputError` and writes nothing.

    ``rank`` is 0 but for the further ranks of a run on several devices, which record nothing.
    """

    def __init__(self, run: Run, rank: int = 0) -> None:
        config = run.config
        self.run = run
        prepare_process(config["trainer"]["threads"])
        self.prepared, settings = prepared_data(config)
        allow = config.get("allow")
        self.regime = build.build_regime(config["regime"], setting_of(run, self.prepared), allow)
        self.data = LossbenchDataModule(self.prepared, settings, run.seed, self.regime.order)
        # the model before the loss: what a loss draws when it is made moves no weight
        self.model = build.build_model(config["model"], self.prepared, run.seed, allow)
        torch.manual_seed(derive_seed(run.seed, "loss"))
        self.loss = objective.build_loss(config["loss"], self.prepared.class_counts, allow)
        objective.try_out(self.loss, config["loss"], len(self.prepared.class_names))
        # before a file is written: it decodes images, and one that cannot be decoded is bad input
        self.first_batches = first_batches_fingerprint(self.data.train_dataloader())
        self.regime.prepare(self.model, self.loss)
        self.module = ClassificationModule(
            self.model,
            self.loss,
            build.build_optimizer(config["optimizer"], allow),
            build.build_schedule(config["schedule"], allow),
            run.seed,
            self.regime,
        )
        self.recorder = Recorder(run, self.data)
        callback = Follower() if rank else self.recorder
        self.trainer = build.build_trainer(config["trainer"], callback, rank)
        self.device = self.trainer.strategy.root_device
        self.size: int = config["trainer"]["devices"]
        on_gpu = self.device.type == "cuda"
        if self.size > 1:
            build.share_batch_norm(self.model, on_gpu)
        devices = [torch.device("cuda", i) for i in range(self.size)] if on_gpu else [self.device]
        self.recorder.energy = EnergyMeter(*devices)

    def train_and_record(self, report: Progress) -> Outcome:
        """Train from the start or the checkpoint; leave a record that is done or failed."""
        folder = self.run.folder
        record = self._record()
        files.write_text(folder / CONFIG, dump(self.run.config))
        record.write(folder)
        self.recorder.report = report
        report(0, {})
        try:
            if self.run.config["loss_scale"] == "match_ce":
                # the model is as it was built, in a resumed run too: the same constant
                self.module.loss_scale = matched_scale(
                    self.module, self.data.train_dataloader(), self.trainer, self.run.loss
                )
            self._fit_on_all(readable_checkpoint(folder))
            metrics = self._finish()
        except Exception as error:
            if machine_fault(error) or isinstance(error, LostLockError):
                raise  # not the run's fault: it stays `running` and continues from its checkpoint
            self.recorder.check()
            files.write_text(folder / TRACEBACK, traceback.format_exc())
            self.recorder.close(success=False)
            reason = one_line(error)
            replace(record, status="failed", reason=reason).write(folder)
            return Outcome("failed", folder, reason)
        seconds = round(self.recorder.seconds(), 3)
        joules = self.recorder.energy.joules()
        said = [*record.notes, *objective.corrected_twice(self.loss, self.regime.log_prior_shift())]
        done = replace(record, status="done", metrics=metrics, notes=said)
        self.recorder.check()
        timed = replace(done, started=time_ago(seconds), seconds=seconds, energy_joules=joules)
        timed.write(folder)
        return Outcome("done", folder)

    def _record(self) -> Record:
        prepared = self.prepared
        return replace(
            blank_record(self.run),
            fingerprints={
                "subset": prepared.subset_fingerprint,
                "init": build.weights_fingerprint(self.model.backbone),
                "batches": self.first_batches,
            },
            class_names=list(prepared.class_names),
            class_counts=[int(count) for count in prepared.class_counts],
            priors={
                split: None if prior is None else [float(share) for share in prior]
                for split, prior in prepared.priors.items()
            },
            versions=versions(),
            git=git_commit(),
            hardware=hardware(self.device, self.size),
            origin=prepared.origin,
            notes=notes(self.run.config, prepared),
        )

    def _fit_on_all(self, checkpoint: Path | None) -> None:
        if self.size == 1:
            return self._fit(checkpoint)
        task = partial(follow, self.run.config, checkpoint, self.module.loss_scale)
        with lead(task, self.size, self.device) as self.module.ranks:
            self._fit(checkpoint)
        return None

    def follow(self, checkpoint: Path | None, seat: Seat) -> None:
        """Train as one of the further ranks."""
        with seat.taken(self.device) as self.module.ranks:
            self._fit(checkpoint)

    def _fit(self, checkpoint: Path | None) -> None:
        try:
            self.trainer.fit(
                self.module, datamodule=self.data, ckpt_path=checkpoint, weights_only=True
            )
        except SystemExit as stop:
            if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning's answer to Ctrl-C
                raise KeyboardInterrupt from stop
            raise

    def _finish(self) -> dict[str, float | None]:
        """Pass over the test split, once, and write all but the record; return the metrics.

        Where test is sealed, its outputs are written and nothing is measured of them.
        """
        recorder, folder = self.recorder, self.run.folder
        last = self.run.config["trainer"]["max_epochs"]
        self.module.begin_epoch(last - 1, last, 0)  # a run resumed after its last epoch begins none
        self.module.to(self.device)
        sealed = self.run.sealed
        for split in recorder.loaders:  # a run resumed after its last epoch has measured none
            if split not in recorder.outputs:
                recorder.collect(split, self.trainer, self.module)
            if split not in recorder.measured and not (sealed and split == "test"):
                recorder.measure(split, self.module)
        measured, outputs, classes = recorder.measured, recorder.outputs, recorder.classes
        for split in measured.keys() & {"val", "test"}:
            measured[split] = in_detail(measured[split], split, outputs[split], classes)
        head = results.linear_head(self.module.deployed)
        seen = {split: outputs[split] for split in measured}
        posthoc, arrays = results.posthoc(seen, classes.image_counts, head)
        found = diagnosis.diagnose(measured, seen, self.prepared, recorder.samples)
        gradients = results.gradient_metrics(recorder.rows, self.module.loss_scale)
        regime = {tag: value for tag, value in recorder.rows[-1].items() if "/regime/" in tag}
        further = gradients | regime | posthoc | found.metrics
        kind = self.run.config["model"]["head"]
        metrics = results.final_metrics(measured, seen, classes.counts, kind, further)
        arrays |= found.arrays | label_noise.record_arrays(self.prepared)
        recorder.check()
        arrays = results.write_arrays(folder, measured, arrays)
        later = results.sealed_arrays(measured["train"], outputs, self.loss) if sealed else None
        results.write_outputs(folder, outputs, head, later)
        if recorder.samples is not None:
            recorder.samples.write(folder)
            diagnosis.write_suspicious_labels(folder, found, recorder.samples, classes.names)
        recorder.write_final(metrics, arrays)
        recorder.close(success=True)
        return metrics


def goes_on(run: Run, before: Record) -> bool:
    """Whether ``run`` resumes where it stopped: not if it had ended, by itself, or is repeated.

    One that failed because its process was killed again and again has done nothing wrong so far.
    """
    killed = before.status == "failed" and not (run.folder / TRACEBACK).exists()
    return before.status == "running" or (killed and not run.config["rerun"])


def kept_sealed(run: Run) -> Run:
    """``run`` as sealed as it was: only `unseal` opens, and what could be seen is not sealed again.

    An open run that never was finished had no number of test, and may be sealed.
    """
    before = run_state(run.folder).record
    if before is None or not (before.sealed or before.status == "done"):
        return run
    return Run(run.config | {"test": "sealed" if before.sealed else None})


def follow(config: Config, checkpoint: Path | None, loss_scale: float | None, seat: Seat) -> None:
    """Train the run of ``config`` as the rank of ``seat``, beside rank 0, which records it."""
    training = Training(Run(config), seat.rank)
    training.module.loss_scale = loss_scale
    with closing(training.data):
        training.follow(checkpoint, seat)


def setting_of(run: Run, prepared: PreparedData) -> Setting:
    """What the regime of ``run`` may know."""
    return Setting(
        seed=run.seed,
        max_epochs=run.config["trainer"]["max_epochs"],
        targets=prepared.train.targets,
        class_counts=prepared.class_counts,
        input_shape=prepared.input_shape,
        has_validation=prepared.validation is not None,
    )


def readable_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of an interrupted run; one that cannot be read is renamed, and named."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if machine_fault(error) or isinstance(error, MemoryError):
            raise
        aside = path.with_suffix(".damaged")
        os.replace(path, aside)
        log.warning("%s cannot be read (%s); moved to %s, starting over", path, error, aside.name)
        return None
    return path


def one_line(error: BaseException) -> str:
    """The first line of an error, with its type where the message alone would not tell."""
    text = str(error).strip().splitlines()
    first = text[0] if text else ""
    return (
        first
        if isinstance(error, ValueError | RuntimeError) and first
        else (f"{type(error).__name__}: {first}")
    )
