"""Power cuts and kills at every step of writing a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lossbench.records import files

KILLED = """
import os, sys
from pathlib import Path
from lossbench.records import files
def die(*given): os.kill(os.getpid(), 9)
path = Path(sys.argv[1])
sync = os.fsync
def die_at_the_folder(descriptor):
    if os.path.samestat(os.fstat(descriptor), os.stat(path.parent)): die()
    sync(descriptor)
if sys.argv[2] == "before the rename": os.replace = die
else: os.fsync = die_at_the_folder
files.write_text(path, "new")
"""


@pytest.mark.parametrize(
    ("moment", "content", "left"),
    [("before the rename", "old", 2), ("before the folder is synced", "new", 1)],
)
def test_a_killed_writer_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, moment: str, content: str, left: int
) -> None:
    path = tmp_path / "record.json"
    files.write_text(path, "old")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), moment], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == content
    assert len(list(tmp_path.iterdir())) == left
    files.remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_synced_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, steps = tmp_path / "record.json", []
    sync, rename = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        steps.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}'))}")
        sync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        steps.append(f"rename {os.path.basename(source)}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    files.write_text(path, "new")
    temporary = f"{files.TEMPORARY}{os.getpid()}-record.json"
    assert steps == [f"sync {temporary}", f"rename {temporary}", f"sync {tmp_path.name}"]
