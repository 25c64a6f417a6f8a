"""The Hydra application behind `lossbench train` and `lossbench sweep`.

Hydra composes the config and calls back: `train_one` for one run, our sweeper for many. What
Hydra refuses becomes one line that names the value and the nearest valid name.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from lossbench.config import Run, folder, register_experiments, resolve
from lossbench.errors import InputError, unknown


def run_application(command: str, arguments: list[str]) -> int:
    """Run `lossbench train` or `sweep` with Hydra ``arguments``; returns the exit code."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    own = own_config_folder(arguments)
    register_experiments(own)
    # Hydra's own error report hides what we need to explain: let its exceptions through
    os.environ["HYDRA_FULL_ERROR"] = "1"
    os.environ["LOSSBENCH_COMMAND"] = command
    multirun = {"-m", "--multirun"} & set(arguments)
    sys.argv = [f"lossbench {command}", *arguments]
    if command == "sweep" and not multirun:
        sys.argv.append("--multirun")
    try:
        hydra.main(config_path=str(folder("configs")), config_name="train")(train_one)()
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error, arguments) from error
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    return 0


def own_config_folder(arguments: list[str]) -> Path | None:
    """The folder given with `--config-dir`, made importable in this and every worker process."""
    for position, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option in ("--config-dir", "-cd"):
            given = value if equals else "".join(arguments[position + 1 : position + 2])
            path = Path(given).resolve()
            if not given or not path.is_dir():
                raise InputError(f"--config-dir {given}: there is no such folder")
            sys.path.insert(0, str(path))
            inherited = os.environ.get("PYTHONPATH")
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(path), inherited)))
            return path
    return None


def train_one(config: Any) -> dict[str, Any]:
    """Hydra's task function: train the one run that ``config`` describes.

    Called in this process for `lossbench train`, and by any Hydra launcher for a sweep's runs.
    In a sweep it returns the outcome and never raises, so that the others go on.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    choices = HydraConfig.get()
    run = Run(resolve(config))
    if choices.mode == RunMode.MULTIRUN:
        from lossbench.sweeps.worker import execute_reported

        return execute_reported(run)
    from lossbench.training.single import train

    code = train(run)
    if code:
        sys.exit(code)
    return {}


def explain(error: Exception, arguments: list[str]) -> InputError:
    """What Hydra or OmegaConf refused, in one line."""
    from hydra.errors import MissingConfigException, OverrideParseException

    text = str(error)
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return unknown(group, name, error.options)
    if isinstance(error, OverrideParseException):
        return InputError(
            f"the override {error.override!r} cannot be read; write KEY=VALUE, and quote a value "
            "with special characters"
        )
    found = re.search(r"Could not override '([^']+)'", text)
    if found:
        return _unknown_key(found[1], error.__cause__)
    if "Ambiguous value for argument" in text:
        return InputError(
            f"{re.search(r"argument '([^']*)'", text)[1]} names several values: "  # type: ignore[index]
            "use `lossbench sweep` to run them all"
        )
    return InputError(" ".join(text.split()))


def _unknown_key(path: str, cause: BaseException | None) -> InputError:
    parent = getattr(cause, "parent_node", None)
    names = [str(key) for key in parent] if parent is not None else []
    where, _, key = path.rpartition(".")
    if not names:
        return InputError(f"unknown config key {path!r}")
    error = unknown(f"parameter of {where}" if where else "config key", key, names)
    return error
