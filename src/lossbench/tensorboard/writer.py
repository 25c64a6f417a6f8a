"""The event file of one run."""

from __future__ import annotations

import io
import itertools
import math
import os
import socket
import sys
import time
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.pr_curve import metadata as pr_curve_metadata
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from lossbench.errors import InputError
from lossbench.tensorboard.hparams import (
    COLUMNS,
    ColumnValue,
    hparams_summary,
    session_end_summary,
)
from lossbench.tensorboard.labels import RunLabels, labels_summary
from lossbench.tensorboard.layout import Layout, layout_summary

# tensorboard imports TensorFlow where it is installed, only to open local files: seconds per run.
# Its own switch against that is a module called ``tensorboard.compat.notf``, which its wheel does
# not ship, so an empty one is put in place here, unless TensorFlow is already loaded. The plugin
# must not do so: in a `tensorboard` of the user's, TensorFlow may be what reads the log folder.
if "tensorflow" not in sys.modules:
    sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("tensorboard.compat.notf"))

EVENT_FILES = "events.out.tfevents.*"


class RunWriter:
    """Writes what TensorBoard shows of one run into ``folder`` (made if missing).

    A resumed run opens its writer with ``replace=True`` and writes its whole history again, so
    that no curve has a seam. The first `flush` says that the history is complete: only then are
    the older event files removed. A crash before it leaves the older files whole.

    Every method takes ``step`` (the epoch, from 1) and ``wall_time`` (seconds since 1970; now
    if None). As a context manager it closes itself; a ``replace`` that ends in an exception
    before its first flush removes its own unfinished file instead of the older ones.

    ``suffix`` ends the name of the file; ``replace`` is then about files of this suffix alone.

    Raises: OSError where the folder cannot be written.
    """

    def __init__(self, folder: Path, *, replace: bool = False, suffix: str = "") -> None:
        self._folder = Path(folder)
        self._files = f"{EVENT_FILES}{suffix}"
        self._older = set(self._folder.glob(self._files)) if replace else set()
        self._writer = EventFile(self._folder, suffix)

    def scalars(
        self, values: Mapping[str, float | None], step: int, wall_time: float | None = None
    ) -> None:
        """One number per tag, ``{"val/cls/accuracy": 0.9, ...}``; None and NaN are left out.

        TensorBoard keeps numbers as float32.
        """
        known = {
            tag: value
            for tag, value in values.items()
            if value is not None and not math.isnan(value)
        }
        if known:
            parts = [Summary.Value(tag=tag, simple_value=value) for tag, value in known.items()]
            self._add(Summary(value=parts), step, wall_time)

    def histogram(
        self,
        tag: str,
        counts: np.ndarray,
        edges: np.ndarray,
        step: int,
        wall_time: float | None = None,
    ) -> None:
        """A histogram with its own buckets; nothing is written when it is empty.

        Args:
            counts: (B+1,) numbers >= 0: underflow, the B-1 bins between the edges, overflow.
            edges: (B,) increasing; for losses log10 of the loss, the grid of every run. The
                under- and overflow buckets are shown as wide as their neighbours.

        Empty buckets before the first and after the last filled one are not written.

        Raises: InputError where the shapes do not fit.
        """
        counts, edges = np.asarray(counts, np.float64), np.asarray(edges, np.float64)
        if counts.shape != (edges.size + 1,):
            raise InputError(
                f"histogram {tag!r} has counts of shape {counts.shape} for {edges.size} edges; "
                f"give ({edges.size + 1},): underflow, {edges.size - 1} bins, overflow"
            )
        filled = np.flatnonzero(counts)
        if filled.size == 0:
            return
        outer = (2 * edges[0] - edges[1], *edges, 2 * edges[-1] - edges[-2])
        buckets = np.stack([outer[:-1], outer[1:], counts], axis=1)[filled[0] : filled[-1] + 1]
        self._add_tensor(
            tag, buckets, histogram_metadata.create_summary_metadata(None, None), step, wall_time
        )

    def pr_curve(
        self, tag: str, table: np.ndarray, step: int, wall_time: float | None = None
    ) -> None:
        """A precision-recall curve.

        Args:
            table: (6, T): true and false positives, true and false negatives, precision and recall
                at T evenly spaced thresholds from 0 to 1, as `Decisions.table` gives.

        Raises: InputError for a table of another shape.
        """
        table = np.asarray(table, np.float32)
        if table.ndim != 2 or len(table) != 6 or table.shape[1] < 2:
            raise InputError(
                f"PR curve {tag!r} has shape {table.shape}; give (6, T), T of 2 or more thresholds"
            )
        metadata = pr_curve_metadata.create_summary_metadata(None, None, table.shape[1])
        self._add_tensor(tag, table, metadata, step, wall_time)

    def image(
        self,
        tag: str,
        png_bytes: bytes,
        width: int,
        height: int,
        step: int,
        wall_time: float | None = None,
    ) -> None:
        """A PNG image with its size in pixels, as `lossbench.tensorboard.drawing.to_png` gives."""
        tensor = [str(width).encode(), str(height).encode(), png_bytes]
        self._add_tensor(
            tag, tensor, image_metadata.create_summary_metadata(None, None), step, wall_time
        )

    def text(self, tag: str, markdown: str, step: int, wall_time: float | None = None) -> None:
        """A text, shown as Markdown."""
        self._add(text_pb(tag, markdown), step, wall_time)

    def hparams(
        self,
        values: Mapping[str, ColumnValue],
        *,
        group: str,
        metrics: Iterable[str],
        columns: Mapping[str, type] = COLUMNS,
        start_time: float | None = None,
    ) -> None:
        """The run's line in the HParams tab, written once, at its start; see `hparams_summary`."""
        start_time = time.time() if start_time is None else start_time
        summary = hparams_summary(
            values, group=group, metrics=metrics, columns=columns, start_time=start_time
        )
        self._add(summary, 0, start_time)

    def layout(self, layout: Layout) -> None:
        """The charts of the Custom Scalars tab."""
        self._add(layout_summary(layout), 0, None)

    def labels(self, labels: RunLabels) -> None:
        """Who the run is, written once, at its start."""
        self._add(labels_summary(labels), 0, None)

    def session_end(self, *, success: bool, wall_time: float | None = None) -> None:
        """How the run ended, for the HParams tab; written once, at its end."""
        wall_time = time.time() if wall_time is None else wall_time
        self._add(session_end_summary(success=success, end_time=wall_time), 0, wall_time)

    def flush(self) -> None:
        """Brings everything so far to disk; the first one of a ``replace`` removes older files."""
        self._writer.flush()
        self._remove_older()

    def close(self) -> None:
        """Flushes and closes; a second call does nothing."""
        self._writer.close()
        self._remove_older()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None and self._older:
            self._older = set(self._folder.glob(self._files)) - self._older
        self.close()

    def _remove_older(self) -> None:
        for path in self._older:
            path.unlink(missing_ok=True)
        self._older = set()

    def _add_tensor(
        self,
        tag: str,
        values: object,
        metadata: SummaryMetadata,
        step: int,
        wall_time: float | None,
    ) -> None:
        value = Summary.Value(tag=tag, metadata=metadata, tensor=make_tensor_proto(values))
        self._add(Summary(value=[value]), step, wall_time)

    def _add(self, summary: Summary, step: int, wall_time: float | None) -> None:
        wall_time = time.time() if wall_time is None else wall_time
        self._writer.add(Event(wall_time=wall_time, step=step, summary=summary))


class EventFile:
    """One new event file in ``folder``, written when it is flushed.

    tensorboard's own `EventFileWriter` writes in a thread, in which a full disk is a traceback on
    the terminal, and goes on after half an event. Here `flush` raises the OSError.
    """

    _numbers = itertools.count()

    def __init__(self, folder: Path, suffix: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        now, host = time.time(), socket.gethostname()
        process = f"{os.getpid()}.{next(self._numbers)}{suffix}"
        name = f"events.out.tfevents.{int(now):010d}.{host}.{process}"
        self._pending = io.BytesIO()
        self._records = RecordWriter(self._pending)
        self._descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._closed = False
        self.add(Event(wall_time=now, file_version="brain.Event:2"))

    def add(self, event: Event) -> None:
        """Keep ``event`` for the next `flush`."""
        self._records.write(event.SerializeToString())

    def flush(self) -> None:
        """Write what was kept."""
        content = memoryview(self._pending.getvalue())
        self._pending.seek(0)
        self._pending.truncate()
        while content:
            content = content[os.write(self._descriptor, content) :]

    def close(self) -> None:
        """Flush and close; a second call does nothing."""
        if not self._closed:
            self._closed = True
            try:
                self.flush()
                os.fsync(self._descriptor)
            finally:
                os.close(self._descriptor)
