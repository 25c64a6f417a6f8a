"""Custom scalars, PR curves and the comparison run, as a real TensorBoard serves them."""

import io
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
import pytest
from PIL import Image
from tests.tensorboard.test_tensorboard_server import (
    get,
    running_board,
    session_groups,
    wait_for_runs,
)

from lossbench.evaluation.precision_recall import THRESHOLDS, one_vs_rest_decisions
from lossbench.records.study import read_study, studies
from lossbench.tensorboard.comparison_run import write_comparison_run
from lossbench.tensorboard.hparams import session_group
from lossbench.tensorboard.labels import RunLabels
from lossbench.tensorboard.layout import RUN_LAYOUT
from lossbench.tensorboard.writer import RunWriter

TARGETS = np.repeat([0, 1, 2], [60, 25, 5])
LOGITS = np.random.default_rng(0).normal(0, 2, (90, 3)) + 2 * np.eye(3)[TARGETS]


def png(width: int, height: int) -> tuple[bytes, int, int]:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "png")
    return buffer.getvalue(), width, height


def write_run(folder: Path, seed: int) -> None:
    group = session_group("study", "focal", "c")
    with RunWriter(folder) as writer:
        writer.hparams({"arm": "focal"}, group=group, metrics=["val/cls/balanced_accuracy"])
        writer.labels(RunLabels("study", "focal", "digits", seed, "c", group, (-8.0, 2.0, 100)))
        writer.layout(RUN_LAYOUT)
        tags = [tag for charts in RUN_LAYOUT.values() for tag in charts]
        writer.scalars(dict.fromkeys([*tags, "val/cls/tail_recall_of_others"], seed + 0.5), 1)
        table = one_vs_rest_decisions(LOGITS, TARGETS).table(np.array([2]))
        writer.pr_curve("test/precision_recall/2", table, 1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        write_run(runs / "study" / f"focal-{seed}" / "tensorboard", seed)
    comparison = runs / "study" / "comparison" / "tensorboard"
    write_comparison_run(comparison, {"old": "x"}, {"old": png(2, 2)})
    texts = {"verdict": "**better** <script>alert(1)</script>", "table": "|a|b|\n|-|-|\n|1|2|"}
    write_comparison_run(comparison, texts, {"forest": png(31, 17)})
    return runs


@pytest.fixture(scope="module", params=["", "study/"], ids=["all runs", "one study"])
def board(runs: Path, request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """The address of TensorBoard on all runs or on the study, and what run names begin with."""
    within = request.param
    with running_board(runs / within) as (url, _):
        wait_for_runs(url, 3)
        yield url, "study/" if not within else ""


def test_custom_scalars_show_each_chart_once_with_its_own_tag_of_every_run(board) -> None:
    url, prefix = board
    layout = get(url, "data/plugin/custom_scalars/layout")["category"]
    shown = {
        category["title"]: {
            chart["title"]: chart["multiline"]["tag"] for chart in category["chart"]
        }
        for category in layout
    }
    assert {title: list(charts) for title, charts in shown.items()} == {
        title: list(charts) for title, charts in RUN_LAYOUT.items()
    }
    for title, charts in RUN_LAYOUT.items():
        for chart in charts:
            (pattern,) = shown[title][chart]
            for seed in (0, 1):
                run = f"{prefix}focal-{seed}/tensorboard"
                found = get(url, "data/plugin/custom_scalars/scalars", run=run, tag=pattern)
                ((tag, ((_, step, value),)),) = found["tag_to_events"].items()
                assert (tag, step, value) == (chart, 1, seed + 0.5)


def test_a_pr_curve_has_the_counts_of_the_samples(board) -> None:
    url, prefix = board
    run = f"{prefix}focal-0/tensorboard"
    assert list(get(url, "data/plugin/pr_curves/tags")[run]) == ["test/precision_recall/2"]
    answer = get(url, "data/plugin/pr_curves/pr_curves", run=run, tag="test/precision_recall/2")
    (curve,) = answer[run]
    shares = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    said = shares[:, 2] >= THRESHOLDS[:, None]
    said = said[: len(curve["thresholds"])]  # TensorBoard cuts off what is never said
    assert curve["thresholds"] == pytest.approx(THRESHOLDS[: len(said)])
    assert curve["true_positives"] == (said & (TARGETS == 2)).sum(axis=1).tolist()
    assert curve["false_positives"] == (said & (TARGETS != 2)).sum(axis=1).tolist()
    assert curve["true_negatives"] == (~said & (TARGETS != 2)).sum(axis=1).tolist()
    assert curve["false_negatives"] == (~said & (TARGETS == 2)).sum(axis=1).tolist()
    assert curve["recall"] == pytest.approx((said & (TARGETS == 2)).sum(axis=1) / 5)


def test_labels_with_a_seed_and_a_comparison_leave_a_configuration_one_row(board) -> None:
    url, prefix = board
    (group,) = session_groups(url, ("UNKNOWN", "RUNNING")).values()
    names = [session["name"] for session in group["sessions"]]
    assert names == [f"{prefix}focal-{seed}/tensorboard" for seed in (0, 1)]
    assert group["hparams"] == {"arm": "focal"}


def test_the_comparison_shows_its_texts_and_figures_and_nothing_older(board) -> None:
    url, prefix = board
    run = f"{prefix}comparison/tensorboard"
    assert set(get(url, "data/plugin/text/tags")[run]) == {"verdict", "table"}
    (verdict,) = get(url, "data/plugin/text/text", run=run, tag="verdict")
    assert "<strong>better</strong>" in verdict["text"]
    assert "<script>" not in verdict["text"]
    (table,) = get(url, "data/plugin/text/text", run=run, tag="table")
    assert "<td>2</td>" in table["text"]
    (image,) = get(url, "data/plugin/images/images", run=run, tag="forest", sample="0")
    picture = get(url, "data/plugin/images/individualImage", **dict(parse_qsl(image["query"])))
    assert Image.open(io.BytesIO(picture)).size == (31, 17)


def test_nothing_takes_the_comparison_for_a_run(runs: Path, tmp_path: Path) -> None:
    assert read_study(runs / "study") == []
    write_comparison_run(tmp_path / "comparison" / "tensorboard", {"a": "b"}, {})
    assert studies(tmp_path) == []
