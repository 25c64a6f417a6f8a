"""One run on several ranks: processes that share each batch and end with one process's result.

Every rank holds the whole loss. It loads and mixes the same batch as all others, runs the model on
its own share of it, and gathers the logits (and features) of the whole batch from all ranks. So
normalisers, penalties on a batch, a loss's state and its random draws are those of one process by
construction, whatever the loss. Only then are gradients averaged, and only rank 0 measures and
writes. Images in files are decoded by each rank for itself, the whole batch of them.

What agrees with one process up to rounding is a training without dropout: a rank draws the masks of
its own share, so with dropout the masks are others, as with another seed.

The gradients are averaged here, in one all-reduce after the backward pass, and not by
``DistributedDataParallel``. That one is built for the parameters that learn at its start, and wants
each of them used in every step; regimes freeze the backbone in the middle of a run, and the
parameters of a loss are used outside of the model. What it would save is the overlap of the
all-reduce with the backward pass.

Rank 0 is the process that was asked for the run. The others are its children: they come from a
server that has imported torch once, they end when rank 0 ends, however it ends, and what one of
them raises is raised in rank 0.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

JOINING = timedelta(minutes=2)  # all ranks are ready before the first one joins
WAITING = timedelta(days=1)  # for rank 0 while it evaluates; a rank that died is noticed at once
GRACE_SECONDS = 1.0  # in which all ranks that a failure ends have ended
LONGEST_REPORT = 20_000  # characters, which a pipe holds without a reader


class RankError(RuntimeError):
    """A rank failed; the message names it and what it raised."""


class RankKilledError(SystemExit):
    """A rank was killed from outside, and this process ends with it; the message says so.

    Nothing is known against the run: it stays unfinished, as if rank 0 had been killed.
    """


class RanksDifferError(RuntimeError):
    """The ranks do not hold the same weights; the message names the first that differ."""


class LostRankError(RuntimeError):
    """Another rank does not answer; why, it says itself."""


@dataclass(frozen=True)
class Ranks:
    """The ranks of a run, as the one with the number ``rank`` of ``size`` sees them."""

    rank: int
    size: int

    def share(self, count: int) -> slice:
        """This rank's part of a batch of ``count`` samples; it may be empty.

        The parts of all ranks follow each other and differ by at most one sample.
        """
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def gather(self, part: Tensor, count: int) -> Tensor:
        """(count, ...) of all ranks, in their order, from this rank's ``part`` (share, ...).

        The gradient with respect to ``part`` is its part of that of the whole, times ``size``:
        `average_gradients` divides by that again.
        """
        gathered: Tensor = _Gather.apply(part, self, count)
        return gathered

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradient of each parameter by its mean over the ranks.

        Through `gather` the ranks have parts of a gradient, times ``size``: the mean is their sum.
        A parameter of the loss has its whole gradient on every rank, and the mean is the same.
        A parameter without a gradient keeps none.
        """
        learning = [p for p in parameters if p.requires_grad]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in learning]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        _all_reduce(flat)
        flat /= self.size
        for parameter, mean in zip(
            learning, flat.split([p.numel() for p in learning]), strict=True
        ):
            if parameter.grad is not None:
                parameter.grad.copy_(mean.view_as(parameter))

    def require_equal(self, module: nn.Module) -> None:
        """Raise `RanksDifferError` unless ``module`` has the same state on every rank, bit by bit.

        A model that keeps statistics of its batches in buffers of its own would drift apart.
        """
        state = module.state_dict()
        hashes = [_hash(tensor) for tensor in state.values()]
        low = torch.tensor(hashes, device=next(iter(state.values())).device)
        high = low.clone()
        _all_reduce(low, dist.ReduceOp.MIN)
        _all_reduce(high, dist.ReduceOp.MAX)
        for name, same in zip(state, (low == high).tolist(), strict=True):
            if not same:
                raise RanksDifferError(
                    f"{name} differs between the {self.size} ranks: it follows from a rank's share "
                    "of a batch alone; use trainer.devices=1"
                )


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, ranks: Ranks, count: int) -> Tensor:
        ctx.ranks, ctx.count = ranks, count
        # a sum with zeros is exact, and shares may be of any size
        whole = part.new_zeros(count, *part.shape[1:])
        whole[ranks.share(count)] = part
        _all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient[ctx.ranks.share(ctx.count)] * ctx.ranks.size, None, None


def _all_reduce(tensor: Tensor, operation: Any = dist.ReduceOp.SUM) -> None:
    with _lost_ranks():
        dist.all_reduce(tensor, operation)


@contextmanager
def _lost_ranks() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostRankError(f"a rank does not answer: {str(error).splitlines()[0]}") from error


def _hash(tensor: Tensor) -> int:
    data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big", signed=True)


@dataclass(frozen=True)
class Seat:
    """The place of a rank; it meets the others in the file ``meeting``."""

    rank: int
    size: int
    meeting: Path
    ready: Callable[[], None] | None = None

    @contextmanager
    def taken(self, device: torch.device) -> Iterator[Ranks]:
        """Join the other ranks, each with its ``device``; afterwards the group is gone again."""
        if self.ready is not None:
            self.ready()
        on_gpu = device.type == "cuda"
        try:
            with _loopback(), _lost_ranks():
                dist.init_process_group(
                    "nccl" if on_gpu else "gloo",
                    device_id=device if on_gpu else None,
                    rank=self.rank,
                    world_size=self.size,
                    store=dist.FileStore(str(self.meeting), self.size),
                    timeout=JOINING,
                )
            _set_timeout(WAITING, dist.group.WORLD)
            yield Ranks(self.rank, self.size)
        except BaseException:
            if on_gpu:  # leaving in peace would wait for the others
                _abort()
            raise
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()


# torch before 2.14 knows it by another name
_set_timeout: Any = getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout


def _abort() -> None:
    if dist.is_initialized():
        dist.distributed_c10d._abort_process_group()


@contextmanager
def lead(task: Callable[[Seat], None], size: int, device: torch.device) -> Iterator[Ranks]:
    """Start the ranks after the first, join them as rank 0, and end them.

    Each child calls ``task(seat)``, which can be pickled and takes its seat. An exception in a
    child ends all ranks and raises `RankError` here, a signal `RankKilledError`; an exception here
    ends the children.
    """
    with tempfile.TemporaryDirectory(prefix="lossbench-") as folder:
        children = _Children(task, size, Path(folder) / "meeting")
        try:
            children.wait_until_ready()
            children.watch()
            with Seat(0, size, children.meeting).taken(device) as ranks:
                yield ranks
        except (LostRankError, dist.DistError) as error:
            raise children.failure() or error from error
        finally:
            children.end()


@dataclass(frozen=True)
class Report:
    """What a child raised; ``lost`` if it was only left alone by another rank."""

    line: str
    traceback: str
    lost: bool


class _Children:
    """The processes of ranks 1, 2, ..."""

    def __init__(self, task: Callable[[Seat], None], size: int, meeting: Path) -> None:
        self.size = size
        self.meeting = meeting
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["lossbench.training.run"])
        # never written to: it closes when rank 0 ends, however it ends, and they end with it
        lifeline, self._lifeline = context.Pipe(duplex=False)
        self._processes, self._connections = [], []
        for rank in range(1, size):
            ours, theirs = context.Pipe(duplex=False)
            arguments = (task, Seat(rank, size, meeting), theirs, lifeline)
            process = context.Process(target=_follow, args=arguments, daemon=True)
            with _ctrl_c_ignored():
                process.start()
            theirs.close()
            self._processes.append(process)
            self._connections.append(ours)
        lifeline.close()
        self._over = threading.Event()
        self._first: set[int] = set()  # the ranks that ended by themselves
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def wait_until_ready(self) -> None:
        """Return once every child has built its run; raises `RankError` if one cannot."""
        for place, (process, connection) in enumerate(
            zip(self._processes, self._connections, strict=True)
        ):
            wait([connection, process.sentinel])
            said = _last_word(connection)
            if said != READY:
                raise self._error(place, said)

    def watch(self) -> None:
        """End all ranks as soon as one ends."""
        self._watcher.start()

    def failure(self) -> RankError | RankKilledError | None:
        """What ended the first rank that ended; None if all of them live."""
        self._watcher.join(timeout=30)
        said = {place: _last_word(self._connections[place]) for place in self._first}
        lost = [place for place, word in said.items() if isinstance(word, Report) and word.lost]
        causes = [place for place in said if place not in lost] or lost
        return self._error(causes[0], said[causes[0]]) if causes else None

    def end(self) -> None:
        """Let go of them; they end by themselves, or are made to."""
        self._over.set()
        self._lifeline.close()
        for process in self._processes:
            process.join(timeout=5)
            if process.is_alive():
                process.kill()
                process.join()

    def _watch(self) -> None:
        sentinels: list[Any] = [process.sentinel for process in self._processes]
        while not wait(sentinels, timeout=0.2):
            if self._over.is_set():
                return
        if self._over.wait(GRACE_SECONDS):
            return
        self._first = {sentinels.index(ended) for ended in wait(sentinels, timeout=0)}
        for process in self._processes:
            process.kill()
        if dist.is_initialized() and dist.get_backend() == "nccl":
            _abort()  # else rank 0 would wait for its GPU

    def _error(self, place: int, said: Any) -> RankError | RankKilledError:
        who = f"rank {place + 1} of {self.size}"
        if isinstance(said, Report):
            error = RankError(f"{who}: {said.line}")
            error.add_note(said.traceback)
            return error
        self._processes[place].join(timeout=5)
        code = self._processes[place].exitcode
        if code is not None and code < 0:
            return RankKilledError(
                f"lossbench: {who} was killed by signal {-code}; the same command goes on from the "
                "last epoch"
            )
        return RankError(f"{who} ended with exit code {code}")


READY = "ready"


def _last_word(connection: Connection) -> Any:
    """The last thing that a child has said, or None."""
    said = None
    with suppress(EOFError, OSError):
        while connection.poll():
            said = connection.recv()
    return said


def _follow(
    task: Callable[[Seat], None], seat: Seat, connection: Connection, lifeline: Connection
) -> None:
    """What a child does: its task, and then nothing until rank 0 lets go."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 decides what Ctrl-C means
    multiprocessing.current_process().daemon = False  # which may start processes: for image files
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    try:
        task(replace(seat, ready=lambda: connection.send(READY)))
    except BaseException as error:
        lines = str(error).strip().splitlines()
        line = f"{type(error).__name__}: {lines[0] if lines else ''}"
        trace = traceback.format_exc()[-LONGEST_REPORT:]
        with suppress(OSError):
            connection.send(Report(line, trace, isinstance(error, LostRankError)))
        os._exit(1)
    while True:
        time.sleep(3600)


def _end_with(lifeline: Connection) -> None:
    try:
        lifeline.recv()
    except (EOFError, OSError):
        os._exit(1)


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    # what is started in here ignores Ctrl-C from its first instruction on: rank 0 answers it
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _loopback() -> Iterator[None]:
    """Let gloo listen where nobody outside of this machine can connect."""
    name = "GLOO_SOCKET_IFNAME"
    found = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    if name in os.environ or not found:
        yield
        return
    os.environ[name] = found[0]
    try:
        yield
    finally:
        del os.environ[name]
