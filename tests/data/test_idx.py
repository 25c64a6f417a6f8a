"""The IDX reader against files written with struct, and against broken ones."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lossbench.data.idx import read_idx
from lossbench.errors import InputError

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["images", "images.gz"])
@pytest.mark.parametrize("array", [IMAGES, IMAGES[:, 0, 0]], ids=["images", "labels"])
def test_plain_and_gzipped_files_are_read_and_share_one_checksum(
    tmp_path: Path, write_idx: Callable, name: str, array: np.ndarray
) -> None:
    content = write_idx(tmp_path / name, array)
    read = read_idx(tmp_path / name, hashlib.md5(content).hexdigest())
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


def test_another_file_of_the_same_shape_is_refused_unless_unchecked(
    tmp_path: Path, write_idx: Callable
) -> None:
    path = tmp_path / "images.gz"
    expected = hashlib.md5(write_idx(path, IMAGES)).hexdigest()
    found = hashlib.md5(write_idx(path, 255 - IMAGES)).hexdigest()
    with pytest.raises(InputError, match=f"images.gz.*{found}.*{expected}.*data.checksums=null"):
        read_idx(path, expected)
    np.testing.assert_array_equal(read_idx(path, None), 255 - IMAGES)


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
    ],
)
@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_damaged_content_is_named(
    tmp_path: Path, write_idx: Callable, name: str, change: Callable, complaint: str
) -> None:
    path = tmp_path / name
    content = change(write_idx(path, IMAGES))
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(InputError, match=complaint) as error:
        read_idx(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[: len(packed) // 2],
        lambda packed: b"not gzip",
        lambda packed: packed[:20] + bytes(255 - byte for byte in packed[20:40]) + packed[40:],
    ],
    ids=["cut in half", "no gzip", "flipped bits"],
)
def test_a_damaged_gzip_file_is_named(
    tmp_path: Path, write_idx: Callable, damage: Callable
) -> None:
    path = tmp_path / "images.gz"
    write_idx(path, IMAGES)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"images\.gz.*replace it with an intact copy"):
        read_idx(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*nothing"):
        read_idx(tmp_path / "nothing")
    with pytest.raises(InputError, match="cannot read"):
        read_idx(tmp_path)
