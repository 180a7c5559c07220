"""The choice of a regularisation, against scikit-learn's grid search."""

import logging

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from threadpoolctl import threadpool_limits

from jax_rcl.evaluate.linear.grid import STRENGTHS, WEIGHT_DECAYS, LinearGrid
from jax_rcl.evaluate.linear.plain_sgd import PlainSgd


def digits():
    """Pixels of four digits as features [300, 64], labels; and as many for a test."""
    images, labels = load_digits(return_X_y=True)
    few = labels < 4
    images, labels = images[few].astype(np.float32), labels[few]
    return (images[:300], labels[:300]), (images[300:600], labels[300:600])


def one_task(grid, x, labels, classes):
    """The classifier chosen with all rows."""
    (chosen,) = grid.fit_tasks(x, [(labels, np.ones(len(x), bool))], classes=classes)
    return chosen


def test_agrees_with_the_grid_search_of_scikit_learn():
    (x, labels), (test, expected) = digits()
    strengths = (1e-5, 1e-4, 1e-3, 1e-2)
    search = GridSearchCV(
        LogisticRegression(tol=1e-6, max_iter=10_000),
        {"C": strengths},
        cv=3,
        scoring="balanced_accuracy",
    )
    with threadpool_limits(1):  # many small products
        search.fit(x.astype(np.float64), labels)
    chosen = one_task(LinearGrid(strengths=strengths), x, labels, 4)
    assert chosen.candidate == search.best_params_["C"]
    assert chosen.converged
    for fold in range(3):
        of_fold = search.cv_results_[f"split{fold}_test_score"]
        np.testing.assert_allclose(chosen.validation[fold], of_fold)
    assert chosen.numbers()["validation"] == pytest.approx(search.best_score_)
    predicted = chosen.scores(test).argmax(axis=1)
    assert (predicted == expected).mean() == search.best_estimator_.score(
        test, expected
    )


# Of the shapes and settings of cross_validated_test.py, so that programs are shared.
SGD = LinearGrid(
    family="sgd", weight_decays=(1e-3, 0.0), sgd=PlainSgd(batch=16, epochs=60)
)


def noisy():
    """Features [40, 9] and labels of three classes that they tell a little about."""
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 9)).astype(np.float32)
    scores = x[:, :3] + random.normal(size=(40, 3))
    return x, scores.argmax(axis=1).astype(np.int32)


def test_of_equals_the_first_in_the_grid_is_taken():
    x, labels = noisy()
    x[:, :3] = 9 * np.eye(3)[labels]
    chosen = one_task(LinearGrid(strengths=(1.0, 10.0)), x, labels, 3)
    assert chosen.validation.shape == (3, 2)
    assert (chosen.validation == 1).all()
    assert chosen.candidate == 1.0
    by_sgd = one_task(SGD, x, labels, 3)
    assert (by_sgd.validation == 1).all()
    assert by_sgd.candidate == 1e-3


def test_a_single_candidate_needs_no_folds():
    x = np.repeat(np.eye(2, dtype=np.float32), [3, 1], axis=0)
    chosen = one_task(LinearGrid(strengths=(2.0,)), x, np.array([0, 0, 0, 1]), 2)
    assert chosen.validation.shape == (0, 1)
    assert chosen.numbers() == {"chosen": 2.0, "converged": 1.0}
    np.testing.assert_array_equal(chosen.scores(x).argmax(axis=1), [0, 0, 0, 1])


def test_tasks_on_the_same_features_do_not_influence_each_other():
    (x, _), tasks = noisy(), []
    for seed in (1, 2):
        own = np.random.default_rng(seed)
        tasks.append((own.integers(0, 3, 40), own.random(40) < 0.8))
    grid = LinearGrid(strengths=(0.1, 1.0))
    both = grid.fit_tasks(x, tasks, classes=3)
    for task, chosen in zip(tasks, both, strict=True):
        (alone,) = grid.fit_tasks(x, [task], classes=3)
        np.testing.assert_array_equal(alone.weights, chosen.weights)
    labels, rows = tasks[1]
    model = LogisticRegression(C=both[1].candidate, tol=1e-8)
    model.fit(x[rows].astype(np.float64), labels[rows])
    np.testing.assert_allclose(both[1].weights, model.coef_.T, atol=1e-3)


def test_the_validation_is_a_table_for_a_picture():
    (x, labels), _ = digits()
    chosen = one_task(LinearGrid(strengths=(1e-5, 1e-4, 1e-3, 1e-2)), x, labels, 4)
    table = chosen.table()
    np.testing.assert_array_equal(table.values, chosen.validation.T)
    assert table.row_names == ("1e-05", "0.0001", "0.001", "0.01")
    assert table.column_names == ("fold 1", "fold 2", "fold 3")
    assert f"Chosen: {chosen.candidate:g}" in table.method


def test_the_best_at_the_edge_is_a_warning(caplog):
    (x, labels), _ = digits()
    with caplog.at_level(logging.WARNING):
        one_task(LinearGrid(strengths=(1e-7, 1e-6, 1e-5, 1e-4)), x, labels, 4)
    assert "the best of strengths, 0.0001, is at the edge" in caplog.text


def test_fits_that_were_not_done_are_a_warning(caplog):
    x, labels = noisy()
    with caplog.at_level(logging.WARNING):
        chosen = one_task(
            LinearGrid(strengths=(0.1, 1.0), max_iterations=1), x, labels, 3
        )
    assert not chosen.converged
    assert "fits with strengths 0.1, 1 had not converged when they ended" in caplog.text
    assert "0.1 was chosen. A larger max_iterations" in caplog.text


def test_sgd_that_diverges_is_an_error():
    x, labels = noisy()
    with pytest.raises(ValueError, match=r"diverged .* learning rate of 0\.1\. Lower"):
        one_task(SGD, 1e30 * x, labels, 3)


def test_the_family_follows_from_the_size():
    assert not LinearGrid().is_sgd(19_999)
    assert LinearGrid().is_sgd(20_000)
    assert (
        LinearGrid().candidates(5_994)
        == STRENGTHS
        == tuple(10.0**i for i in range(-1, 7))
    )
    assert LinearGrid().candidates(50_000) == WEIGHT_DECAYS
    assert LinearGrid(family="sgd").is_sgd(10)
    assert not LinearGrid(family="logistic").is_sgd(10**6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"strengths": ()},
        {"strengths": (1.0, 0.1)},
        {"weight_decays": ()},
        {"weight_decays": (0.1, 0.1)},
        {"folds": 1},
    ],
)
def test_grids_that_leave_no_choice_are_errors(wrong):
    with pytest.raises(ValueError, match=rf"LinearGrid\.{next(iter(wrong))}"):
        LinearGrid(**wrong)


def test_says_what_is_fitted_and_chosen():
    assert LinearGrid().describe("features", 5994) == (
        "logistic regression on 'features' of 5994 training images, C of 8 in [0.1, "
        "1e+06] chosen by balanced accuracy in 3 folds, L-BFGS to 1e-08"
    )
    single = LinearGrid(family="sgd", weight_decays=(0.1,), sgd=PlainSgd(epochs=9))
    assert single.describe("pooled", 10) == (
        "linear classifier on 'pooled' of 10 training images, weight decay 0.1, SGD of "
        "at most 9 epochs"
    )
