"""A run that is cut off before any single one of its writes ends like an undisturbed one."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossbench.config import Run
from lossbench.records import LostLockError, read_record, run_state
from lossbench.records.record import CHECKPOINT
from lossbench.training.outcome import record_failure
from lossbench.training.recorder import Recorder
from lossbench.training.run import execute

CUT = '''
import os, sys
from pathlib import Path
from lossbench.training.run import execute
from tests.conftest import run_of

rename = os.replace
renames = 0
where = Path(sys.argv[1])

def run_in(folder, cut=None):
    """Train; the process ends before its rename number ``cut``."""
    def counted(source, target):
        global renames
        renames += 1
        if renames == cut:
            os._exit(3)
        rename(source, target)
    os.replace = counted
    run = run_of(folder, "trainer.max_epochs=1", "sample_history=true")
    assert execute(run).state == "done"

def forked(*given):
    process = os.fork()
    if process == 0:
        run_in(*given)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

run_in(where / "undisturbed")
total, renames = renames, 0
for cut in [int(number) % (total + 1) for number in sys.argv[2:]] or range(1, total + 1):
    assert forked(where / f"cut-{cut}", cut) == 3
    assert forked(where / f"cut-{cut}") == 0
    assert not list((where / f"cut-{cut}").glob("*/damaged"))
    print(cut)
'''


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].tobytes() == other[name].tobytes()
        for name in one
    )


def assert_equal_runs(folder: Path, reference: Path) -> None:
    """Bit for bit but for the clock, and nothing that is left over."""
    mine, theirs = read_record(folder), read_record(reference)
    assert mine.status == theirs.status == "done"
    assert json.dumps(mine.metrics) == json.dumps(theirs.metrics)
    assert mine.fingerprints == theirs.fingerprints
    assert same(mine.arrays(), theirs.arrays())
    assert same(mine.outputs(), theirs.outputs())
    for name in ("history.csv", "sample_history.npz", "suspicious_labels.csv"):
        assert (folder / name).exists() == (reference / name).exists()
        if (reference / name).exists() and name.endswith("csv"):
            assert (folder / name).read_bytes() == (reference / name).read_bytes()
        elif (reference / name).exists():
            with np.load(folder / name) as one, np.load(reference / name) as other:
                assert same(dict(one), dict(other))
    assert {path.name for path in folder.iterdir()} == {path.name for path in reference.iterdir()}
    assert len(list((folder / "tensorboard").iterdir())) == 1


@pytest.mark.parametrize(
    "chosen", [("4", "-1"), pytest.param((), marks=pytest.mark.slow)], ids=["two", "all"]
)
def test_every_prefix_of_the_writes_of_a_run_can_be_completed(
    tmp_path: Path, chosen: tuple[str, ...]
) -> None:
    """All are config, record, checkpoint, history, 4 results, record; the two are the riskiest."""
    code = [sys.executable, "-c", CUT, str(tmp_path), *chosen]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    cuts = done.stdout.split()
    assert len(cuts) == len(chosen) or len(cuts) >= 9
    (reference,) = (path.parent for path in tmp_path.glob("undisturbed/*/*/record.json"))
    for cut in cuts:
        (record,) = tmp_path.glob(f"cut-{cut}/*/*/record.json")
        assert_equal_runs(record.parent, reference)


def test_a_run_whose_lock_was_taken_writes_nothing_more(make_run) -> None:
    run = make_run("trainer.max_epochs=3")
    theirs = {"host": "elsewhere", "process": 7, "token": "theirs"}

    def taken(epoch: int, row: Any) -> None:
        if epoch == 1:
            (run.folder / "lock").write_text(json.dumps(theirs))

    with pytest.raises(LostLockError, match="taken over by process 7 on elsewhere"):
        execute(run, taken)
    assert read_record(run.folder).status == "running"
    assert len((run.folder / "history.csv").read_text().splitlines()) == 2
    assert json.loads((run.folder / "lock").read_text()) == theirs
    (run.folder / "lock").unlink()
    assert execute(run).state == "done"


def test_a_continued_run_ends_when_it_ends(make_run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`compare` says what came first, a trial or the look at the test set, by start plus time."""
    run = make_run("trainer.max_epochs=2")

    def full(epoch: int, row: Any) -> None:
        if epoch == 1:
            raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr(Recorder, "seconds", lambda recorder: 3600.0)
        with pytest.raises(OSError, match="full"):
            execute(run, full)
    assert execute(run).state == "done"
    record = read_record(run.folder)
    assert record.seconds > 3600
    ended = datetime.fromisoformat(record.started) + timedelta(seconds=record.seconds)
    assert abs((datetime.now(UTC) - ended).total_seconds()) < 60


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_fault_of_the_machine_fails_no_run(
    make_run, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    from lossbench.sweeps.worker import execute_reported

    run = make_run("trainer.max_epochs=2")
    write = os.write

    def refuse(descriptor: int, content: Any) -> int:  # what writes the file of TensorBoard
        if number == errno.ENOSPC and (run.folder / CHECKPOINT).exists():
            raise OSError(number, os.strerror(number))
        return write(descriptor, content)

    def replace(source: Any, target: Any) -> None:
        if number != errno.ENOSPC and str(target).endswith("arrays.npz"):
            raise OSError(number, os.strerror(number), str(target))
        os.rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", refuse)
        patched.setattr(os, "replace", replace)
        outcome = execute_reported(run)
    assert outcome["state"] == "interrupted", outcome
    assert "disk" in outcome["reason"] or "file system" in outcome["reason"]
    assert run_state(run.folder).state == "interrupted"
    assert not (run.folder / "traceback.txt").exists()
    assert execute_reported(run)["state"] == "done"


def test_a_run_that_failed_by_being_killed_goes_on_where_it_was(make_run) -> None:
    """Three kills in an epoch are a failure, for which the epochs before it are not to blame."""
    run = make_run("trainer.max_epochs=4")
    seen: list[int] = []

    def killed(epoch: int, row: Any) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(run, killed)
    record_failure(run, "its worker process was killed by signal 9, 3 times in epoch 3")
    assert execute(run).state == "failed"
    again = Run(run.config | {"retry_failed": True})
    assert execute(again, lambda epoch, row: seen.append(epoch)).state == "done"
    assert seen == [0, 3, 4]
    seen.clear()
    execute(Run(run.config | {"rerun": True}), lambda epoch, row: seen.append(epoch))
    assert seen == [0, 1, 2, 3, 4]


def test_running_out_of_memory_is_the_runs_failure(
    make_run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lossbench.sweeps.worker import execute_reported
    from lossbench.training.module import ClassificationModule

    for number, error in enumerate(
        (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    ):

        def out_of_memory(*given: Any, error: Exception = error) -> None:
            raise error

        run = make_run("trainer.max_epochs=1", f"seed={number}")
        monkeypatch.setattr(ClassificationModule, "training_step", out_of_memory)
        outcome = execute_reported(run)
        assert outcome["state"] == "failed"
        assert "emory" in outcome["reason"]
        assert read_record(run.folder).reason == outcome["reason"]
