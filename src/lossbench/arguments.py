"""KEY=VALUE arguments of the commands that need no Hydra."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lossbench.errors import InputError, unknown
from lossbench.targets import check_allow


def read_settings(
    arguments: list[str], defaults: Mapping[str, str | None], command: str
) -> dict[str, str | None]:
    """``defaults``, with the values that ``arguments`` give; ``null`` means None.

    Raises `InputError` for an argument that is not KEY=VALUE and for an unknown key.
    """
    settings = dict(defaults)
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or not value:
            raise InputError(
                f"{argument!r} is not KEY=VALUE (lossbench {command} takes: {', '.join(defaults)})"
            )
        if key not in defaults:
            raise unknown(f"key of lossbench {command}", key, defaults)
        settings[key] = None if value == "null" else value
    return settings


def modules(given: str | None) -> list[str]:
    """The modules of ``allow=[my_losses,my_models]``, as a command without Hydra is given them."""
    if given is None:
        return []
    inside = re.fullmatch(r"\[(.*)\]", given)
    names: object = [name.strip() for name in inside[1].split(",")] if inside else given
    check_allow(names)
    assert isinstance(names, list)
    return names
