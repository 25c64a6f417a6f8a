"""The one door through which a config names code: `_target_: package.module.name`.

Importing a module is running it, and calling a function with arguments from a file is running that
file. So a name is looked up in a table first: `PARTS`, and what the user allows by name.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from lossbench.errors import CodeError, InputError, unknown

# What each part of a config may name: one name, with .* those of a module, with .** also those of
# the modules below it. So narrow, because in lossbench and torch, too, are functions that write
# files, load modules or run commands.
PARTS: dict[str, tuple[str, ...]] = {
    "data": (
        *(f"lossbench.data.sources.{name}" for name in ("digits", "mnist", "fashion_mnist")),
        *(f"lossbench.data.sources.{name}" for name in ("kmnist", "emnist", "svhn")),
        *(f"lossbench.data.sources.{name}" for name in ("cifar10", "cifar100")),
        *(f"lossbench.data.image_files.{name}" for name in ("image_folder", "image_list")),
        "lossbench.data.table.table",
    ),
    "imbalance": ("lossbench.data.imbalance.*",),
    "label_noise": ("lossbench.data.label_noise.*",),
    "model": ("lossbench.models.backbones.**",),
    "loss": (
        *("torch.nn.*", "torch.nn.functional.*", "torch.nn.modules.loss.*"),
        "torchvision.ops.**",
    ),
    "regime": ("lossbench.training.regimes.**",),
    "optimizer": ("torch.optim.**", "timm.optim.**"),
    "schedule": ("lossbench.training.schedules.*",),
}

# The same for what Hydra itself makes of a config: sweepers, launchers and callbacks.
HYDRA = (
    "lossbench.sweeps.sweeper.LossbenchSweeper",
    "lossbench.sweeps.launcher.LocalLauncher",
    "lossbench.tuning.sweeper.*",
    *("hydra_plugins.*", "hydra._internal.core_plugins.*", "hydra.experimental.callbacks.*"),
)

MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def check_allow(allow: Any) -> None:
    """Check that ``allow`` is null or a list of modules; raises `InputError`."""
    valid = isinstance(allow, list) and all(
        isinstance(name, str) and MODULE.fullmatch(name) for name in allow
    )
    if allow is not None and not valid:
        raise InputError(
            f"allow={allow} is not allowed: a list of modules, as in allow=[my_losses]"
        )


def check_targets(config: Mapping[str, Any]) -> None:
    """Check every part's `_target_` by its name, before anything is imported.

    Raises `InputError` that says what ``config["allow"]`` has to be, if it is to be allowed.
    """
    for part in PARTS:
        group = config.get(part)
        if isinstance(group, Mapping) and "_target_" in group:
            check_name(group["_target_"], part, config.get("allow"))


def check_name(target: Any, where: str, allow: Sequence[str] | None) -> None:
    """Raise `InputError` if ``where`` may not name ``target``; nothing is imported."""
    if not isinstance(target, str) or not MODULE.fullmatch(target) or "." not in target:
        raise InputError(
            f"{where}._target_={target!r} is not a name such as my_{where}.name: the module in "
            "which a class or function is defined, and its name"
        )
    module = target.rpartition(".")[0]
    private = any(part.startswith("_") for part in target.split("."))
    ours = not private and _matches(target, PARTS.get(where, ()))
    if not ours and not _below(module, allow or ()):
        raise _refused(f"{where}._target_={target}", where, allow, module)


def find(target: str, where: str, allow: Sequence[str] | None = ()) -> Callable[..., Any]:
    """The object that ``target`` names; ``where`` is the config path, for the error message.

    What ``where`` may name stands in `PARTS`; ``allow`` are modules of which the user says that
    everything below them may be named. The object must be defined in one of these too, for a module
    has the names of what it has imported.

    Raises `InputError` if it is not allowed, before it is imported; if there is no such module or
    name; or if it cannot be called.
    """
    check_name(target, where, allow)
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
    _check_home(found, target, where, allow)
    return found


def _check_home(found: Any, target: str, where: str, allow: Sequence[str] | None) -> None:
    patterns, module = PARTS.get(where, ()), target.rpartition(".")[0]
    named = isinstance(found, type) or inspect.isroutine(found)
    home = found.__module__ if named else None  # any other object was made where it was found
    inside = _below(home or module, allow or ())
    if (
        target not in patterns
        and not inside
        and not (home and _matches(f"{home}.{found.__name__}", patterns))
    ):
        what = f"{where}._target_={target}, which is no class or function of that module,"
        if home is not None:
            what = f"{where}._target_={target}, which is defined in {home},"
        raise _refused(what, where, allow, home or module)


def _matches(target: str, patterns: Sequence[str]) -> bool:
    for pattern in patterns:
        module, _, last = pattern.rpartition(".")
        if last == "**" and target.startswith(f"{module}."):
            return True
        if target == pattern or (last == "*" and target.rpartition(".")[0] == module):
            return True
    return False


def _below(module: str, allow: Sequence[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in allow)


def _refused(what: str, where: str, allow: Sequence[str] | None, module: str) -> InputError:
    listed = ", ".join(PARTS.get(where, ())) or "nothing"
    added = ",".join((*(allow or ()), *([module] if module else [])))
    way = f"a config is code; if you have read it and trust it, add allow=[{added}] to the command"
    return InputError(f"{what} is not allowed: {where} may name {listed}; {way}")


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
    """``found(*arguments, **parameters)``; what it raises becomes a `CodeError` of one line.

    The line names the place in the source, for the code is often the user's own.
    """
    try:
        return found(*arguments, **parameters)
    except InputError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = (str(error).splitlines() or [""])[0]
        raise CodeError(
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


def source_digest(target: str, where: str, allow: Sequence[str] | None = ()) -> str | None:
    """A hash of the file in which a foreign ``target`` is defined; None for installed packages.

    The code of a user's own loss is part of a run's identity; the versions of installed packages
    are in the record instead.
    """
    if target.partition(".")[0] in ("lossbench", "torch", "torchvision"):
        return None
    found = find(target, where, allow)
    try:
        path = Path(inspect.getsourcefile(found) or "")
        content = path.read_bytes()
    except (TypeError, OSError):
        return None
    if "site-packages" in path.parts or "dist-packages" in path.parts:
        return None
    return hashlib.sha256(content).hexdigest()[:16]
