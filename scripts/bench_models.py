"""Whether convolutions are faster in channels_last: training steps, as ratios to contiguous ones.

    python scripts/bench_models.py [--models convnet,resnet32] [--shape 3,32,32] [--rounds 9]

Both layouts take turns, step by step, on one torch thread; the ratio is the median of those of
neighbouring steps, and below 1 channels_last is faster.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch.nn.functional import cross_entropy

from lossbench.models import (
    CifarResNet,
    ConvNet,
    LeNet,
    WideResNet,
    build_classifier,
    from_torchvision,
)

OWN = {"convnet": ConvNet, "lenet": LeNet, "resnet32": CifarResNet, "wide_resnet": WideResNet}


def step_of(name: str, shape: tuple[int, ...], batch: int, layout: torch.memory_format):
    """A function that takes one training step and returns its seconds."""
    backbone = OWN.get(name) or partial(from_torchvision, architecture=name)
    model = build_classifier(backbone, "linear", input_shape=shape, num_classes=10, seed=0)
    model = model.to(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images, targets = torch.randn(batch, *shape), torch.randint(10, (batch,))

    def step() -> float:
        began = time.perf_counter()
        loss = cross_entropy(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return time.perf_counter() - began

    return step


def compared(plain: Callable[[], float], other: Callable[[], float], rounds: int):
    """Median seconds of ``plain``, and the median ratio of ``other`` to it."""
    plain(), other()
    pairs = [(plain(), other()) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs), statistics.median(b / a for a, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="convnet,lenet,resnet32,wide_resnet,resnet18")
    parser.add_argument("--shape", default="3,32,32")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    shape = tuple(map(int, options.shape.split(",")))
    for name in options.models.split(","):
        plain, other = (
            step_of(name, shape, options.batch, layout)
            for layout in (torch.contiguous_format, torch.channels_last)
        )
        seconds, ratio = compared(plain, other, options.rounds)
        print(f"{name} {shape}, batch {options.batch}: {seconds:.3f} s, channels_last {ratio:.2f}")


if __name__ == "__main__":
    main()
