"""CIFAR's pickles: what the files need is read, anything else is refused and not run."""

from __future__ import annotations

import builtins
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossbench.data.sources import batch_pickle, cifar10, cifar100
from lossbench.errors import InputError
from tests.data.published_files import (
    cifar_contents,
    cifar_files,
    python2_pickle,
    write_cifar10,
    write_tar,
)


class Call:
    """Pickled, it asks to call ``function`` with ``arguments``."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.asked = (function, arguments)

    def __reduce__(self) -> tuple[Callable, tuple[Any, ...]]:
        return self.asked


def with_batch(folder: Path, content: bytes, name: str = "data_batch_3") -> Path:
    write_tar(folder / "forged.tar.gz", "any folder", {**cifar_files(10), name: content})
    return folder / "forged.tar.gz"


@pytest.mark.parametrize(
    ("function", "argument", "named"),
    [
        (os.system, "touch {marker}", r"posix\.system"),
        (builtins.eval, "open('{marker}', 'w')", r"(__builtin__|builtins)\.eval"),
        (Path, "{marker}", "pathlib"),
        (np.dtype, "O", r"numpy\.dtype\(b?'O'\)"),
        (np.ndarray, (1 << 40,), r"numpy\.ndarray as a call"),
        (np.load, "{marker}", r"numpy.*\.load"),
        (np._core.multiarray.scalar, "{marker}", r"numpy\._core\.multiarray\.scalar"),
    ],
)
@pytest.mark.parametrize("write", [python2_pickle, pickle.dumps])
def test_a_pickle_that_wants_more_is_refused_and_not_run(
    tmp_path: Path, write: Callable, function: Callable, argument: Any, named: str
) -> None:
    marker = tmp_path / "was run"
    if isinstance(argument, str):
        argument = argument.format(marker=marker)
    content = write({b"data": Call(function, argument), b"labels": [0]})
    with pytest.raises(InputError, match=f"data_batch_3 asks for {named}") as error:
        cifar10(archive=with_batch(tmp_path, content))
    assert "\n" not in str(error.value)
    assert "was not called" in str(error.value)
    assert not marker.exists()


DTYPE, ARRAY = b"\x80\x04cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n"
FORGED = {
    # BUILD with a state of slots, or a dict, onto what the next pickle will call
    "slots": (DTYPE + b"(N}\x8c\x0c__defaults__\x8c\x02u1\x85stb.", "a change of a function"),
    "dict": (DTYPE + b"}\x8c\x0c__setstate__K\x01sb.", "a change of a function"),
    "memo": (b"\x80\x02}r" + struct.pack("<I", 1 << 20) + b".", "the memo index 1048576"),
    "deep": (b"\x80\x02})" + b"\x85" * 33 + b"K\x01s.", "more than 32 tuples"),
    "shared": (b"\x80\x04})\x85\x94h\x00\x86\x94K\x01s.", "a tuple in two places"),
    "calls": (DTYPE + b")R0" * 33 + b".", "more than 32 tuples and calls"),
    "shape": (
        b"\x80\x02}U\x01d%b)R(K\x01J\xff\xff\xff\xff\x85%bU\x02u1\x85R\x89U\x03abctbs."
        % (ARRAY, DTYPE[2:]),
        "an array whose shape is not made of sizes",
    ),
    "type": (DTYPE + b"]\x85R.", "numpy.dtype of a list"),
    "key": (pickle.dumps({10**5000: 1}, 2), "a int as the name of an entry"),
    "object": (DTYPE + b")\x81.", "the opcode NEWOBJ"),
    "instance": (b"(S'echo'\nios\nsystem\n.", "the opcode INST"),
    "persistent": (b"\x80\x02Nq\x00Q.", "the opcode BINPERSID"),
    "extension": (b"\x80\x02\x82\x01.", "the opcode EXT1"),
    "twice": (b"\x80\x02})2\x86K\x01s.", "the opcode DUP"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_pickle_is_refused_and_changes_nothing(name: str) -> None:
    content, named = FORGED[name]
    with pytest.raises(InputError, match=f"^a file asks for {named}"):
        batch_pickle.read_batch(content, "a file")
    honest = batch_pickle.read_batch(cifar_files(10)["data_batch_1"], "a file")
    np.testing.assert_array_equal(honest["data"], cifar_contents(10)["data_batch_1"]["data"])


def test_objects_in_arrays_are_refused(tmp_path: Path) -> None:
    content = python2_pickle({"data": np.array([os], dtype=object)[:0], "labels": []})
    with pytest.raises(InputError, match=r"data_batch_3 asks for numpy\.dtype\(b'O8'\)"):
        cifar10(archive=with_batch(tmp_path, content))


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_batch_written_by_python_3_is_the_same(tmp_path: Path, order: str) -> None:
    write_cifar10(tmp_path)
    expected = cifar10(archive=tmp_path)
    content = cifar_contents(10)["data_batch_3"]
    content["data"] = np.array(content["data"], order=order)
    again = {key.encode(): value for key, value in content.items()}
    forged = cifar10(archive=with_batch(tmp_path, pickle.dumps(again, protocol=2)))
    np.testing.assert_array_equal(forged.train_images, expected.train_images)
    np.testing.assert_array_equal(forged.train_targets, expected.train_targets)
    assert forged.class_names == expected.class_names


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("data_batch_2", {"data": np.zeros((4, 3071), np.uint8)}, r"no data, uint8 \(N, 3072\)"),
        ("data_batch_2", {"data": None}, "no data"),
        (
            "data_batch_2",
            {"data": np.zeros((4, 3072), np.int16)},
            r"asks for numpy\.dtype\(b'i2'\)",
        ),
        ("data_batch_2", {"labels": [0, 1, 2]}, "no labels, a list of 4 whole numbers"),
        ("test_batch", {"labels": ["1"] * 10}, "no labels"),
        ("test_batch", {"labels": [10] * 10}, "test targets .* reach from 10 .*must be 0 to 9"),
        ("data_batch_2", {"labels": [-1] * 4}, "train targets .* reach from -1"),
        ("batches.meta", {"label_names": ["a"] * 9}, "has 9 label_names, CIFAR-10 has 10 classes"),
    ],
)
def test_content_that_does_not_fit_is_named(
    tmp_path: Path, name: str, change: dict, complaint: str
) -> None:
    content = python2_pickle({**cifar_contents(10)[name], **change})
    with pytest.raises(InputError, match=complaint) as error:
        cifar10(archive=with_batch(tmp_path, content, name))
    assert name in str(error.value) or "targets" in str(error.value)


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-20], lambda content: b"\xff" + content, lambda _: b"I1\n."]
)
def test_a_damaged_pickle_is_named(tmp_path: Path, damage: Callable) -> None:
    content = damage(cifar_files(10)["data_batch_3"])
    with pytest.raises(InputError, match=r"data_batch_3 (is truncated or damaged|holds a int)"):
        cifar10(archive=with_batch(tmp_path, content))


def test_cifar100_needs_its_hundred_names(tmp_path: Path) -> None:
    meta = {"fine_label_names": [b"a"] * 20}
    files = {**cifar_files(100), "meta": python2_pickle(meta)}
    write_tar(tmp_path / "cifar-100-python.tar.gz", "cifar-100-python", files)
    with pytest.raises(InputError, match="meta has 20 fine_label_names, CIFAR-100 has 100 classes"):
        cifar100(archive=tmp_path)
