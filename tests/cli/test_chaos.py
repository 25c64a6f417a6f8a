"""Sweeps whose processes are killed at random moments, and whose disk fills up."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lossbench.records import read_study
from tests.cli.test_sweep_command import command, run_command, started
from tests.training.test_cut_off import assert_equal_runs

DIGITS = ("data=digits", "imbalance=exponential", "imbalance.factor=10", "study=s", "workers=2")
LARGE = (*DIGITS, "loss=cross_entropy,focal,ldam", "seed=range(0,10)", "trainer.max_epochs=4",
         "model.head=cosine")  # fmt: skip
SMALL = (*DIGITS, "loss=cross_entropy,focal", "seed=0,1", "trainer.max_epochs=3")
COSTS_WORKERS = ("worker", "forkserver")


@pytest.fixture(autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    yield
    while started:
        process = started.pop()
        for other in members(process.pid):
            with suppress(ProcessLookupError):
                os.kill(other, signal.SIGKILL)
        process.communicate()


def members(session: int) -> dict[int, str]:
    """The living processes of a sweep, which is the leader of its session, by what they are."""
    found: dict[int, tuple[int, str]] = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] not in "ZX":
                words = (place / "cmdline").read_bytes().decode().replace("\0", " ")
                found[int(place.name)] = int(fields[1]), words
    kinds = {}
    for process, (parent, words) in found.items():
        if process == session:
            kinds[process] = "parent"
        elif "resource_tracker" in words:
            kinds[process] = "resource tracker"
        else:  # the server that workers are forked from is the one that the parent has started
            kinds[process] = "forkserver" if parent == session else "worker"
    return kinds


def disturb(
    where: Path, arguments: tuple[str, ...], kills: int, seconds: float
) -> tuple[Counter[str], int]:
    """Start the sweep again and again, and kill ``kills`` of its processes at random moments.

    A sweep that ends by itself before the last kill fails the test: too few were in time.
    At most two kills that cost a sweep its workers: a run that dies a third time without a further
    epoch is rightly recorded as failed. Returns the kills by kind, and the sweeps started.
    """
    draw = random.Random(0)
    killed: Counter[str] = Counter()
    sweeps, deaths, process = 0, 0, None
    while killed.total() < kills:
        if process is None or process.poll() is not None:
            assert process is None or process.returncode == -signal.SIGKILL, process.returncode
            process = command("sweep", *arguments, where=where)
            sweeps, deaths = sweeps + 1, 0
        time.sleep(draw.uniform(0, seconds))
        living = members(process.pid)
        kinds = [
            kind for kind in sorted(set(living.values())) if deaths < 2 or kind not in COSTS_WORKERS
        ]
        if not kinds:
            continue
        kind = draw.choice(kinds)
        victim = draw.choice([number for number, own in living.items() if own == kind])
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
            killed[kind] += 1
            deaths += kind in COSTS_WORKERS
        if kind == "parent":
            process.communicate()
            gone(process.pid)
    assert process is not None
    if process.poll() is None:
        process.kill()
        process.communicate()
        gone(process.pid)
    return killed, sweeps


def gone(session: int) -> None:
    """No process of a sweep outlives its parent."""
    end = time.monotonic() + 30
    while left := members(session):
        assert time.monotonic() < end, f"orphans: {left}"
        time.sleep(0.05)


def assert_equal_studies(mine: Path, reference: Path) -> int:
    """All runs done and equal bit for bit, nothing damaged or left over; returns their number."""
    theirs = {record.identity: record.folder for record in read_study(reference)}
    ours = {record.identity: record.folder for record in read_study(mine)}
    assert ours.keys() == theirs.keys()
    for identity, folder in ours.items():
        assert_equal_runs(folder, theirs[identity])
    assert not (mine / "damaged").exists()
    assert {path.name for path in mine.iterdir()} == {path.name for path in reference.iterdir()}
    return len(ours)


@pytest.mark.parametrize(
    ("arguments", "runs", "kills"),
    [
        pytest.param(LARGE, 30, 20, marks=pytest.mark.slow, id="30 runs, 20 kills"),
        pytest.param(SMALL, 4, 3, marks=pytest.mark.slow, id="4 runs, 3 kills"),
    ],
)
def test_killed_at_random_moments_a_sweep_ends_as_if_undisturbed(
    tmp_path: Path, arguments: tuple[str, ...], runs: int, kills: int
) -> None:
    (tmp_path / "undisturbed").mkdir()
    (tmp_path / "chaos").mkdir()
    began = time.monotonic()
    code, said = run_command("sweep", *arguments, where=tmp_path / "undisturbed")
    assert code == 0, said
    took = time.monotonic() - began
    began = time.monotonic()
    killed, sweeps = disturb(tmp_path / "chaos", arguments, kills, took / kills)
    code, said = run_command("sweep", *arguments, where=tmp_path / "chaos")
    assert code == 0, said
    equal = assert_equal_studies(tmp_path / "chaos/runs/s", tmp_path / "undisturbed/runs/s")
    assert equal == runs
    print(f"runs {runs}; kills {killed.total()}: {dict(killed)}; sweeps started {sweeps + 1}")
    print(f"seconds {time.monotonic() - began:.0f}, undisturbed {took:.0f}; runs equal {equal}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a file system of 64 MB is not allowed here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def fill(disk: Path, leave: int) -> Path:
    """A file that leaves ``leave`` bytes of ``disk`` free."""
    ballast = disk / "ballast"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with ballast.open("wb") as stream:
        for _ in range((free - leave) // 4096):
            stream.write(bytes(4096))
    return ballast


@pytest.mark.slow
def test_a_disk_that_fills_up_stops_the_sweep_and_damages_nothing(
    tmp_path: Path, small_disk: Path
) -> None:
    (tmp_path / "undisturbed").mkdir()
    arguments = (*DIGITS, "loss=cross_entropy,focal", "seed=0,1,2", "trainer.max_epochs=3")
    code, said = run_command("sweep", *arguments, where=tmp_path / "undisturbed")
    assert code == 0, said
    reference = tmp_path / "undisturbed/runs/s"
    size = sum(path.stat().st_size for path in reference.rglob("*") if path.is_file())
    stops = 0
    for share in (0.0, 0.1, 0.4):  # of what the study needs; at first not even its plan
        fill(small_disk, int(share * size))
        code, said = run_command("sweep", *arguments, where=small_disk)
        assert code == 1, said
        assert said.count("the disk is full") == 1, said
        assert "Traceback" not in said
        assert "Exception" not in said
        statuses = {record.status for record in read_study(small_disk / "runs/s")}
        assert statuses <= {"done", "running"}
        (small_disk / "ballast").unlink()
        stops += 1
    code, said = run_command("sweep", *arguments, where=small_disk)
    assert code == 0, said
    equal = assert_equal_studies(small_disk / "runs/s", reference)
    assert equal == 6
    print(f"runs 6 of {size} bytes; times the disk was full {stops}; runs equal {equal}")
