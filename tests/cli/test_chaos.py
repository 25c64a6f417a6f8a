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
from functools import partial
from pathlib import Path

import pytest

from lossbench.records import read_study
from lossbench.records.study import look, planned_runs, run_folders
from tests.cli.test_sweep_command import command, run_command, started, wait_for
from tests.training.test_cut_off import assert_equal_runs

DIGITS = ("data=digits", "imbalance=exponential", "imbalance.factor=10", "study=s", "workers=2")
ARGUMENTS = (*DIGITS, "loss=cross_entropy,focal,influence_balanced", "seed=range(0,10)",
         "trainer.max_epochs=4")  # fmt: skip
KINDS = ("parent", "server", "worker")  # the server is what workers are forked from
DEATHS = 2  # of workers of one sweep: a run that dies a third time in an epoch rightly fails
SECONDS = 4.0  # at most, from a run in training to the next kill
HOUR = 3600.0


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
        else:
            kinds[process] = "server" if parent == session else "worker"
    return kinds


def states(study: Path) -> Counter[str]:
    """In which states the runs of the study are."""
    return Counter(look(folder).state for folder in run_folders(study))


def disturb(where: Path, runs: int, kills: int) -> str:
    """Sweep until all runs are done, and kill ``kills`` of its processes at random moments.

    Drawn are the kind of the next one to die, and how long after a run is in training; one in five
    dies before that, while the sweep starts. Kill number k comes at the latest when k of ``kills``
    + 1 parts of the runs are done, so every kill hits a sweep with work in hand. Says what was
    killed.
    """
    draw, study = random.Random(0), where / "runs/s"
    killed: Counter[str] = Counter()
    process = command("sweep", *ARGUMENTS, where=where)
    sweeps, deaths, training = 1, 0, 0
    while killed.total() < kills:
        kind = draw.choice(KINDS if deaths < DEATHS else KINDS[:1])
        early = kind != "worker" and draw.random() < 0.2
        if not early:
            wait_for(lambda: of_kind("parent", process) and states(study)["running"], HOUR)  # noqa: B023
        wait_for(partial(of_kind, kind, process), HOUR)
        moment = time.monotonic() + draw.uniform(0, SECONDS)
        latest = runs * (killed.total() + 1) // (kills + 1)
        while time.monotonic() < moment and states(study)["done"] < latest:
            time.sleep(0.1)
        busy = states(study)["running"] > 0
        try:
            os.kill(draw.choice(of_kind(kind, process)), signal.SIGKILL)
        except (IndexError, ProcessLookupError):  # gone meanwhile, with the server killed before
            continue
        training += busy
        assert states(study)["done"] < runs
        killed[kind] += 1
        deaths += kind != "parent"
        if kind == "parent":
            process.communicate()
            assert process.returncode == -signal.SIGKILL
            gone(process.pid)
            process = command("sweep", *ARGUMENTS, where=where)
            sweeps, deaths = sweeps + 1, 0
    assert {"parent", "worker"} <= killed.keys()
    assert training > killed.total() // 2
    out, err = process.communicate(timeout=HOUR)
    assert process.returncode == 0, out + err
    gone(process.pid)
    kinds = ", ".join(f"{killed[kind]} x {kind}" for kind in KINDS)
    return (
        f"kills {killed.total()} ({kinds}), {training} of them while runs were trained; "
        f"sweeps started {sweeps}"
    )


def of_kind(kind: str, sweep: subprocess.Popen[str]) -> list[int]:
    """The living processes of that kind; fails if the sweep has ended by itself."""
    assert sweep.poll() is None, f"ended with work in hand: {sweep.communicate()}"
    return [process for process, own in members(sweep.pid).items() if own == kind]


def gone(session: int) -> None:
    """No process of a sweep outlives its parent."""
    end = time.monotonic() + 120  # a server that is still importing looks up when it has done so
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
    assert {path.name for path in mine.iterdir()} == {path.name for path in reference.iterdir()}
    assert planned_runs(mine) == planned_runs(reference)
    assert not (mine / "damaged").exists()
    assert not list(mine.rglob(".tmp-*"))
    return len(ours)


@pytest.mark.slow
def test_killed_at_random_moments_a_sweep_ends_as_if_undisturbed(tmp_path: Path) -> None:
    runs, kills = 30, 20
    (tmp_path / "undisturbed").mkdir()
    (tmp_path / "chaos").mkdir()
    began = time.monotonic()
    code, said = run_command("sweep", *ARGUMENTS, where=tmp_path / "undisturbed", seconds=HOUR)
    assert code == 0, said
    middle = time.monotonic()
    facts = disturb(tmp_path / "chaos", runs, kills)
    took = time.monotonic() - middle
    equal = assert_equal_studies(tmp_path / "chaos/runs/s", tmp_path / "undisturbed/runs/s")
    assert equal == runs
    print(f"\nruns {runs}; {facts}")
    print(f"{took:.0f} s, undisturbed {middle - began:.0f} s")
    print(
        f"{equal} of {runs} records equal to the undisturbed ones in metrics, fingerprints, arrays,"
        " outputs and history; damaged 0, temporary files 0, orphans 0"
    )


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
    code, said = run_command("sweep", *arguments, where=tmp_path / "undisturbed", seconds=HOUR)
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
