"""Datasets that others publish as files: where a copy is, and what is in it, checked.

One rule for all checksums: ``data.checksums`` maps a file's name to an MD5. What is called NAME
there is checked decompressed, so that the digest holds for NAME, for NAME.gz and inside any
archive. NAME.gz, or the name of a zip or tar archive, is checked as it lies on the disk, and covers
what is in it. A file that no entry covers is refused. null reads everything unchecked.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stderr
from contextvars import ContextVar
from dataclasses import dataclass
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any

from lossbench.errors import InputError

DOWNLOADS: ContextVar[bool] = ContextVar("downloads", default=True)

Checksums = Mapping[str, str | None] | None

_INTACT = "replace it with an intact copy"


class AbsentError(InputError):
    """The data are not on this machine, and would be downloaded but for `no_downloads`."""


@contextmanager
def no_downloads() -> Iterator[None]:
    """Within it data that are not here raise `AbsentError`: a look writes nothing."""
    token = DOWNLOADS.set(False)
    try:
        yield
    finally:
        DOWNLOADS.reset(token)


@dataclass(frozen=True)
class Published:
    """A dataset as torchvision downloads it and lays it out.

    Attributes:
        title: its name in messages.
        files: the names of the files that are read.
        places: folders or archives (zip, tar) that hold these files, below torchvision's root
            folder, in the order in which they are looked for.
        downloader: the class of torchvision.datasets.
        downloads: the arguments of each call of that class that is needed for the whole.
        packaged: the folder and the name of a Debian package, if there is one.
    """

    title: str
    files: tuple[str, ...]
    places: tuple[str, ...]
    downloader: str
    downloads: tuple[Mapping[str, Any], ...] = ({},)
    packaged: tuple[Path, str] | None = None

    def find(self, archive: str | Path | None, root: str | Path | None) -> tuple[Path, str]:
        """The folder or archive to read, and in words which one it is.

        Without ``archive`` that is torchvision's copy below ``root`` (default: the environment
        variable LOSSBENCH_DATA, else ``~/.cache/lossbench``), then the Debian package, and at last
        a download into ``root``.
        Raises `InputError` if ``archive`` lacks a file, or if the download fails.
        """
        if archive is not None:
            return self._given(Path(archive).expanduser()), f"data.archive={archive}"
        cache = Path(root or os.environ.get("LOSSBENCH_DATA") or "~/.cache/lossbench").expanduser()
        if copy := self._copy_below(cache):
            return copy, f"torchvision's copy in {cache}"
        if self.packaged and not self._missing(self.packaged[0]):
            return self.packaged[0], f"Debian package {self.packaged[1]}"
        if not DOWNLOADS.get():
            raise AbsentError(f"{self.title} is not on this machine and will be downloaded; unread")
        return self._download(cache), f"downloaded by torchvision into {cache}"

    def read(self, place: Path, checksums: Checksums) -> dict[str, bytes]:
        """The decompressed content of each of the files in ``place``, a folder, zip or tar.

        Raises `InputError` that names a file which is missing, damaged or not the expected one.
        """
        checksums = checksums or None
        if checksums and place.name in checksums:
            _check_md5(str(place), _md5_of(place), checksums[place.name])
            checksums = None
        wanted = {form: name for name in self.files for form in _forms(name, checksums)}
        found: dict[str, bytes] = {}
        for form, content in _stored(place, wanted):
            if wanted[form] not in found:
                found[wanted[form]] = _content(f"{place}/{form}", form, content, checksums)
        for name in self.files:
            if name not in found:
                forms = _forms(name, checksums)
                only = "" if name in forms else ", the form that data.checksums has the MD5 of"
                raise InputError(
                    f"{place} has no file {' or '.join(forms)}{only}; {_INTACT}"
                    + (", or set data.checksums=null" if only else "")
                )
        return found

    def _given(self, archive: Path) -> Path:
        inside = [archive / part for p in self.places for part in (PurePosixPath(p).name, p)]
        nearest = min([archive, *inside], key=lambda place: len(self._missing(place)))
        if missing := self._missing(nearest):
            archives = [PurePosixPath(place).name for place in self.places if "." in place[1:]]
            raise InputError(
                f"data.archive={archive} has no file {missing[0]} or {missing[0]}.gz; name a folder"
                f" with {', '.join(self.files)} (each plain or .gz)"
                + "".join(f", or with {name}" for name in archives)
            )
        return nearest

    def _copy_below(self, root: Path) -> Path | None:
        return next((root / p for p in self.places if not self._missing(root / p)), None)

    def _missing(self, place: Path) -> list[str]:
        """What ``place`` lacks; a file, an archive then, is opened only to be read."""
        if place.is_file():
            return []
        return [name for name in self.files if not _on_disk(place, name)]

    def _download(self, cache: Path) -> Path:
        """Let torchvision download into ``cache``; files appear there whole or not at all.

        Its progress bar is shown where somebody can see it move. Returns the place to read.
        """
        from torchvision import datasets

        quiet = nullcontext() if sys.stderr.isatty() else redirect_stderr(StringIO())
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache, prefix="download-") as scratch:
                with quiet:
                    for arguments in self.downloads:
                        getattr(datasets, self.downloader)(scratch, download=True, **arguments)
                return self._move(Path(scratch), cache)
        except (OSError, RuntimeError) as error:  # torchvision raises either when a mirror fails
            reason = " ".join(str(error).split())
            package = f", or: apt-get install {self.packaged[1]}" if self.packaged else ""
            raise InputError(
                f"cannot download {self.title} into {cache} ({reason}); give a folder with its"
                f" files as data.archive=FOLDER{package}"
            ) from error

    def _move(self, scratch: Path, cache: Path) -> Path:
        place = self._copy_below(scratch)
        if place is None:
            raise RuntimeError(f"torchvision left no {' or '.join(self.places)}")
        files = [place] if place.is_file() else [f for n in self.files for f in _on_disk(place, n)]
        for file in files:
            target = cache / file.relative_to(scratch)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
        return cache / place.relative_to(scratch)


def _on_disk(folder: Path, name: str) -> list[Path]:
    """The plain and the gzipped file called ``name``, as far as they are there."""
    return [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]


def _forms(name: str, checksums: Checksums) -> tuple[str, ...]:
    """The names under which a file may be stored; the plain one not if only .gz can be checked."""
    packed = f"{name}.gz"
    only_packed = checksums and packed in checksums and name not in checksums
    return (packed,) if only_packed else (name, packed)


def _stored(place: Path, wanted: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """The files in ``place`` whose names are ``wanted``, as they are stored; any folder in it."""
    try:
        if place.is_dir():
            for path in (place / form for form in wanted):
                if path.is_file():
                    yield path.name, path.read_bytes()
        elif zipfile.is_zipfile(place):
            with zipfile.ZipFile(place) as packed:
                for entry in packed.namelist():
                    if (form := entry.rpartition("/")[2]) in wanted:
                        yield form, packed.read(entry)
        else:
            with tarfile.open(place) as tar:
                for member in tar:
                    file = tar.extractfile(member) if member.isfile() else None
                    if file and (form := PurePosixPath(member.name).name) in wanted:
                        yield form, file.read()
    except tarfile.ReadError as error:  # its own text lists every compression that was tried
        raise InputError(f"{place} is neither a zip nor an intact tar file; {_INTACT}") from error
    except (
        *(OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile),
        *(NotImplementedError, RuntimeError),  # of zip: a compression it lacks, a password
    ) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"cannot read {place}: {reason}; {_INTACT}") from error


def _content(label: str, form: str, stored: bytes, checksums: Checksums) -> bytes:
    """The decompressed content of a file that was stored as ``form``, checked."""
    if checksums and form in checksums:  # the plain file, or a .gz as it is
        _check_md5(label, _md5(stored), checksums[form])
    if not form.endswith(".gz"):
        content = stored
    else:
        try:
            content = gzip.decompress(stored)
        except (OSError, EOFError, zlib.error) as error:  # a bad gzip header is an OSError
            raise InputError(f"cannot read {label}: {error}; {_INTACT}") from error
    if checksums and form not in checksums:
        name = form.removesuffix(".gz")
        if name not in checksums:
            raise InputError(
                f"{label} cannot be checked: data.checksums has an MD5 for"
                f" {', '.join(checksums)} only; use that, or set data.checksums=null"
            )
        _check_md5(label, _md5(content), checksums[name], "the MD5 of its decompressed content")
    return content


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _md5_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}; {_INTACT}") from error


def _check_md5(label: str, found: str, expected: str | None, what: str = "its MD5") -> None:
    if expected is not None and found != expected:
        raise InputError(
            f"{label} is not the expected file: {what} is {found}, not {expected}; replace it, or"
            " set data.checksums=null to use it as it is"
        )
