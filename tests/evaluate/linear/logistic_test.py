"""Logistic regressions for a probe and for a grid, against scikit-learn's."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from jax_rcl.evaluate.linear.logistic import (
    PrincipalAxes,
    logistic_grid,
    logistic_probe,
)
from jax_rcl.evaluate.linear.probe import standardise


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads of scikit-learn and scipy only wait for each other in small products."""
    with threadpool_limits(1):
        yield


# The probe: a penalty on the mean loss of standardised features.

WEIGHTS = (1e-4, 1e-2, 1.0)


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
    """Standardised data of two and of three classes, and what is fitted to it."""
    x, labels, rows = data(request.param)
    z, _, _ = standardise(x, rows)
    fits = logistic_probe(z, labels, rows, classes=request.param, strengths=WEIGHTS)
    return z, labels, rows, fits


def test_standardised_rows_have_mean_zero_and_deviation_one():
    x, _, rows = data(3)
    expected = (x - x[rows].mean(0, np.float64)) / x[rows].std(0, dtype=np.float64)
    z, mean, scale = standardise(x, rows)
    np.testing.assert_allclose(z, expected, atol=1e-5)
    np.testing.assert_array_equal((x - mean) / scale, z)


def objective(parameters, x, labels, strength):
    """Mean cross-entropy and penalty in float64, and their gradient [(f + 1) k]."""
    parameters = parameters.reshape(x.shape[1] + 1, -1)
    weights, every = parameters[:-1], np.arange(len(x))
    scores = x @ weights + parameters[-1]
    logs = scores - logsumexp(scores, axis=1, keepdims=True)
    residuals = np.exp(logs)
    residuals[every, labels] -= 1
    value = -logs[every, labels].mean() + strength / 2 * (weights**2).sum()
    ones = np.ones((len(x), 1))
    gradient = np.hstack([x, ones]).T @ residuals / len(x)
    gradient[:-1] += strength * weights
    return value, gradient.ravel()


def parameters_of(fits, place):
    """Weights of the fit of one strength, and its bias as the last row."""
    return np.vstack([fits.weights[0, place], fits.bias[0, place]]).astype(np.float64)


def test_separable_digits_are_at_the_minimum_with_a_weak_and_a_strong_penalty():
    images, labels = load_digits(return_X_y=True)
    every = np.ones(400, bool)
    z, _, _ = standardise(images[:400].astype(np.float32), every)
    labels, strengths = labels[:400].astype(np.int32), (1e-6, 1e-2)
    fits = logistic_probe(z, labels, every, classes=10, strengths=strengths)
    assert fits.converged.all()
    limits = {"maxiter": 9999, "maxfun": 9999, "ftol": 1e-15, "gtol": 1e-10}
    for place, strength in enumerate(strengths):
        problem = z.astype(np.float64), labels, strength
        least = minimize(
            *(objective, np.zeros(650), problem, "L-BFGS-B"),
            jac=True,
            options=limits | {"maxcor": 30},
        )
        value, _ = objective(parameters_of(fits, place), *problem)
        assert value == pytest.approx(least.fun, rel=5e-6)


@pytest.mark.parametrize("place", range(3))
def test_a_probe_is_at_scikit_learns_minimum(case, place):
    z, labels, rows, fits = case
    strength, z = WEIGHTS[place], z.astype(np.float64)
    inverse = 1 / (strength * rows.sum())
    if len(np.unique(labels)) == 2:  # one vector for the difference of the two
        inverse *= 2
    model = LogisticRegression(C=inverse, tol=1e-8, max_iter=10_000)
    model.fit(z[rows], labels[rows])
    least = np.vstack([model.coef_.T, model.intercept_])
    if least.shape[1] == 1:
        least = np.concatenate([-least, least], axis=1) / 2
    problem, weights = (z[rows], labels[rows], strength), least[:-1]
    value, _ = objective(parameters_of(fits, place), *problem)
    assert value == pytest.approx(objective(least, *problem)[0], rel=2e-6)
    assert fits.converged[0, place]
    found = fits.weights[0, place]
    np.testing.assert_allclose(found, weights, atol=2e-2 * abs(weights).max())
    scores = z @ found + fits.bias[0, place]
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = model.predict_proba(z)
    np.testing.assert_allclose(
        odds / odds.sum(axis=1, keepdims=True), probabilities, atol=5e-3
    )


def test_no_entry_of_the_gradient_is_larger_than_the_tolerance(case):
    z, labels, rows, fits = case
    for place, strength in enumerate(WEIGHTS):
        problem = z[rows].astype(np.float64), labels[rows], strength
        _, gradient = objective(parameters_of(fits, place), *problem)
        assert abs(gradient).max() < 1.2e-5


def test_a_strength_does_not_depend_on_the_other_candidates(case):
    z, labels, rows, fits = case
    classes = fits.weights.shape[-1]
    alone = logistic_probe(z, labels, rows, classes=classes, strengths=WEIGHTS[1:2])
    np.testing.assert_array_equal(alone.weights[:, 0], fits.weights[:, 1])


def test_rows_that_a_probe_omits_do_not_matter(case):
    z, labels, rows, fits = case
    changed = np.where(rows[:, None], z, np.float32(1e3))
    settings = {"classes": fits.weights.shape[-1], "strengths": WEIGHTS[1:2]}
    other = logistic_probe(changed, labels, rows, **settings)
    np.testing.assert_allclose(other.weights[:, 0], fits.weights[:, 1], atol=1e-6)


def test_features_that_do_not_vary_get_no_weight():
    x, labels, rows = data(3)
    x[:, 1] = 0.1
    # Constant up to the last bit, as a saturated unit is.
    x[:, 3] = np.where(labels == 0, np.float32(7), np.nextafter(np.float32(7), 8))
    z, _, scale = standardise(x, rows)
    fit = logistic_probe(z, labels, rows, classes=3, strengths=(1e-3,))
    assert abs(fit.weights[0, 0, [1, 3]]).max() < 1e-2
    assert scale[1] == scale[3] == 1


def test_a_probe_with_too_few_iterations_has_not_converged(case):
    z, labels, rows, fits = case
    classes = fits.weights.shape[-1]
    limits = {"strengths": WEIGHTS[:1], "max_iterations": 2}
    found = logistic_probe(z, labels, rows, classes=classes, **limits)
    assert not found.converged.any()


# The grid: scikit-learn's own objective, for many parts and strengths at once.

STRENGTHS = (0.1, 1.0, 100.0)


def correlated():
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
    x, labels = correlated()
    return logistic_grid(
        PrincipalAxes.of(x), labels, parts_of(labels), classes=3, strengths=STRENGTHS
    )


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("place", range(3))
def test_weights_are_those_of_scikit_learn(found, part, place):
    x, labels = correlated()
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
    x, labels = correlated()
    x = x + 20 * np.eye(3, 4, dtype=np.float32)[labels]
    found = logistic_grid(
        PrincipalAxes.of(x),
        labels,
        parts_of(labels),
        classes=3,
        strengths=(1.0, 1e4, 1e6),
    )
    assert found.converged.all()
    lengths = np.linalg.norm(found.weights[2], axis=(1, 2))
    assert lengths[0] < lengths[1] < lengths[2]


def test_a_grid_with_too_few_iterations_has_not_converged():
    x, labels = correlated()
    found = logistic_grid(
        PrincipalAxes.of(x),
        labels,
        parts_of(labels),
        classes=3,
        strengths=STRENGTHS,
        max_iterations=2,
    )
    assert not found.converged.any()


def test_rows_that_a_part_omits_do_not_matter(found):
    x, labels = correlated()
    parts = parts_of(labels)
    changed = np.where(parts[0][:, None], x, x[::-1] + 1)
    labels = np.where(parts[0], labels, 0)
    other = logistic_grid(
        PrincipalAxes.of(changed), labels, parts, classes=3, strengths=STRENGTHS
    )
    largest = abs(found.weights[0]).max()
    np.testing.assert_allclose(other.weights[0], found.weights[0], atol=2e-3 * largest)


def test_features_that_do_not_vary_or_repeat_others_are_no_problem(found):
    x, labels = correlated()
    x[:, 3], x[:, 1] = 7, 2 * x[:, 0]
    other = logistic_grid(
        PrincipalAxes.of(x), labels, parts_of(labels), classes=3, strengths=STRENGTHS
    )
    assert other.converged.all()
    np.testing.assert_allclose(other.weights[:, :, 3], 0, atol=1e-4)
    first, second = other.weights[:, :, 0], other.weights[:, :, 1]
    np.testing.assert_allclose(second, 2 * first, atol=1e-3 * abs(second).max())
