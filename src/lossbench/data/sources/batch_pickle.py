"""The pickles of CIFAR, read without letting them call anything but what stands here.

Written by Python 2 and numpy: a dict of names, numbers, texts and one array of bytes. A pickle says
which functions are called with which arguments; numpy's own would take any type and size from it,
so even they are replaced, by stand-ins that know arrays of unsigned bytes and nothing else. Its
opcodes are looked through before any is obeyed: a few bytes can ask for gigabytes of memory.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossbench.errors import InputError


def read_batch(content: bytes, name: str) -> dict[str, Any]:
    """The dict in a pickle of CIFAR's format; arrays are (N, M) uint8, texts are str or bytes.

    Raises `InputError` that begins with ``name`` if the pickle is damaged, is no dict, or asks for
    anything that CIFAR's files do not need; that is not called.
    """
    remedy = "replace it with an intact copy"
    try:
        _scan(content)
        loaded = _BatchUnpickler(BytesIO(content), encoding="bytes").load()
        if isinstance(loaded, dict):
            return {_text(key): getattr(value, "array", value) for key, value in loaded.items()}
    except _ForbiddenError as error:
        raise InputError(
            f"{name} asks for {error}, which CIFAR's files do not need; it was not called; {remedy}"
        ) from error
    except Exception as error:  # a damaged pickle can raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{name} is truncated or damaged ({reason}); {remedy}") from error
    raise InputError(f"{name} holds a {type(loaded).__name__}, not a dict; {remedy}")


class _ForbiddenError(Exception):
    """What a pickle asked for and does not get."""


# what makes objects in other ways than CIFAR's files do
_FORBIDDEN_OPCODES = {
    *("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "DUP"),
    *("EMPTY_SET", "ADDITEMS", "FROZENSET", "BYTEARRAY8", "NEXT_BUFFER", "READONLY_BUFFER"),
}
_TUPLES = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
_PUTS, _GETS = {"PUT", "BINPUT", "LONG_BINPUT"}, {"GET", "BINGET", "LONG_BINGET"}
_MOST_CALLS = 32  # tuples, calls and states; an array takes about 15


def _scan(content: bytes) -> None:
    """Raises `_ForbiddenError` for opcodes that CIFAR's files do not need, or not so many of.

    A memo index beyond the opcodes so far reserves memory for all below it; deep tuples overflow
    the stack when hashed, and tuples that hold one another twice are hashed for ever.
    """
    calls, memoized, before = 0, 0, ""
    tuples: set[int] = set()
    for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        name = opcode.name
        if name in _FORBIDDEN_OPCODES:
            raise _ForbiddenError(f"the opcode {name}")
        calls += name in _TUPLES or name in ("REDUCE", "BUILD")
        if calls > _MOST_CALLS:
            raise _ForbiddenError(f"more than {_MOST_CALLS} tuples and calls")
        index = int(argument or 0) if name in _PUTS | _GETS else memoized
        if name in _PUTS and index > number:
            raise _ForbiddenError(f"the memo index {index} at opcode {number}")
        if name in _GETS and index in tuples:
            raise _ForbiddenError("a tuple in two places")
        if name in _PUTS or name == "MEMOIZE":
            if before in _TUPLES:
                tuples.add(index)
            memoized += 1
        before = name


class _Bytes:
    """The stand-in for an array, filled by ``__setstate__`` as numpy's own would be."""

    __slots__ = ("array",)
    array: NDArray[np.uint8]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, kind, fortran, raw = state
        if not isinstance(kind, _ByteType):
            raise _ForbiddenError("an array of another type than unsigned bytes")
        if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise _ForbiddenError("an array whose shape is not made of sizes")
        content = raw.encode("latin1") if isinstance(raw, str) else raw
        flat = np.frombuffer(content, np.uint8)
        self.array = flat.reshape(shape, order="F" if fortran else "C")


class _ByteType:
    """The stand-in for numpy's uint8; its state says nothing more."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None: ...


def _reconstruct(*_: object) -> _Bytes:
    return _Bytes()


def _dtype(code: object, *_: object) -> _ByteType:
    if not isinstance(code, bytes | str):
        raise _ForbiddenError(f"numpy.dtype of a {type(code).__name__}")
    if code not in (b"u1", "u1"):
        raise _ForbiddenError(f"numpy.dtype({code[:40]!r})")
    return _ByteType()


def _latin1(text: str, _encoding: object = None) -> bytes:
    """Python 3 writes bytes for Python 2 as a text to be encoded in latin1."""
    return text.encode("latin1")


def _no_array(*_: object) -> None:
    raise _ForbiddenError("numpy.ndarray as a call")


class _StandIn:
    """A function that a pickle may call but not change, for it is there for the next one too."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: object) -> Any:
        return self._function(*arguments)

    def __setstate__(self, _: object) -> None:
        raise _ForbiddenError("a change of a function")


_ALLOWED: dict[str, _StandIn] = {
    "numpy.core.multiarray._reconstruct": _StandIn(_reconstruct),
    "numpy._core.multiarray._reconstruct": _StandIn(_reconstruct),  # its name since numpy 2
    "numpy.ndarray": _StandIn(_no_array),  # only handed to _reconstruct
    "numpy.dtype": _StandIn(_dtype),
    "_codecs.encode": _StandIn(_latin1),
}


class _BatchUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        asked = f"{module}.{name}"
        if asked not in _ALLOWED:
            raise _ForbiddenError(asked)
        return _ALLOWED[asked]


def _text(key: object) -> str:
    if isinstance(key, bytes):
        return key.decode("latin1")
    if not isinstance(key, str):
        raise _ForbiddenError(f"a {type(key).__name__} as the name of an entry")
    return key
