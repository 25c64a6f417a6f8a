"""Files in the IDX format of MNIST and its successors (LeCun, Cortes and Burges, 1998)."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossbench.errors import InputError

_UNSIGNED_BYTES = b"\0\0\x08"  # two zero bytes, then the code of the element type


def read_idx(path: Path, md5: str | None = None) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes, plain or gzipped (``.gz``).

    The format: two zero bytes, one byte for the element type, one for the number d of dimensions,
    d big-endian 32-bit sizes, then the elements in C order.

    ``md5`` is the expected digest of the *decompressed* content, so that one digest holds for the
    plain file and for every way of compressing it; None checks nothing.

    Raises `InputError` for a file that is missing, unreadable, truncated, not IDX, or not the one
    that ``md5`` stands for.
    """
    remedy = "replace it with an intact copy"
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:  # a bad gzip header is an OSError
        raise InputError(f"cannot read {path}: {error}; {remedy}") from error
    if content[:3] != _UNSIGNED_BYTES or len(content) < 4:
        raise InputError(f"{path} is not an IDX file of unsigned bytes; {remedy}")
    start = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    if len(content) != start + math.prod(shape):
        raise InputError(
            f"{path} is truncated or damaged: its header promises {start + math.prod(shape)} bytes,"
            f" it has {len(content)}; {remedy}"
        )
    if md5 is not None:
        _check_md5(path, content, md5)
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _check_md5(path: Path, content: bytes, expected: str) -> None:
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != expected:
        raise InputError(
            f"{path} is not the expected file: the MD5 of its decompressed content is {found}, not"
            f" {expected}; replace it, or set data.checksums=null to use it as it is"
        )
