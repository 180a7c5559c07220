"""Logistic regressions that are fitted all at once, against scikit-learn's."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jax_rcl.evaluate.linear.logistic_grid import Turned, logistic_grid

STRENGTHS = (0.1, 1.0, 100.0)


def data():
    """Features [90, 4] that go together, of unequal scale and far from zero; labels."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 90)
    x = random.normal(size=(3, 4))[labels] + random.normal(size=(90, 4))
    x[:, 1] += 3 * x[:, 0]
    x = x * np.array([0.2, 1, 5, 1]) + np.array([0, 5, 0, -3])
    return x.astype(np.float32), labels


def parts_of(labels):
    """A share of the rows, those of two classes, all of them."""
    some = np.arange(len(labels)) % 3 > 0
    return np.stack([some, labels != 1, np.ones_like(some)])


@pytest.fixture(scope="module")
def found():
    """Everything is fitted once."""
    x, labels = data()
    return logistic_grid(
        Turned.of(x), labels, parts_of(labels), classes=3, strengths=STRENGTHS
    )


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("place", range(3))
def test_weights_are_those_of_scikit_learn(found, part, place):
    x, labels = data()
    rows = parts_of(labels)[part]
    model = LogisticRegression(C=STRENGTHS[place], tol=1e-8, max_iter=10_000)
    model.fit(x[rows].astype(np.float64), labels[rows])
    weights, bias = found.weights[part, place].T, found.bias[part, place]
    assert found.converged[part, place]
    if part == 1:  # one vector for the difference of the two classes
        assert bias[1] == -np.inf
        np.testing.assert_array_equal(weights[1], 0)
        weights, bias = (weights[2] - weights[0])[None], (bias[2] - bias[0])[None]
    np.testing.assert_allclose(weights, model.coef_, atol=1e-3 * abs(model.coef_).max())
    gaps = model.intercept_ - model.intercept_[0]
    np.testing.assert_allclose(
        bias - bias[0], gaps, atol=2e-3 * max(1, abs(gaps).max())
    )
    scores = x @ found.weights[part, place] + found.bias[part, place]
    np.testing.assert_array_equal(scores.argmax(axis=1), model.predict(x))


def test_separable_classes_have_a_minimum_even_with_hardly_a_penalty():
    x, labels = data()
    x = x + 20 * np.eye(3, 4, dtype=np.float32)[labels]
    found = logistic_grid(
        Turned.of(x), labels, parts_of(labels), classes=3, strengths=(1.0, 1e4, 1e6)
    )
    assert found.converged.all()
    lengths = np.linalg.norm(found.weights[2], axis=(1, 2))
    assert lengths[0] < lengths[1] < lengths[2]


def test_too_few_iterations_are_reported():
    x, labels = data()
    found = logistic_grid(
        Turned.of(x),
        labels,
        parts_of(labels),
        classes=3,
        strengths=STRENGTHS,
        max_iterations=2,
    )
    assert not found.converged.any()


def test_rows_left_out_do_not_matter(found):
    x, labels = data()
    parts = parts_of(labels)
    changed = np.where(parts[0][:, None], x, x[::-1] + 1)
    labels = np.where(parts[0], labels, 0)
    other = logistic_grid(
        Turned.of(changed), labels, parts, classes=3, strengths=STRENGTHS
    )
    largest = abs(found.weights[0]).max()
    np.testing.assert_allclose(other.weights[0], found.weights[0], atol=2e-3 * largest)


def test_features_that_do_not_vary_or_repeat_others_are_no_problem(found):
    x, labels = data()
    x[:, 3], x[:, 1] = 7, 2 * x[:, 0]
    other = logistic_grid(
        Turned.of(x), labels, parts_of(labels), classes=3, strengths=STRENGTHS
    )
    assert other.converged.all()
    np.testing.assert_allclose(other.weights[:, :, 3], 0, atol=1e-4)
    first, second = other.weights[:, :, 0], other.weights[:, :, 1]
    np.testing.assert_allclose(second, 2 * first, atol=1e-3 * abs(second).max())
