"""Logistic regression stopped as released is scikit-learn's, on every part."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jax_rcl.evaluate.linear.cross_validated import CrossValidated
from jax_rcl.evaluate.linear.saga import saga_grid


def problem(classes=3, rows=40):
    random = np.random.default_rng(0)
    labels = np.arange(rows) % classes
    return random.normal(size=(rows, 4)) + labels[:, None], labels


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_are_those_of_scikit_learn_stopped_after_as_many_passes(classes):
    x, labels = problem(classes)
    parts = np.array([np.arange(40) < 30, np.arange(40) >= 0])
    settings = {"classes": classes, "strengths": (0.1, 1e4), "passes": 5}
    found = saga_grid(x, labels, parts, **settings)
    for place, strength in enumerate((0.1, 1e4)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = LogisticRegression(
                C=strength, solver="saga", max_iter=5, random_state=0
            ).fit(x[:30], labels[:30])
        scores = x @ found.weights[0, place] + found.bias[0, place]
        chances = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(chances, model.predict_proba(x), atol=1e-5)
    assert not found.converged.any()
    assert np.abs(found.weights[0] - found.weights[1]).max() > 1e-3


def test_a_class_without_a_row_is_never_found():
    x, labels = problem()
    settings = {"classes": 3, "strengths": (1.0,), "passes": 100}
    found = saga_grid(x, labels, (labels != 1)[None], **settings)
    assert found.bias[0, 0, 1] == -np.inf
    scores = x @ found.weights[0, 0] + found.bias[0, 0]
    assert set(scores.argmax(axis=1)) == {0, 2}


def test_a_linear_evaluation_stops_as_released_if_asked(blobs, encode, caplog):
    fields = {"strengths": (1.0, 1e3), "passes": 2, "solver": "saga", "batch_size": 8}
    evaluator = CrossValidated(blobs(40, seed=1), blobs(21, seed=2), **fields)
    numbers = evaluator.run(encode)
    assert numbers["converged"] == 0.0 and "had not converged" not in caplog.text
    assert "2 passes of saga" in evaluator.protocol
    whole = CrossValidated(evaluator.train, evaluator.test, batch_size=8)
    assert "saga" not in whole.protocol
    with pytest.raises(ValueError, match=r"solver 'saga' is of the logistic"):
        CrossValidated(evaluator.train, evaluator.test, solver="saga", family="sgd")
