"""SVHN's MATLAB files: the label of the digit 0, and content that does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from lossbench.data.sources import svhn
from lossbench.errors import InputError
from tests.data.published_files import write_svhn


def test_the_label_10_is_the_digit_0(tmp_path: Path) -> None:
    write_svhn(tmp_path)
    stored = loadmat(tmp_path / "train_32x32.mat")["y"].ravel()
    read = svhn(archive=tmp_path)
    assert sorted(set(stored)) == list(range(1, 11))
    np.testing.assert_array_equal(read.train_targets, stored % 10)
    assert read.class_names[0] == "0"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"X": np.zeros((32, 32, 3, 10), np.float64)}, "X, uint8 .* not float64"),
        ({"X": np.zeros((10, 32, 32, 3), np.uint8)}, r"not uint8 \(10, 32, 32, 3\)"),
        ({"y": np.full((10, 1), 0.5)}, "float64"),
        ({"y": np.full((9, 1), 1, np.uint8)}, r"test targets must be int64 of shape \(10,\)"),
        ({"y": np.full((10, 1), 11, np.uint8)}, "test targets .* reach from 11 to 11"),
        ({"X": None}, "must hold X"),
    ],
)
def test_content_that_does_not_fit_is_named(tmp_path: Path, change: dict, complaint: str) -> None:
    write_svhn(tmp_path)
    path = tmp_path / "test_32x32.mat"
    arrays = {key: loadmat(path)[key] for key in ("X", "y")} | change
    savemat(path, {key: array for key, array in arrays.items() if array is not None})
    with pytest.raises(InputError, match=complaint) as error:
        svhn(archive=tmp_path)
    assert "\n" not in str(error.value)
