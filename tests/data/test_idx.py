"""The IDX parser against files written with struct, and against broken ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lossbench.data.sources.idx import parse_idx
from lossbench.errors import InputError
from tests.data.published_files import idx_bytes

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("array", [IMAGES, IMAGES[:, 0, 0]], ids=["images", "labels"])
def test_an_array_comes_back(array: np.ndarray) -> None:
    parsed = parse_idx(idx_bytes(array), "file", array.ndim)
    assert parsed.dtype == np.uint8
    np.testing.assert_array_equal(parsed, array)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda content: content[:-1], "truncated or damaged: its header promises 100 bytes"),
        (lambda content: content + b"x", "it has 101"),
        (lambda content: content[:9], "truncated or damaged"),
        (lambda content: b"\0\0\x0d" + content[3:], "not an IDX file of unsigned bytes"),
        (lambda content: b"\x89PNG" + content[4:], "not an IDX file"),
        (lambda content: b"", "not an IDX file"),
        (lambda content: content[:3], "not an IDX file"),
        (lambda content: idx_bytes(IMAGES[0]), "not an IDX file of unsigned bytes in 3 dimensions"),
    ],
)
def test_damaged_content_is_named(change: Callable, complaint: str) -> None:
    with pytest.raises(InputError, match=f"some/file.*{complaint}") as error:
        parse_idx(change(idx_bytes(IMAGES)), "some/file", 3)
    assert "\n" not in str(error.value)
