"""One-vs-rest decisions at fixed thresholds, against scikit-learn."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import precision_recall_curve, precision_score, recall_score

from lossbench.evaluation.precision_recall import THRESHOLDS, one_vs_rest_decisions

# 7 samples of 900 in the rarest class, none of class 5; a sample that is sure, and one that is torn
generator = np.random.default_rng(0)
TARGETS = np.repeat([0, 1, 2, 3, 4], [600, 200, 70, 23, 7])
LOGITS = generator.normal(0, 2, (900, 6)) + 3 * np.eye(6)[TARGETS]
LOGITS[0], LOGITS[1] = [800, 0, 0, 0, 0, 0], np.zeros(6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_counts_precision_and_recall_are_those_of_scikit_learn(dtype: type) -> None:
    logits = LOGITS.astype(dtype)
    probabilities = softmax(logits.astype(np.float64), axis=1)
    decisions = one_vs_rest_decisions(logits, TARGETS)
    for c in range(5):
        precision, recall, scores = precision_recall_curve(c == TARGETS, probabilities[:, c])
        found, wrong, left, missed, ours, own_recall = decisions.table(np.array([c]))
        for place, threshold in enumerate(THRESHOLDS):
            at = np.searchsorted(scores, threshold)  # the lowest score that counts as positive
            assert own_recall[place] == pytest.approx(recall[at], abs=1e-12)
            if at < len(scores):
                assert ours[place] == pytest.approx(precision[at], abs=1e-12)
            said = probabilities[:, c] >= threshold
            assert found[place] == (said & (c == TARGETS)).sum()
            assert wrong[place] == (said & (c != TARGETS)).sum()
        assert (found + missed == (c == TARGETS).sum()).all()
        assert (found + wrong + left + missed == 900).all()


def test_several_classes_together_are_the_macro_average() -> None:
    probabilities = softmax(LOGITS, axis=1)
    decisions = one_vs_rest_decisions(LOGITS, TARGETS)
    for classes in (np.arange(6), np.array([3, 4])):
        truth = TARGETS[:, None] == classes
        *_, precision, recall = decisions.table(classes)
        for place in (1, 20, 50, 90):
            said = probabilities[:, classes] >= THRESHOLDS[place]
            for ours, score in ((precision, precision_score), (recall, recall_score)):
                expected = score(truth, said, average="macro", zero_division=np.nan)
                assert ours[place] == pytest.approx(expected, abs=1e-12)
