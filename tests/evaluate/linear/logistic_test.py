"""Logistic regression against scikit-learn's."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jax_rcl.evaluate.linear.logistic import logistic_regression

STRENGTHS = (1e-4, 1e-2, 1.0)


def data(classes):
    """Features [60, 5] of unequal scale, labels, and the rows to fit on."""
    random = np.random.default_rng(classes)
    labels = random.integers(0, classes, 60).astype(np.int32)
    centres = random.normal(size=(classes, 5))
    x = centres[labels] + random.normal(size=(60, 5))
    scale, offset = np.array([0.1, 1, 10, 1, 1]), np.array([0, 5, 0, 0, -3])
    return (x * scale + offset).astype(np.float32), labels, np.arange(60) % 6 > 0


@pytest.fixture(scope="module", params=[2, 3])
def case(request):
    """Data of two and of three classes, and what is fitted to it."""
    x, labels, rows = data(request.param)
    fits = logistic_regression(
        x, labels, rows=rows, classes=request.param, strengths=STRENGTHS
    )
    return x, labels, rows, fits


def standardised(x, rows):
    """In float64, independently."""
    x = x.astype(np.float64)
    return (x - x[rows].mean(0)) / x[rows].std(0)


def reference(x, labels, rows, strength):
    """Scikit-learn's fit of the same objective."""
    inverse = 1 / (strength * rows.sum())
    if len(np.unique(labels)) == 2:
        inverse *= 2
    model = LogisticRegression(C=inverse, tol=1e-8, max_iter=10_000)
    return model.fit(standardised(x, rows)[rows], labels[rows])


def objective(x, labels, weights, bias, strength):
    """Mean cross-entropy and penalty in float64."""
    scores = x @ weights + bias
    top = scores.max(axis=1)
    log_sum = top + np.log(np.exp(scores - top[:, None]).sum(axis=1))
    entropy = log_sum - scores[np.arange(len(x)), labels]
    return entropy.mean() + strength / 2 * (weights**2).sum()


@pytest.mark.parametrize("place", range(3))
def test_reaches_scikit_learns_minimum(case, place):
    x, labels, rows, fits = case
    fit, strength = fits[place], STRENGTHS[place]
    model = reference(x, labels, rows, strength)
    weights, bias = model.coef_.T, model.intercept_
    if weights.shape[1] == 1:  # one vector for the difference of the two classes
        weights = np.concatenate([-weights, weights], axis=1) / 2
        bias = np.concatenate([-bias, bias]) / 2
    least = objective(
        standardised(x, rows)[rows], labels[rows], weights, bias, strength
    )
    assert fit.converged
    assert fit.strength == strength
    assert fit.loss == pytest.approx(least, abs=1e-5)
    np.testing.assert_allclose(fit.weights, weights, atol=2e-2 * abs(weights).max())


@pytest.mark.parametrize("place", range(3))
def test_predicts_what_scikit_learn_predicts(case, place):
    x, labels, rows, fits = case
    model = reference(x, labels, rows, STRENGTHS[place])
    scores = fits[place].scores(x).astype(np.float64)
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = model.predict_proba(standardised(x, rows))
    np.testing.assert_allclose(
        odds / odds.sum(axis=1, keepdims=True), probabilities, atol=5e-3
    )
    clear = np.sort(probabilities, axis=1)[:, -2:] @ [-1, 1] > 0.02
    np.testing.assert_array_equal(
        fits[place].predict(x)[clear], model.predict(standardised(x, rows))[clear]
    )


def test_the_reported_loss_is_the_objective(case):
    x, labels, rows, fits = case
    for fit in fits:
        again = objective(
            standardised(x, rows)[rows],
            labels[rows],
            fit.weights,
            fit.bias,
            fit.strength,
        )
        assert fit.loss == pytest.approx(again, abs=1e-6)


def test_a_strength_does_not_depend_on_the_other_candidates(case):
    x, labels, rows, fits = case
    classes = fits[0].weights.shape[1]
    (alone,) = logistic_regression(
        x, labels, rows=rows, classes=classes, strengths=STRENGTHS[1:2]
    )
    np.testing.assert_array_equal(alone.weights, fits[1].weights)


def test_rows_left_out_do_not_matter():
    x, labels, rows = data(3)
    changed = np.where(rows[:, None], x, np.float32(1e3))
    settings = {"rows": rows, "classes": 3, "strengths": (1e-2,)}
    (fit,) = logistic_regression(x, labels, **settings)
    (other,) = logistic_regression(changed, labels, **settings)
    np.testing.assert_allclose(other.weights, fit.weights, atol=1e-6)


def test_features_that_do_not_vary_get_no_weight():
    x, labels, rows = data(3)
    x[:, 1] = 0.1
    # Constant up to the last bit, as a saturated unit is.
    x[:, 3] = np.where(labels == 0, np.float32(7), np.nextafter(np.float32(7), 8))
    (fit,) = logistic_regression(x, labels, rows=rows, classes=3, strengths=(1e-3,))
    assert abs(fit.weights[[1, 3]]).max() < 1e-2
    assert fit.scale[1] == fit.scale[3] == 1


def test_too_few_iterations_are_reported():
    x, labels, rows = data(3)
    (fit,) = logistic_regression(
        x, labels, rows=rows, classes=3, strengths=(1e-4,), max_iterations=2
    )
    assert not fit.converged
    assert fit.iterations == 2


def test_one_class_is_an_error():
    x, labels, rows = data(3)
    with pytest.raises(ValueError, match=r"show only the classes \[1\]"):
        logistic_regression(
            x, np.ones_like(labels), rows=rows, classes=3, strengths=(1e-2,)
        )
