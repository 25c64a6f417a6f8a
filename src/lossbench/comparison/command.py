"""`lossbench compare`: from the records of a study to the verdict, on the terminal and in files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from lossbench.arguments import read_settings
from lossbench.config import folder
from lossbench.errors import InputError
from lossbench.records import DamagedRecordError, Record, chosen_study
from lossbench.records.study import set_aside
from lossbench.settings import SETTINGS

if TYPE_CHECKING:
    from lossbench.comparison.compare import Comparison

BASELINE = "cross_entropy"


@dataclass(frozen=True)
class Declared:
    """What the study's own config names: the newest run's, for a study may be run in parts.

    ``metric`` and ``margin`` are None where the config names none; ``path`` is that config.
    """

    baseline: str = BASELINE
    posthoc: tuple[str, ...] = ()
    metric: str | None = None
    margin: float | None = None
    path: Path | None = None


def declared(records: Sequence[Record]) -> Declared:
    """What the config of the newest of ``records`` declares; `InputError` for a bad margin."""
    if not records:
        return Declared()
    done = [record for record in records if record.status == "done"]
    newest = max(done or records, key=lambda record: record.started)
    config, path = newest.config(), newest.folder / "config.yaml"
    return Declared(
        baseline=str(config.get("baseline", BASELINE)),
        posthoc=tuple(config.get("posthoc") or ()),
        metric=config.get("metric"),
        margin=_margin(config.get("margin"), f"{path}: margin"),
        path=path,
    )


def chosen(given: str | None, declared: Sequence[str]) -> list[str]:
    """The methods in ``given``: names with commas, with or without brackets; None: ``declared``."""
    if given is None:
        return list(declared)
    return [name for name in given.strip("[]").replace(" ", "").split(",") if name]


def given_margin(text: str | None) -> float | None:
    """The margin in ``text``; `InputError` if it is no finite number above 0."""
    try:
        value: object = None if text is None else float(text)
    except ValueError:
        value = text
    return _margin(value, "margin")


def compare_command(arguments: list[str]) -> int:
    """Compare the runs of one study; returns the exit code."""
    defaults = yaml.safe_load((folder("configs") / "compare.yaml").read_text())
    settings = read_settings(arguments, defaults, "compare")
    margin = given_margin(settings["margin"])
    runs_dir = Path(settings["runs_dir"] or "runs")
    named = None if settings["study"] == "???" else settings["study"]
    study = chosen_study(runs_dir, named, "compare")
    from lossbench.comparison.terminal import show

    while True:
        try:
            comparison = _compared(study, settings, margin)
            break
        except DamagedRecordError as error:  # found only now: its arrays were not read before
            set_aside(error.folder, str(error))
    show(comparison)
    return 0


def _compared(study: Path, settings: dict[str, str | None], margin: float | None) -> Comparison:
    """The comparison that ``settings`` and the study's config ask for, written."""
    from lossbench.comparison import metrics
    from lossbench.comparison.compare import compare
    from lossbench.comparison.drawing import cores
    from lossbench.comparison.posthoc import split_baseline, with_posthoc
    from lossbench.comparison.sealing import refuse_sealed
    from lossbench.comparison.selection import selected_folders, selected_runs

    records, selection = selected_runs(study)
    ended = {record.folder.name for record in records if record.status in ("done", "failed")}
    pending = sum(name not in ended for name in selected_folders(study, selection.tuning))
    found = declared(records)
    by = str(settings["by"])
    own = found.metric or metrics.PRIMARY
    metric = settings["metric"] or own
    refuse_sealed(records, metric)
    if found.metric is not None and settings["metric"] is None:
        _check_declared(found, records, by)
    if margin is None and metric == own:  # a margin is in the unit of the metric it is declared for
        margin = found.margin
    baseline = (settings["baseline"] or found.baseline).strip('"')  # as other keys are quoted
    arm, its_own = split_baseline(baseline)
    methods = chosen(settings["posthoc"], found.posthoc) + its_own
    records = with_posthoc(records, list(dict.fromkeys(methods)), arm)
    out = Path(settings["out"]) if settings["out"] else study / "comparison"
    choices = {"baseline": baseline, "metric": metric, "by": by}
    try:
        return compare(
            records,
            **choices,
            margin=margin,
            pending=pending,
            selection=selection,
            processes=cores(),
            out=out,
        )
    except OSError as error:  # of a record it would be a DamagedRecordError
        raise InputError(
            f"out={out}: results cannot be written there ({error.strerror or error}); "
            "give a folder that can be written with out=FOLDER"
        ) from error


def _check_declared(found: Declared, records: Sequence[Record], by: str) -> None:
    """Refuse a metric that cannot decide, naming the config that declares it."""
    from lossbench.comparison import metrics

    tags = {tag for record in records if record.status == "done" for tag in record.metrics}
    try:
        metrics.check(str(found.metric), tags, by)
    except InputError as error:
        if tags:  # without a finished run there is more to say than this
            raise InputError(
                f"metric in {found.path}: {error}; correct it in the experiment's file, "
                "or give another to lossbench compare with metric="
            ) from None


def _margin(value: object, name: str) -> float | None:
    margin = SETTINGS["margin"].check(value, name)
    return margin if isinstance(margin, float) else None
