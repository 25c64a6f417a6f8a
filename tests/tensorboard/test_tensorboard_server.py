"""A real TensorBoard on a small runs folder, asked through its own HTTP API."""

import io
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import numpy as np
import pytest
from PIL import Image

from lossbench.errors import InputError
from lossbench.tensorboard import board
from lossbench.tensorboard.hparams import COLUMNS, session_group
from lossbench.tensorboard.writer import RunWriter

EDGES = np.linspace(-8, 2, 101)
COLUMNS_WITH_PARAMETERS = {**COLUMNS, "loss.gamma": float, "loss.smoothing": float}
METRICS = ["test/cls/balanced_accuracy", "test/cls/tail_recall"]
ARMS = {
    "cross_entropy": {"loss": "cross_entropy"},
    "focal(gamma=1)": {"loss": "focal", "loss.gamma": 1},
}
SERVE = "import sys; from lossbench.tensorboard.board import serve; serve(sys.argv[1], port={port})"


def accuracy(arm: str, seed: int) -> float:
    return 0.5 + 0.25 * (arm != "cross_entropy") + seed / 16


def write_run(runs: Path, arm: str, seed: int) -> None:
    """Focal's seed 2 failed, and its tail recall is undefined in seed 0."""
    folder = runs / "study" / f"{ARMS[arm]['loss']}-{seed}" / "tensorboard"
    values = {"study": "study", "arm": arm, "factor": 100, "weight_decay": None, **ARMS[arm]}
    with RunWriter(folder) as writer:
        writer.hparams(
            values,
            group=session_group("study", arm, "digits | mlp"),
            metrics=METRICS,
            columns=COLUMNS_WITH_PARAMETERS,
            start_time=1000.0,
        )
        for epoch in range(1, 4):
            writer.scalars({"val/cls/accuracy": epoch / 10, "other": 1.0}, epoch)
            writer.histogram("val/loss_log10/cross_entropy", np.arange(102), EDGES, epoch)
        writer.scalars(
            {
                "test/cls/balanced_accuracy": accuracy(arm, seed),
                "test/cls/tail_recall": None if arm != "cross_entropy" and seed == 0 else 0.25,
            },
            3,
        )
        writer.text("run/config", "loss: focal", 0)
        png = runs / "image.png"
        Image.new("RGB", (7, 5)).save(png)
        writer.image("figures/loss", png.read_bytes(), 7, 5, 3)
        writer.session_end(success=not (arm != "cross_entropy" and seed == 2), wall_time=2000.0)


@contextmanager
def running_board(runs: Path, port: int = 0) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A `serve` of ``runs`` in a process of its own, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE.format(port=port), runs],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.fullmatch(
            rf"TensorBoard shows {re.escape(str(runs))} at (http://127\.0\.0\.1:\d+/) "
            r"\(Ctrl-C stops it\)\n",
            line,
        )
        assert address, line
        yield address[1], process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    runs = tmp_path_factory.mktemp("runs")
    for arm in ARMS:
        for seed in range(3):
            write_run(runs, arm, seed)
    with running_board(runs) as (address, _):
        wait_for_runs(address, 6)
        yield address


def get(url: str, path: str, **query: str) -> Any:
    with urllib.request.urlopen(f"{url}{path}?{urlencode(query)}") as answer:
        content = answer.read()
    return (
        json.loads(content) if answer.headers.get_content_type() == "application/json" else content
    )


def post(url: str, path: str, content: dict) -> Any:
    request = urllib.request.Request(
        url + path, json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def wait_for_runs(url: str, number: int) -> None:
    deadline = time.monotonic() + 30
    while len(get(url, "data/runs")) < number:
        assert time.monotonic() < deadline, "TensorBoard did not load the runs"
        time.sleep(0.1)


def session_groups(url: str, statuses: tuple[str, ...] = ("SUCCESS", "FAILURE")) -> dict:
    answer = post(
        url,
        "data/plugin/hparams/session_groups",
        {
            "experimentName": "",
            "allowedStatuses": [f"STATUS_{status}" for status in statuses],
            "colParams": [],
            "startIndex": 0,
            "sliceSize": 100,
        },
    )
    return {group["hparams"]["arm"]: group for group in answer["sessionGroups"]}


def metrics(group_or_session: dict) -> dict[str, float]:
    return {metric["name"]["tag"]: metric["value"] for metric in group_or_session["metricValues"]}


def test_the_hparams_tab_has_the_declared_columns_and_metrics_and_no_others(url: str) -> None:
    experiment = post(url, "data/plugin/hparams/experiment", {"experimentName": ""})
    kind = {str: "DATA_TYPE_STRING", float: "DATA_TYPE_FLOAT64"}
    assert {info["name"]: info["type"] for info in experiment["hparamInfos"]} == {
        name: kind[column] for name, column in COLUMNS_WITH_PARAMETERS.items()
    }
    # The tab shows the first five of its columns until the user asks for more.
    shown = [info["name"] for info in experiment["hparamInfos"]][:5]
    assert shown == ["arm", "dataset", "factor", "imbalance", "model"]
    assert [info["name"]["tag"] for info in experiment["metricInfos"]] == METRICS


def test_an_arm_is_one_row_with_the_mean_over_its_seeds(url: str) -> None:
    groups = session_groups(url)
    assert set(groups) == set(ARMS)
    for arm, group in groups.items():
        assert group["name"] == session_group("study", arm, "digits | mlp")
        names = [session["name"] for session in group["sessions"]]
        assert names == [f"study/{ARMS[arm]['loss']}-{seed}/tensorboard" for seed in range(3)]
        mean = np.mean([accuracy(arm, seed) for seed in range(3)])
        assert metrics(group)["test/cls/balanced_accuracy"] == pytest.approx(mean)


def test_each_arm_shows_its_own_loss_parameters(url: str) -> None:
    groups = session_groups(url)
    assert groups["focal(gamma=1)"]["hparams"] == {
        "study": "study",
        "arm": "focal(gamma=1)",
        "factor": 100.0,
        "loss": "focal",
        "loss.gamma": 1.0,
    }
    assert "loss.gamma" not in groups["cross_entropy"]["hparams"]


def test_an_undefined_metric_is_left_out_of_the_mean(url: str) -> None:
    group = session_groups(url)["focal(gamma=1)"]
    assert "test/cls/tail_recall" not in metrics(group["sessions"][0])
    assert metrics(group)["test/cls/tail_recall"] == 0.25


def test_failed_runs_can_be_filtered_out(url: str) -> None:
    groups = session_groups(url, ("SUCCESS",))
    assert {arm: len(group["sessions"]) for arm, group in groups.items()} == {
        "cross_entropy": 3,
        "focal(gamma=1)": 2,
    }
    failed = session_groups(url, ("FAILURE",))["focal(gamma=1)"]["sessions"]
    assert [session["name"] for session in failed] == ["study/focal-2/tensorboard"]


def test_scalars_histograms_images_and_texts_reach_their_tabs(url: str) -> None:
    run = "study/focal-1/tensorboard"
    assert set(get(url, "data/plugin/scalars/tags")[run]) == {"val/cls/accuracy", "other", *METRICS}
    curve = get(url, "data/plugin/scalars/scalars", run=run, tag="val/cls/accuracy")
    assert [(step, round(value, 6)) for _, step, value in curve] == [(1, 0.1), (2, 0.2), (3, 0.3)]

    steps = get(
        url, "data/plugin/histograms/histograms", run=run, tag="val/loss_log10/cross_entropy"
    )
    assert [step for _, step, _ in steps] == [1, 2, 3]
    for _, _, buckets in steps:
        assert sum(count for _, _, count in buckets) == sum(range(102))
        assert buckets[0] == pytest.approx([-8, -7.9, 1])  # the empty underflow is dropped
        assert buckets[-1] == pytest.approx([2, 2.1, 101])

    (image,) = get(url, "data/plugin/images/images", run=run, tag="figures/loss", sample="0")
    png = get(url, "data/plugin/images/individualImage", **dict(parse_qsl(image["query"])))
    assert (image["step"], Image.open(io.BytesIO(png)).size) == (3, (7, 5))

    (text,) = get(url, "data/plugin/text/text", run=run, tag="run/config")
    assert "loss: focal" in text["text"]


def test_a_resumed_run_shows_each_step_once_in_an_open_board(tmp_path: Path) -> None:
    """The board has read 5 epochs; the resumed run writes 7, with other values."""
    folder = tmp_path / "run"
    with RunWriter(folder) as writer:
        for epoch in range(1, 6):
            writer.scalars({"a": 1.0}, epoch)
    with running_board(tmp_path) as (address, _):
        wait_for_runs(address, 1)
        with RunWriter(folder, replace=True) as writer:
            for epoch in range(1, 8):
                writer.scalars({"a": 2.0}, epoch)
        deadline = time.monotonic() + 30
        curve: list = []
        while len(curve) != 7 and time.monotonic() < deadline:
            time.sleep(0.5)
            curve = get(address, "data/plugin/scalars/scalars", run="run", tag="a")
    assert [(step, value) for _, step, value in curve] == [(epoch, 2.0) for epoch in range(1, 8)]


def test_a_port_in_use_gives_way_to_the_next_free_one_and_ctrl_c_ends_the_board(
    tmp_path: Path,
) -> None:
    RunWriter(tmp_path / "run").close()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with running_board(tmp_path, port) as (address, process):
            used = int(address.rstrip("/").rpartition(":")[2])
            get(address, "data/environment")
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=20)
    assert port < used <= port + board.PORTS_TO_TRY
    assert errors.startswith(f"port {port} is in use; taking {used}\n")
    assert (process.returncode, output) == (0, "TensorBoard stopped\n")


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_number_that_is_no_port_is_refused(tmp_path: Path, port: int) -> None:
    RunWriter(tmp_path).close()
    with pytest.raises(InputError, match=f"port {port} is not a port"):
        board.start(tmp_path, port)


def test_no_port_to_be_had_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunWriter(tmp_path).close()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(board, "PORTS_TO_TRY", 0)
        with pytest.raises(InputError, match=rf"ports {port} to {port} on 127\.0\.0\.1"):
            board.start(tmp_path, port)


@pytest.mark.parametrize("exists", [True, False])
def test_an_empty_or_missing_folder_says_what_to_do(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path / "runs"
    if exists:
        (folder / "study").mkdir(parents=True)
    with pytest.raises(InputError, match=r"nothing to show.*lossbench train.*runs_dir=FOLDER"):
        board.serve(folder)
