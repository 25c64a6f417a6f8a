"""`lossbench board`: TensorBoard on a folder of runs, on this machine only."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path

from lossbench.errors import InputError
from lossbench.tensorboard.writer import EVENT_FILES

PORTS_TO_TRY = 20


def serve(logdir: Path, port: int = 6006, host: str = "127.0.0.1") -> None:
    """Starts TensorBoard on ``logdir``, says its address, and returns at Ctrl-C.

    Arguments and errors are those of `start`.
    """
    url = start(logdir, port, host)
    print(f"TensorBoard shows {logdir} at {url} (Ctrl-C stops it)", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("TensorBoard stopped", flush=True)


def start(logdir: Path, port: int = 6006, host: str = "127.0.0.1") -> str:
    """Starts TensorBoard in the background and returns its address.

    It lives as long as this process. A ``port`` in use is left for the next free one, which is
    said on stderr; port 0 takes any.

    Raises: InputError for a folder that is missing or has no event file, and where neither the
        port nor the next ones can be had.
    """
    logdir = Path(logdir)
    if next(logdir.rglob(EVENT_FILES), None) is None:
        raise InputError(
            f"nothing to show: no TensorBoard files under '{logdir}'; train something first "
            "(lossbench train), or name another folder with runs_dir=FOLDER"
        )
    free = _free_port(port, host)
    if port not in (0, free):
        print(f"port {port} is in use; taking {free}", file=sys.stderr)

    from tensorboard import default, program

    from lossbench.tensorboard.plugin.plugin import LossesPlugin

    # Installed plugins, ours once: from a checkout that is not installed it is not among them.
    plugins = [plugin for plugin in default.get_plugins() if plugin is not LossesPlugin]
    board = program.TensorBoard(plugins=[*plugins, LossesPlugin])
    board.configure(logdir=str(logdir), host=host, port=free)
    return str(board.launch())


def _free_port(port: int, host: str) -> int:
    """``port``, or else the next one that can be bound."""
    if not 0 <= port <= 65535:
        raise InputError(f"port {port} is not a port; give one between 1 and 65535, or 0 for any")
    last = min(port + PORTS_TO_TRY, 65535)
    for candidate in range(port, last + 1):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise InputError(
        f"ports {port} to {last} on {host} cannot be used; choose another with port=NUMBER"
    )
