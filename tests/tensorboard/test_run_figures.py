"""The pictures, inspected before they are drawn, and the PNG images that come out."""

import io
import math
import struct
from functools import cache

import numpy as np
import pytest
from PIL import Image

from lossbench.errors import InputError
from lossbench.tensorboard.drawing import Line, Picture, Stairs, to_png
from lossbench.tensorboard.figures import (
    BLUE,
    VERMILLION,
    confusion_figure,
    loss_histogram_figure,
    recall_figure,
    reliability_figure,
)

EDGES = np.linspace(-8, 2, 101)
RNG = np.random.default_rng(0)
FOUR = ("training", "validation", "test", "training, test prior")
HUNDRED = [f"class number {index}" for index in range(100)]


def counts_of(losses: np.ndarray) -> np.ndarray:
    inner = np.histogram(np.log10(losses), EDGES)[0]
    return np.array([(losses < 1e-8).sum(), *inner, (losses >= 100).sum()])


def stairs_of(picture: Picture) -> list[Stairs]:
    return [m for panel in picture.panels for m in panel.marks if isinstance(m, Stairs)]


def lines_of(picture: Picture) -> list[Line]:
    return [m for panel in picture.panels for m in panel.marks if isinstance(m, Line)]


def colours_of(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)])


def reliability_bins() -> np.ndarray:
    bins = np.full((15, 3), np.nan)
    bins[:, 0] = 0
    bins[3] = 30, 0.25, 0.25
    bins[14] = 10, 0.98, 0.58
    return bins


def test_each_histogram_is_drawn_as_fractions_of_its_own_samples() -> None:
    train, validation = np.exp(RNG.normal(-4, 2, 4000)), np.exp(RNG.normal(-1, 2, 300))
    train[:40], train[40:60] = 1e-9, 1000.0
    picture = loss_histogram_figure(
        {"train": counts_of(train), "validation": counts_of(validation)}, EDGES, num_classes=10
    )
    (panel,) = picture.panels
    drawn = {stairs.name: (stairs.heights, 10**stairs.edges) for stairs in stairs_of(picture)}
    for name, losses in {"train": train, "validation": validation}.items():
        fractions, edges = drawn[name]
        assert fractions.sum() == pytest.approx(1)
        middle = (losses[:, None] >= edges[1:-2]) & (losses[:, None] < edges[2:-1])
        np.testing.assert_allclose(fractions[1:-1], middle.mean(axis=0))
    assert drawn["train"][0][0] == 0.01  # underflow
    assert drawn["train"][0][-1] == 0.005 + (train[60:] >= 100).mean()
    assert "nats" in panel.x.label
    assert panel.y.label == "fraction of samples"
    assert panel.y.high > max(fractions.max() for fractions, _ in drawn.values())
    assert [mark.name for mark in picture.legend] == ["train", "validation"]


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_log_two_and_log_c_are_marked_and_labelled(num_classes: int) -> None:
    picture = loss_histogram_figure({"train": np.ones(102)}, EDGES, num_classes=num_classes)
    (panel,) = picture.panels
    expected = {"log 2": math.log(2), f"log {num_classes}": math.log(num_classes)}
    lines = sorted(10 ** line.x[0] for line in lines_of(picture))
    texts = {text.words.strip(): 10**text.x for text in panel.texts}
    assert lines == pytest.approx(sorted(set(expected.values())))
    assert texts == pytest.approx(expected)


@pytest.mark.parametrize("counts", [counts_of(np.full(9, 0.5)), np.ones(102), np.zeros(102)])
def test_every_run_has_the_same_loss_axis(counts: np.ndarray) -> None:
    (panel,) = loss_histogram_figure({"train": counts}, EDGES, num_classes=10).panels
    assert (panel.x.low, panel.x.high) == pytest.approx((-8.2, 2.2))
    assert panel.x.ticks == {
        -8: "1e-08", -6: "1e-06", -4: "0.0001", -2: "0.01", 0: "1", 2: "100",
    }  # fmt: skip


def test_histograms_have_colours_of_their_own() -> None:
    names = ["train", "train, weighted", "validation", "test"]
    picture = loss_histogram_figure(dict.fromkeys(names, np.ones(102)), EDGES, num_classes=10)
    assert len({stairs.colour for stairs in stairs_of(picture)}) == 4


def test_more_histograms_than_colours_are_refused() -> None:
    with pytest.raises(InputError, match="5 histograms in one figure; at most 4"):
        loss_histogram_figure(dict.fromkeys("abcde", np.ones(102)), EDGES, num_classes=10)


@pytest.mark.parametrize(("bins", "edges"), [(100, EDGES), (101, EDGES[:-1])])
def test_counts_that_do_not_fit_the_edges_are_refused(bins: int, edges: np.ndarray) -> None:
    with pytest.raises(InputError, match="'train' has counts"):
        loss_histogram_figure({"train": np.ones(bins)}, edges, num_classes=10)


def test_reliability_shows_filled_bins_their_share_and_the_calibration_error() -> None:
    adjusted = reliability_bins()
    adjusted[14] = 10, 0.9, 0.9
    cooled = reliability_bins()
    cooled[14] = 10, 0.78, 0.58
    picture = reliability_figure(reliability_bins(), adjusted, cooled)
    diagonal, raw, *_ = lines_of(picture)
    assert list(diagonal.x) == list(diagonal.y) == [0, 1]
    np.testing.assert_allclose([raw.x, raw.y], [[0.25, 0.98], [0.25, 0.58]])
    labels = [mark.name for mark in picture.legend]
    assert labels == [
        "raw 0.100",
        "adjusted 0.000",
        "temperature 0.050",
    ]  # 10/40 of the samples, off by 0.4
    share = stairs_of(picture)[0]
    assert (share.heights[3], share.heights[14], share.heights.sum()) == (0.75, 0.25, 1)
    np.testing.assert_allclose(share.edges, np.linspace(0, 1, 16))


def test_reliability_without_adjusted_logits_shows_one_view() -> None:
    assert len(reliability_figure(reliability_bins()).legend) == 1


def test_confusion_rows_are_fractions_and_an_absent_class_is_grey() -> None:
    matrix = np.array([[8, 2, 0], [0, 0, 0], [1, 1, 398]])
    (panel,) = confusion_figure(matrix, ["cat", "dog", "emu"]).panels
    np.testing.assert_array_equal(panel.cells[1], 187)
    darkness = 255 - panel.cells[[0, 0, 0, 2], [0, 1, 2, 0], 0].astype(int)  # of the red channel
    assert darkness[0] > darkness[1] > darkness[3] > darkness[2]  # 0.8, 0.2, 0.0025, 0
    texts = {(text.x, text.y): text.words for text in panel.texts}
    assert texts == {(0, 0): "80", (1, 0): "20", (2, 2): "100"}  # (column, row)
    assert panel.x.ticks == panel.y.ticks == {0: "cat", 1: "dog", 2: "emu"}
    assert (panel.x.label, panel.y.label) == ("predicted class", "target class")


def test_cells_have_the_colour_of_their_fraction_on_the_scale() -> None:
    matrix = np.diag(np.full(100, 3.0))
    matrix[99, 0] = 1  # a quarter of its row
    cells, scale = confusion_figure(matrix, HUNDRED).panels
    for row, column, label in ((0, 0, "100%"), (99, 0, "25%"), (0, 1, "0%")):
        (place,) = [place for place, words in scale.y.ticks.items() if words == label]
        shade = scale.cells[round((1 - place) * (len(scale.cells) - 1)), 0]
        np.testing.assert_allclose(shade.astype(int), cells.cells[row, column], atol=8)


def test_confusion_of_a_hundred_classes_has_numbers_and_a_colour_scale() -> None:
    cells, scale = confusion_figure(np.eye(100), HUNDRED).panels
    assert cells.x.ticks == cells.y.ticks == {place: str(place) for place in range(0, 100, 10)}
    assert len(cells.texts) == 0
    assert scale.y.ticks[1] == "100%"


def test_confusion_refuses_names_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"\(3, 3\).*2 class names"):
        confusion_figure(np.eye(3), ["a", "b"])


def test_recall_is_ordered_by_training_count_and_its_mean_skips_absent_classes() -> None:
    picture = recall_figure([0.2, 0.9, np.nan, 0.4], [50, 500, 5, 50], ["a", "b", "c", "d"])
    (panel,) = picture.panels
    (bars,), (mean,), (cross,) = stairs_of(picture), lines_of(picture), panel.texts
    np.testing.assert_allclose(bars.heights[::2], [0.9, 0.2, 0.4, 0])
    np.testing.assert_allclose(bars.heights[1::2], 0)
    np.testing.assert_allclose((bars.edges[:-1:2] + bars.edges[1::2]) / 2, range(4))
    assert panel.x.ticks == {0: "b: 500", 1: "a: 50", 2: "d: 50", 3: "c: 5"}
    assert (cross.x, cross.words) == (3, "×")
    assert mean.y[0] == pytest.approx(0.5)
    assert picture.title == "mean 0.500"


def test_recall_of_a_hundred_classes_labels_each_tenth_with_its_count() -> None:
    (panel,) = recall_figure(np.full(100, 0.5), np.arange(500, 400, -1), HUNDRED).panels
    assert list(panel.x.ticks.values()) == [str(count) for count in range(500, 400, -10)]


def test_shapes_are_drawn_where_their_values_are() -> None:
    pixels = colours_of(to_png(recall_figure([1.0, 0.5], [9, 8], ["a", "b"]))[0])
    bars = (abs(pixels - rgb(BLUE)) < 25).all(axis=2)
    first, second = bars[:, :175].sum(), bars[:, 175:].sum()
    assert second / first == pytest.approx(0.5, abs=0.03)
    rows, _ = np.nonzero(bars)
    mean = np.nonzero((abs(pixels - rgb(VERMILLION)) < 25).all(axis=2))[0].mean()
    assert (rows.max() - mean) / (rows.max() - rows.min()) == pytest.approx(0.75, abs=0.02)


def test_cells_are_drawn_in_rows_from_the_top() -> None:
    picture = confusion_figure(np.array([[1, 3], [0, 0]]), ["a", "b"])  # b was absent
    pixels = colours_of(to_png(picture)[0])
    cells = picture.panels[0].cells.astype(int)
    places = {}
    for row, column in ((0, 0), (0, 1), (1, 0)):
        alike = (abs(pixels - cells[row, column]) < 4).all(axis=2)
        assert alike.mean() > 0.1
        places[row, column] = np.median(np.nonzero(alike), axis=1)
    assert places[0, 0][1] < places[0, 1][1] - 50  # right: predicted as b
    assert places[0, 1][0] < places[1, 0][0] - 50  # below: the target b


@cache
def all_figures() -> dict[str, Picture]:
    losses = {name: counts_of(np.exp(RNG.normal(-3, 2, 999))) for name in FOUR}
    ten = HUNDRED[:10]
    return {
        "loss": loss_histogram_figure(losses, EDGES, num_classes=1000),
        "narrow loss": loss_histogram_figure(
            {"train": counts_of(np.full(9, 0.5))}, EDGES, num_classes=2
        ),
        "reliability": reliability_figure(reliability_bins(), reliability_bins()),
        "confusion of 10": confusion_figure(RNG.integers(1, 99, (10, 10)), ten),
        "confusion of 12": confusion_figure(RNG.integers(1, 99, (12, 12)), HUNDRED[:12]),
        "confusion of 20": confusion_figure(RNG.integers(1, 99, (20, 20)), HUNDRED[:20]),
        "confusion of 100": confusion_figure(RNG.integers(0, 9, (100, 100)), HUNDRED),
        "recall of 10": recall_figure(RNG.random(10), RNG.integers(1, 5000, 10), ten),
        "recall of 100": recall_figure(RNG.random(100), RNG.integers(1, 500, 100), HUNDRED),
    }


@pytest.mark.parametrize("name", list(all_figures()))
def test_png_images_are_small_fit_the_card_and_cut_nothing_off(name: str) -> None:
    figure = all_figures()[name]
    png, width, height = to_png(figure)
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", png[16:24]) == (width, height)
    assert width == 350  # what TensorBoard's image card shows without scaling
    assert height <= 260
    assert len(png) < 40_000
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    assert pixels.std() > 10
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert edge.min() == 255
