"""The figures, inspected before they are drawn, and the PNG images that come out."""

import io
import math
import struct
from functools import cache

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from lossbench.errors import InputError
from lossbench.tensorboard.figures import (
    confusion_figure,
    loss_histogram_figure,
    recall_figure,
    reliability_figure,
    to_png,
)

EDGES = np.linspace(-8, 2, 101)
RNG = np.random.default_rng(0)
HUNDRED = [f"class number {index}" for index in range(100)]


def counts_of(losses: np.ndarray) -> np.ndarray:
    inner = np.histogram(np.log10(losses), EDGES)[0]
    return np.array([(losses < 1e-8).sum(), *inner, (losses >= 100).sum()])


def reliability_bins() -> np.ndarray:
    bins = np.full((15, 3), np.nan)
    bins[:, 0] = 0
    bins[3] = 30, 0.25, 0.25
    bins[14] = 10, 0.98, 0.58
    return bins


def test_each_histogram_is_drawn_as_fractions_of_its_own_samples() -> None:
    train, validation = np.exp(RNG.normal(-4, 2, 4000)), np.exp(RNG.normal(-1, 2, 300))
    train[:40], train[40:60] = 1e-9, 1000.0
    figure = loss_histogram_figure(
        {"train": counts_of(train), "validation": counts_of(validation)}, EDGES, num_classes=10
    )
    (axes,) = figure.axes
    drawn = {patch.get_label(): patch.get_data() for patch in axes.patches}
    for name, losses in {"train": train, "validation": validation}.items():
        fractions, edges, _ = drawn[name]
        assert fractions.sum() == pytest.approx(1)
        middle = (losses[:, None] >= edges[1:-2]) & (losses[:, None] < edges[2:-1])
        np.testing.assert_allclose(fractions[1:-1], middle.mean(axis=0))
    assert drawn["train"][0][0] == 0.01  # underflow
    assert drawn["train"][0][-1] == 0.005 + (train[60:] >= 100).mean()
    assert axes.get_xscale() == "log"
    assert "nats" in axes.get_xlabel()
    assert axes.get_ylabel() == "fraction of samples"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["train", "validation"]


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_log_two_and_log_c_are_marked_and_labelled(num_classes: int) -> None:
    figure = loss_histogram_figure({"train": np.ones(102)}, EDGES, num_classes=num_classes)
    (axes,) = figure.axes
    expected = {"log 2": math.log(2), f"log {num_classes}": math.log(num_classes)}
    lines = {line.get_xdata()[0] for line in axes.lines}
    texts = {text.get_text().strip(): text.get_position()[0] for text in axes.texts}
    assert lines == set(expected.values())
    assert texts == expected


@pytest.mark.parametrize("counts", [counts_of(np.full(9, 0.5)), np.ones(102), np.zeros(102)])
def test_every_run_has_the_same_loss_axis(counts: np.ndarray) -> None:
    (axes,) = loss_histogram_figure({"train": counts}, EDGES, num_classes=10).axes
    assert axes.get_xlim() == pytest.approx((10**-8.2, 10**2.2))
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "1e-08", "1e-06", "0.0001", "0.01", "1", "100",
    ]  # fmt: skip


def test_histograms_have_colours_of_their_own() -> None:
    names = ["train", "train, weighted", "validation", "test"]
    figure = loss_histogram_figure(dict.fromkeys(names, np.ones(102)), EDGES, num_classes=10)
    patches = {patch.get_label(): patch for patch in figure.axes[0].patches}
    assert len({to_hex(patches[name].get_edgecolor()) for name in names}) == 4


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
    accuracy, share = reliability_figure(reliability_bins(), adjusted, cooled).axes
    _, raw, _, _ = accuracy.lines
    np.testing.assert_allclose(raw.get_xydata(), [[0.25, 0.25], [0.98, 0.58]])
    labels = [text.get_text() for text in accuracy.get_legend().get_texts()]
    assert labels == [
        "raw 0.100",
        "adjusted 0.000",
        "temperature 0.050",
    ]  # 10/40 of the samples, off by 0.4
    fractions, edges, _ = share.patches[0].get_data()
    assert (fractions[3], fractions[14], fractions.sum()) == (0.75, 0.25, 1)
    np.testing.assert_allclose(edges, np.linspace(0, 1, 16))


def test_reliability_without_adjusted_logits_shows_one_view() -> None:
    accuracy, _ = reliability_figure(reliability_bins()).axes
    assert len(accuracy.get_legend().get_texts()) == 1


def test_confusion_rows_are_fractions_and_an_absent_class_is_blank() -> None:
    matrix = np.array([[8, 2, 0], [0, 0, 0], [1, 1, 398]])
    (axes,) = confusion_figure(matrix, ["cat", "dog", "emu"]).axes
    shown = axes.images[0].get_array()
    np.testing.assert_allclose(shown[0], [0.8, 0.2, 0])
    np.testing.assert_allclose(shown[2], [0.0025, 0.0025, 0.995])
    assert np.ma.getmaskarray(shown)[1].all()
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "80", (1, 0): "20", (2, 2): "100"}  # (column, row)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "emu"]
    assert axes.get_ylabel() == "target class"


def test_confusion_of_a_hundred_classes_has_numbers_and_a_colour_scale() -> None:
    axes, scale = confusion_figure(np.eye(100), HUNDRED).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        str(number) for number in range(0, 100, 10)
    ]
    assert len(axes.texts) == 0
    assert scale.get_yticklabels()[-1].get_text() == "100%"


def test_confusion_refuses_names_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"\(3, 3\).*2 class names"):
        confusion_figure(np.eye(3), ["a", "b"])


def test_recall_is_ordered_by_training_count_and_its_mean_skips_absent_classes() -> None:
    figure = recall_figure([0.2, 0.9, np.nan, 0.4], [50, 500, 5, 50], ["a", "b", "c", "d"])
    (axes,) = figure.axes
    heights, sides, _ = axes.patches[0].get_data()
    np.testing.assert_allclose(heights[::2], [0.9, 0.2, 0.4, 0])
    np.testing.assert_allclose(heights[1::2], 0)
    np.testing.assert_allclose((sides[::2] + sides[1::2]) / 2, range(4))
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["b: 500", "a: 50", "d: 50", "c: 5"]
    cross, mean = axes.lines
    assert list(cross.get_xdata()) == [3]
    assert mean.get_ydata()[0] == pytest.approx(0.5)


def test_recall_of_a_hundred_classes_labels_each_tenth_with_its_count() -> None:
    (axes,) = recall_figure(np.full(100, 0.5), np.arange(500, 400, -1), HUNDRED).axes
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == [str(count) for count in range(500, 400, -10)]


@cache
def all_figures() -> dict:
    losses = {name: counts_of(np.exp(RNG.normal(-3, 2, 999))) for name in ("train", "val", "test")}
    ten = HUNDRED[:10]
    return {
        "loss": loss_histogram_figure(losses, EDGES, num_classes=100, title="focal, epoch 30"),
        "narrow loss": loss_histogram_figure(
            {"train": counts_of(np.full(9, 0.5))}, EDGES, num_classes=2
        ),
        "reliability": reliability_figure(reliability_bins(), reliability_bins(), title="test"),
        "confusion of 10": confusion_figure(RNG.integers(1, 99, (10, 10)), ten, title="test"),
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
    frame = figure.bbox
    for axes in figure.axes:
        box = axes.get_tightbbox()
        assert box.x0 >= frame.x0
        assert box.y0 >= frame.y0
        assert box.x1 <= frame.x1
        assert box.y1 <= frame.y1
