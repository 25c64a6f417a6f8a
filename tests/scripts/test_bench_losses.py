"""The benchmark of the losses measures what it says, on cases whose answer is known."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from lossbench.losses import list_losses

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_losses.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_losses", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_losses"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


# In units of the logits: exp keeps its result, and the backward pass makes a second matrix; two of
# them keep two, and hold a third; a square keeps nothing but its input, for both its factors.
@pytest.mark.parametrize(
    ("function", "peak", "saved"),
    [
        (lambda z: z.exp().sum(), 2, 1),
        (lambda z: z.exp().exp().sum(), 3, 2),
        (lambda z: (z * z).sum(), 2, 0),
    ],
)
def test_memory_of_known_chains(bench: ModuleType, function, peak: int, saved: int) -> None:
    logits = torch.randn(100, 1000, requires_grad=True)
    case = bench.Case("chain", "cross_entropy", function, logits, ())
    size = logits.numel() * logits.element_size()
    assert bench.peak_bytes(case) == pytest.approx(peak * size, rel=1e-3)
    assert bench.saved_bytes(case) == saved * size


def test_memory_of_an_operators_own_temporaries_counts(bench: ModuleType) -> None:
    # kthvalue sorts in a copy of its input, and in a matrix of indices of twice that size
    logits = torch.randn(100, 1000, requires_grad=True)
    case = bench.Case("inner", "focal", lambda z: z.kthvalue(5).values.sum(), logits, ())
    assert bench.peak_bytes(case) > 2.9 * logits.numel() * logits.element_size()


def test_the_ratio_of_a_step_done_three_times_is_about_three(bench: ModuleType) -> None:
    batch = bench.Batch(256, 100, "cpu")
    once = batch.case("cross_entropy")

    def thrice(*given: torch.Tensor) -> torch.Tensor:
        return sum(once.function(*given) for _ in range(3))

    case = bench.replace(once, function=thrice)
    _, (ratio,) = bench.ratios(case, [once], rounds=9)
    assert 2 < ratio < 4.5


def test_every_loss_has_a_kind_and_targets_follow_the_shape(bench: ModuleType) -> None:
    assert {bench.kind_of(name) for name in list_losses()} <= {*bench.KINDS}
    assert set(bench.KIND) <= set(list_losses())
    assert bench.targets_of("focal", 4096, 1000) == {"eager": 1.3, "compiled": 1.5, "memory": 2.0}
    assert bench.targets_of("focal", 128, 10) == {"eager": 3.0}
    assert bench.targets_of("mmce", 4096, 1000) == {}


@pytest.mark.parametrize("name", list_losses())
def test_every_loss_is_measured(bench: ModuleType, name: str) -> None:
    batch = bench.Batch(32, 5, "cpu")
    row = bench.measure(batch.case(name), batch.target, rounds=1, compiling=False)
    assert row["eager"] > 0
    assert row["memory"] > 0
    assert name in bench.line(row)


def test_the_script_prints_a_table_and_writes_json(
    bench: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--shape", "64,7", "--only", "focal,mmce", "--rounds", "2", "--no-compile"]
    monkeypatch.setattr(sys, "argv", ["bench", *words, "--json", str(tmp_path / "rows.json")])
    bench.main()
    printed = capsys.readouterr().out
    assert "(64, 7)" in printed
    assert "0 of 0 targets missed" in printed
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["name"] for row in rows if row["name"] == row["loss"]] == ["focal", "mmce"]


@pytest.mark.slow
def test_a_compiled_loss_is_one_graph(bench: ModuleType) -> None:
    batch = bench.Batch(32, 5, "cpu")
    row = bench.measure(batch.case("focal"), batch.target, rounds=1, compiling=True)
    assert row["one graph"]
    assert row["compiled"] > 0
