"""The routes of the tab "Losses", asked over HTTP, against slow sums over what was written."""

from __future__ import annotations

import math
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard import default
from tests.tensorboard.losses_logs import (
    EDGES,
    HOSTILE,
    MAIN,
    TEST,
    TRAIN,
    VAL,
    Logs,
    get,
    labels,
    served,
    wait_for_all,
    wait_for_runs,
    write,
)

from lossbench.evaluation.histograms import LOG10_LOSS_EDGES
from lossbench.tensorboard import board
from lossbench.tensorboard.plugin import averages
from lossbench.tensorboard.plugin.arms import UNLABELLED
from lossbench.tensorboard.plugin.plugin import FILES, LossesPlugin
from lossbench.tensorboard.writer import RunWriter

ROOT = Path(__file__).parents[2]
LOG2 = math.log10(math.log(2))


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Logs:
    return write(tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="module")
def url(logs: Logs) -> Iterator[str]:
    with served(logs.folder) as address:
        wait_for_all(address, logs)
        yield f"{address}data/plugin/lossbench/"


def slow_mean(logs: Logs, arm: str, tag: str, epoch: int) -> list[float]:
    found = [h for (a, _, t, e), h in logs.written.items() if (a, t, e) == (arm, tag, epoch)]
    return [sum(float(h[b]) / float(h.sum()) for h in found) / len(found) for b in range(102)]


def slow_quantile(fractions: list[float], share: float) -> float:
    """Walks up the bins until ``share`` of the samples lies below; beyond the grid is its end."""
    below = fractions[0]
    if below >= share:
        return -8.0
    for place, fraction in enumerate(fractions[1:-1]):
        if below + fraction >= share:
            return float(EDGES[place]) + 0.1 * (share - below) / fraction
        below += fraction
    return 2.0


def in_full(described: dict[str, Any]) -> list[float]:
    after = 102 - described["first"] - len(described["fractions"])
    return [0.0] * described["first"] + described["fractions"] + [0.0] * after


@pytest.mark.parametrize("tag", [VAL, TRAIN, TEST, "val/log10_loss_tail/cross_entropy"])
def test_seeds_are_averaged_with_the_same_weight_at_every_epoch_that_they_have(
    url: str, logs: Logs, tag: str
) -> None:
    names = {a["key"]: a["label"] for a in get(url, "arms")["places"][1]["arms"]}
    answer = get(url, "histograms", place=MAIN, tag=tag)
    assert answer["grid"] == [-8, 2, 100]
    shown = {
        (names[key], int(epoch)): described
        for key, by_epoch in answer["arms"].items()
        for epoch, described in by_epoch.items()
    }
    written = {(arm, epoch) for arm, _, t, epoch in logs.written if t == tag}
    assert shown.keys() == written
    assert answer["epochs"] == sorted({epoch for _, epoch in written})
    for (arm, epoch), described in shown.items():
        expected = slow_mean(logs, arm, tag, epoch)
        assert described["runs"] == sum(
            (a, t, e) == (arm, tag, epoch) for a, _, t, e in logs.written
        )
        assert in_full(described) == pytest.approx(expected, abs=1e-6)
        assert described["median"] == pytest.approx(slow_quantile(expected, 0.5), abs=1e-4)
        assert described["percentile_95"] == pytest.approx(slow_quantile(expected, 0.95), abs=1e-4)
        # log10(log 2) = -0.159 lies in the bin from -0.2 to -0.1, the 78th inner one.
        above = sum(expected[80:]) + expected[79] * (-0.1 - LOG2) / 0.1
        assert described["above_log_2"] == pytest.approx(above, abs=1e-4)


def test_arms_are_listed_by_place_with_their_seeds_and_views(url: str) -> None:
    another, main, unlabelled = get(url, "arms")["places"]
    assert (another["name"], main["name"]) == ("another | digits | mlp", MAIN)
    found = [(arm["label"], arm["seeds"], arm["classes"]) for arm in main["arms"]]
    assert found == [("cross_entropy", [0, 1, 2], 10), (HOSTILE, [0], 10), ("focal", [0, 1], 10)]
    views = {(view["split"], view["group"], view["loss"]) for view in main["views"]}
    assert views == {
        ("train", "all", "cross_entropy"),
        ("val", "all", "cross_entropy"),
        ("val", "all", "objective"),
        ("val", "tail", "cross_entropy"),
        ("test", "all", "cross_entropy"),
    }
    assert unlabelled["name"] == UNLABELLED
    assert [arm["label"] for arm in unlabelled["arms"]] == ["foreign", "unlabelled"]


def test_runs_without_labels_are_lines_of_their_own_and_other_buckets_are_named(url: str) -> None:
    answer = get(url, "histograms", place=UNLABELLED, tag=VAL)
    assert {key: list(by_epoch) for key, by_epoch in answer["arms"].items()} == {
        "run foreign": [],
        "run unlabelled": ["1"],
    }
    (sentence,) = answer["left_out"]
    assert sentence.startswith("foreign: its buckets are not bins of the shared grid")


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ({"place": MAIN, "tag": "val/cls/accuracy"}, 400, "is no loss histogram"),
        ({"place": MAIN}, 400, "is no loss histogram"),
        ({"place": "nowhere", "tag": VAL}, 404, "no runs of 'nowhere' are loaded"),
    ],
)
def test_bad_questions_are_answered_in_one_line(
    url: str, query: dict[str, str], code: int, words: str
) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        get(url, "histograms", **query)
    answer = error.value.read().decode()
    assert (error.value.code, words in answer, "\n" in answer) == (code, True, False)


def test_the_page_is_served_and_named_in_the_list_of_tabs(url: str) -> None:
    for name, kind in FILES.items():
        with urllib.request.urlopen(url + name) as answer:
            assert answer.headers.get_content_type() == kind
    listing = get(url.removesuffix("plugin/lossbench/"), "plugins_listing")["lossbench"]
    assert (listing["enabled"], listing["tab_name"]) == (True, "Losses")
    assert listing["loading_mechanism"]["type"] == "IFRAME"


@pytest.mark.parametrize("installed", [True, False])
def test_lossbench_board_has_the_tab_whether_or_not_the_entry_point_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    RunWriter(tmp_path / "run").close()
    found = [*default.get_static_plugins(), *[LossesPlugin] * installed]
    monkeypatch.setattr(default, "get_plugins", lambda: found)
    address = board.start(tmp_path, port=0)
    assert get(f"{address}data/", "plugins_listing")["lossbench"]["tab_name"] == "Losses"


@pytest.mark.parametrize("histograms", [True, False])
def test_older_logs_open_the_tab_and_logs_without_histograms_do_not(
    tmp_path: Path, histograms: bool
) -> None:
    with RunWriter(tmp_path / "run") as writer:
        writer.scalars({"val/cls/accuracy": 0.5}, 1)
        writer.histogram("weights", np.ones(102), EDGES, 1)
        if histograms:
            writer.histogram(VAL, np.ones(102), EDGES, 1)
    with served(tmp_path) as address:
        deadline = time.monotonic() + 30
        while not get(f"{address}data/plugin/histograms/", "tags"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert get(f"{address}data/", "plugins_listing")["lossbench"]["enabled"] is histograms


def test_a_copy_of_a_run_counts_once_and_equal_names_are_told_apart(tmp_path: Path) -> None:
    for name, of_run in {
        "a": labels("focal", 0),
        "copy of a": labels("focal", 0),
        "b": labels("focal", 1),
        "c": labels("focal", 0, group="focal 4567cdef"),
    }.items():
        with RunWriter(tmp_path / name) as writer:
            writer.labels(of_run)
            writer.histogram(VAL, np.ones(102), EDGES, 1)
    with served(tmp_path) as address:
        wait_for_runs(address, 3)
        (place,) = get(f"{address}data/plugin/lossbench/", "arms")["places"]
    assert [(arm["label"], arm["seeds"]) for arm in place["arms"]] == [
        ("focal 0123abcd study", [0, 1]),
        ("focal 4567cdef study", [0]),
    ]


def test_the_grid_of_unlabelled_runs_is_that_of_evaluation() -> None:
    low, high, bins = averages.GRID
    np.testing.assert_allclose(np.linspace(low, high, bins + 1), LOG10_LOSS_EDGES)


def test_the_entry_point_is_the_plugin_and_loads_or_hides_nothing_heavy() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ((name, value),) = project["entry-points"]["tensorboard_plugins"].items()
    assert EntryPoint(name, value, "tensorboard_plugins").load() is LossesPlugin
    module = value.partition(":")[0]
    others = {"torch", "tensorflow", "tensorboard.compat.notf"}  # the last one hides TensorFlow
    code = f"import sys, {module}; print({others} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
