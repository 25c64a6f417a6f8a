"""Foreign losses, as a user would write them."""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional


class Drawing(nn.Module):
    """Cross-entropy that draws random numbers when it is made and at every step, to no effect."""

    def __init__(self) -> None:
        super().__init__()
        torch.rand(7)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        torch.rand(3)
        return functional.cross_entropy(logits, target)


class ScalarWithCounts:
    """A weighted cross-entropy without ``reduction``: it can only give one number."""

    def __init__(self, class_counts: list[int]) -> None:
        self.weight = 1 / torch.tensor(class_counts, dtype=torch.float32)

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(logits, target, self.weight)


class Scheduled(nn.Module):
    """Cross-entropy whose weight follows the epoch, as deferred re-weighting does."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = 1.0

    def set_epoch(self, epoch: int, max_epochs: int) -> None:
        self.factor = 1.0 + epoch / max_epochs

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.factor * functional.cross_entropy(logits, target)


class NanWhenEvaluated(nn.Module):
    """Cross-entropy that is NaN in evaluation mode."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        loss = functional.cross_entropy(logits, target, reduction="none")
        return loss if self.training else loss * float("nan")


def of_every_logit(logits: Tensor, target: Tensor) -> Tensor:
    """A loss of the wrong shape, (N, C)."""
    return logits**2


class NanFromEpoch3(nn.Module):
    """Cross-entropy that is NaN from the third epoch on."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch = 0

    def set_epoch(self, epoch: int, max_epochs: int) -> None:
        self.epoch = epoch

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(logits, target) * (float("nan") if self.epoch >= 2 else 1)


def raising(logits: Tensor, target: Tensor) -> Tensor:
    """A loss with a bug."""
    raise ZeroDivisionError("no such luck")


def times_1000(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy with a large constant in front."""
    return 1000 * functional.cross_entropy(logits, target)


def times_1024(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy with a constant in front that rounds nothing."""
    return 1024 * functional.cross_entropy(logits, target)


def each(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of each sample."""
    return functional.cross_entropy(logits, target, reduction="none")


def each_times_1024(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of each sample with a constant in front that rounds nothing."""
    return 1024 * each(logits, target)


def flat(logits: Tensor, target: Tensor) -> Tensor:
    """A loss with no slope anywhere."""
    return 0 * logits.sum()


def steep(logits: Tensor, target: Tensor) -> Tensor:
    """A loss whose value is finite and whose slope is not."""
    return (logits - logits.detach()).abs().sqrt().sum()


class OfItsOwnParameter(nn.Module):
    """A loss that lets no gradient through to the logits; only its own parameter learns."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.ones(()))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.offset**2 + functional.cross_entropy(logits.detach(), target)


class DecodesWithoutGradient(nn.Module):
    """Cross-entropy of rounded logits; nothing comes back through its ``decode``."""

    @torch.no_grad()
    def decode(self, logits: Tensor) -> Tensor:
        return logits.round(decimals=3)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(logits, target)


class LearnsAndDraws(nn.Module):
    """Cross-entropy of logits with noise, times a temperature that is learned.

    What it drew last is part of its state.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("drawn", torch.zeros(()))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        noise = torch.randn_like(logits) if self.training else torch.zeros(())
        if self.training:
            self.drawn = noise.sum()
        return functional.cross_entropy(self.scale * logits + noise, target)


def _on_rank_1() -> bool:
    return distributed.is_initialized() and distributed.get_rank() == 1


def raising_on_rank_1(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy with a bug that only the second of several processes meets."""
    if _on_rank_1():
        raise ZeroDivisionError(f"no such luck in {os.environ['PLACE']}")
    return functional.cross_entropy(logits, target)


def of_a_broken_disk_on_rank_1(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy for which the second of several processes cannot read a file."""
    if _on_rank_1():
        raise OSError(errno.EIO, "Input/output error")
    return functional.cross_entropy(logits, target)


class WritesNothingOnRank1(nn.Module):
    """Cross-entropy that ends the second of several processes as soon as it writes a file."""

    def set_epoch(self, epoch: int, max_epochs: int) -> None:
        if _on_rank_1():
            sys.addaudithook(_refuse_to_write)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(logits, target)


def _refuse_to_write(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        raise AssertionError(f"rank 1 writes {arguments[0]}")


class KilledOnRank1(nn.Module):
    """Cross-entropy in which the second of several processes is killed in the third epoch."""

    def set_epoch(self, epoch: int, max_epochs: int) -> None:
        self.epoch = epoch

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        if _on_rank_1() and self.epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return functional.cross_entropy(logits, target)
