from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from lossbench.evaluation.selective import (
    area_under_generalized_risk_coverage_curve,
    area_under_risk_coverage_curve,
    errors_accepted,
    excess_area_under_risk_coverage_curve,
)
from tests.evaluation.test_calibration import spread

tied = st.tuples(st.sampled_from([0.2, 0.5, 0.9]), st.booleans())


def risks(correct) -> list[float]:
    """The error rate among the first 1, 2, ... N."""
    return [np.mean(np.logical_not(correct[:k])) for k in range(1, len(correct) + 1)]


@settings(deadline=None, max_examples=50)
@given(st.lists(tied, min_size=1, max_size=6))
def test_ties_are_the_mean_over_all_their_orders(drawn):
    confidence, correct = np.array([c for c, _ in drawn]), np.array([ok for _, ok in drawn])
    falling = [
        [correct[i] for i in order]
        for order in itertools.permutations(range(len(drawn)))
        if (np.diff(confidence[list(order)]) <= 0).all()
    ]
    errors = errors_accepted(confidence, correct)
    area = area_under_risk_coverage_curve(errors)
    assert area == pytest.approx(np.mean([risks(order) for order in falling]))
    best = np.mean(risks(sorted(correct.tolist(), reverse=True)))
    assert excess_area_under_risk_coverage_curve(errors) == pytest.approx(area - best, abs=1e-12)


def test_areas_against_torch_uncertainty():
    """torch-uncertainty 0.13.0, AURC() and AUGRC() in float64 on `spread`, as in test_calibration.

    There both are integrated by trapezoids from coverage 1/N to 1, and divided by 1 - 1/N.
    """
    errors = errors_accepted(*spread())
    first, last = errors[0], errors[-1] / 300
    from_aurc = (0.2248975465789176 * 299 + (first + last) / 2) / 300
    assert area_under_risk_coverage_curve(errors) == pytest.approx(from_aurc, abs=1e-9)
    from_augrc = (0.13307692280539277 * 299 + first / 300 / 2) / 300
    found = area_under_generalized_risk_coverage_curve(errors)
    assert found == pytest.approx(from_augrc, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(st.lists(tied, max_size=20))
def test_generalized_area_is_that_of_the_paper(drawn):
    """Traub et al. (2024): (1 - AUROC) a (1 - a) + (1 - a)^2 / 2, with ties as AUROC has them."""
    drawn = [*drawn, (0.5, True), (0.5, False)]
    confidence, correct = np.array([c for c, _ in drawn]), np.array([ok for _, ok in drawn])
    accuracy = correct.mean()
    expected = (1 - roc_auc_score(correct, confidence)) * accuracy * (1 - accuracy)
    expected += (1 - accuracy) ** 2 / 2
    found = area_under_generalized_risk_coverage_curve(errors_accepted(confidence, correct))
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("samples", [1, 7])
@pytest.mark.parametrize(("correct", "expected"), [(True, (0, 0, 0)), (False, (1, 0, 0.5))])
def test_all_right_and_all_wrong(samples, correct, expected):
    for confidence in (np.linspace(0.4, 1, samples), np.ones(samples)):
        errors = errors_accepted(confidence, np.full(samples, correct))
        found = (
            area_under_risk_coverage_curve(errors),
            excess_area_under_risk_coverage_curve(errors),
            area_under_generalized_risk_coverage_curve(errors),
        )
        assert found == expected
