"""Folds against scikit-learn's, and classifiers scored on them."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold

from jax_rcl.evaluate import metrics
from jax_rcl.evaluate.linear.choice import hold_out_share, split_folds, validate
from jax_rcl.evaluate.linear.logistic import Solutions


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_folds_are_those_of_scikit_learn_without_shuffling(folds):
    labels = np.random.default_rng(0).integers(0, 4, 50)
    held = split_folds(labels, np.ones(50, bool), folds)
    splits = StratifiedKFold(folds).split(np.zeros(50), labels)
    for own, (_, test) in zip(held, splits, strict=True):
        np.testing.assert_array_equal(np.flatnonzero(own), test)


def test_only_the_rows_that_count_are_shared_out():
    labels = np.random.default_rng(0).integers(0, 4, 50)
    rows = np.random.default_rng(1).random(50) < 0.8
    held = split_folds(labels, rows, 3)
    np.testing.assert_array_equal(held.sum(axis=0), rows)
    alone = split_folds(labels[rows], np.ones(rows.sum(), bool), 3)
    np.testing.assert_array_equal(held[:, rows], alone)


def test_no_folds_hold_nothing_out():
    assert split_folds(np.array([0, 1]), np.ones(2, bool), 0).shape == (0, 2)


def test_a_rare_class_is_held_out_by_some_folds():
    labels = np.array([0] * 6 + [1] * 2)
    with pytest.warns(UserWarning, match="only 2 members, .* less than n_splits=3"):
        held = split_folds(labels, np.ones(8, bool), 3)
    assert held[:, labels == 1].sum(axis=0).tolist() == [1, 1]
    assert sorted(held[:, labels == 1].sum(axis=1)) == [0, 1, 1]


def test_one_class_or_none_as_large_as_the_folds_is_an_error():
    with pytest.raises(ValueError, match=r"4 images to fit on show only .* \[1\]"):
        split_folds(np.array([1, 1, 1, 1, 0]), np.arange(5) < 4, 3)
    with pytest.raises(ValueError, match="each of the 3 folds; the largest has 2"):
        split_folds(np.array([0, 0, 1, 1]), np.ones(4, bool), 3)


def test_each_candidate_is_scored_on_what_its_fold_holds_out():
    random = np.random.default_rng(0)
    x = random.normal(size=(20, 3)).astype(np.float32)
    labels = random.integers(0, 4, 20)
    held = split_folds(labels, np.ones(20, bool), 2)
    weights = random.normal(size=(3, 5, 3, 4)).astype(np.float32)
    bias = random.normal(size=(3, 5, 4)).astype(np.float32)
    bias[..., 3] = -np.inf
    found = validate(
        *(jnp.asarray(x), labels, held),
        Solutions(weights, bias, np.ones((3, 5), bool)),
        metrics.balanced_accuracy,
    )
    assert found.shape == (2, 5)
    for fold, place in np.ndindex(2, 5):
        scores = x[held[fold]] @ weights[fold, place] + bias[fold, place]
        expected = balanced_accuracy_score(labels[held[fold]], scores.argmax(axis=1))
        assert found[fold, place] == pytest.approx(expected)


def test_each_class_gives_its_share():
    labels = np.repeat([0, 1, 2, 3], [40, 20, 3, 1])
    held = hold_out_share(labels, share=0.1, seed=0)
    np.testing.assert_array_equal(np.bincount(labels[held], minlength=4), [4, 2, 1, 0])
    np.testing.assert_array_equal(held, hold_out_share(labels, share=0.1, seed=0))
    assert (held != hold_out_share(labels, share=0.1, seed=1)).any()


def test_nothing_to_hold_out_is_an_error():
    with pytest.raises(ValueError, match="single strength"):
        hold_out_share(np.array([0, 1, 2]), share=0.1, seed=0)
