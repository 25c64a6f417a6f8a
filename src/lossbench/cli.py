"""The command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

from lossbench.errors import GO_ON, InputError, machine_fault
from lossbench.stopping import stopped_by_signals

USAGE = """\
lossbench: which classification loss is better, by how much, how surely, and where.

  lossbench train    data=fashion_mnist imbalance=exponential loss=focal seed=1   one run
  lossbench sweep    loss=cross_entropy,focal seed=0,1,2                          many runs
  lossbench sweep    experiment=digits_quickstart           a named study, from experiments/
  lossbench sweep    --plan loss=focal seeds=10             what would run, how long; runs nothing
  lossbench tune     arms=focal,ldam,cross_entropy budget=20   fair search, on validation alone
  lossbench compare  study=NAME [baseline= metric= margin= posthoc= by=arm|loss|model out=]  report
  lossbench power    study=PILOT | spread=0.01 losses=6 [difference=0.01]   seeds that are needed
  lossbench status   [study=NAME]                           done / failed / running / missing
  lossbench rescore  study=NAME     stored outputs again: new metrics, losses, post-hoc; no training
  lossbench unseal   study=NAME [partial=true]              opens the test set of a sealed study
  lossbench reproduce RUN_FOLDER    trains a recorded run again, and says what differs
  lossbench export   study=NAME out=FILE.zip                a study for others; import reads it
  lossbench import   FILE.zip [study=NAME]                  to compare and to extend
  lossbench inspect  data=fashion_mnist imbalance=exponential   class counts; trains nothing
  lossbench losses   [NAME | --anatomy A,B] [--out FILE.svg]   the catalogue; facts and curves
  lossbench board    [port=6006]                            TensorBoard on the runs folder

Every part of a run is an override KEY=VALUE; `lossbench train --help` lists them.
Exit codes: 0 done, 1 a run failed, 2 bad input (one line, nothing written), 130 interrupted.
"""


def _train(arguments: list[str]) -> int:
    from lossbench.application import run_application

    return run_application("train", arguments)


def _sweep(arguments: list[str]) -> int:
    from lossbench.application import run_application

    return run_application("sweep", arguments)


def _tune(arguments: list[str]) -> int:
    from lossbench.tuning.command import tune_command

    return tune_command(arguments)


def _compare(arguments: list[str]) -> int:
    from lossbench.comparison.command import compare_command

    return compare_command(arguments)


def _power(arguments: list[str]) -> int:
    from lossbench.comparison.power_command import power_command

    return power_command(arguments)


def _status(arguments: list[str]) -> int:
    from lossbench.sweeps.status import status_command

    return status_command(arguments)


def _rescore(arguments: list[str]) -> int:
    from lossbench.training.rescore import rescore_command

    return rescore_command(arguments)


def _unseal(arguments: list[str]) -> int:
    from lossbench.training.unseal import unseal_command

    return unseal_command(arguments)


def _reproduce(arguments: list[str]) -> int:
    from lossbench.training.reproduce import reproduce_command

    return reproduce_command(arguments)


def _export(arguments: list[str]) -> int:
    from lossbench.records.archive import export_command

    return export_command(arguments)


def _import(arguments: list[str]) -> int:
    from lossbench.records.archive import import_command

    return import_command(arguments)


def _inspect(arguments: list[str]) -> int:
    from lossbench.inspection import inspect_command

    return inspect_command(arguments)


def _losses(arguments: list[str]) -> int:
    from lossbench.losses_command import losses_command

    return losses_command(arguments)


def _board(arguments: list[str]) -> int:
    from pathlib import Path

    from lossbench.arguments import read_settings
    from lossbench.tensorboard.board import serve

    settings = read_settings(arguments, {"runs_dir": "runs", "port": "6006"}, "board")
    port = settings["port"] or ""
    if not port.isdecimal():
        raise InputError(f"port={port} is not allowed: a whole number")
    serve(Path(settings["runs_dir"] or "runs"), int(port))
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "sweep": _sweep,
    "tune": _tune,
    "compare": _compare,
    "power": _power,
    "status": _status,
    "rescore": _rescore,
    "unseal": _unseal,
    "reproduce": _reproduce,
    "export": _export,
    "import": _import,
    "inspect": _inspect,
    "losses": _losses,
    "board": _board,
}


HYDRA_COMMANDS = ("train", "sweep", "tune")  # Hydra lists the keys at --help


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if arguments[0] == "--version":
        from lossbench import __version__

        print(f"lossbench {__version__}")
        return 0
    command, *rest = arguments
    try:
        if command not in COMMANDS:
            from lossbench.errors import unknown

            raise unknown("command", command, COMMANDS)
        if command not in HYDRA_COMMANDS and {"-h", "--help"} & set(rest):
            print(next(line for line in USAGE.splitlines() if f"lossbench {command}" in line))
            return 0
        if command not in HYDRA_COMMANDS:
            return COMMANDS[command](rest)
        with stopped_by_signals():
            return COMMANDS[command](rest)
    except InputError as error:
        print(f"lossbench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        with suppress(OSError):  # the terminal may be gone
            print("lossbench: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        fault = machine_fault(error)
        if fault is None and not isinstance(error, PermissionError):
            raise
        fault = fault or f"{error.filename} may not be read or written"
        print(f"lossbench: {fault}; {GO_ON}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
