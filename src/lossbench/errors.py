"""What the user got wrong, as one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: the message is one line that names the value, what is allowed and what to do.

    The command line prints that line and exits with code 2; nothing has been written or trained.
    """


def unknown(
    kind: str, value: object, allowed: Iterable[str], listed: Iterable[str] = ()
) -> InputError:
    """The `InputError` for a name that is not in ``allowed``; suggests the nearest one.

    All of them are named, or ``listed`` instead where they are many.
    """
    names = sorted(allowed)
    begun = [name for name in names if len(str(value)) > 1 and name.startswith(str(value))]
    near = begun or difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    allowed_names = ", ".join(listed) or ", ".join(names) or "none"
    return InputError(f"unknown {kind} {str(value)!r}{hint} (allowed: {allowed_names})")
