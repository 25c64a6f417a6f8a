"""`lossbench power` through the command line; the numbers of statsmodels 0.15 (TTestPower)."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scipy import stats

from lossbench.cli import main
from lossbench.comparison.power_command import pilot_spreads

from .synthetic import edit_record, runs_of, write_synthetic_study
from .test_paragraph import METRIC, WIDE, study

TAG = "test/cls/balanced_accuracy"


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.chdir(tmp_path)


def rows(capfd: pytest.CaptureFixture[str], command: str) -> dict[str, list[list[str]]]:
    """The cells of every line that is printed, by the first; columns are two spaces apart."""
    assert main(["power", *command.split()]) == 0
    found: dict[str, list[list[str]]] = {}
    for line in capfd.readouterr().out.splitlines():
        first, *cells = re.split(r"\s{2,}", line.strip())
        found.setdefault(first, []).append(cells)
    return found


def test_one_loss_and_a_stated_spread(capfd: pytest.CaptureFixture[str]) -> None:
    printed = rows(capfd, "spread=0.02 difference=0.02 losses=1")
    # 9.94 and 12.59 seeds
    assert printed["stated"] == [["0.02", "10", "13"]]
    assert printed["10"] == [[f"{0.02 * 0.99600:.3g}", f"{0.02 * 1.15457:.3g}", "80 %"]]
    assert list(printed)[-7:] == ["3", "5", "8", "10", "15", "20", "30"]


def test_six_losses_are_judged_at_holms_first_step(capfd: pytest.CaptureFixture[str]) -> None:
    printed = rows(capfd, "spread=1 difference=1 losses=6")
    # 15.66 and 18.94 seeds at 0.05 / 6
    assert printed["stated"][0][:3] == ["1", "16", "19"]
    assert printed["5"][0][:3] == ["2.76", "3.17", "11 %"]
    assert printed["10"][0][:3] == ["1.37", "1.55", "47 %"]
    assert printed["30"][0][2:] == ["99 %", "> 99 %"]
    without = rows(capfd, "spread=1 losses=6")
    assert without["10"] == [["1.37", "1.55"]]
    assert "stated" not in without
    assert rows(capfd, "spread=1 difference=0.001 losses=6")["stated"][0][1] == "more than 1000"


def write_pilot(study: Path) -> None:
    """focal: differences 0.01, 0.02, 0.03; brier: 0.00, 0.02, 0.04; twin: none; margin 0.02."""
    margin = {"margin": 0.02, "baseline": "cross_entropy"}
    arms = dict.fromkeys(("cross_entropy", "focal", "brier", "twin"), 0.0)
    write_synthetic_study(study, arms, range(3), configure=lambda arm: margin)
    steps = {"cross_entropy": 0.0, "focal": 0.01, "brier": 0.02, "twin": 0.0}
    starts = {"cross_entropy": 0.0, "focal": 0.01, "brier": 0.0, "twin": 0.0}
    for arm in arms:
        for seed in range(3):
            (folder,) = runs_of(study, arm, seed)
            metrics = json.loads((folder / "record.json").read_text())["metrics"]
            metrics[TAG] = 0.5 + 0.1 * seed + starts[arm] + seed * steps[arm]
            edit_record(folder, metrics=metrics)


def test_a_pilot_gives_spread_losses_and_difference(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_pilot(tmp_path / "runs" / "pilot")
    printed = rows(capfd, "study=pilot")

    def limit(spread: float) -> str:
        return f"{spread * math.sqrt(2 / stats.chi2.ppf(0.2, 2)):.3g}"

    assert printed["focal"] == [["3", "0.01", limit(0.01)]]
    assert printed["brier"] == [["3", "0.02", limit(0.02)]]
    assert printed["twin"] == [["3", "no spread seen", "–"]]
    assert printed["median of the arms"][0][0] == "0.015"
    assert printed["largest"][0][0] == "0.02"
    assert printed["upper limit of the largest"][0][0] == limit(0.02)
    assert any("0.05 / 3 = 0.0167" in line for line in printed)
    assert any("true difference of 0.02" in line for line in printed)
    # the margin over the largest spread is 1: the stated plan says the same
    assert (
        rows(capfd, "spread=1 difference=1 losses=3")["stated"][0][1:]
        == (printed["largest"][0][1:])
    )
    other = rows(capfd, "study=pilot metric=test/cls/macro_f1 losses=7")
    assert any("0.05 / 7" in line for line in other)
    assert not any("true difference" in line for line in other)  # the margin is another metric's


REFUSED = {
    "nothing": ("", "either study=NAME"),
    "both": ("study=pilot spread=0.01", "either study=NAME"),
    "losses missing": ("spread=0.01", "losses= is missing"),
    "spread": ("spread=-1 losses=3", "spread=-1.0 is not allowed: a finite number, above 0"),
    "spread text": ("spread=wide losses=3", "spread='wide' is not allowed"),
    "difference": ("spread=1 losses=3 difference=0", "difference=0.0 is not allowed"),
    "losses": ("spread=1 losses=2.5", "losses='2.5' is not allowed: a whole number in [1, 100]"),
    "metric without a pilot": (f"spread=1 losses=2 metric={TAG}", "metric= says what of a pilot"),
    "key": ("spred=1", "'spred'; did you mean 'spread'?"),
    "study": ("study=pilott", "unknown study in runs 'pilott'; did you mean 'pilot'?"),
    "metric": ("study=pilot metric=test/cls/acc", "unknown metric 'test/cls/acc'"),
    "baseline": (
        "study=pilot baseline=fokal",
        "baseline among finished runs 'fokal'; did you mean 'focal'?",
    ),
}


@pytest.mark.parametrize(("command", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_input_is_one_line(
    command: str, expected: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if "study" in command:
        write_pilot(tmp_path / "runs" / "pilot")
    assert main(["power", *command.split()]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("lossbench: ")
    assert expected in err


def test_a_pilot_without_a_spread_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_synthetic_study(tmp_path / "runs" / "one", {"cross_entropy": 0.0, "focal": 0.0}, [0])
    assert main(["power", "study=one"]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "run more seeds, or state one with spread=" in err


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from lossbench.cli import main; main('power spread=1 losses=2'.split()); "
        "sys.exit([m for m in ('torch', 'pandas', 'scipy.stats') if m in sys.modules] or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_spread_of_rounding_errors_is_none(tmp_path: Path) -> None:
    records = study(tmp_path, {"stiff": (0.01 + 1e-15, *[0.01] * 4), "wide": WIDE})
    _, pilot = pilot_spreads(records, "cross_entropy", METRIC)
    spreads = {entry.label: entry.spread for entry in pilot}
    assert spreads["stiff"] == 0.0
    assert spreads["wide"] > 0.01
