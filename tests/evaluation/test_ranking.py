from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, roc_auc_score

from lossbench.evaluation import probabilities
from lossbench.evaluation.ranking import one_vs_rest

few_values = st.sampled_from([-1.0, -0.0, 0.0, 0.5])


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_against_sklearn_with_ties_and_absent_classes(data):
    samples, classes = data.draw(st.integers(1, 15)), data.draw(st.integers(1, 4))
    scores = data.draw(hnp.arrays(np.float32, (samples, classes), elements=few_values))
    targets = data.draw(hnp.arrays(np.int64, samples, elements=st.integers(0, classes - 1)))
    area, precision = one_vs_rest(scores, np.zeros(samples), targets)
    for c in range(classes):
        own = targets == c
        if 0 < own.sum() < samples:
            assert area[c] == pytest.approx(roc_auc_score(own, scores[:, c]))
        else:
            assert np.isnan(area[c])
        if own.any():
            assert precision[c] == pytest.approx(average_precision_score(own, scores[:, c]))
        else:
            assert np.isnan(precision[c])


def test_blocks_of_columns_are_the_whole(monkeypatch):
    generator = np.random.default_rng(0)
    logits, targets = generator.normal(size=(40, 7)), generator.integers(0, 7, 40)
    normaliser = generator.normal(size=40)
    whole = one_vs_rest(logits, normaliser, targets)
    monkeypatch.setattr(probabilities, "BLOCK", 80)  # two columns at once, then one
    np.testing.assert_array_equal(one_vs_rest(logits, normaliser, targets), whole)
