"""`lossbench reproduce`: train a recorded run again, and say what differs.

The config is the record's, checked like any config; what it allows and where it writes is the
user's alone to say. The rerun lies in a folder of its own and is a run like any other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lossbench.application import with_own_modules
from lossbench.arguments import modules, read_settings
from lossbench.config import Config, Run
from lossbench.errors import InputError
from lossbench.records import DamagedRecordError, LockedError, Record, read_record, run_folders
from lossbench.records.archive import LOCATIONS, check_run
from lossbench.records.unpacking import refuse_control_characters
from lossbench.settings import check

if TYPE_CHECKING:
    from rich.console import Console

    from lossbench.training.reproduction import Reproduction

# What may be said anew, for it says where and how a run is made and not what.
ANEW = (
    *("data.archive", "data.root", "data.workers", "data.cache_mb"),
    *("trainer.accelerator", "trainer.threads", "trainer.devices"),
)


def reproduce_command(arguments: list[str]) -> int:
    """`lossbench reproduce RUN_FOLDER [runs_dir=] [allow=[..]] [--config-dir=] [data.archive=]`.

    Returns 0 if the run is reproduced, bit for bit or up to what other seeds would change, else 1.
    """
    from rich.console import Console

    arguments = with_own_modules(arguments)
    if not arguments or ("=" in arguments[0] and not Path(arguments[0]).exists()):
        raise InputError("say which run, as in lossbench reproduce runs/STUDY/RUN_FOLDER")
    keys = {"runs_dir": "reproduced", "allow": None, **dict.fromkeys(ANEW)}
    settings = read_settings(arguments[1:], keys, "reproduce")
    record = recorded(Path(arguments[0]))
    given = {key: yaml.safe_load(settings[key] or "null") for key in ANEW if settings[key]}
    runs_dir = settings["runs_dir"] or "reproduced"
    run = rerun_of(record, runs_dir, modules(settings["allow"]), given)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    again = train_again(run, Console(stderr=True, highlight=False, soft_wrap=True, markup=False))
    if again is None:
        return 1
    from lossbench.training.reproduction import reproduction

    found = reproduction(record, again, other_seeds(record), run.config.get("metric"))
    show(found, record, again, run.identity == record.identity, console)
    return 0 if found.reproduced else 1


def recorded(place: Path) -> Record:
    """The finished record in the folder ``place``, or at the `record.json` ``place``."""
    folder = place.parent if place.name == "record.json" else place
    try:
        record = read_record(folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{place} is no run: it has no record.json") from error
    except (DamagedRecordError, TypeError) as error:
        raise InputError(f"{place} cannot be reproduced: {error}") from error
    if record.status != "done":
        raise InputError(f"{place} is {record.status}; only a finished run can be reproduced")
    refuse_control_characters(vars(record) | {"folder": ""}, f"{folder}/record.json")
    return record


def rerun_of(record: Record, runs_dir: str, allow: list[str], given: Mapping[str, Any]) -> Run:
    """The run that repeats ``record`` below ``runs_dir``, with the keys ``given`` anew.

    Raises `InputError` if its config is not allowed, is not that of the record, or would be
    trained over the record itself.
    """
    try:
        config: Config = record.config()
    except DamagedRecordError as error:
        raise InputError(str(error)) from error
    refuse_control_characters(config, f"{record.folder}/config.yaml")
    config |= {"runs_dir": runs_dir, "allow": allow or None, "rerun": False, "retry_failed": True}
    config["test"] = "sealed" if getattr(record, "sealed", False) else None
    try:
        for key in LOCATIONS:  # where downloads are written is no stranger's to say
            place = config["data"].get(key)
            elsewhere = key == "root" or (config["data"].get("checksums") and place)
            if place is not None and elsewhere and (key == "root" or not Path(place).exists()):
                config["data"][key] = None
        for path, value in given.items():
            group, _, key = path.partition(".")
            config[group][key] = value
        check(config)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{record.folder}/config.yaml is no run's config ({error!r})") from error
    check_run(record, config, str(record.folder))
    run = Run(config)
    if run.folder.resolve() == record.folder.resolve() or _is(run.folder, record):
        raise InputError(
            f"{run.folder} is the run itself; choose another folder with runs_dir=FOLDER"
        )
    return run


def _is(folder: Path, record: Record) -> bool:
    try:
        before = read_record(folder)
    except (FileNotFoundError, NotADirectoryError, DamagedRecordError):
        return False
    return (before.started, before.seconds) == (record.started, record.seconds)


def train_again(run: Run, console: Console) -> Record | None:
    """Train ``run`` and return its record; None, having said why, if that did not succeed."""
    from lossbench.training.run import execute

    epochs = run.config["trainer"]["max_epochs"]

    def progress(epoch: int, row: Mapping[str, float]) -> None:
        console.print(f"{run.arm} on {run.cell}, seed {run.seed}: epoch {epoch}/{epochs}")

    try:
        outcome = execute(run, progress)
    except LockedError as error:
        console.print(f"lossbench: {error}; wait for it, or stop it")
        return None
    if outcome.state != "done":
        console.print(f"lossbench: the rerun failed: {outcome.reason} ({outcome.folder})")
        return None
    if not outcome.new:
        console.print(f"{outcome.folder} was reproduced before, and is not trained again")
    return read_record(outcome.folder)


def other_seeds(record: Record) -> list[Record]:
    """The finished runs beside ``record`` that differ from it in the seed alone."""
    found = []
    for folder in run_folders(record.folder.absolute().parent):
        try:
            other = read_record(folder)
        except DamagedRecordError:
            continue
        alike = (other.configuration, other.status) == (record.configuration, "done")
        if alike and other.seed != record.seed:
            found.append(other)
    return found


def show(
    found: Reproduction, record: Record, again: Record, same_config: bool, console: Console
) -> None:
    """The headline, what differs around the run, and a table of the metrics by group."""
    from rich.table import Table

    console.print(found.headline)
    for line in surroundings(record, again, same_config):
        console.print(line)
    table = Table("metrics", "n", "equal", "largest difference", "of", "in standard deviations")
    rows = [row for row in found.groups if row.equal < row.count]
    for row in rows:
        in_spread = "-" if row.in_spread is None else f"{row.in_spread:.2g}"
        shown = (str(row.count), str(row.equal), f"{row.difference:.2g}", row.tag, in_spread)
        table.add_row(row.group, *shown)
    count, equal = (sum(getattr(row, k) for row in found.groups) for k in ("count", "equal"))
    console.print(f"{equal} of {count} metrics are equal bit for bit")
    if rows:
        console.print(table)
    for note in found.notes:
        console.print(note)
    console.print(f"the rerun is in {again.folder}")


def surroundings(record: Record, again: Record, same_config: bool) -> list[str]:
    """What differs between two records beside their metrics, a line each."""
    lines = []
    if not same_config:
        lines.append("config: own code or data are not those of the record (other identity)")
    for part in ("versions", "hardware", "fingerprints"):
        before, now = getattr(record, part), getattr(again, part)
        words = [
            f"{key} {_short(before.get(key))} -> {_short(now.get(key))}"
            for key in sorted({*before, *now})
            if before.get(key) != now.get(key)
        ]
        lines.append(f"{part}: {', '.join(words) if words else 'equal'}")
    if record.git != again.git:
        lines.append(f"commit of lossbench: {record.git} -> {again.git}")
    install = pip_line(record.versions, again.versions)
    return lines + ([f"the recorded versions: {install}"] if install else [])


def _short(value: Any) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) == 64 else str(value)


def pip_line(recorded: Mapping[str, str], here: Mapping[str, str]) -> str | None:
    """The command that installs the ``recorded`` versions, where they differ; None if none does.

    What is no version number is left out: the line is there to be pasted into a shell.
    """
    wanted = [
        f"{name}=={version.partition('+')[0]}"
        for name, version in sorted(recorded.items())
        if name not in ("python", "lossbench")
        and here.get(name) != version
        and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)
        and re.fullmatch(r"[0-9][A-Za-z0-9.!+]*", str(version))
    ]
    return f"pip install {' '.join(wanted)}" if wanted else None
