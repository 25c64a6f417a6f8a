from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench.evaluation.histograms import (
    LOG10_LOSS_EDGES,
    fraction,
    loss_histogram,
    reweight,
)

CLASSES = 3
losses_of_classes = st.lists(
    st.tuples(
        st.one_of(
            st.floats(allow_nan=False),
            st.floats(1e-10, 1e4),
            st.sampled_from([0.0, -0.0, 1e-8, 1e2, np.inf, -np.inf, 5e-324]),
        ),
        st.integers(0, CLASSES - 1),
    ),
    max_size=60,
)


def histogram_of(loss: float) -> np.ndarray:
    return loss_histogram(np.array([loss]), np.array([0]), 1)[0]


@settings(deadline=None)
@given(losses_of_classes)
def test_no_loss_is_lost_and_the_inner_bins_are_numpys(drawn):
    losses = np.array([loss for loss, _ in drawn], dtype=np.float64)
    targets = np.array([c for _, c in drawn], dtype=np.int64)
    histogram = loss_histogram(losses, targets, CLASSES)
    assert histogram.shape == (CLASSES, 102)
    assert histogram.dtype == np.int64
    for c in range(CLASSES):
        own = losses[targets == c]
        assert histogram[c].sum() == len(own)
        positive = np.log10(own[own > 0])
        inner, _ = np.histogram(positive, bins=LOG10_LOSS_EDGES)
        np.testing.assert_array_equal(histogram[c, 1:-1], inner)
        assert histogram[c, -1] == (positive > 2).sum()


def test_the_grid():
    assert len(LOG10_LOSS_EDGES) == 101
    assert (LOG10_LOSS_EDGES[0], LOG10_LOSS_EDGES[-1]) == (-8.0, 2.0)
    np.testing.assert_allclose(np.diff(LOG10_LOSS_EDGES), 0.1)


@pytest.mark.parametrize(
    ("loss", "bin_index"),
    [
        (-np.inf, 0),
        (-1.0, 0),
        (0.0, 0),
        (np.nextafter(1e-8, 0) * (1 - 1e-9), 0),
        (1e-8, 1),
        (1.0, 81),
        (np.log(10), 84),  # chance level of ten classes, log10 = 0.362
        (99.0, 100),
        (100.0, 100),
        (100.0 * (1 + 1e-9), 101),
        (np.inf, 101),
    ],
)
def test_where_a_loss_goes(loss, bin_index):
    assert histogram_of(loss).nonzero()[0].tolist() == [bin_index]


def test_nan_is_not_swallowed():
    with pytest.raises(ValueError, match="2 of 3 losses are NaN"):
        loss_histogram(np.array([np.nan, 1.0, np.nan]), np.array([0, 1, 1]), 2)


def test_small_integer_targets_do_not_overflow():
    histogram = loss_histogram(np.array([1.0]), np.array([200], dtype=np.uint8), 201)
    assert histogram[200, 81] == histogram.sum() == 1


def test_fraction_pools_the_classes_as_they_occurred():
    histogram = np.zeros((2, 102), dtype=np.int64)
    histogram[0, 5], histogram[1, 7] = 3, 1
    shares = fraction(histogram)
    assert shares.shape == (102,)
    assert (shares[5], shares[7], shares.sum()) == (0.75, 0.25, 1.0)
    assert np.isnan(fraction(np.zeros((2, 102), dtype=np.int64))).all()


def test_reweight_is_the_pooled_share_of_a_set_with_that_prior():
    """Repeat the samples of the classes 1, 3 and 0 times: that set has the prior by itself."""
    generator = np.random.default_rng(0)
    losses = np.exp(generator.normal(size=40))
    targets = np.repeat([0, 1, 2], [25, 10, 5])
    repeats = np.array([1, 3, 0])[targets]
    repeated = loss_histogram(np.repeat(losses, repeats), np.repeat(targets, repeats), 3)
    prior = np.array([25, 30, 0])
    found = reweight(loss_histogram(losses, targets, 3), prior)
    np.testing.assert_allclose(found, fraction(repeated), atol=1e-15)


def test_reweight_to_the_own_prior_changes_nothing():
    histogram = np.random.default_rng(0).integers(0, 9, (4, 102))
    own = histogram.sum(axis=1) / histogram.sum()
    np.testing.assert_allclose(reweight(histogram, own), fraction(histogram))


def test_reweight_spreads_the_prior_of_absent_classes():
    histogram = np.zeros((3, 102), dtype=np.int64)
    histogram[0, 1], histogram[1, 2] = 4, 9
    found = reweight(histogram, [0.25, 0.25, 0.5])
    assert (found[1], found[2]) == (0.5, 0.5)
    assert np.isnan(reweight(histogram, [0.0, 0.0, 1.0])).all()
