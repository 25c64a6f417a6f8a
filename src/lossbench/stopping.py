"""SIGTERM and SIGHUP: what batch systems, containers and closed terminals stop a program with."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class StopNow(KeyboardInterrupt):
    """Asked by a signal to end at once; unlike a first Ctrl-C, nothing is finished first."""


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise `StopNow` in the main thread; one that is ignored stays so.

    (`nohup` ignores SIGHUP.) Elsewhere than in the main thread nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    raise StopNow(signal.Signals(number).name)
