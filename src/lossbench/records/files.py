"""Files that are either whole or absent: written under a temporary name, synced, renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

TEMPORARY = ".tmp-"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; on success it takes the place of ``path``.

    The content is on the disk before the name is, so a crash or a power cut leaves the old file
    or the new one, never a part; the name is too when this returns. An exception inside leaves the
    old file and no temporary one.
    """
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write ``content`` to ``path`` as UTF-8, whole or not at all."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as indented JSON; NaN and infinity are refused (an undefined is null)."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write ``arrays`` as a compressed npz, sorted by name."""
    import numpy as np

    def save(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **dict(sorted(arrays.items())))

    write_with(path, save)


def write_with(path: Path, save: Callable[[Path], object]) -> None:
    """Let ``save`` write to a temporary path, which then takes the place of ``path``."""
    with replacing(path) as temporary:
        save(temporary)


def remove_leftovers(folder: Path, of: str = "") -> None:
    """Delete the temporary files that a killed writer left in ``folder``.

    ``of`` names the one file whose leftovers count, where the folder has other living writers.
    """
    for leftover in folder.glob(f"{TEMPORARY}*{of}"):
        leftover.unlink(missing_ok=True)
