"""`lossbench rescore`: what follows from stored outputs, computed again; nothing is trained.

So a finished study gains the metrics, losses of the catalogue and post-hoc methods that this
lossbench has and the one that trained it had not. What does not follow from the outputs of
validation and test stays as the run wrote it: everything of the training split, the run's own
objective (its loss may have a state that is not in the outputs) and losses of the features.
history.csv and TensorBoard stay as they are. Of a sealed run validation alone is rescored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lossbench.application import with_own_modules
from lossbench.arguments import modules, read_settings
from lossbench.errors import InputError
from lossbench.records import (
    DamagedRecordError,
    LockedError,
    Record,
    RunLock,
    chosen_study,
    files,
    read_record,
    run_folders,
    run_state,
)
from lossbench.records.record import ARRAYS, LOCK

if TYPE_CHECKING:
    import numpy as np

Metrics = dict[str, "float | None"]
Arrays = dict[str, "np.ndarray"]


def rescore_command(arguments: list[str]) -> int:
    """Rescore every finished run of a study; 1 if one of them could not be.

    A damaged run, such as one without outputs.npz, is named and moved aside, as by every command.
    """
    keys = {"study": None, "runs_dir": "runs", "allow": None}
    settings = read_settings(with_own_modules(arguments), keys, "rescore")
    allow = modules(settings["allow"])
    study = chosen_study(Path(settings["runs_dir"] or "runs"), settings["study"], "rescore")
    states = {folder: run_state(folder).state for folder in run_folders(study)}
    done = [folder for folder, state in states.items() if state == "done"]
    damaged = sum(state == "missing" for state in states.values())
    if not done and not damaged:
        raise InputError(f"no run of study={study.name} is done; see lossbench status")
    for folder, state in states.items():
        if state not in ("done", "missing"):
            print(f"{folder.name}: left alone: {state}")
    failures = 0
    for folder in done:
        try:
            print(f"{folder.name}: {rescore(folder, allow)}")
        except (InputError, LockedError, DamagedRecordError) as error:
            failures += 1
            print(f"{folder.name}: not rescored: {error}")
    print(f"{study.name}: {len(done) - failures} of {len(done) + damaged} finished runs rescored")
    return 1 if failures or damaged else 0


def rescore(folder: Path, allow: Sequence[str] = ()) -> str:
    """Rescore the finished run in ``folder``; says in words what changed.

    Whatever is written is whole or not at all; where nothing changes, nothing is written. Raises
    `LockedError` if another process writes the run, `DamagedRecordError` if a file of it cannot be
    read, and `InputError` if its loss is needed and cannot be made.
    """

    with RunLock(folder / LOCK):
        record = read_record(folder)
        before, old = record.metrics, record.arrays()
        found, new, half = recompute(record, allow)
        metrics, arrays = dict(sorted((before | found).items())), old | new
        if any(not _same(old.get(name), array) for name, array in new.items()):
            files.write_arrays(folder / ARRAYS, arrays)
        if metrics != before:
            replace(record, metrics=metrics).write(folder)
    added = len(metrics) - len(before)
    changed = sum(before[tag] != metrics[tag] for tag in before)
    note = (
        "; its logits are stored as float16, so numbers differ from the run's own" if half else ""
    )
    return f"{added} metrics new, {changed} changed{note}"


def _same(before: np.ndarray | None, now: np.ndarray) -> bool:
    import numpy as np

    return before is not None and np.array_equal(before, now, equal_nan=True)


def recompute(record: Record, allow: Sequence[str] = ()) -> tuple[Metrics, Arrays, bool]:
    """Metrics and arrays of validation and test from the stored outputs of ``record``.

    With them, whether the logits are stored in half precision. Equal to what the run wrote if they
    are in full.
    """
    from lossbench.training import measuring, results
    from lossbench.training.environment import prepare_process

    config, stored = record.config(), record.outputs()
    prepare_process(config["trainer"]["threads"])
    counts, classes = record.class_counts, measuring.Classes.of_record(record)
    try:
        half = stored["logits/test"].dtype.itemsize < 4
        log_prior = (
            stored["log_prior"] if "log_prior" in stored else loss_prior(config, counts, allow)
        )
        outputs = results.read_outputs(stored, log_prior)
    except KeyError as error:
        raise DamagedRecordError(record.folder, f"outputs.npz lacks {error}") from error
    if record.sealed:
        del outputs["test"]
    measured = {
        split: measuring.measure_decoded(split, output, classes, detail=True)
        for split, output in outputs.items()
    }
    posthoc, arrays = results.posthoc(outputs, classes.image_counts, results.stored_head(stored))
    metrics = results.final_metrics(measured, outputs, counts, config["model"]["head"], posthoc)
    for result in measured.values():
        arrays |= result.arrays
    return metrics, arrays, half


def loss_prior(config: dict, class_counts: list[int], allow: Sequence[str] = ()) -> np.ndarray:
    """The log prior that the outputs of a run answer for, where it was not stored with them."""
    from lossbench.training import objective

    return objective.model_log_prior(final_loss(config, class_counts, allow), class_counts)


def final_loss(config: dict, class_counts: list[int], allow: Sequence[str] = ()) -> Callable:
    """The loss of a run in its last epoch, without the state that training gave it.

    ``allow`` is the user's: what a record allows is its writer's, and may have been imported.
    Raises `InputError` if it cannot be made.
    """
    import torch

    from lossbench.seeding import derive_seed
    from lossbench.training import objective

    torch.manual_seed(derive_seed(config["seed"], "loss"))
    loss = objective.build_loss(config["loss"], class_counts, allow)
    last = config["trainer"]["max_epochs"]
    if hasattr(loss, "set_epoch"):
        loss.set_epoch(last - 1, last)
    return loss
