"""A study as one file: `lossbench export`, and what `lossbench import` lets in.

The archive is a zip of the study's folder with `manifest.json`, which says the length and SHA-256
of every file. What another person needs to open, compare and extend the study is in it: records,
configs, histories, arrays, outputs, event files, the plan, the tuning and its trials. Not in it are
checkpoints (nobody continues a run that has ended), runs that have not ended, locks, tracebacks,
what `compare` makes again, and where things lay on the machine that exported it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from lossbench.arguments import read_settings
from lossbench.config import Run
from lossbench.errors import InputError
from lossbench.records import files
from lossbench.records.lock import holder_of
from lossbench.records.record import (
    ARRAYS,
    CONFIG,
    HISTORY,
    LOCK,
    OUTPUTS,
    RECORD,
    SAMPLE_HISTORY,
    SUSPICIOUS_LABELS,
    TENSORBOARD,
    DamagedRecordError,
    Record,
    read_record,
)
from lossbench.records.study import PLAN, TRIALS, chosen_study, run_folders
from lossbench.settings import check_values

SCHEMA = 1
MANIFEST = "manifest.json"
CHUNK = 1 << 20
TEXT_LIMIT = 64 << 20  # bytes of a file that is read whole

# Every name that an archive may hold; no other character, so no path leads out of the folder.
STUDY_FILES = (PLAN, "unsealed.json", f"{TRIALS}/{PLAN}", f"{TRIALS}/tuning.json")
LOGS = (f"{TRIALS}/optuna.log",)
RUN_FILES = (RECORD, CONFIG, HISTORY, ARRAYS, OUTPUTS, SAMPLE_HISTORY, SUSPICIOUS_LABELS)
RUN = r"(?:tuning/)?[A-Za-z0-9_=+-][A-Za-z0-9_.=+-]{0,150}-[0-9a-f]{12}"
EVENTS = r"tensorboard/events\.out\.tfevents\.[0-9]+\.lossbench\.[0-9]+(?:\.unsealed)?"
TUNED = r"tuning/tuned/[A-Za-z0-9_=+-][A-Za-z0-9_.=+-]{0,150}\.yaml"
NAMES = re.compile(
    "|".join((*map(re.escape, (*STUDY_FILES, *LOGS)), TUNED))
    + f"|{RUN}/(?:{'|'.join(map(re.escape, RUN_FILES))}|{EVENTS})"
)

# Keys of the data that say where it lies; what is read there has checksums, or enters by content.
LOCATIONS = ("archive", "root")


@dataclass(frozen=True)
class Exported:
    """What `export_study` wrote: how many runs, and those it left out with the reason."""

    runs: int
    left_out: dict[str, str]
    bytes: int


def export_command(arguments: list[str]) -> int:
    """`lossbench export study=NAME out=FILE.zip [runs_dir=]`."""
    keys = {"study": None, "out": None, "runs_dir": "runs"}
    settings = read_settings(arguments, keys, "export")
    study = chosen_study(Path(settings["runs_dir"] or "runs"), settings["study"], "export")
    out = Path(settings["out"] or f"{study.name}.zip")
    if out.suffix != ".zip" or out.is_dir() or not os.access(out.absolute().parent, os.W_OK):
        raise InputError(f"out={out} is not allowed: a file FILE.zip in a folder to write to")
    exported = export_study(study, out)
    for name, reason in exported.left_out.items():
        print(f"left out: {name}: {reason}")
    print(f"{study.name}: {exported.runs} runs in {out}, {exported.bytes / 1e6:.1f} MB")
    print(f"read it with: lossbench import {out}")
    return 0


def import_command(arguments: list[str]) -> int:
    """`lossbench import FILE.zip [study=NEWNAME] [runs_dir=]`."""
    from lossbench.records.unpacking import import_study

    if not arguments or ("=" in arguments[0] and not Path(arguments[0]).exists()):
        raise InputError("say which file to import, as in lossbench import FILE.zip")
    keys = {"study": None, "runs_dir": "runs"}
    settings = read_settings(arguments[1:], keys, "import")
    runs_dir = Path(settings["runs_dir"] or "runs")
    found = import_study(Path(arguments[0]), settings["study"], runs_dir)
    print(f"{found.study}: {found.runs} runs in {runs_dir / found.study}")
    if found.unproved:
        print(
            f"{found.unproved} of them need code or data that is not in the archive, so that "
            "nobody can say here whether their configs are those of their records"
        )
    if found.foreign:
        print(f"foreign code, to be had from the study's authors: {', '.join(found.foreign)}")
    print(f"next: lossbench compare study={found.study}")
    return 0


def export_study(study: Path, out: Path) -> Exported:
    """Write ``study`` to the zip ``out``, whole or not at all.

    The same study gives the same bytes. Raises `InputError` if no run of it has ended, or if a run
    changes meanwhile.
    """
    runs, left_out = ended_runs(study)
    if not runs:
        raise InputError(f"no run of study={study.name} has ended; see lossbench status")
    with files.replacing(out) as temporary:
        with zipfile.ZipFile(temporary, "w") as archive:
            listed: dict[str, dict[str, Any]] = {}
            for name, content in entries(study, runs):
                listed[name] = _add(archive, name, content)
            manifest = {
                "schema": SCHEMA,
                "lossbench": _version(),
                "study": study.name,
                "files": listed,
            }
            text = json.dumps(manifest, indent=1).encode()
            _add(archive, MANIFEST, text)
        _refuse_changes(runs)
        size = temporary.stat().st_size
    return Exported(len(runs), left_out, size)


def ended_runs(study: Path) -> tuple[dict[Path, Record], dict[str, str]]:
    """The runs of ``study`` and of its tuning that can be exported, and why others cannot."""
    ended: dict[Path, Record] = {}
    left_out = {}
    for folder in (*run_folders(study), *run_folders(study / TRIALS)):
        name = folder.relative_to(study).as_posix()
        try:
            record = read_record(folder)
            if holder_of(folder / LOCK) is not None:
                left_out[name] = "running"
            elif record.status == "running":
                left_out[name] = "interrupted"
            else:
                check_run(record, _config(folder), name)
                ended[folder] = record
        except (DamagedRecordError, InputError) as error:
            left_out[name] = str(error)
    return ended, left_out


def entries(study: Path, runs: dict[Path, Record]) -> Iterator[tuple[str, bytes | Path]]:
    """Name and content (or where it lies) of every file of the archive, sorted by name."""
    found: dict[str, Path] = {}
    for name in (*STUDY_FILES, *LOGS):
        if (study / name).is_file():
            found[name] = study / name
    for path in (study / TRIALS / "tuned").glob("*.yaml"):
        found[path.relative_to(study).as_posix()] = path
    for folder in runs:
        place = folder.relative_to(study).as_posix()
        found |= {f"{place}/{n}": folder / n for n in RUN_FILES if (folder / n).is_file()}
        events = sorted((folder / TENSORBOARD).glob("events.out.tfevents.*"))
        for number, path in enumerate(events):
            found[f"{place}/{TENSORBOARD}/{_event_name(path, number)}"] = path
    for name, path in sorted(found.items()):
        if not NAMES.fullmatch(name):
            raise InputError(f"{path} has no name that an archive may hold: {name}")
        yield name, _without_places(path)


def check_run(record: Record, config: dict[str, Any], name: str) -> bool:
    """Whether ``record`` is proved to be that of ``config``, without importing or reading anything.

    It cannot be proved of a run with code or data of its own, whose content is in its identity.
    Raises `InputError` that begins with ``name`` if the two contradict each other.
    """
    try:
        check_values(config)
        alone = not foreign_targets(config) and not _read_by_content(config["data"])
        identity = Run(config).identity if alone else record.identity
        same_seed = config["seed"] == record.seed
    except InputError as error:
        raise InputError(f"{name}/{CONFIG}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{name}/{CONFIG} is not a run's config ({error!r})") from error
    if not re.fullmatch("[0-9a-f]{64}", str(record.identity)):
        raise InputError(f"{name}/{RECORD}: identity is no hash of 64 digits")
    if not (same_seed and record.identity == identity):
        raise InputError(
            f"{name}: {CONFIG} is not the config that {RECORD} is of: their identities differ"
        )
    return alone


def foreign_targets(config: dict[str, Any]) -> list[str]:
    """Every `_target_` in ``config`` that is not lossbench's, torch's or torchvision's."""
    found = []
    for key, value in config.items():
        if isinstance(value, dict):
            found += foreign_targets(value)
        elif key == "_target_" and isinstance(value, str):
            ours = value.partition(".")[0] in ("lossbench", "torch", "torchvision")
            found += [] if ours else [value]
    return found


def read_yaml(text: bytes, name: str) -> dict[str, Any]:
    """A config as plain values. Raises `InputError`, also for aliases, which can be a bomb."""
    import yaml

    try:
        if b"&" in text and any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise InputError(f"{name} has aliases, which lossbench does not write")
        config = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{name} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise InputError(f"{name} is not a run's config: no mapping")
    return config


def to_yaml(config: dict[str, Any]) -> str:
    """``config`` as a run writes it."""
    import yaml

    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def _config(folder: Path) -> dict[str, Any]:
    return read_yaml((folder / CONFIG).read_bytes(), f"{folder.name}/{CONFIG}")


def _read_by_content(data: dict[str, Any]) -> bool:
    return bool(data.get("archive")) and not data.get("checksums")


def _event_name(path: Path, number: int) -> str:
    # in the name are host and process
    when = re.match(r"events\.out\.tfevents\.([0-9]+)", path.name)
    end = ".unsealed" if path.name.endswith(".unsealed") else ""
    return f"events.out.tfevents.{when[1] if when else 0}.lossbench.{number}{end}"


def _without_places(path: Path) -> bytes | Path:
    """The content of ``path`` without the places of this machine, or ``path`` if it has none."""
    if path.name == CONFIG:
        config = read_yaml(path.read_bytes(), str(path))
        data = config["data"]
        for key in LOCATIONS:
            if data.get(key) is not None:
                data[key] = None if data.get("checksums") else Path(str(data[key])).name
        return to_yaml(config | {"runs_dir": "runs", "allow": None}).encode()
    if path.name == RECORD:
        record = json.loads(path.read_bytes())
        for key in ("origin", "reason"):
            record[key] = record.get(key) and _shortened(record[key])
        record["notes"] = [_shortened(note) for note in record.get("notes", [])]
        return (json.dumps(record, indent=1, allow_nan=False) + "\n").encode()
    if path.name == PLAN:
        plan = json.loads(path.read_bytes())
        for run in plan.get("runs", []):
            run["overrides"] = [text for text in run.get("overrides", []) if not _places(text)]
        return (json.dumps(plan, indent=1) + "\n").encode()
    return path


def _places(override: str) -> bool:
    key = override.lstrip("+").partition("=")[0]
    return key in ("runs_dir", "study", "allow", *(f"data.{name}" for name in LOCATIONS))


def _shortened(text: str) -> str:
    """``text`` with the last name of every absolute path alone."""
    return re.sub(r"(?<![\w/.~])(?:~|/)(?:[^\s/;:,'\"()]*/)*(?=[^\s/;:,'\"()])", "", text)


def _add(archive: zipfile.ZipFile, name: str, content: bytes | Path) -> dict[str, Any]:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.create_system, info.external_attr = 3, 0o100644 << 16
    packed = name.endswith(".npz")  # compressed already
    info.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
    info.file_size = len(content) if isinstance(content, bytes) else content.stat().st_size
    source: IO[bytes] = BytesIO(content) if isinstance(content, bytes) else content.open("rb")
    digest, size = hashlib.sha256(), 0
    with source, archive.open(info, "w", force_zip64=info.file_size > 1 << 30) as stream:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            stream.write(chunk)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _refuse_changes(runs: dict[Path, Record]) -> None:
    for folder, before in runs.items():
        try:
            same = read_record(folder) == before and holder_of(folder / LOCK) is None
        except (DamagedRecordError, FileNotFoundError):
            same = False
        if not same:
            raise InputError(f"{folder} changed while it was exported; export the study again")


def _version() -> str:
    from lossbench import __version__

    return __version__
