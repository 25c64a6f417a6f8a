"""`lossbench import`: an archive from a stranger, checked before anything of it has a name.

What is checked: every name against the table of names that a study may have, kinds, lengths and
checksums against the manifest, the lengths of arrays, and each record against its config. That
proves what arrived, not that its author trained it: `rescore` computes the metrics again from the
outputs, `reproduce` trains a run again. Nothing in the archive is
executed, imported or unpickled. It is unpacked into a hidden folder beside the study and renamed at
the end, so that a kill leaves nothing half-imported.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import stat
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lossbench.errors import InputError
from lossbench.records import files
from lossbench.records.archive import (
    CHUNK,
    MANIFEST,
    NAMES,
    SCHEMA,
    STUDY_FILES,
    TEXT_LIMIT,
    check_run,
    foreign_targets,
    read_yaml,
    to_yaml,
)
from lossbench.records.lock import LockedError, RunLock
from lossbench.records.record import CONFIG, LOCK, RECORD, DamagedRecordError, Record, read_record
from lossbench.records.sealing import read_openings
from lossbench.records.study import TRIALS, planned_runs, run_folders
from lossbench.settings import check_study

EXPANSION = 100  # times the archive's own length; a study of texts alone is packed 10 times

UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)
"""What `zipfile` raises of a file that is no zip, or none of a kind that it knows."""

# What the fields of a record are, and what is in them; those that are not named are texts.
KINDS: dict[str, tuple[Any, ...]] = {
    "seed": (int,),
    "schema": (int,),
    "sealed": (bool,),
    "seconds": (int | float,),
    "reason": (str | None,),
    "git": (str | None,),
    "energy_joules": (int | float | None,),
    "class_names": (list, str),
    "class_counts": (list, int),
    "notes": (list, str),
    "fingerprints": (dict, str),
    "priors": (dict, list | None),
    "metrics": (dict,),
    "versions": (dict, str),
    "hardware": (dict,),
}


@dataclass(frozen=True)
class Imported:
    """A study that was imported; ``unproved`` runs have code or data that is not in the archive."""

    study: str
    runs: int
    unproved: int
    foreign: list[str]


def import_study(file: Path, study: str | None, runs_dir: Path) -> Imported:
    """Unpack the archive ``file`` into ``runs_dir``, as ``study`` (default: the name it has).

    Raises `InputError` for whatever is not as `export_study` writes it, and if there is a study of
    that name; then nothing is left behind.
    """
    with _opened(file) as archive:
        manifest = _manifest(archive)
        listed: dict[str, dict[str, Any]] = manifest["files"]
        _check_entries(archive, listed)
        _check_lengths(archive, listed, file)
        name = study or manifest["study"]
        check_study(name)
        _check_free(runs_dir, name, sum(entry["bytes"] for entry in listed.values()))
        with _staging(runs_dir, name) as folder:
            for path, entry in listed.items():
                _extract(archive, path, entry, folder / path)
            found = _check_study(folder, manifest["study"])
            _check_arrays(folder, EXPANSION * file.stat().st_size)
            _rename(folder, name)
            _sync(folder)
            try:
                os.rename(folder, runs_dir / name)
            except OSError as error:
                if os.path.lexists(runs_dir / name):
                    raise _taken(runs_dir, name) from error
                raise
    return replace(found, study=name)


@contextmanager
def _opened(file: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except UNREADABLE as error:
        raise InputError(f"{file} is not a readable zip: {error}") from error
    except RecursionError as error:
        raise InputError(f"{file} has texts nested too deeply; that is no study") from error
    except FileNotFoundError as error:
        if error.filename == str(file):
            raise InputError(f"{file}: there is no such file") from error
        raise
    except (IsADirectoryError, PermissionError) as error:
        raise InputError(f"{error.filename} cannot be used: {error.strerror}") from error


def _manifest(archive: zipfile.ZipFile) -> dict[str, Any]:
    try:
        info = archive.getinfo(MANIFEST)
        if info.flag_bits & 1 or info.file_size > TEXT_LIMIT:
            raise ValueError("encrypted or too long")
        with archive.open(info) as stream:
            manifest = json.loads(stream.read(TEXT_LIMIT))
        schema, study, listed = manifest["schema"], manifest["study"], manifest["files"]
        valid = isinstance(study, str) and all(
            isinstance(entry["bytes"], int) and isinstance(entry["sha256"], str)
            for entry in listed.values()
        )
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{archive.filename} is incomplete, or not what lossbench export writes ({error})"
        ) from error
    if schema != SCHEMA:
        raise InputError(f"{archive.filename} has schema {schema!r}; this lossbench reads {SCHEMA}")
    if not valid:
        raise InputError(f"{archive.filename}: {MANIFEST} lists no lengths and checksums")
    return manifest


def _check_entries(archive: zipfile.ZipFile, listed: dict[str, Any]) -> None:
    """Names and kinds: files of a study, each once, all in the manifest."""
    seen: set[str] = set()
    for info in archive.infolist():
        name, kind = info.filename, stat.S_IFMT(info.external_attr >> 16)
        ours = name == MANIFEST or NAMES.fullmatch(name)
        wrong = {
            "a study has no file of that name": info.orig_filename != name or not ours,
            "it is a link, a folder or a device, and no file": kind not in (0, stat.S_IFREG),
            "the archive has it twice": name.casefold() in seen,
            "it is encrypted": info.flag_bits & 1,
            f"it is not in {MANIFEST}": name != MANIFEST and name not in listed,
        }
        reason = next((words for words, so in wrong.items() if so), None)
        if reason is not None:
            raise InputError(f"{archive.filename}: {info.orig_filename!r} is refused: {reason}")
        seen.add(name.casefold())
    missing = sorted(set(listed) - {info.filename for info in archive.infolist()})
    if missing:
        raise InputError(f"{archive.filename} lacks {missing[0]!r}, which is in {MANIFEST}")


def _check_lengths(archive: zipfile.ZipFile, listed: dict[str, Any], file: Path) -> None:
    for name, entry in listed.items():
        length = archive.getinfo(name).file_size
        if length != entry["bytes"]:
            raise InputError(
                f"{file}: {name!r} has {length} bytes, and {entry['bytes']} in {MANIFEST}"
            )
    total, limit = sum(entry["bytes"] for entry in listed.values()), EXPANSION * file.stat().st_size
    if total > limit:
        raise InputError(
            f"{file} would unpack to {total} bytes, more than {EXPANSION} times its own length; "
            "that is no study"
        )


def _check_free(runs_dir: Path, name: str, size: int) -> None:
    if os.path.lexists(runs_dir / name):
        raise _taken(runs_dir, name)
    place = next(path for path in (runs_dir, *runs_dir.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if size > free:
        raise InputError(f"{runs_dir} has room for {free} bytes, the study needs {size}")


def _taken(runs_dir: Path, name: str) -> InputError:
    return InputError(
        f"{runs_dir} has a study {name!r} already; give the imported one another name with "
        "study=NEWNAME, or another folder with runs_dir=FOLDER"
    )


@contextmanager
def _staging(runs_dir: Path, name: str) -> Iterator[Path]:
    """A fresh folder in ``runs_dir`` that no command takes for a study; gone afterwards."""
    outer = runs_dir / f"{files.TEMPORARY}import-{name}"
    created = [path for path in (outer, *outer.parents) if not path.exists()]
    try:
        outer.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"runs_dir={runs_dir} cannot be used: {error.strerror}") from error
    try:
        with RunLock(outer / LOCK):
            inner = outer / "study"
            shutil.rmtree(inner, ignore_errors=True)  # of an import that was killed
            inner.mkdir()
            try:
                yield inner
            finally:
                shutil.rmtree(inner, ignore_errors=True)
    except LockedError as error:
        raise InputError(f"the study {name!r} is being imported already: {error}") from error
    finally:
        for path in (outer, *created[1:]):  # those that are not empty stay
            with suppress(OSError):
                path.rmdir()


def _extract(archive: zipfile.ZipFile, name: str, entry: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with archive.open(name) as source, path.open("xb") as stream:
        while chunk := source.read(CHUNK):
            size += len(chunk)
            if size > entry["bytes"]:
                raise InputError(f"{archive.filename}: {name!r} is longer than it says")
            digest.update(chunk)
            stream.write(chunk)
    if size != entry["bytes"] or digest.hexdigest() != entry["sha256"]:
        raise InputError(f"{archive.filename}: {name!r} is not what its checksum says")


def _check_arrays(folder: Path, limit: int) -> None:
    """Refuse arrays that are longer than they can be, before anything makes room for them."""
    total = 0
    for path in sorted(folder.rglob("*.npz")):
        name = path.relative_to(folder).as_posix()
        try:
            with zipfile.ZipFile(path) as stored:
                total += sum(_array_bytes(stored, info) for info in stored.infolist())
        except (*UNREADABLE, ValueError, KeyError, RuntimeError) as error:
            raise InputError(f"{name} cannot be read: {error}") from error
        if total > limit:
            raise InputError(
                f"{name} and what comes before it hold more than {limit} bytes of arrays, "
                f"{EXPANSION} times the length of the archive; that is no study"
            )


def _array_bytes(stored: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    """The bytes of one array, by its header; ValueError where its file has not as many."""
    from numpy.lib import format as npy

    headers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    with stored.open(info) as stream:
        shape, _, kind = headers[npy.read_magic(stream)](stream)
        length = stream.tell() + math.prod(shape) * kind.itemsize
    if kind.hasobject or length != info.file_size:
        raise ValueError(f"{info.filename} is no array of numbers of that length")
    return length


def _check_study(folder: Path, study: str) -> Imported:
    """Check every record of an unpacked study against its config, and what plans it has."""
    runs = dict.fromkeys(run_folders(folder), study)
    runs |= dict.fromkeys(run_folders(folder / TRIALS), TRIALS)
    strays = {path.parent for path in folder.rglob(CONFIG)} - set(runs)
    if strays or not runs:
        stray = min(strays, default=folder).relative_to(folder)
        raise InputError(f"the archive has no {RECORD} in {stray.as_posix()!r}")
    for name in STUDY_FILES:
        if (folder / name).exists():
            refuse_control_characters(_read_json(folder / name, name), name)
    for place in (folder, folder / TRIALS):
        planned_runs(place)
    read_openings(folder)
    foreign: set[str] = set()
    proved = 0
    for path, owner in runs.items():
        name = path.relative_to(folder).as_posix()
        record = _record(path, name)
        if record.study != owner or record.status == "running":
            raise InputError(f"{name}/{RECORD}: no run of {owner!r} that has ended")
        config_file = path / CONFIG
        if not config_file.is_file() or config_file.stat().st_size > TEXT_LIMIT:
            raise InputError(f"{name}/{CONFIG} is missing or too long")
        config = read_yaml(config_file.read_bytes(), f"{name}/{CONFIG}")
        refuse_control_characters(config, f"{name}/{CONFIG}")
        proved += check_run(record, config, name)
        if not name.endswith(record.identity[:12]):
            raise InputError(f"{name} is not the folder of a run with identity {record.identity}")
        foreign.update(foreign_targets(config))
    return Imported(study, len(runs), len(runs) - proved, sorted(foreign))


def _record(path: Path, name: str) -> Record:
    content = _read_json(path / RECORD, f"{name}/{RECORD}")
    refuse_control_characters(content, f"{name}/{RECORD}")
    try:
        record = read_record(path)
    except (DamagedRecordError, TypeError) as error:
        reason = str(error).replace(f"{path}", name)
        raise InputError(f"the archive's run {name} is damaged: {reason}") from error
    metrics = record.metrics
    valid = isinstance(metrics, dict) and all(
        value is None or (type(value) in (int, float) and abs(value) <= sys.float_info.max)
        for value in metrics.values()
    )
    if not valid or type(record.seed) is not int:
        raise InputError(f"{name}/{RECORD}: metrics must be numbers or null, the seed a number")
    for key, value in vars(record).items():
        if key != "folder" and not _has_kind(value, key):
            raise InputError(f"{name}/{RECORD}: {key} is of the wrong type")
    return record


def _has_kind(value: Any, key: str) -> bool:
    """Whether ``value`` is what `Record` has under ``key``; every command relies on it."""
    kind, *inner = KINDS.get(key, (str,))
    entries = value.values() if isinstance(value, dict) else value
    return isinstance(value, kind) and all(
        isinstance(entry, within) for within in inner for entry in entries
    )


def _read_json(path: Path, name: str) -> Any:
    if path.stat().st_size > TEXT_LIMIT:
        raise InputError(f"{name} is too long")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{name} is not what lossbench writes: no mapping")
    return content


def refuse_control_characters(content: Any, name: str) -> None:
    """Refuse what a terminal would obey when it is shown."""
    if isinstance(content, dict):
        for key, value in content.items():
            refuse_control_characters(str(key), name)
            refuse_control_characters(value, name)
    elif isinstance(content, list):
        for value in content:
            refuse_control_characters(value, name)
    elif isinstance(content, str) and not content.isprintable():
        raise InputError(f"{name} has control characters in {content!r:.60}")


def _rename(folder: Path, name: str) -> None:
    """Let the records and configs of the unpacked study say that it is called ``name``.

    Its event files keep the name under which they were written.
    """
    for path in run_folders(folder):
        record = read_record(path)
        if record.study != name:
            replace(record, study=name).write(path)
            config = read_yaml((path / CONFIG).read_bytes(), CONFIG)
            files.write_text(path / CONFIG, to_yaml(config | {"study": name}))


def _sync(folder: Path) -> None:
    """Have all files on the disk before the study has its name."""
    for place, _, names in os.walk(folder):
        for path in (place, *(os.path.join(place, name) for name in names)):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
