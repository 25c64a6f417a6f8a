"""What the user got wrong, as one line."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: the message is one line that names the value, what is allowed and what to do.

    The command line prints that line and exits with code 2; nothing has been written or trained.
    """


class CodeError(InputError):
    """What code raised that a config names, as one line: elsewhere it would be the same.

    One run stops at it, before anything is written. In a sweep or a search that run has failed,
    and the others go on.
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


MACHINE_FAULTS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is mounted read-only",
    errno.EIO: "the disk cannot be read or written",
    errno.ESTALE: "the file server has lost the folder",
    errno.ENOTCONN: "the file server is not connected",
    errno.ETIMEDOUT: "the file server does not answer",
}

GO_ON = "put that right and start the same command again: it goes on where it stopped"


def machine_fault(error: BaseException | None) -> str | None:
    """What is wrong with the machine, in a line, if that is what ``error`` comes from.

    Looks through the chain of causes: a library that closes a half-written file raises an error of
    its own about it. None where the machine is not to blame.
    """
    while error is not None:
        if isinstance(error, OSError):
            # of an error in a process that loads images torch keeps the type and the text alone
            told = re.search(r"\[Errno (\d+)\]", str(error))
            number = error.errno or (int(told[1]) if told else None)
            if number in MACHINE_FAULTS:
                where = f" ({error.filename})" if error.filename else ""
                return f"{MACHINE_FAULTS[number]}{where}"
        error = error.__cause__ or error.__context__
    return None
