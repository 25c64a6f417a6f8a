"""What the README shows works as it stands there; only epochs and seeds are fewer."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
import torch

from lossbench.losses.catalogue import LOSSES
from lossbench.models.heads import CosineHead
from lossbench.records import read_study

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines]


def run(arguments: list[str], where: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=where, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the files of the README were made and its commands were run, in order."""
    where = tmp_path_factory.mktemp("readme")
    for block in blocks("python") + blocks("yaml"):
        path = re.match(r"# (mine/\S+?):?(\s|$)", block)
        assert path, block
        file = where / path[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block)
    for command in commands():
        if command[0] == "lossbench":
            quick = ["trainer.max_epochs=1"] if command[1] in ("train", "sweep", "tune") else []
            if command[1] == "tune":
                quick += ["budget=2", "seeds=1"]
            if "experiment=digits_quickstart" in command:  # with all its seeds .ci/run runs it
                quick.append("seed=0")
            run([*command, *quick], where)
    return where


@pytest.mark.slow
def test_every_command_of_the_readme_runs(place: Path) -> None:
    shown = [command for command in commands() if command[0] != "lossbench"]
    assert shown == [["bash", "scripts/demo.sh"], ["bash", "scripts/test.sh"]]  # .ci/run runs both
    assert {path.name for path in (place / "runs").iterdir()} == {
        "default", "digits_quickstart", "heads", "mine", "own", "tuned",
    }  # fmt: skip
    counts = {"mine": 9, "digits_quickstart": 5, "own": 4, "heads": 6, "default": 2}
    for study, runs in counts.items():
        records = read_study(place / "runs" / study)
        assert [record.status for record in records] == ["done"] * runs
    for name in ("results.csv", "results.md", "report.html"):
        assert (place / "runs" / "mine" / "comparison" / name).stat().st_size > 500


@pytest.mark.slow
def test_arms_with_different_heads_are_paired(place: Path) -> None:
    results = (place / "runs" / "heads" / "comparison" / "results.md").read_text()
    assert results.count("subset, init, batches") >= 2


def test_the_training_loop_of_the_readme_runs() -> None:
    head = CosineHead(3, 4)
    batches = [(torch.randn(8, 3), torch.tensor([0, 1, 2, 3] * 2))]
    names = {
        "epochs": 2,
        "batches": batches,
        "backbone": torch.nn.Identity(),
        "head": head,
        "optimizer": torch.optim.SGD(head.parameters(), lr=0.1),
    }
    before = head.weight.clone()
    (loop,) = blocks("py")
    exec(loop, names)
    assert not torch.equal(head.weight, before)
    assert names["loss"].epoch == 1
    lengths = batches[0][0].norm(dim=1, keepdim=True)
    torch.testing.assert_close(names["deployed"], lengths * names["cosines"])


@pytest.mark.slow
def test_parts_of_ones_own_are_used(place: Path) -> None:
    records = read_study(place / "runs" / "own")
    assert {(record.arm, record.model) for record in records} == {
        ("taylor(order=2)", "small"), ("cross_entropy", "small"),
    }  # fmt: skip
    assert {record.cell.split(" | ")[0] for record in records} == {"inverted"}
    assert all("histogram/objective/test" in record.arrays() for record in records)
    (external,) = [r for r in read_study(place / "runs" / "default") if r.cell.startswith("digits")]
    assert external.arm == "CrossEntropyLoss(label_smoothing=0.1)"


def test_links_lead_somewhere_and_nothing_is_left_to_fill_in() -> None:
    for page in (ROOT / "README.md", *(ROOT / "experiments").glob("*/README.md")):
        text = page.read_text()
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert (page.parent / target).exists(), f"{page}: {target}"
        assert not re.search(r"\b[A-Z]+_[A-Z_]+_[A-Z]+\b", text)


def test_losses_of_the_readme_are_in_the_catalogue() -> None:
    for line in README.splitlines():
        for names in re.findall(r"\bloss=([a-z_0-9,]+)", line):
            known = {*LOSSES, "custom", "taylor", "a", "b", "c"}
            assert set(names.split(",")) <= known


@pytest.mark.slow
def test_board_shows_the_runs_on_this_machine_only(place: Path) -> None:
    board = subprocess.Popen(
        [sys.executable, "-m", "lossbench", "board", "port=0"],
        cwd=place, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert board.stdout is not None
        threading.Timer(60, board.kill).start()
        url = re.search(r"http://127\.0\.0\.1:\d+/", board.stdout.readline())
        assert url
        end = time.monotonic() + 30
        while "cross_entropy" not in (runs := fetch(f"{url[0]}data/runs")):
            assert time.monotonic() < end, runs
            time.sleep(0.5)
    finally:
        board.kill()
        board.wait()


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()
