"""`plan.json`: the union of all sweeps of a study, whoever writes at the same time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lossbench.errors import InputError
from lossbench.records import run_state
from lossbench.records.study import add_to_plan, look, planned_folders

WRITER = """
import sys
from pathlib import Path
from lossbench.records.study import add_to_plan
study, name = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(15):
    add_to_plan(study, [{"folder": f"{name}-{number}", "seed": number}, {"folder": "shared"}])
"""


def test_sweeps_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    names = ("a", "b", "c", "d")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in names
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:  # all have imported: they begin together
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [writer.wait(120) for writer in writers] == [0, 0, 0, 0]
    for writer in writers:
        writer.stdin.close()
        writer.stdout.close()
    expected = {f"{name}-{number}" for name in names for number in range(15)} | {"shared"}
    assert set(planned_folders(tmp_path)) == expected
    assert len(planned_folders(tmp_path)) == len(expected)
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]  # no lock, nothing half


def test_what_a_killed_writer_of_the_plan_left_is_removed_and_no_living_writers_file(
    tmp_path: Path,
) -> None:
    killed = (
        "import os, sys; os.replace = lambda *given: os._exit(9)\n"
        "from pathlib import Path; from lossbench.records.study import add_to_plan\n"
        "add_to_plan(Path(sys.argv[1]), [{'folder': 'a'}])"
    )
    assert subprocess.run([sys.executable, "-c", killed, tmp_path], check=False).returncode == 9
    (leftover,) = tmp_path.glob(".tmp-*-plan.json")
    living = tmp_path / ".tmp-7-unsealed.json"
    living.touch()
    add_to_plan(tmp_path, [{"folder": "b"}])
    assert planned_folders(tmp_path) == ["b"]
    assert not leftover.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"plan.json", living.name}


def test_a_plan_of_the_old_schema_is_extended(tmp_path: Path) -> None:
    old = {"schema": 1, "written": "2026-11-22T15:07:44+00:00"}
    runs = [{"arm": "focal", "seed": 0, "folder": "a", "overrides": ["loss=focal"]}]
    (tmp_path / "plan.json").write_text(json.dumps(old | {"runs": runs}))
    assert planned_folders(tmp_path) == ["a"]
    add_to_plan(tmp_path, [{"folder": "b"}, {"folder": "a", "arm": "renamed"}])
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["runs"] == [{"folder": "a", "arm": "renamed"}, {"folder": "b"}]
    assert plan["schema"] == 2


@pytest.mark.parametrize("content", ["{", "[]", '{"runs": [{}]}', '{"runs": [1]}'])
def test_a_plan_that_cannot_be_read_is_named_and_kept(tmp_path: Path, content: str) -> None:
    (tmp_path / "plan.json").write_text(content)
    for act in (planned_folders, lambda study: add_to_plan(study, [{"folder": "a"}])):
        with pytest.raises(InputError, match=r"plan.json cannot be read .*; remove it"):
            act(tmp_path)
    assert (tmp_path / "plan.json").read_text() == content


def test_to_look_at_a_damaged_run_moves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "record.json").write_text("{")
    state = look(folder)
    assert state.state == "missing"
    assert "record.json is not JSON" in state.damage
    assert folder.is_dir()
    run_state(folder)
    assert not folder.exists()
