"""The pickles of CIFAR, read without letting them call anything but what stands here.

Written by Python 2 and numpy: a dict of names, numbers, texts and one array of bytes. A pickle says
which functions are called with which arguments; numpy's own would take any type and size from it,
so even they are replaced, by stand-ins that know arrays of unsigned bytes and nothing else.
"""

from __future__ import annotations

import pickle
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
        loaded = _BatchUnpickler(BytesIO(content), encoding="bytes").load()
    except _ForbiddenError as error:
        raise InputError(
            f"{name} asks for {error}, which CIFAR's files do not need; it was not called; {remedy}"
        ) from error
    except Exception as error:  # a damaged pickle can raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{name} is truncated or damaged ({reason}); {remedy}") from error
    if not isinstance(loaded, dict):
        raise InputError(f"{name} holds a {type(loaded).__name__}, not a dict; {remedy}")
    return {_text(key): getattr(value, "array", value) for key, value in loaded.items()}


class _ForbiddenError(Exception):
    """What a pickle asked for and does not get."""


class _Bytes:
    """The stand-in for an array, filled by ``__setstate__`` as numpy's own would be."""

    array: NDArray[np.uint8]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, kind, fortran, raw = state
        if not isinstance(kind, _ByteType):
            raise _ForbiddenError("an array of another type than unsigned bytes")
        content = raw.encode("latin1") if isinstance(raw, str) else raw
        flat = np.frombuffer(content, np.uint8)
        self.array = flat.reshape(shape, order="F" if fortran else "C")


class _ByteType:
    """The stand-in for numpy's uint8; its state says nothing more."""

    def __setstate__(self, state: object) -> None: ...


def _reconstruct(*_: object) -> _Bytes:
    return _Bytes()


def _dtype(code: object, *_: object) -> _ByteType:
    if code not in (b"u1", "u1"):
        raise _ForbiddenError(f"numpy.dtype({code!r})")
    return _ByteType()


def _latin1(text: str, _encoding: object = None) -> bytes:
    """Python 3 writes bytes for Python 2 as a text to be encoded in latin1."""
    return text.encode("latin1")


def _no_array(*_: object) -> None:
    raise _ForbiddenError("numpy.ndarray as a call")


_ALLOWED: dict[str, Callable[..., Any]] = {
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,  # its name since numpy 2
    "numpy.ndarray": _no_array,  # only handed to _reconstruct
    "numpy.dtype": _dtype,
    "_codecs.encode": _latin1,
}


class _BatchUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        asked = f"{module}.{name}"
        if asked not in _ALLOWED:
            raise _ForbiddenError(asked)
        return _ALLOWED[asked]


def _text(value: object) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
