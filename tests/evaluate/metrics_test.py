"""Numbers for a classifier."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, top_k_accuracy_score

from jax_rcl.evaluate import metrics


def test_ranks_count_the_classes_before_the_true_one():
    scores = np.array([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])
    np.testing.assert_array_equal(metrics.ranks(scores, np.array([0, 1, 2])), [0, 2, 1])


def test_of_equal_scores_the_lower_class_comes_first_as_in_argmax():
    scores = np.zeros((4, 4))
    labels = np.arange(4)
    np.testing.assert_array_equal(metrics.ranks(scores, labels), labels)


def test_accuracies_agree_with_scikit_learn_where_nothing_is_equal():
    random = np.random.default_rng(0)
    scores, labels = random.normal(size=(200, 8)), random.integers(0, 8, 200)
    found = metrics.classification(scores, labels)
    for count in (1, 5):
        expected = top_k_accuracy_score(labels, scores, k=count, labels=range(8))
        assert found[f"top{count}"] == pytest.approx(expected)


def test_balanced_accuracy_weighs_classes_not_rows():
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    predicted = np.array([0, 0, 0, 0, 0, 0, 1, 0])
    assert metrics.balanced_accuracy(predicted, labels) == 0.75


def test_balanced_accuracy_is_over_classes_that_occur():
    # Class 2 is predicted but never true: it lowers the recall of class 1 and is not
    # itself counted.
    assert metrics.balanced_accuracy(np.array([0, 2]), np.array([0, 1])) == 0.5


def test_auroc_is_the_chance_of_the_right_order():
    labels = np.array([0, 0, 1, 1])
    # Of the four pairs: three in order, one not.
    assert metrics.auroc(np.array([0.1, 0.4, 0.35, 0.8]), labels) == 0.75
    assert metrics.auroc(np.zeros(4), labels) == 0.5


def test_auroc_is_the_same_whichever_of_the_two_classes_is_called_positive():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 50)
    logits = random.normal(size=(50, 2)) + np.eye(2)[labels]
    found = metrics.classification(logits, labels)
    assert found.keys() == {"top1", "balanced", "auroc"}
    # Class 0 as the positive one, and its probability as the score.
    probability = 1 / (1 + np.exp(logits[:, 1] - logits[:, 0]))
    assert found["auroc"] == pytest.approx(roc_auc_score(labels == 0, probability))
    assert 0.5 < found["auroc"] < 1


@pytest.mark.parametrize("only", [0, 1])
def test_auroc_of_one_class_is_an_error(only):
    with pytest.raises(ValueError, match="compares class 0 with class 1"):
        metrics.auroc(np.array([0.1, 0.4]), np.array([only, only]))


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (2, {"top1", "balanced", "auroc"}),
        (3, {"top1", "balanced"}),
        (5, {"top1", "balanced"}),
        (6, {"top1", "balanced", "top5"}),
    ],
)
def test_the_names_follow_from_the_number_of_classes(classes, names):
    scores, labels = np.eye(classes), np.arange(classes)
    numbers = metrics.classification(scores, labels)
    assert set(numbers) == names
    assert all(type(number) is float for number in numbers.values())
    assert set(numbers.values()) == {1.0}


@pytest.mark.parametrize("labels", [[], [0, 3], [-1, 0]])
def test_labels_must_be_classes(labels):
    with pytest.raises(ValueError, match=r"in \[0, 2\]"):
        metrics.classification(np.zeros((len(labels), 3)), np.array(labels, np.int32))


def test_clusters_stand_for_the_groups_that_get_most_rows_right():
    groups = np.array([4, 4, 4, 4, 7, 7, 7, 9, 9])
    clusters = np.array([0, 0, 0, 2, 0, 0, 2, 5, 2])
    # Cluster 0 holds two of group 7, but three of group 4: 7 gets what is left.
    found = metrics.match_clusters(groups, clusters)
    best = max(
        sum(groups == np.array(order)[np.searchsorted([0, 2, 5], clusters)])
        for order in itertools.permutations([4, 7, 9])
    )
    assert (found == groups).sum() == best == 5
    np.testing.assert_array_equal(found, [4, 4, 4, 7, 4, 4, 7, 9, 7])


def test_fewer_clusters_than_groups_leave_a_group_out():
    found = metrics.match_clusters(np.array([0, 0, 1]), np.array([3, 3, 3]))
    np.testing.assert_array_equal(found, [0, 0, 0])


def test_more_clusters_than_groups_are_an_error():
    with pytest.raises(ValueError, match="2 clusters cannot stand for 1 groups"):
        metrics.match_clusters(np.array([3, 3]), np.array([0, 1]))
