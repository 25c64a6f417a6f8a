"""What `RunWriter` writes, read back with tensorboard's own readers."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util.tensor_util import make_ndarray

from lossbench.errors import InputError
from lossbench.tensorboard.writer import RunWriter

EDGES = np.linspace(-8, 2, 101)


def read(folder: Path) -> EventAccumulator:
    everything = dict.fromkeys(("scalars", "tensors", "images", "histograms"), 0)
    accumulator = EventAccumulator(str(folder), size_guidance=everything)
    accumulator.Reload()
    return accumulator


def numbers(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def buckets(folder: Path, tag: str) -> list[np.ndarray]:
    return [make_ndarray(event.tensor_proto) for event in read(folder).Tensors(tag)]


def event_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_epochs(writer: RunWriter, epochs: int, offset: float = 0.0) -> None:
    for epoch in range(1, epochs + 1):
        writer.scalars({"val/cls/accuracy": epoch / 100 + offset}, epoch, 1000.0 + epoch)


def test_scalars_come_back_with_their_steps_and_times(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:
        writer.scalars({"val/cls/accuracy": 0.5, "val/loss/objective": 1e-3}, 1, 1000.5)
        writer.scalars({"val/cls/accuracy": 0.75, "val/loss/objective": float("inf")}, 2, 1001.5)
    events = read(tmp_path).Scalars("val/cls/accuracy")
    assert [(event.step, event.wall_time, event.value) for event in events] == [
        (1, 1000.5, 0.5),
        (2, 1001.5, 0.75),
    ]
    assert numbers(tmp_path, "val/loss/objective") == [(1, float(np.float32(1e-3))), (2, np.inf)]


def test_nan_and_none_are_skipped_and_the_rest_of_the_step_is_kept(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:
        writer.scalars({"a": float("nan"), "b": None, "c": 3.0, "d": np.float32("nan")}, 1)
        writer.scalars({"a": None}, 2)
    assert read(tmp_path).Tags()["scalars"] == ["c"]
    (file,) = tmp_path.iterdir()
    assert len(list(EventFileLoader(str(file)).Load())) == 2  # the header and one event


def test_a_histogram_keeps_every_count_in_the_bucket_of_its_samples(tmp_path: Path) -> None:
    log_losses = np.random.default_rng(0).normal(-2, 1.5, 5000)
    inner = np.histogram(log_losses, EDGES)[0]
    below, above = (log_losses < -8).sum(), (log_losses > 2).sum()
    assert above > 0
    with RunWriter(tmp_path) as writer:
        writer.histogram("val/loss_log10/cross_entropy", [below, *inner, above], EDGES, 3, 7.0)
    (written,) = buckets(tmp_path, "val/loss_log10/cross_entropy")
    assert written[:, 2].sum() == 5000
    np.testing.assert_array_equal(written[1:, 0], written[:-1, 1])  # no gap, no overlap
    written[-1, 1] = np.inf  # the overflow bucket holds everything above the grid
    for left, right, count in written:
        assert count == ((log_losses >= left) & (log_losses < right)).sum()


def test_under_and_overflow_are_buckets_beside_the_grid(tmp_path: Path) -> None:
    counts = np.zeros(102)
    counts[0], counts[101] = 2.5, 4
    with RunWriter(tmp_path) as writer:
        writer.histogram("h", counts, EDGES, 1)
    (written,) = buckets(tmp_path, "h")
    assert written.shape == (102, 3)
    np.testing.assert_allclose(written[0], [-8.1, -8, 2.5])
    np.testing.assert_allclose(written[-1], [2, 2.1, 4])


def test_empty_outer_buckets_and_empty_histograms_are_not_written(tmp_path: Path) -> None:
    counts = np.zeros(102, np.int64)
    counts[[40, 42]] = 5, 6
    with RunWriter(tmp_path) as writer:
        writer.histogram("h", counts, EDGES, 1)
        writer.histogram("empty", np.zeros(102), EDGES, 1)
    (written,) = buckets(tmp_path, "h")
    np.testing.assert_allclose(
        written, [[EDGES[39], EDGES[40], 5], [EDGES[40], EDGES[41], 0], [EDGES[41], EDGES[42], 6]]
    )
    assert read(tmp_path).Tags()["tensors"] == ["h"]


def test_counts_that_do_not_fit_the_edges_are_refused(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer, pytest.raises(InputError, match=r"'h'.*\(100,\).*\(102,\)"):
        writer.histogram("h", np.ones(100), EDGES, 1)


def test_an_image_decodes_to_the_size_that_was_given(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (31, 17), "red").save(buffer, "png")
    with RunWriter(tmp_path) as writer:
        writer.image("figures/loss", buffer.getvalue(), 31, 17, 4)
    (event,) = read(tmp_path).Tensors("figures/loss")
    width, height, png = make_ndarray(event.tensor_proto)
    image = Image.open(io.BytesIO(png))
    assert (event.step, int(width), int(height)) == (4, *image.size)
    assert image.getpixel((30, 16)) == (255, 0, 0)


def test_text_comes_back_whole(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:
        writer.text("run/config", "# Überschrift\n`loss: focal`", 0)
    (event,) = read(tmp_path).Tensors("run/config")
    assert make_ndarray(event.tensor_proto).item().decode() == "# Überschrift\n`loss: focal`"


def test_replace_leaves_one_file_and_no_step_twice(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:
        write_epochs(writer, 5)
    before = event_files(tmp_path)
    with RunWriter(tmp_path, replace=True) as writer:
        write_epochs(writer, 5)
        writer.flush()
        writer.scalars({"val/cls/accuracy": 0.06}, 6, 1006.0)
    assert len(event_files(tmp_path)) == 1
    assert event_files(tmp_path) != before
    assert [step for step, _ in numbers(tmp_path, "val/cls/accuracy")] == [1, 2, 3, 4, 5, 6]


def test_without_replace_older_files_stay(tmp_path: Path) -> None:
    for _ in range(2):
        RunWriter(tmp_path).close()
    assert len(event_files(tmp_path)) == 2


def test_older_files_go_only_once_the_new_history_is_on_disk(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:
        write_epochs(writer, 5)
    (old,) = event_files(tmp_path)
    writer = RunWriter(tmp_path, replace=True)
    write_epochs(writer, 7)
    assert old in event_files(tmp_path)
    writer.flush()
    assert old not in event_files(tmp_path)
    assert len(numbers(tmp_path, "val/cls/accuracy")) == 7  # before close
    writer.close()
    writer.close()


def test_a_killed_rewrite_leaves_the_older_file_whole(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:
        write_epochs(writer, 5)
    (old,) = tmp_path.iterdir()
    content = old.read_bytes()
    program = (
        "import os, sys; from lossbench.tensorboard.writer import RunWriter\n"
        "writer = RunWriter(sys.argv[1], replace=True)\n"
        "writer.scalars({'val/cls/accuracy': 0.5}, 1)\n"
        "os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program, tmp_path]).returncode == 9
    assert old.read_bytes() == content
    with RunWriter(tmp_path, replace=True) as writer:
        write_epochs(writer, 6)
    assert len(event_files(tmp_path)) == 1
    assert len(numbers(tmp_path, "val/cls/accuracy")) == 6


def interrupted_rewrite(folder: Path, *, after_flush: bool) -> None:
    with RunWriter(folder, replace=True) as writer:
        write_epochs(writer, 3)
        if after_flush:
            writer.flush()
        raise KeyError


@pytest.mark.parametrize(("after_flush", "epochs"), [(False, 5), (True, 3)])
def test_an_exception_leaves_exactly_one_history(
    tmp_path: Path, after_flush: bool, epochs: int
) -> None:
    with RunWriter(tmp_path) as writer:
        write_epochs(writer, 5)
    with pytest.raises(KeyError):
        interrupted_rewrite(tmp_path, after_flush=after_flush)
    assert len(event_files(tmp_path)) == 1
    assert len(numbers(tmp_path, "val/cls/accuracy")) == epochs


def test_thirty_epochs_take_less_than_a_megabyte(tmp_path: Path) -> None:
    """60 scalars and 4 histograms of 100 filled bins each epoch: more than a run writes."""
    counts = np.random.default_rng(0).integers(1, 5000, 102)
    with RunWriter(tmp_path) as writer:
        for epoch in range(1, 31):
            writer.scalars({f"val/recall/class number {i}": i / 60 for i in range(60)}, epoch)
            for name in "abcd":
                writer.histogram(f"val/loss_log10/{name}", counts, EDGES, epoch)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1_000_000


def test_neither_torch_nor_tensorflow_is_imported(tmp_path: Path) -> None:
    """With a `tensorflow` and a `torch` in reach that fail when somebody imports them."""
    for name in ("tensorflow", "torch"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name} was imported')")
    program = """
import sys, numpy
from pathlib import Path
from lossbench.tensorboard import board, figures
from lossbench.tensorboard.drawing import to_png
from lossbench.tensorboard.writer import RunWriter
with RunWriter(Path(sys.argv[1]) / "run") as writer:
    writer.scalars({"a": 1.0}, 1)
    writer.histogram("h", numpy.ones(102), numpy.linspace(-8, 2, 101), 1)
    writer.text("t", "text", 1)
    writer.hparams({"arm": "focal"}, group="g", metrics=["a"])
    writer.session_end(success=True)
    figure = figures.recall_figure([0.5], [1], ["a"])
    writer.image("i", *to_png(figure), 1)
board.start(Path(sys.argv[1]), port=0)
print(sorted({"torch", "tensorflow", "matplotlib.pyplot"} & set(sys.modules)))
"""
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    result = subprocess.run(
        [sys.executable, "-c", program, tmp_path], env=environment, capture_output=True, text=True
    )
    assert result.stdout == "[]\n", result.stderr
