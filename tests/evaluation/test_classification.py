from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics

from lossbench.errors import InputError
from lossbench.evaluation import classification

CLASSES = 5
pairs = st.lists(
    st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=40
)


def split(drawn: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    targets, predictions = np.array(drawn).T
    return (
        targets,
        predictions,
        classification.confusion_matrix(targets, predictions, CLASSES),
    )


@settings(deadline=None)
@given(pairs)
def test_against_sklearn_also_with_absent_classes(drawn):
    targets, predictions, confusion = split(drawn)
    labels = range(CLASSES)
    expected = sklearn_metrics.confusion_matrix(targets, predictions, labels=labels)
    np.testing.assert_array_equal(confusion, expected)
    assert classification.accuracy(confusion) == pytest.approx(
        sklearn_metrics.accuracy_score(targets, predictions)
    )
    recalls = sklearn_metrics.recall_score(
        targets, predictions, labels=labels, average=None, zero_division=np.nan
    )
    np.testing.assert_allclose(classification.recalls(confusion), recalls)
    assert classification.macro_f1(confusion) == pytest.approx(
        sklearn_metrics.f1_score(
            targets, predictions, labels=labels, average="macro", zero_division=0
        )
    )


@settings(deadline=None, max_examples=30)
@given(pairs, st.sampled_from([0.0, 0.001]))
def test_geometric_mean_against_imbalanced_learn(drawn, floor):
    from imblearn.metrics import geometric_mean_score

    drawn = drawn + [(c, c) for c in range(CLASSES - 1)] + [(CLASSES - 1, 0)]  # all present
    targets, predictions, confusion = split(drawn)
    assert classification.geometric_mean(confusion, floor) == pytest.approx(
        geometric_mean_score(targets, predictions, correction=floor)
    )


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label")
@settings(deadline=None)
@given(pairs)
def test_means_over_the_present_classes(drawn):
    targets, predictions, confusion = split(drawn)
    recall = [np.mean([p == c for t, p in drawn if t == c]) for c in sorted(set(targets.tolist()))]
    assert classification.balanced_accuracy(confusion) == pytest.approx(
        sklearn_metrics.balanced_accuracy_score(targets, predictions)
    )
    assert classification.geometric_mean(confusion) == pytest.approx(
        math.prod(recall) ** (1 / len(recall))
    )
    assert classification.worst_class_recall(confusion) == pytest.approx(min(recall))


def test_a_prediction_of_an_absent_class_is_no_class_of_recall_zero():
    targets, predictions = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    confusion = classification.confusion_matrix(targets, predictions, 3)
    np.testing.assert_array_equal(classification.recalls(confusion), [0.5, 1.0, np.nan])
    assert classification.balanced_accuracy(confusion) == 0.75
    assert classification.macro_f1(confusion) == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert classification.worst_class_recall(confusion) == 0.5


def test_geometric_mean_of_many_small_recalls_does_not_underflow():
    found, missed = 1, 999
    confusion = np.diag(np.full(400, found)) + np.diag(np.full(399, missed), k=1)
    confusion[-1, 0] = missed
    assert classification.geometric_mean(confusion) == pytest.approx(0.001)


def test_the_published_example_of_three_recalls():
    """reference: recalls (1, .5, .1) have ACSA .533 and G-mean .368."""
    confusion = np.array([[10, 0, 0], [5, 5, 0], [9, 0, 1]])
    assert classification.balanced_accuracy(confusion) == pytest.approx(0.533, abs=5e-4)
    assert classification.geometric_mean(confusion) == pytest.approx(0.368, abs=5e-4)


def test_small_integer_labels_do_not_overflow():
    targets = np.array([250, 3], dtype=np.uint8)
    confusion = classification.confusion_matrix(targets, targets, 251)
    assert (confusion[250, 250], confusion[3, 3], confusion.sum()) == (1, 1, 2)


@pytest.mark.parametrize("name", ["targets", "predictions"])
@pytest.mark.parametrize("bad", [-1, 3])
def test_classes_out_of_range_are_refused(name, bad):
    good = {"targets": np.array([0, 1]), "predictions": np.array([0, 1])}
    with pytest.raises(InputError, match=rf"{name} go from .*\[0, 2\]"):
        classification.confusion_matrix(**(good | {name: np.array([0, bad])}), num_classes=3)


def test_nothing_to_count_is_undefined_not_zero():
    nothing = np.zeros((3, 3), dtype=np.int64)
    for metric in ("accuracy", "balanced_accuracy", "geometric_mean", "worst_class_recall"):
        assert math.isnan(getattr(classification, metric)(nothing)), metric


@pytest.mark.parametrize(
    ("counts", "head", "mid", "tail"),
    [
        # LDAM's long tail of CIFAR-10 at factor 100: ranks [0, 3), [3, 7), [7, 10)
        (
            [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50],
            [0, 1, 2],
            [3, 4, 5, 6],
            [7, 8, 9],
        ),
        ([50, 500, 5], [1], [0], [2]),
        # a step: ties rank by class index
        ([10, 10, 1000, 10, 1000, 1000], [2, 4], [5, 0], [1, 3]),
        ([7, 7, 7, 7], [], [], []),
        ([9, 1], [], [], []),
    ],
)
def test_rank_groups(counts, head, mid, tail):
    groups = classification.rank_groups(counts)
    assert {name: classes.tolist() for name, classes in groups.items()} == {
        "head": head,
        "mid": mid,
        "tail": tail,
    }


def test_rank_groups_of_one_hundred_classes_are_those_published():
    counts = [int(500 * 0.01 ** (c / 99)) for c in range(100)]
    groups = classification.rank_groups(counts)
    assert [len(groups[g]) for g in classification.GROUPS] == [33, 34, 33]
    assert sorted(groups["head"].tolist()) == list(range(33))


def test_group_recalls_leave_absent_classes_out():
    #                      tail  head  mid   mid   head  tail
    counts = [1, 100, 20, 10, 90, 2]
    confusion = np.diag([0, 8, 5, 0, 6, 0])
    confusion[1, 2] = 2  # recall .8
    confusion[2, 1] = 5  # recall .5
    found = classification.group_recalls(confusion, classification.rank_groups(counts))
    assert found["head"] == pytest.approx((0.8 + 1.0) / 2)
    assert found["mid"] == pytest.approx(0.5)  # class 3 is absent
    assert math.isnan(found["tail"])  # classes 0 and 5 are absent


def test_group_recalls_of_equal_counts_are_undefined():
    groups = classification.rank_groups(np.full(6, 10))
    found = classification.group_recalls(np.eye(6, dtype=np.int64), groups)
    assert list(found) == ["head", "mid", "tail"]
    assert all(math.isnan(value) for value in found.values())


def test_shot_groups_at_their_borders():
    groups = classification.shot_groups([101, 100, 20, 19, 1000, 0])
    assert {name: classes.tolist() for name, classes in groups.items()} == {
        "many": [0, 4],
        "medium": [1, 2],
        "few": [3, 5],
    }


@pytest.mark.parametrize(("factor", "sizes"), [(100, [35, 35, 30]), (50, [41, 41, 18])])
def test_shot_groups_of_long_tailed_cifar_100_are_those_published(factor, sizes):
    counts = [int(500 * factor ** (-c / 99)) for c in range(100)]
    assert [len(classes) for classes in classification.shot_groups(counts).values()] == sizes


def test_absent_classes_are_counted():
    assert classification.absent_classes(np.array([[1, 2, 0], [0, 0, 0], [0, 0, 0]])) == 2


def test_prediction_prior_divergence_against_scipy():
    confusion = np.random.default_rng(0).integers(1, 9, (4, 4))
    prior = np.array([5, 1, 1, 3])
    expected = stats.entropy(confusion.sum(axis=0), prior)
    assert classification.prediction_prior_divergence(confusion, prior) == pytest.approx(expected)


def test_prediction_prior_divergence_at_its_ends():
    divergence = classification.prediction_prior_divergence
    assert divergence(np.diag([3, 1, 2]), [3, 1, 2]) == 0
    collapsed = np.array([[0, 5, 0], [0, 5, 0], [0, 5, 0]])
    assert divergence(collapsed, [1, 1, 1]) == pytest.approx(math.log(3))
    assert divergence(collapsed, [1, 1, 0]) == pytest.approx(math.log(2))
    assert math.isnan(divergence(collapsed, [1, 0, 1]))  # infinite
    assert math.isnan(divergence(np.zeros((3, 3), dtype=np.int64), [1, 1, 1]))
