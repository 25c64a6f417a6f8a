"""Losses in two processes (gloo): what they keep is of all ranks, and gradients are averaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from loss_cases import CLASSES, batch, build
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lossbench.losses import list_losses
from lossbench.losses.catalogue import facts

STEPS, N = 3, 6
KEEPS_STATE = [key for key in list_losses() if {"state", "epoch"} & facts(key).needs]


class Model(nn.Module):
    """A linear model with its loss inside, as DistributedDataParallel wants it."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.head = nn.Linear(CLASSES, CLASSES, bias=False).double()
        nn.init.eye_(self.head.weight)
        self.loss = loss

    def forward(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        logits = nn.functional.normalize(self.head(x))  # may stand for cosines
        return self.loss(logits, target, features=x, weight=self.head.weight)


def steps(rank: int | None):
    """The batches of a rank, or of all of them together."""
    for step in range(STEPS):
        x, target = batch(2 * N, seed=step)
        mine = slice(None) if rank is None else slice(rank * N, rank * N + N)
        target = target.clone()
        target[0] = -100  # an ignored sample, of the first rank only
        yield x[mine], target[mine]


def train(key: str, rank: int | None, parameters: dict) -> tuple[dict, list[torch.Tensor]]:
    """The loss's state at the end and the gradient of every step."""
    model = Model(build(key, reduction="sum", **parameters))
    model.loss.set_epoch(6, 10)
    run = model if rank is None else DistributedDataParallel(model)
    gradients = []
    for x, target in steps(rank):
        model.zero_grad()
        run(x, target).backward()
        gradients.append(model.head.weight.grad.clone())
    model.eval()
    run(*next(steps(rank)))  # evaluation must leave the state alone
    return model.loss.state_dict(), gradients


def worker(rank: int, folder: str, keys: list[str]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = {key: train(key, rank, {}) for key in keys}
    found["learnable"] = train("temperature_scaled", rank, {"learnable": True})
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    keys = [key for key in list_losses() if "batch" not in facts(key).needs]
    mp.spawn(worker, (str(folder), keys), nprocs=2)
    return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("key", [k for k in list_losses() if "batch" not in facts(k).needs])
def test_two_processes_do_what_one_does_with_both_batches(ranks: list[dict], key: str) -> None:
    """With reduction "sum", the average of the ranks' gradients is half of the whole batch's."""
    state, gradients = train(key, None, {})
    for found_state, found_gradients in (rank[key] for rank in ranks):
        assert found_state.keys() == state.keys()
        for name, value in state.items():
            assert torch.equal(found_state[name], value), name
        for found, expected in zip(found_gradients, gradients, strict=True):
            torch.testing.assert_close(2 * found, expected)


def test_seesaw_counts_the_samples_of_both_ranks_and_none_that_is_ignored(
    ranks: list[dict],
) -> None:
    targets = torch.cat([target for _, target in steps(None)])
    counts = torch.bincount(targets[targets >= 0], minlength=CLASSES)
    assert counts.sum() == STEPS * (2 * N - 1)
    for rank in ranks:
        assert torch.equal(rank["seesaw"][0]["seen"], counts)


def test_a_learned_temperature_is_the_same_on_every_rank(ranks: list[dict]) -> None:
    first, second = (rank["learnable"] for rank in ranks)
    assert torch.equal(first[0]["log_temperature"], second[0]["log_temperature"])
    assert all(torch.equal(x, y) for x, y in zip(first[1], second[1], strict=True))


@pytest.mark.parametrize("key", KEEPS_STATE)
def test_a_loss_goes_on_where_it_was_saved(key: str) -> None:
    """Two epochs at a stretch, and two with a save and a load in between: equal bit for bit."""

    def epoch(model: Model, number: int) -> list[torch.Tensor]:
        model.loss.set_epoch(number, 2)
        values = []
        for x, target in steps(None):
            values.append(model(x, target))
            values[-1].backward()
        return values

    whole = Model(build(key))
    epoch(whole, 0)
    first = Model(build(key))
    epoch(first, 0)
    second = Model(build(key, order=-1))
    second.load_state_dict(first.state_dict())
    before = [model(*next(steps(None))) for model in (whole, second)]
    assert torch.equal(*before)  # the epoch is part of the state
    for value, resumed in zip(epoch(whole, 1), epoch(second, 1), strict=True):
        assert torch.equal(value, resumed)
