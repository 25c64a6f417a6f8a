"""Pictures out of Vega-Lite specifications, in as many processes as are worth their start.

Imports nothing heavy: every process that draws imports this module anew.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import struct
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any
from xml.sax.saxutils import escape

WORTH = 6
"""Pictures for which a process is started: its start takes as long as two or three of them."""

AHEAD = 8
"""Specifications per process that are held at once: those of many cells would fill the memory."""


@dataclass(frozen=True)
class Job:
    """What is drawn: a whole Vega-Lite specification, and the title and description of it."""

    specification: dict[str, Any]
    title: str
    description: str


@dataclass(frozen=True)
class Picture:
    """What was drawn, as SVG and as PNG with its width and height in pixels."""

    svg: str
    png: bytes
    width: int
    height: int


def draw_all(jobs: Iterable[Job], number: int, processes: int) -> Iterator[Picture]:
    """The pictures of ``jobs``, ``number`` of them, in their order, from at most ``processes``.

    With more than one the caller's main module is imported in each of them, as multiprocessing
    does: a script must guard its start by ``if __name__ == "__main__"``.
    """
    count = min(processes, number // WORTH)
    if count < 2:
        yield from map(draw, jobs)
        return
    # forking is not safe once vl_convert has started its threads
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, context, initializer=_serve)
    try:
        waiting = iter(jobs)
        while batch := list(islice(waiting, AHEAD * count)):
            yield from pool.map(draw, batch)
    finally:
        pool.shutdown(cancel_futures=True)


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _serve() -> None:
    """Leave Ctrl-C to the process that asked, and end with it however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def draw(job: Job) -> Picture:
    """The picture of one job."""
    found = svg(job)
    return Picture(found, *figure_png(found))


def svg(job: Job) -> str:
    """The picture of ``job`` as SVG, text as text, with <title> and <desc>."""
    import vl_convert

    plain = vl_convert.vegalite_to_svg(job.specification, allowed_base_urls=[])
    start = plain.index(">", plain.index("<svg")) + 1
    named = f"<title>{escape(job.title)}</title><desc>{escape(job.description)}</desc>"
    return plain[:start] + named + plain[start:] + "\n"


def figure_png(svg: str, scale: float = 1.0) -> tuple[bytes, int, int]:
    """The picture of `svg` as PNG, with its width and height in pixels."""
    import vl_convert

    png = vl_convert.svg_to_png(svg, scale=scale)
    width, height = struct.unpack(">II", png[16:24])  # of the first chunk, IHDR
    return png, width, height
