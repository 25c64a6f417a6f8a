"""`lossbench losses`: the catalogue, one loss, and anatomies in the terminal and in files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lossbench.cli import main
from lossbench.losses.catalogue import LOSSES
from lossbench.losses.display import describe, table

TOO_MANY = ",".join(list(LOSSES)[:9])

REFUSED = {
    "name": ("focall", "unknown loss 'focall'; did you mean 'focal'?"),
    "two names": ("focal cross_entropy", "for several: --anatomy focal,cross_entropy"),
    "name and anatomy": ("focal --anatomy cross_entropy", "either the NAME focal or --anatomy"),
    "name in the anatomy": ("--anatomy focal,focall", "unknown loss 'focall'"),
    "no names": ("--anatomy", "--anatomy needs names of losses"),
    "empty names": ("--anatomy= --out x.svg", "--anatomy needs names of losses"),
    "an option for names": ("--anatomy --out x.svg", "--anatomy needs names of losses"),
    "an empty name": ("--anatomy focal,,cross_entropy", "focal,,cross_entropy is not allowed"),
    "a name twice": ("--anatomy focal,focal", "names focal twice"),
    "too many": (f"--anatomy {TOO_MANY}", "at most 8 losses, not 9"),
    "option": ("--outt x.svg", "unknown option of lossbench losses '--outt'; did you mean '--out'"),
    "option twice": ("focal --out a.svg --out b.svg", "--out is given twice"),
    "out alone": ("--out x.svg", "--out needs a loss to draw"),
    "no file": ("focal --out", "--out needs a file that ends in .svg, .png or .pdf"),
    "suffix": ("focal --out x.jpg", "x.jpg is not allowed: a file that ends in .svg"),
    "no suffix": ("focal --out svg", "svg is not allowed: a file that ends in .svg"),
    "missing folder": ("focal --out no/x.svg", "there is no folder no; make it first"),
    "a file as folder": (f"focal --out {__file__}/x.svg", "there is no folder"),
    "a folder": ("focal --out /tmp/../x.svg/..", "is not allowed"),
    "unwritable folder": ("focal --out /proc/x.svg", "/proc/x.svg cannot be written"),
    "name too long": (f"focal --out {'a' * 300}.svg", "cannot be written: File name too long"),
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("arguments", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_in_one_line_before_anything_is_printed(
    arguments: str, expected: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["losses", *arguments.split()]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert expected in err
    assert not list(tmp_path.iterdir())


def test_a_folder_of_that_name_is_refused(tmp_path: Path, capfd) -> None:
    (tmp_path / "x.svg").mkdir()
    assert main(["losses", "focal", "--out", "x.svg"]) == 2
    assert "x.svg is a folder: name a file" in capfd.readouterr().err


def test_without_a_name_the_table(capfd) -> None:
    assert main(["losses"]) == 0
    assert capfd.readouterr().out == table() + "\n"


def test_a_name_gives_the_facts_then_the_chart(capfd) -> None:
    assert main(["losses", "focal"]) == 0
    out = capfd.readouterr().out
    assert out.startswith(describe("focal") + "\n\nloss in nats")
    assert "a focal" in out
    assert "· cross_entropy" in out


def test_a_name_and_a_file_give_the_facts_and_the_figure(tmp_path: Path, capfd) -> None:
    assert main(["losses", "focal", "--out", "focal.svg"]) == 0
    assert capfd.readouterr().out == describe("focal") + "\nanatomy: focal.svg\n"
    assert [file.name for file in tmp_path.iterdir()] == ["focal.svg"]
    assert (tmp_path / "focal.svg").read_text().startswith("<?xml")


def test_several_are_drawn_together_in_the_order_given(tmp_path: Path, capfd) -> None:
    assert main(["losses", "--anatomy=balanced_softmax,focal"]) == 0
    chart = capfd.readouterr().out
    for entry in (
        "a balanced_softmax, head class (500)",
        "b balanced_softmax, tail class (5)",
        "c focal",
    ):
        assert entry in chart
    (tmp_path / "old.png").write_text("old")
    assert main(["losses", "--anatomy", "balanced_softmax,focal", "--out", "old.png"]) == 0
    assert capfd.readouterr().out == "anatomy: old.png\n"
    assert (tmp_path / "old.png").read_bytes().startswith(b"\x89PNG")


def test_cross_entropy_alone_is_drawn_once(capfd) -> None:
    assert main(["losses", "--anatomy", "cross_entropy"]) == 0
    assert capfd.readouterr().out.count("cross_entropy") == 1


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_table_and_the_facts_are_there_without_torch() -> None:
    without = "import sys; sys.modules['torch'] = None; from lossbench.cli import main; main"
    listing = run(f"{without}(['losses'])")
    assert (listing.returncode, listing.stdout) == (0, table() + "\n")
    facts = run(f"{without}(['losses', 'focal'])")
    assert facts.stdout == describe("focal") + "\n"
    assert "torch" in facts.stderr


def test_drawing_leaves_pyplot_alone(tmp_path: Path) -> None:
    done = run(
        "import sys; from lossbench.cli import main; main('losses focal --out x.png'.split());"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert done.returncode == 0
    assert (tmp_path / "x.png").exists()
