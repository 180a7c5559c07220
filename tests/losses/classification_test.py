"""Cross entropies: the equations, smoothing and weights, their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl.losses.classification import (
    binary_cross_entropy,
    smoothed_cross_entropy,
    soft_cross_entropy,
)

LOGITS = np.random.default_rng(0).normal(size=(5, 4)) * 3
LABELS = np.asarray([0, 3, 1, 1, 2], np.int32)
SHARES = np.random.default_rng(1).dirichlet(np.ones(4), size=5)
smoothed = jax.jit(smoothed_cross_entropy, static_argnames="smoothing")


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_it_is_the_equation_and_its_gradient(smoothing):
    values, slopes = np.zeros(5), np.zeros((5, 4))
    for i, (logits, label) in enumerate(zip(LOGITS, LABELS, strict=True)):
        p = np.exp(logits) / np.exp(logits).sum()
        for k in range(4):
            target = (1 - smoothing) * (k == label) + smoothing / 4
            values[i] -= target * np.log(p[k])
            slopes[i, k] = p[k] - target

    def total(x):
        loss = smoothed_cross_entropy(x, jnp.asarray(LABELS), smoothing=smoothing)
        return loss.sum(), loss

    run = jax.jit(jax.value_and_grad(total, has_aux=True))
    with jax.enable_x64(True):
        (_, loss), gradient = run(jnp.asarray(LOGITS))
        np.testing.assert_allclose(loss, values, rtol=1e-10)
        np.testing.assert_allclose(gradient, slopes, atol=1e-10)
    (_, loss), gradient = run(jnp.asarray(LOGITS, jnp.float32))
    np.testing.assert_allclose(loss, values, rtol=1e-5)
    np.testing.assert_allclose(gradient, slopes, atol=1e-5)


def test_numbers_worked_out_by_hand():
    logits, labels = jnp.asarray([[1, 2, 0.5], [0, -1.0, 3]]), jnp.asarray([1, 0])
    hard = np.mean(smoothed(logits, labels))
    soft = np.mean(smoothed(logits, labels, smoothing=0.1))
    np.testing.assert_allclose([hard, soft], [1.7651263439, 1.7734596773], rtol=1e-6)


def test_equal_logits_cost_log_k():
    loss = smoothed(jnp.ones((2, 7)), jnp.asarray([0, 6]), smoothing=0.3)
    np.testing.assert_allclose(loss, np.log(7), rtol=1e-6)


def test_large_logits_in_bfloat16_stay_finite():
    logits = jnp.asarray([[1e4, -1e4, 0.0]], jnp.bfloat16)
    program = jax.value_and_grad(
        lambda x: smoothed_cross_entropy(x, jnp.asarray([1])).sum()
    )
    loss, gradient = jax.jit(program)(logits)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, 2e4, rtol=1e-2)
    assert np.isfinite(np.asarray(gradient, np.float32)).all()


@pytest.mark.parametrize("smoothing", [-0.1, 1.5])
def test_smoothing_is_a_share(smoothing):
    with pytest.raises(ValueError, match=f"smoothing {smoothing} must be in"):
        smoothed_cross_entropy(
            jnp.ones((1, 2)), jnp.zeros(1, jnp.int32), smoothing=smoothing
        )


@pytest.mark.parametrize("weights", [None, [1.0, 0.0, 2.5, 0.3]])
def test_soft_cross_entropy_is_the_equation_and_its_gradient(weights):
    values, slopes = np.zeros(5), np.zeros((5, 4))
    w = np.ones(4) if weights is None else np.asarray(weights)
    for i in range(5):
        p = np.exp(LOGITS[i]) / np.exp(LOGITS[i]).sum()
        values[i] = -sum(w[k] * SHARES[i, k] * np.log(p[k]) for k in range(4))
        slopes[i] = p * (w @ SHARES[i]) - w * SHARES[i]

    def total(logits, targets, w):
        loss = soft_cross_entropy(logits, targets, class_weights=w)
        return loss.sum(), loss

    run = jax.jit(jax.value_and_grad(total, has_aux=True))
    for wide, tolerance in ((True, 1e-10), (False, 1e-5)):
        with jax.enable_x64(wide):
            given = None if weights is None else jnp.asarray(weights)
            arrays = jnp.asarray(LOGITS), jnp.asarray(SHARES), given
            (_, loss), gradient = run(*arrays)
            np.testing.assert_allclose(loss, values, rtol=tolerance)
            np.testing.assert_allclose(gradient, slopes, atol=tolerance)


def test_soft_cross_entropy_worked_out_by_hand():
    logits = jnp.asarray([[1, 2, 0.5], [0, -1.0, 3]])
    targets = jnp.asarray([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]])
    loss = np.mean(jax.jit(soft_cross_entropy)(logits, targets))
    np.testing.assert_allclose(loss, 2.0401263228, rtol=1e-6)


def test_of_labels_it_is_the_cross_entropy_of_the_weighted_class():
    logits, labels = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(LABELS)
    weights, targets = np.float32([1.0, 0.0, 2.5, 0.3]), np.eye(4, dtype="f")[LABELS]
    hard = smoothed(logits, labels)
    soft = jax.jit(soft_cross_entropy)(logits, targets, class_weights=weights)
    np.testing.assert_allclose(soft, weights[labels] * hard, rtol=1e-5)


def test_binary_cross_entropy_is_the_equation_and_its_gradient():
    values, slopes = np.zeros(5), np.zeros((5, 4))
    for i in range(5):
        for k in range(4):
            p, t = 1 / (1 + np.exp(-LOGITS[i, k])), SHARES[i, k]
            values[i] -= (t * np.log(p) + (1 - t) * np.log(1 - p)) / 4
            slopes[i, k] = (p - t) / 4

    def total(logits, targets):
        loss = binary_cross_entropy(logits, targets)
        return loss.sum(), loss

    run = jax.jit(jax.value_and_grad(total, has_aux=True))
    for wide, tolerance in ((True, 1e-10), (False, 1e-5)):
        with jax.enable_x64(wide):
            (_, loss), gradient = run(jnp.asarray(LOGITS), jnp.asarray(SHARES))
            np.testing.assert_allclose(loss, values, rtol=tolerance)
            np.testing.assert_allclose(gradient, slopes, atol=tolerance)


def test_no_opinion_costs_log_two():
    targets = jnp.asarray([[0, 1, 0.5]] * 2)
    loss = jax.jit(binary_cross_entropy)(jnp.zeros((2, 3)), targets)
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)


@pytest.mark.parametrize("function", [soft_cross_entropy, binary_cross_entropy])
def test_the_others_stay_finite_in_bfloat16_too(function):
    logits = jnp.asarray([[1e4, -1e4, 0.0]], jnp.bfloat16)
    targets = jnp.asarray([[0.0, 1.0, 0.0]], jnp.bfloat16)
    program = jax.value_and_grad(lambda x: function(x, targets).sum())
    loss, gradient = jax.jit(program)(logits)
    assert loss.dtype == jnp.float32
    assert np.isfinite(loss)
    assert np.isfinite(np.asarray(gradient, np.float32)).all()
