"""`lossbench compare`: from the records of a study to the verdict, on the terminal and in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from lossbench.arguments import read_settings
from lossbench.config import folder
from lossbench.records import DamagedRecordError, Record, chosen_study, read_study
from lossbench.records.study import set_aside

BASELINE = "cross_entropy"


def declared(records: Sequence[Record]) -> tuple[str, list[str]]:
    """The baseline, and the post-hoc methods on it, that the study's own config names."""
    config = records[0].config() if records else {}
    return str(config.get("baseline", BASELINE)), list(config.get("posthoc") or ())


def chosen(given: str | None, declared: list[str]) -> list[str]:
    """The methods in ``given``: names with commas, with or without brackets; None: ``declared``."""
    if given is None:
        return declared
    return [name for name in given.strip("[]").replace(" ", "").split(",") if name]


def compare_command(arguments: list[str]) -> int:
    """Compare the runs of one study; returns the exit code."""
    defaults = yaml.safe_load((folder("configs") / "compare.yaml").read_text())
    settings = read_settings(arguments, defaults, "compare")
    runs_dir = Path(settings["runs_dir"] or "runs")
    named = None if settings["study"] == "???" else settings["study"]
    study = chosen_study(runs_dir, named, "compare")
    from lossbench.comparison.compare import compare
    from lossbench.comparison.posthoc import split_baseline, with_posthoc
    from lossbench.comparison.terminal import show

    choices = {key: str(settings[key]) for key in ("metric", "by")}
    out = Path(settings["out"]) if settings["out"] else study / "comparison"
    while True:
        try:
            records = read_study(study)
            baseline, methods = declared(records)
            baseline = settings["baseline"] or baseline
            arm, its_own = split_baseline(baseline)
            methods = chosen(settings["posthoc"], methods) + its_own
            records = with_posthoc(records, list(dict.fromkeys(methods)), arm)
            comparison = compare(records, baseline=baseline, out=out, **choices)
            break
        except DamagedRecordError as error:  # found only now: its arrays were not read before
            set_aside(error.folder, str(error))
    show(comparison)
    return 0
