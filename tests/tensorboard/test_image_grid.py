"""The grid of images, as its pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from lossbench.errors import InputError
from lossbench.tensorboard.image_grid import image_grid

RNG = np.random.default_rng(0)


def pixels_of(images: list[np.ndarray], labels: list[str]) -> np.ndarray:
    png, width, height = image_grid(images, labels, title="")
    picture = Image.open(io.BytesIO(png))
    assert picture.size == (width, height)
    assert width == 350  # what TensorBoard's image card shows without scaling
    return np.asarray(picture)


def found_at(pixels: np.ndarray, image: np.ndarray) -> tuple[int, int]:
    """The one place, row and column, where ``image`` (H, W, 3) stands in ``pixels``."""
    windows = np.lib.stride_tricks.sliding_window_view(pixels, image.shape)[:, :, 0]
    corners = np.argwhere((windows[:, :, ::79, ::79] == image[::79, ::79]).all(axis=(2, 3, 4)))
    ((row, column),) = corners
    assert np.array_equal(windows[row, column], image)
    return row, column


@pytest.mark.parametrize("channels", [1, 3])
def test_images_stand_in_rows_of_four_enlarged_without_smoothing(channels: int) -> None:
    images = [RNG.integers(0, 256, (channels, 8, 8)).astype(np.uint8) for _ in range(6)]
    pixels = pixels_of(images, ["a\nb\nc"] * 6)
    drawn = [np.broadcast_to(np.kron(x, np.ones((1, 10, 10))), (3, 80, 80)) for x in images]
    places = [found_at(pixels, x.transpose(1, 2, 0)) for x in drawn]
    rows, columns = zip(*places, strict=True)
    assert len(set(rows[:4])) == len(set(rows[4:])) == 1
    assert rows[4] >= rows[0] + 80 + 3 * 9
    assert columns[:2] == columns[4:]
    assert list(columns[:4]) == sorted(columns[:4])


def test_large_images_are_shrunk_and_labels_stay_above_their_own_image() -> None:
    image = np.full((3, 224, 448), 100, dtype=np.uint8)
    pixels = pixels_of([image] * 2, ["", "a class of a rather long name"])
    grey = (pixels == 100).all(axis=2)
    rows = np.flatnonzero(grey.sum(axis=1) == 2 * 80)
    assert len(rows) == 40
    dark = (pixels < 60).any(axis=2)
    below, columns = np.nonzero(dark)
    assert below.max() < rows.min()
    assert 87 < columns.min() <= columns.max() < 2 * 87


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([np.zeros((2, 8, 8), np.uint8)], r"uint8 of shape \(2, 8, 8\)"),
        ([np.zeros((1, 8, 8))], "an image is float64"),
        ([np.zeros((1, 8, 8), np.uint8)] * 25, "25 images with 25 labels; give 1 to 24"),
    ],
)
def test_what_is_no_image_is_refused(images: list[np.ndarray], words: str) -> None:
    with pytest.raises(InputError, match=words):
        image_grid(images, [""] * len(images), title="")
