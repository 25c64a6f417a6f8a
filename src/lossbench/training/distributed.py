"""One run on several ranks: processes that share each batch and end with one process's result.

Every rank holds the whole loss. It loads and mixes the same batch as all others, runs the model on
its own share of it, and gathers the logits (and features) of the whole batch from all ranks. So
normalisers, penalties on a batch, a loss's state and its random draws are those of one process by
construction, whatever the loss. Only then are gradients averaged, and only rank 0 measures and
writes. Images in files are decoded by each rank for itself, the whole batch of them.

What agrees with one process up to rounding is a training without dropout: a rank draws the masks of
its own share, so with dropout the masks are others, as with another seed.

Lightning's ``DDPStrategy`` is not used. It starts the other ranks by running the command again, or
the whole of `fit` in processes of its own, where here rank 0 holds the run's lock, writes its
record, and may be a worker of a sweep. And it wraps ``DistributedDataParallel``, which is built for
the parameters that learn at its start and wants each of them used in every step; regimes freeze the
backbone in the middle of a run, and the parameters of a loss are used outside of the model. So the
gradients are averaged here, in one all-reduce after the backward pass. What is lost is the overlap
of the two.

The processes of the ranks are in `rank_processes`.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

JOINING = timedelta(minutes=2)  # all ranks are ready before the first one joins
WAITING = timedelta(days=1)  # for rank 0 while it evaluates; a rank that died is noticed at once


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
            abort()
            raise
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()


# torch before 2.14 knows it by another name
_set_timeout: Any = getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout


def abort() -> None:
    """Free this rank from waiting for others on the GPU; gloo sees by itself that one has died."""
    if dist.is_initialized() and dist.get_backend() == "nccl":
        dist.distributed_c10d._abort_process_group()


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
