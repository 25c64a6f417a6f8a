"""`lossbench unseal`: measure the sealed test outputs of a study, having said what was chosen.

Everything is measured from what the runs stored, through the functions that measure at the end of
an open run; no model is needed and nothing is trained. What was declared and known is written to
`unsealed.json` before the first run is opened, so that a crash in between leaves the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lossbench.application import with_own_modules
from lossbench.arguments import modules, read_settings
from lossbench.errors import InputError
from lossbench.records import (
    DamagedRecordError,
    LockedError,
    LostLockError,
    Record,
    RunLock,
    chosen_study,
    files,
    read_openings,
    read_record,
    read_study,
    sealed_runs,
)
from lossbench.records.record import ARRAYS, LOCK, TENSORBOARD
from lossbench.records.sealing import add_opening
from lossbench.training.rescore import final_loss

if TYPE_CHECKING:
    import numpy as np

    from lossbench.data.preparation import PreparedData
    from lossbench.training.measuring import Classes, Measured
    from lossbench.training.passes import Deployed

UNSEALED_EVENTS = ".unsealed"
"""How the names of event files end that hold what was measured when a run was opened."""


def unseal_command(arguments: list[str]) -> int:
    """Open every finished sealed run of a study; 1 if one of them could not be opened.

    Takes study=NAME or NAME, runs_dir=, allow= and --config-dir for losses of one's own, and
    partial=true for a study with unfinished runs.
    """
    named = [f"study={text}" if "=" not in text else text for text in with_own_modules(arguments)]
    defaults = {"study": None, "runs_dir": "runs", "allow": None, "partial": "false"}
    settings = read_settings(named, defaults, "unseal")
    allow = modules(settings["allow"])
    if settings["partial"] not in ("true", "false"):
        raise InputError(f"partial={settings['partial']} is not allowed: true or false")
    study = chosen_study(Path(settings["runs_dir"] or "runs"), settings["study"], "unseal")
    refuse_trials(study)
    try:
        with RunLock(study / f"unsealed.{LOCK}"):
            return _unseal(study, allow, partial=settings["partial"] == "true")
    except LockedError as error:
        print(f"{error}; wait for it, or stop it")
        return 1


def refuse_trials(study: Path) -> None:
    """Raise `InputError` if ``study`` holds the trials of a search: their test is never opened."""
    if (study / "tuning.json").exists():
        raise InputError(
            f"{study} holds the trials of lossbench tune, whose test sets stay sealed; "
            f"open the study with lossbench unseal study={study.parent.name}"
        )


def _unseal(study: Path, allow: Sequence[str], *, partial: bool) -> int:
    records = read_study(study)
    sealed = sealed_runs(records)
    if not sealed:
        print(f"{study.name}: no finished run is sealed; nothing to open")
        return 0
    from lossbench.comparison.selection import selected_folders, selected_runs

    selected, selection = selected_runs(study)
    unfinished = unfinished_runs(selected_folders(study, selection.tuning), selected)
    if unfinished and not partial:
        plural, more = "s" * (len(unfinished) > 1), ", ..." * (len(unfinished) > 3)
        raise InputError(
            f"{study.name} has {len(unfinished)} run{plural} to come "
            f"({', '.join(unfinished[:3])}{more}), which would be an interim look at the test set: "
            "finish them first, or add partial=true"
        )
    # torch comes with these: what is refused above is refused at once
    from lossbench.comparison.opening import opening_of
    from lossbench.training.environment import git_commit, versions

    written = {identity for opening in read_openings(study) for identity in opening.runs}
    runs = tuple(record.identity for record in sealed)
    if not written.issuperset(runs):  # else an opening was cut off, and this goes on with it
        for record in sealed:  # a loss that cannot be made would open nothing: refused before
            final_loss(record.config(), record.class_counts, allow)
        made_with = {"git": git_commit(), "lossbench": versions()["lossbench"]}
        add_opening(study, opening_of(selected, study, runs, unfinished, made_with))
    failures = 0
    for record in sealed:
        try:
            print(f"{record.folder.name}: {open_run(record.folder, allow)}", flush=True)
        except (InputError, LockedError, LostLockError, DamagedRecordError) as error:
            failures += 1
            print(f"{record.folder.name}: not opened: {error}")
    print(f"{study.name}: {len(sealed) - failures} of {len(sealed)} sealed runs opened")
    return 1 if failures else 0


def unfinished_runs(planned: Sequence[str], records: Sequence[Record]) -> list[str]:
    """The folders of the ``planned`` and the recorded runs that have neither ended nor failed."""
    ended = {record.folder.name for record in records if record.status != "running"}
    known = dict.fromkeys([*planned, *(record.folder.name for record in records)])
    return [name for name in known if name not in ended]


def open_run(folder: Path, allow: Sequence[str] = ()) -> str:
    """Measure test of the sealed run in ``folder``; says in words what was found.

    Afterwards the folder holds what the run would have left had it not been sealed, bit for bit;
    in TensorBoard it is a second event file. Killed at any moment, the run is still sealed or
    whole. Raises `LockedError` if another process writes the run, `DamagedRecordError` if a file of
    it cannot be read, and `InputError` if its loss cannot be made.
    """
    from lossbench.training import diagnosis, measuring, results
    from lossbench.training.environment import prepare_process

    with RunLock(folder / LOCK) as lock:
        files.remove_leftovers(folder)
        record = read_record(folder)
        if not record.sealed:
            return "open already"
        stored, before = record.outputs(), record.arrays()
        config = record.config() | {"allow": allow}  # the user's: a record may be imported
        prepare_process(config["trainer"]["threads"])
        classes = measuring.Classes.of_record(record)
        try:
            outputs = results.read_outputs(stored, stored["log_prior"])
            losses, targets = (stored[f"sealed/train_{name}"] for name in ("losses", "targets"))
        except KeyError as error:
            raise DamagedRecordError(folder, f"outputs.npz lacks {error}") from error
        test = _measure(record, config, stored, outputs["test"], classes)
        head = results.stored_head(stored)
        posthoc, arrays = results.posthoc(outputs, classes.image_counts, head)
        labels = outputs["test"].targets.numpy()
        found = diagnosis.of_overfitting(losses, targets, test.losses, labels, classes)
        kind, further = config["model"]["head"], posthoc | found.metrics
        new = results.final_metrics({"test": test}, outputs, classes.counts, kind, further)
        arrays = before | test.arrays | arrays | found.arrays
        lock.check()
        files.write_arrays(folder / ARRAYS, arrays)
        added = {tag: value for tag, value in new.items() if tag not in record.metrics}
        drawn = _write_events(record, config, added, test, outputs, arrays, classes)
        metrics = dict(sorted((record.metrics | new).items()))
        replace(record, metrics=metrics, sealed=False).write(folder)
        # without what it took to open the run; a kill before this leaves it there, to no harm
        results.write_outputs(folder, outputs, head)
    return f"opened, {len(added)} metrics of test{drawn}"


def _measure(
    record: Record,
    config: dict,
    stored: Mapping[str, np.ndarray],
    outputs: Deployed,
    classes: Classes,
) -> Measured:
    """Test under the yardstick and under the run's own loss, with the state that it ended in."""
    import torch
    from torch import nn

    from lossbench.training import measuring

    def kept(prefix: str) -> dict[str, torch.Tensor]:
        start = f"sealed/{prefix}/"
        return {
            name.removeprefix(start): torch.from_numpy(array)
            for name, array in stored.items()
            if name.startswith(start)
        }

    loss = final_loss(config, record.class_counts, config["allow"])
    if isinstance(loss, nn.Module):
        try:
            loss.load_state_dict(kept("loss"), assign=True)
        except RuntimeError as error:
            told = " ".join(str(error).split())
            raise InputError(f"the loss {record.loss} is not the one trained: {told}") from error
    test = replace(outputs, head=kept("test"))
    try:
        measured = measuring.measure("test", test, loss, classes)
    except ValueError as error:
        raise InputError(f"the test split cannot be measured: {error}") from error
    return measuring.in_detail(measured, "test", test, classes)


def _write_events(
    record: Record,
    config: dict,
    added: Mapping[str, float | None],
    test: Measured,
    outputs: Mapping[str, Deployed],
    arrays: Mapping[str, np.ndarray],
    classes: Classes,
) -> str:
    """Write what TensorBoard shows of test, beside the run's own event file."""
    from lossbench.tensorboard.writer import RunWriter
    from lossbench.training.events import write_end

    epoch, folder = config["trainer"]["max_epochs"], record.folder / TENSORBOARD
    data = _data(record, config)
    with RunWriter(folder, replace=True, suffix=UNSEALED_EVENTS) as writer:
        write_end(writer, epoch, added, {"test": test}, outputs, arrays, classes, data)
    return "" if data else "; its images of the highest loss are not drawn: the data are not here"


def _data(record: Record, config: dict) -> PreparedData | None:
    """The data of the run, for the pictures of its test images; None if it is not here."""
    from lossbench.data.configured import prepared_data

    try:
        data, _ = prepared_data(config)
    except (InputError, OSError):
        return None
    return data if data.subset_fingerprint == record.fingerprints.get("subset") else None
