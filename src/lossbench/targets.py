"""The one door through which a config names code: `_target_: package.module.name`."""

from __future__ import annotations

import hashlib
import inspect
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from lossbench.errors import InputError, unknown


def find(target: str, where: str) -> Callable[..., Any]:
    """The object that ``target`` names; ``where`` is the config path, for the error message.

    Raises `InputError` if there is no such module or name, or if it cannot be called.
    """
    module_name, _, name = target.rpartition(".")
    try:
        module = import_module(module_name)
        found = getattr(module, name)
    except Exception as error:  # a module of the user's own can raise anything
        reason = " ".join(str(error).split())
        raise InputError(
            f"{where}._target_={target} cannot be imported ({reason}); give the full name of a "
            "class or function, and the folder of your own module with --config-dir"
        ) from error
    if not callable(found):
        raise InputError(f"{where}._target_={target} is not a class or function")
    return found


def bind(
    found: Callable[..., Any], where: str, parameters: Mapping[str, Any], *given: str
) -> dict[str, Any]:
    """``parameters``, if ``found`` takes them together with the arguments named ``given``.

    Raises `InputError` that names the parameters which ``found`` does take.
    """
    try:
        signature = inspect.signature(found)
    except (ValueError, TypeError):
        return dict(parameters)
    accepted = [name for name in signature.parameters if name not in given]
    try:
        signature.bind(**dict.fromkeys(given), **parameters)
    except TypeError as error:
        for name in parameters:
            if name not in accepted:
                raise unknown(f"parameter of {where}", name, accepted) from error
        raise InputError(f"{where}: {error} (parameters: {', '.join(accepted)})") from error
    return dict(parameters)


def call(found: Callable[..., Any], where: str, /, *arguments: Any, **parameters: Any) -> Any:
    """``found(*arguments, **parameters)``; what it raises becomes an `InputError` of one line.

    The line names the place in the source, for the code is often the user's own.
    """
    try:
        return found(*arguments, **parameters)
    except InputError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"{where}: {found.__module__}.{found.__qualname__} raised {type(error).__name__}: "
            f"{reason} ({place.filename}:{place.lineno})"
        ) from error


def arguments_of(config: Mapping[str, Any], *framework_keys: str) -> dict[str, Any]:
    """The keys of a chosen part that are arguments of its target."""
    kept = ("name", "_target_", *framework_keys)
    return {key: value for key, value in config.items() if key not in kept}


def accepts(found: Callable[..., Any], name: str) -> bool:
    """Whether ``found`` has a parameter called ``name``."""
    try:
        return name in inspect.signature(found).parameters
    except (ValueError, TypeError):
        return False


def source_digest(target: str, where: str) -> str | None:
    """A hash of the file in which a foreign ``target`` is defined; None for installed packages.

    The code of a user's own loss is part of a run's identity; the versions of installed packages
    are in the record instead.
    """
    if target.partition(".")[0] in ("lossbench", "torch", "torchvision"):
        return None
    found = find(target, where)
    try:
        path = Path(inspect.getsourcefile(found) or "")
        content = path.read_bytes()
    except (TypeError, OSError):
        return None
    if "site-packages" in path.parts or "dist-packages" in path.parts:
        return None
    return hashlib.sha256(content).hexdigest()[:16]
