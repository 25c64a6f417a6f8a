"""The Hydra application behind `lossbench train` and `lossbench sweep`.

Hydra composes the config and calls back: our task for one run, our sweeper for many. What Hydra
refuses becomes one line that names the value and the nearest valid name.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from lossbench.config import Config, Run, folder, register_experiments, resolve
from lossbench.data.configured import prepared_data
from lossbench.errors import InputError, unknown
from lossbench.records import run_state
from lossbench.targets import HYDRA

PLAN_OPTION = "--plan"


def run_application(command: str, arguments: list[str]) -> int:
    """Run `lossbench train`, `sweep` or `tune` with Hydra ``arguments``; returns the exit code."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    check_options(command, [entry for entry in arguments if entry != PLAN_OPTION])
    check_sweep_keys(command, arguments)
    arguments = with_allow(with_plan(command, arguments))
    own = own_config_folder(arguments)
    register_experiments(own)
    register_tuned(arguments, own)
    check_groups(arguments)
    # Hydra's own error report hides what we need to explain: let its exceptions through
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = [f"lossbench {command}", *arguments]
    if command in ("sweep", "tune") and not {"-m", "--multirun"} & set(arguments):
        sys.argv.append("--multirun")
    single.clear()
    try:
        configs = str(folder("configs"))
        hydra.main(configs, "train", execution_whitelist=list(HYDRA))(hydra_task)()
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise explain(error) from error
    except (RuntimeError, TypeError, ValueError) as error:
        told = " ".join([str(error), *getattr(error, "__notes__", ())])
        if "full_key: hydra." in told:  # of what Hydra itself makes: launchers, logging
            raise InputError(" ".join(told.split())) from error
        if "Unknown plugin class" not in str(error):
            raise
        raise InputError(f"{error}: it is no launcher or sweeper of Hydra's plugins") from error
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    if not single:
        return 0
    config = single.pop()
    if config.get("arms"):
        raise InputError(
            f"the experiment lists arms ({', '.join(map(str, config.arms))}), and lossbench train "
            "trains one run: use lossbench sweep, or add arms=null and choose its loss"
        )
    run = Run(resolve(config))
    if run_state(run.folder).state != "done":
        prepared_data(run.config)  # cached; refuses wrong data before torch is imported

    from lossbench.training.single import train

    return train(run)


def compose(arguments: list[str]) -> Config:
    """The resolved config that ``arguments`` give, for commands that train nothing."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    arguments = with_allow(arguments)
    own = own_config_folder(arguments)
    register_experiments(own)
    register_tuned(arguments, own)
    check_groups(arguments)
    overrides = without_config_dir(arguments)
    search = [f"hydra.searchpath=[file://{own}]"] if own else []
    try:
        with hydra.initialize_config_dir(str(folder("configs"))):
            return resolve(hydra.compose("train", overrides=[*overrides, *search]))
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise explain(error) from error


def register_tuned(arguments: list[str], own: Path | None) -> None:
    """Make the values that `lossbench tune` chose a choice of Hydra's, where one is asked for."""
    if any(argument.lstrip("+").startswith("tuned=") for argument in arguments):
        from lossbench.tuning.tuned_config import register

        register(arguments, own)


def check_groups(arguments: list[str]) -> None:
    """Refuse ``GROUP=null``, for which Hydra raises a ValueError like any other."""
    for argument in arguments:
        group, _, value = argument.partition("=")
        place = folder("configs") / group if group != "experiment" else folder("experiments")
        files = place.glob("*.yaml") if group.isidentifier() else ()
        if value == "null" and (names := [path.stem for path in files]):
            raise unknown(group, value, names)


def with_plan(command: str, arguments: list[str]) -> list[str]:
    """``arguments`` with `--plan` in the words of our sweeper."""
    if PLAN_OPTION not in arguments:
        return arguments
    if command != "sweep" or sweepers_in(arguments) - {"lossbench"}:
        raise InputError(f"{PLAN_OPTION} is for lossbench sweep")
    kept = [argument for argument in arguments if argument != PLAN_OPTION]
    return [*kept, "hydra.sweeper.plan=true"]


def with_allow(arguments: list[str]) -> list[str]:
    """``arguments`` that say what is allowed: nothing, if they do not, whatever a config says.

    An experiment may come from somebody else, and would allow itself.
    """
    said = any(argument.lstrip("+").startswith("allow=") for argument in arguments)
    return arguments if said else [*arguments, "allow=null"]


def check_options(command: str, arguments: list[str]) -> None:
    """Refuse options that Hydra does not know in a line, and a sweeper that is not ours.

    Another sweeper does not know that a run which fails is an outcome, and would exit with 0.
    """
    from hydra._internal.utils import get_args_parser

    def refuse(message: str) -> None:
        raise InputError(f"{message}; settings are KEY=VALUE, such as loss.gamma=3")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign,assignment]
    if "--version" not in arguments:  # which would print and exit
        parser.parse_intermixed_args(arguments)
    options = [argument.partition("=")[0] for argument in arguments]
    looks = [option for option in options if option in ("--cfg", "-c", "--info", "-i")]
    if looks and command != "train":
        raise InputError(f"{looks[0]} is for lossbench train; see lossbench sweep --plan")
    ours = {path.stem for path in (folder("configs") / "hydra" / "sweeper").glob("*.yaml")}
    for name in sweepers_in(arguments) - ours:
        raise InputError(
            f"hydra/sweeper={name} is not allowed: lossbench {command} plans its runs itself; "
            "choose where they run with hydra/launcher="
        )


def sweepers_in(arguments: list[str]) -> set[str]:
    """The sweepers of Hydra that ``arguments`` choose."""
    parts = [argument.lstrip("+").partition("=") for argument in arguments]
    return {value for key, _, value in parts if key == "hydra/sweeper"}


def check_sweep_keys(command: str, arguments: list[str]) -> None:
    """Refuse what speaks of many runs on the command line of one; an experiment may say it."""
    if command != "train" or {"-m", "--multirun"} & set(arguments):
        return
    for argument in arguments:
        key, _, value = argument.lstrip("+").partition("=")
        if key in ("seeds", "zip", "exclude") and value != "null":
            instead = "; give one seed=" if key == "seeds" else ""
            raise InputError(
                f"{argument}: lossbench train trains one run; use lossbench sweep{instead}"
            )


def with_own_modules(arguments: list[str]) -> list[str]:
    """``arguments`` without `--config-dir FOLDER`, whose modules can be imported from now on."""
    own_config_folder(arguments)
    return without_config_dir(arguments)


def without_config_dir(arguments: list[str]) -> list[str]:
    """``arguments`` without `--config-dir FOLDER`."""
    kept, rest = [], iter(arguments)
    for argument in rest:
        option, equals, _ = argument.partition("=")
        if option not in ("--config-dir", "-cd"):
            kept.append(argument)
        elif not equals:
            next(rest, None)
    return kept


def own_config_folder(arguments: list[str]) -> Path | None:
    """The folder given with `--config-dir`, made importable in this and every worker process."""
    for position, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option in ("--config-dir", "-cd"):
            given = value if equals else "".join(arguments[position + 1 : position + 2])
            path = Path(given).resolve()
            if not given or not path.is_dir():
                raise InputError(f"--config-dir {given}: there is no such folder")
            for own in sorted(path.glob("*/*.yaml")):
                shipped = folder("configs") / own.relative_to(path)
                # which would win, unsaid; of search spaces one's own wins
                if own.parent.name != "search" and shipped.exists():
                    raise InputError(
                        f"{own}: {own.stem} is the name of a {own.parent.name} of lossbench; "
                        "rename the file"
                    )
            sys.path.insert(0, str(path))
            inherited = os.environ.get("PYTHONPATH")
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(path), inherited)))
            return path
    return None


single: list[Any] = []  # the composed config of `lossbench train`, for after Hydra


def hydra_task(config: Any) -> dict[str, Any]:
    """Hydra's task function.

    In a sweep, called by any launcher in any process: trains the run and returns its outcome;
    a run that fails is an outcome too, so that the others go on. For one run it only keeps the
    config, which is trained when Hydra is done, for Hydra prints more than one line of an error.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if HydraConfig.get().mode == RunMode.MULTIRUN:
        from lossbench.sweeps.worker import execute_reported

        return execute_reported(Run(resolve(config)))
    single.append(config)
    return {}


def explain(error: Exception) -> InputError:
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
    several = re.search(r"Ambiguous value for argument '([^']*)'", text)
    if several:
        return InputError(
            f"{several[1]} names several values: use `lossbench sweep` to run them all"
        )
    return InputError(" ".join(text.split()))


def _unknown_key(path: str, cause: BaseException | None) -> InputError:
    parent = getattr(cause, "parent_node", None)
    names = [str(key) for key in parent or [] if key != "hydra"]
    path = getattr(cause, "full_key", None) or path  # the part of the path that is missing
    where, _, key = path.rpartition(".")
    if not names and not where:
        return InputError(
            f"{key} is no choice of a run; lossbench train --help lists the choices and the keys"
        )
    if not names:
        return InputError(f"{where} is null and has no {key}; choose one with {where}=NAME")
    return unknown(f"parameter of {where}" if where else "config key", key, names)
