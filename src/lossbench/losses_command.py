"""`lossbench losses`: the catalogue, one loss, or the anatomy of several.

The words come at once; torch is imported only when curves are to be drawn.
"""

from __future__ import annotations

from pathlib import Path

from lossbench.errors import InputError, unknown
from lossbench.losses.catalogue import facts
from lossbench.losses.display import describe, table

AT_MOST = 8
"""Losses in one figure; beyond that colours cannot be told apart."""
_OPTIONS = {
    "--anatomy": "names of losses with commas between them, as in focal,gce",
    "--out": "a file that ends in .svg, .png or .pdf",
}


def losses_command(arguments: list[str]) -> int:
    """Print the catalogue, or the facts and the anatomy of losses, as ``arguments`` say.

    NAME                the facts, then the anatomy as a text chart
    --anatomy A,B,...   the anatomy of several losses
    --out FILE          the anatomy as a figure in FILE instead of the chart

    Raises `InputError` before anything is printed for arguments that are not these.
    """
    name, names, path = _read(arguments)
    if name:
        print(describe(name), flush=True)  # at once; torch takes seconds
    elif not names:
        print(table())
        return 0
    from lossbench.anatomy_figure import text_chart, write_figure
    from lossbench.losses.anatomy import anatomy

    reference = anatomy("cross_entropy")[0]
    curves = [curve for key in names or [name] for curve in anatomy(key)]
    if path is None:
        print(("\n" if name else "") + text_chart(curves, reference))
    else:
        write_figure(path, curves, reference)
        print(f"anatomy: {path}")
    return 0


def _read(arguments: list[str]) -> tuple[str, list[str], Path | None]:
    """(NAME or "", the losses of --anatomy, the path of --out), all checked."""
    names, options = _split(arguments)
    if len(names) > 1:
        several = ",".join(names)
        raise InputError(f"{len(names)} losses are named; for several: --anatomy {several}")
    if names and "--anatomy" in options:
        raise InputError(f"give either the NAME {names[0]} or --anatomy, not both")
    if "--out" in options and not names and "--anatomy" not in options:
        raise InputError("--out needs a loss to draw: give its NAME or --anatomy A,B")
    chosen = _checked_names(options["--anatomy"]) if "--anatomy" in options else []
    name = facts(names[0]).key if names else ""
    return name, chosen, _checked_path(options["--out"]) if "--out" in options else None


def _split(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """The names, and the value of each option, given as `--option VALUE` or `--option=VALUE`."""
    names, options = [], {}
    rest = iter(arguments)
    for argument in rest:
        option, equals, value = argument.partition("=")
        if not option.startswith("-"):
            names.append(argument)
            continue
        if option not in _OPTIONS:
            raise unknown("option of lossbench losses", option, _OPTIONS)
        if option in options:
            raise InputError(f"{option} is given twice: give it once")
        options[option] = value if equals else next(rest, "")
        if not options[option] or options[option].startswith("-"):
            raise InputError(f"{option} needs {_OPTIONS[option]}")
    return names, options


def _checked_names(text: str) -> list[str]:
    names = text.split(",")
    if not all(names):
        raise InputError(f"--anatomy {text} is not allowed: {_OPTIONS['--anatomy']}")
    for name in names:
        facts(name)
        if names.count(name) > 1:
            raise InputError(f"--anatomy names {name} twice: name it once")
    if len(names) > AT_MOST:
        raise InputError(f"--anatomy takes at most {AT_MOST} losses, not {len(names)}")
    return names


def _checked_path(text: str) -> Path:
    from tempfile import TemporaryFile

    path = Path(text)
    if path.suffix.lower() not in (".svg", ".png", ".pdf"):
        raise InputError(f"--out {text} is not allowed: {_OPTIONS['--out']}")
    try:
        if not path.parent.is_dir():
            raise InputError(f"--out {text}: there is no folder {path.parent}; make it first")
        if path.is_dir():
            raise InputError(f"--out {text} is a folder: name a file")
        with TemporaryFile(dir=path.parent):  # asks the file system, and leaves nothing
            pass
    except OSError as error:
        raise InputError(f"--out {text} cannot be written: {error.strerror}") from None
    return path
