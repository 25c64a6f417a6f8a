from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import integrate, optimize, special

from lossbench.evaluation.calibration import (
    adaptive_bins,
    brier_score,
    classwise_calibration_error,
    classwise_gaps,
    expected_calibration_error,
    kolmogorov_smirnov_calibration_error,
    reliability_bins,
    smooth_calibration_error,
)

EDGES = [k / 15 for k in range(16)]
on_or_off_an_edge = st.one_of(st.floats(0, 1), st.sampled_from(EDGES))


def bin_of(p: float, bins: int = 15) -> int:
    """The obvious reading of (k/B, (k+1)/B], 0 into the first."""
    return next(k for k in range(bins) if p <= (k + 1) / bins)


def slow_expected_calibration_error(confidence, correct) -> float:
    total = 0.0
    for b in range(15):
        inside = [i for i, p in enumerate(confidence) if bin_of(p) == b]
        if inside:
            accuracy = sum(bool(correct[i]) for i in inside) / len(inside)
            mean_confidence = sum(confidence[i] for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - mean_confidence)
    return total


def slow_classwise_calibration_error(probabilities, targets) -> float:
    samples, classes = probabilities.shape
    per_class = []
    for c in range(classes):
        total = 0.0
        for b in range(15):
            inside = [i for i in range(samples) if bin_of(probabilities[i, c]) == b]
            if inside:
                frequency = sum(targets[i] == c for i in inside) / len(inside)
                mean = sum(probabilities[i, c] for i in inside) / len(inside)
                total += len(inside) / samples * abs(frequency - mean)
        per_class.append(total)
    return sum(per_class) / classes


@settings(deadline=None)
@given(
    st.lists(st.tuples(on_or_off_an_edge, st.booleans()), min_size=1, max_size=60),
)
def test_expected_calibration_error_against_the_loop(drawn):
    confidence = np.array([p for p, _ in drawn])
    correct = np.array([hit for _, hit in drawn])
    found = expected_calibration_error(reliability_bins(confidence, correct))
    assert found == pytest.approx(slow_expected_calibration_error(confidence, correct), abs=1e-12)


@settings(deadline=None)
@given(st.data())
def test_classwise_calibration_error_against_the_loop(data):
    samples, classes = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 4))
    # Need not sum to 1 for the estimator; so edges can be drawn for every class.
    probabilities = data.draw(
        hnp.arrays(np.float64, (samples, classes), elements=on_or_off_an_edge)
    )
    targets = data.draw(hnp.arrays(np.int64, samples, elements=st.integers(0, classes - 1)))
    expected = slow_classwise_calibration_error(probabilities, targets)
    cut = data.draw(st.integers(0, samples))  # gaps of blocks of rows add up
    gaps = sum(classwise_gaps(probabilities[b], targets[b]) for b in (slice(cut), slice(cut, None)))
    assert classwise_calibration_error(gaps, samples) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("k", range(1, 15))
def test_an_edge_belongs_to_the_bin_below_it(k):
    edge = k / 15
    confidence = np.array([edge, np.nextafter(edge, 1)])
    count = reliability_bins(confidence, np.array([True, True]))[:, 0]
    assert count[k - 1] == count[k] == 1


def test_zero_is_in_the_first_bin_and_one_in_the_last():
    table = reliability_bins(np.array([0.0, 1.0, 1.0]), np.array([False, True, False]))
    assert table.shape == (15, 3)
    np.testing.assert_array_equal(table[0], [1, 0.0, 0.0])
    np.testing.assert_array_equal(table[14], [2, 1.0, 0.5])
    np.testing.assert_array_equal(table[1:14, 0], np.zeros(13))
    assert np.isnan(table[1:14, 1:]).all()


def test_one_sample():
    table = reliability_bins(np.array([0.7]), np.array([True]))
    assert expected_calibration_error(table) == pytest.approx(0.3)
    probabilities = np.array([[0.7, 0.2, 0.1]])
    found = classwise_calibration_error(classwise_gaps(probabilities, np.array([0])), 1)
    assert found == pytest.approx((0.3 + 0.2 + 0.1) / 3)


def test_all_targets_of_one_class():
    probabilities = np.tile([0.9, 0.1], (10, 1))
    targets = np.zeros(10, dtype=np.int64)
    # the class that never occurs got probability 0.1
    gaps = classwise_gaps(probabilities, targets)
    assert classwise_calibration_error(gaps, 10) == pytest.approx(0.1)


def test_certain_and_right_is_zero_everywhere():
    targets = np.array([0, 1, 2, 1])
    certain = np.eye(3)[targets]
    assert brier_score(certain, targets) == 0
    assert classwise_calibration_error(classwise_gaps(certain, targets), 4) == 0
    assert expected_calibration_error(reliability_bins(certain.max(axis=1), targets >= 0)) == 0


def test_bins_without_samples_have_no_calibration_error():
    nothing = reliability_bins(np.empty(0), np.empty(0, dtype=bool))
    assert math.isnan(expected_calibration_error(nothing))


def test_number_of_bins_can_be_chosen():
    table = reliability_bins(np.array([0.5, 0.51]), np.array([True, False]), bins=2)
    np.testing.assert_array_equal(table, [[1, 0.5, 1.0], [1, 0.51, 0.0]])


def test_brier_score_against_the_loop_and_sklearn():
    from sklearn.metrics import brier_score_loss

    generator = np.random.default_rng(0)
    probabilities = special.softmax(generator.normal(size=(60, 4), scale=3), axis=1)
    targets = generator.integers(0, 4, 60)
    expected = np.mean(
        [
            sum((p[c] - (c == y)) ** 2 for c in range(4))
            for p, y in zip(probabilities, targets, strict=True)
        ]
    )
    found = brier_score(probabilities, targets)
    assert found == pytest.approx(expected)
    assert found == pytest.approx(brier_score_loss(targets, probabilities, labels=range(4)))


def test_brier_score_goes_up_to_two():
    assert brier_score(np.array([[1.0, 0.0]]), np.array([1])) == 2


def spread() -> tuple[np.ndarray, np.ndarray]:
    """300 confidences between .3 and 1, all different, and whether each was right: 216 were."""
    i = np.arange(300)
    confidence = 0.3 + 0.7 * (i * 137 % 300 + 0.5) / 300
    return confidence, ((i * i * 7 + i * 3) % 11 < 6) | (confidence > 0.9)


def test_binned_errors_against_other_implementations():
    """On `spread`, as probabilities (p, (1-p)/3, (1-p)/3, (1-p)/3) of class 0.

    netcal 1.4.0: ECE(15).measure(probabilities, targets), ECE(15, equal_intervals=False).
    torch-uncertainty 0.13.0 gives the second too: AdaptiveCalibrationError, num_bins=15, norm="l1".
    """
    confidence, correct = spread()
    equal_width = expected_calibration_error(reliability_bins(confidence, correct))
    equal_mass = expected_calibration_error(adaptive_bins(confidence, correct))
    assert equal_width == pytest.approx(0.20879444444444445, abs=1e-12)
    assert equal_mass == pytest.approx(0.21044444444444446, abs=1e-12)


def test_adaptive_bins_are_equal_as_far_as_ties_allow():
    confidence, correct = spread()
    assert (adaptive_bins(confidence, correct)[:, 0] == 20).all()
    tied = np.repeat([0.5, 0.9], [200, 100])
    table = adaptive_bins(tied, correct)
    assert sorted(table[:, 0].tolist()) == [0.0] * 13 + [100.0, 200.0]


def slow_smooth_calibration_error(confidence, correct) -> float:
    """The definition, by quadrature: normal densities folded back into [0, 1] by images."""
    t = np.linspace(0, 1, 1001)[:, None]

    def at(sigma: float) -> float:
        distances = [t - sign * confidence - 2 * k for k in range(-3, 4) for sign in (1, -1)]
        kernel = sum(np.exp(-((d / sigma) ** 2) / 2) for d in distances)
        density = kernel @ (correct - confidence) / (sigma * math.sqrt(2 * math.pi))
        return integrate.trapezoid(np.abs(density), t[:, 0]) / len(confidence)

    return optimize.brentq(lambda sigma: at(sigma) - sigma, 5e-3, 1.0, xtol=1e-6)


def drawn_confidences(samples: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    z = np.abs(2 * generator.normal(size=samples))
    correct = generator.random(samples) < special.expit(z / temperature)
    return special.expit(z), correct


@pytest.mark.parametrize(
    "drawn",
    [
        (spread()[0][:100], spread()[1][:100]),
        drawn_confidences(100, 2.0),
        drawn_confidences(100, 1.0),
        (np.full(20, 0.99), np.zeros(20, dtype=bool)),  # wide, reflected at both ends many times
        (np.array([0.7]), np.array([True])),
    ],
)
def test_smooth_calibration_error_against_the_definition(drawn):
    assert smooth_calibration_error(*drawn) == pytest.approx(
        slow_smooth_calibration_error(*drawn), abs=2e-4
    )


@pytest.mark.parametrize(("samples", "temperature"), [(500, 1.0), (5000, 1.0), (5000, 2.0)])
def test_smooth_calibration_error_against_relplot(samples, temperature):
    """relplot looks for sigma in steps of 1/1024, and integrates over 200 points."""
    from relplot import smECE

    confidence, correct = drawn_confidences(samples, temperature)
    assert smooth_calibration_error(confidence, correct) == pytest.approx(
        smECE(confidence, correct.astype(float)), abs=1e-3
    )


@settings(deadline=None)
@given(st.lists(st.tuples(on_or_off_an_edge, st.booleans()), min_size=1, max_size=30))
def test_kolmogorov_smirnov_calibration_error_against_the_loop(drawn):
    confidence, correct = np.array(drawn).T
    expected = max(
        abs(np.mean((correct - confidence) * (confidence <= t))) for t in confidence.tolist()
    )
    found = kolmogorov_smirnov_calibration_error(confidence, correct.astype(bool))
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("hit", [True, False])
@pytest.mark.parametrize("confidence", [0.0, 0.4, 1.0])
def test_one_confidence_is_off_by_the_same_under_every_error_without_fixed_bins(confidence, hit):
    drawn = np.full(7, confidence), np.full(7, hit)
    off = abs(hit - confidence)
    assert expected_calibration_error(adaptive_bins(*drawn)) == pytest.approx(off)
    assert kolmogorov_smirnov_calibration_error(*drawn) == pytest.approx(off)
    # one residual, smoothed to a density of the same mass
    assert smooth_calibration_error(*drawn) == pytest.approx(off, abs=1e-6)
