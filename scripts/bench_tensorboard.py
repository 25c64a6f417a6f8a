"""How large a run's event file is, and how long TensorBoard takes to open 300 runs.

    python scripts/bench_tensorboard.py [--runs 300] [--rounds 3] [--epochs 30] [--classes 10]

One run is trained for the numbers in the files (clouds of Gaussians as 8 x 8 images, an mlp); its
`Recorder` then writes the event files of all runs, which differ in arm and seed, figures included.
The figures are drawn once. For each round `lossbench board`'s server is started in a new process,
and timed from its first instruction until (a) it lists all runs, (b) one scalar of every run can
be read, (c) HParams answers with every session.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event

from lossbench.application import compose
from lossbench.config import Run
from lossbench.data.sources.dataset import ImageDataset
from lossbench.records.record import TENSORBOARD
from lossbench.tensorboard.writer import RunWriter
from lossbench.training import recorder as recorder_module
from lossbench.training.recorder import Recorder
from lossbench.training.run import Training

TARGET_SECONDS, TARGET_BYTES = 10, 1_000_000
SEEDS = 20
TAG = "val/cls/balanced_accuracy"
SERVER = """
import sys, threading
from lossbench.tensorboard.board import start
print(start(sys.argv[1], port=0), flush=True)
threading.Event().wait()
"""


def clouds(classes: int) -> ImageDataset:
    """Images of Gaussian clouds that overlap: 64 of each class to train on, and to test."""
    generator = np.random.default_rng(0)
    centres = generator.normal(128, 16, (classes, 64))
    targets = np.repeat(np.arange(classes), 64)

    def draw() -> np.ndarray:
        pixels = centres[targets] + generator.normal(0, 40, (len(targets), 64))
        return pixels.clip(0, 255).astype(np.uint8).reshape(-1, 1, 8, 8)

    names = tuple(f"class number {label}" for label in range(classes))
    return ImageDataset(draw(), targets, draw(), targets, names, (0.5,), (0.25,), "drawn")


def trained(folder: str, classes: int, epochs: int) -> tuple[Recorder, dict[str, Any]]:
    """The recorder of a run that was trained, and what it was given at the end."""
    given: dict[str, Any] = {}

    class Listening(Recorder):
        def write_final(
            self, metrics: Mapping[str, float | None], arrays: Mapping[str, np.ndarray]
        ) -> None:
            given.update(metrics=metrics, arrays=arrays)
            super().write_final(metrics, arrays)

    settings = [
        "data=digits",
        "data._target_=bench_tensorboard.clouds",
        "allow=[bench_tensorboard,__main__]",
        f"+data.classes={classes}",
    ]
    settings += ["imbalance=exponential", "imbalance.factor=10", "model=mlp"]
    run = Run(compose([*settings, f"trainer.max_epochs={epochs}", f"runs_dir={folder}"]))
    training = Training(run)
    training.recorder.__class__ = Listening
    run.folder.mkdir(parents=True)
    outcome = training.train_and_record(lambda epoch, row: None)
    assert outcome.state == "done", outcome.reason
    return training.recorder, given


def bytes_by_kind(folder: Path) -> dict[str, int]:
    """Bytes of the event file of ``folder`` by the plugin that shows them, and in all."""
    (file,) = folder.glob("events*")
    found: Counter[str] = Counter(total=file.stat().st_size)
    for record in RawEventFileLoader(str(file)).Load():
        for value in Event.FromString(record).summary.value:
            found[value.metadata.plugin_data.plugin_name or "scalars"] += value.ByteSize()
    return dict(found)


def write_runs(recorder: Recorder, given: dict[str, Any], runs: Path, number: int) -> None:
    """The event files of ``number`` runs: `SEEDS` seeds of as many arms as that takes."""
    drawn = images_of(recorder.run.folder / TENSORBOARD)

    def write_images(writer: RunWriter, *_: object) -> None:
        for tag, image in drawn.items():
            writer.image(tag, *image, step=len(recorder.rows))

    recorder_module.write_figures = write_images
    recorder_module.write_hardest_images = lambda *_: None
    for index in range(number):
        config = copy.deepcopy(recorder.run.config)
        config |= {"arm": f"arm {index // SEEDS}", "seed": index % SEEDS, "runs_dir": str(runs)}
        config["optimizer"]["lr"] = 1e-3 * (1 + index // SEEDS)
        recorder.run = Run(config)
        recorder.open_writer()
        recorder.write_final(**given)
        recorder.close(success=True)


def images_of(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """The images of an event file: PNG, width and height."""
    (file,) = folder.glob("events*")
    found = {}
    for record in RawEventFileLoader(str(file)).Load():
        for value in Event.FromString(record).summary.value:
            if value.metadata.plugin_data.plugin_name == "images":
                width, height, png = value.tensor.string_val
                found[value.tag] = (png, int(width), int(height))
    return found


def get(url: str, path: str, content: Any = None) -> Any:
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def wait_until(true: Callable[[], bool], began: float) -> float:
    """Seconds since ``began`` when it is first ``true``."""
    while not true():
        assert time.perf_counter() - began < 600, "TensorBoard did not answer"
        time.sleep(0.1)
    return time.perf_counter() - began


def opened(runs: Path, number: int) -> dict[str, float]:
    """Seconds from the start of a new process until TensorBoard has everything."""
    began = time.perf_counter()
    command = [sys.executable, "-c", SERVER, str(runs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            found = {"server": time.perf_counter() - began}
            found["runs"] = wait_until(lambda: len(get(url, "data/runs")) == number, began)
            found["scalars"] = wait_until(lambda: scalars_of(url) == number, began)
            found["hparams"] = wait_until(lambda: sessions(url) == number, began)
        finally:
            process.kill()
    return found


def scalars_of(url: str) -> int:
    """How many runs have `TAG` with its last value, read in one request as the Scalars tab does."""
    runs = [run for run, tags in get(url, "data/plugin/scalars/tags").items() if TAG in tags]
    form = urllib.parse.urlencode([("tag", TAG), *(("runs", run) for run in runs)])
    with urllib.request.urlopen(
        f"{url}data/plugin/scalars/scalars_multirun", form.encode()
    ) as answer:
        return len(json.load(answer))


def sessions(url: str) -> int:
    statuses = ["STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_UNKNOWN", "STATUS_RUNNING"]
    content = {"allowedStatuses": statuses, "colParams": [], "startIndex": 0, "sliceSize": 1000}
    groups = get(url, "data/plugin/hparams/session_groups", content)["sessionGroups"]
    return sum(len(group["sessions"]) for group in groups)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--classes", type=int, default=10)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        recorder, final = trained(f"{folder}/one", given.classes, given.epochs)
        sizes = bytes_by_kind(recorder.run.folder / TENSORBOARD)
        plain = sizes["total"] - sizes["images"]
        print(f"{given.epochs} epochs, {given.classes} classes, bytes: {sizes}")
        print(f"without images {plain} bytes; below {TARGET_BYTES}: {plain < TARGET_BYTES}")
        runs = Path(folder) / "many"
        write_runs(recorder, final, runs, given.runs)
        rounds = [opened(runs, given.runs) for _ in range(given.rounds)]
    for name in rounds[0] if rounds else ():
        values = [found[name] for found in rounds]
        spread = f"{min(values):.1f} to {max(values):.1f}"
        print(f"{name}: median {statistics.median(values):.1f} s ({spread}, n = {len(values)})")
    if rounds:
        slowest = max(max(found.values()) for found in rounds)
        print(f"slowest {slowest:.1f} s; below {TARGET_SECONDS} s: {slowest < TARGET_SECONDS}")


if __name__ == "__main__":
    sys.modules["bench_tensorboard"] = sys.modules["__main__"]  # the name in `_target_`
    main()
