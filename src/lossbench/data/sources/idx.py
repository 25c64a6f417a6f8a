"""The IDX format of MNIST and its successors (LeCun, Cortes and Burges, 1998)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lossbench.errors import InputError

_UNSIGNED_BYTES = b"\0\0\x08"  # two zero bytes, then the code of the element type


def parse_idx(content: bytes, name: str, dimensions: int) -> NDArray[np.uint8]:
    """The array of ``dimensions`` dimensions in an IDX file of unsigned bytes; not copied.

    The format: two zero bytes, one byte for the element type, one for the number d of dimensions,
    d big-endian 32-bit sizes, then the elements in C order.

    Raises `InputError` that begins with ``name`` if the content is truncated or of another format.
    """
    remedy = "replace it with an intact copy"
    if content[:4] != _UNSIGNED_BYTES + bytes([dimensions]):
        raise InputError(
            f"{name} is not an IDX file of unsigned bytes in {dimensions} dimensions; {remedy}"
        )
    start = 4 + 4 * dimensions
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    promised = start + math.prod(shape)
    if len(content) != promised:
        raise InputError(
            f"{name} is truncated or damaged: its header promises {promised} bytes,"
            f" it has {len(content)}; {remedy}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
