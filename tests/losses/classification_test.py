"""Cross entropy: the equation, smoothing, its limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl.losses.classification import smoothed_cross_entropy

LOGITS = np.random.default_rng(0).normal(size=(5, 4)) * 3
LABELS = np.asarray([0, 3, 1, 1, 2], np.int32)


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

    run = jax.value_and_grad(total, has_aux=True)
    with jax.enable_x64(True):
        (_, loss), gradient = run(jnp.asarray(LOGITS))
        np.testing.assert_allclose(loss, values, rtol=1e-10)
        np.testing.assert_allclose(gradient, slopes, atol=1e-10)
    (_, loss), gradient = run(jnp.asarray(LOGITS, jnp.float32))
    np.testing.assert_allclose(loss, values, rtol=1e-5)
    np.testing.assert_allclose(gradient, slopes, atol=1e-5)


def test_numbers_worked_out_by_hand():
    logits, labels = jnp.asarray([[1, 2, 0.5], [0, -1.0, 3]]), jnp.asarray([1, 0])
    hard = smoothed_cross_entropy(logits, labels).mean()
    soft = smoothed_cross_entropy(logits, labels, smoothing=0.1).mean()
    np.testing.assert_allclose([hard, soft], [1.7651263439, 1.7734596773], rtol=1e-6)


def test_equal_logits_cost_log_k():
    loss = smoothed_cross_entropy(jnp.ones((2, 7)), jnp.asarray([0, 6]), smoothing=0.3)
    np.testing.assert_allclose(loss, np.log(7), rtol=1e-6)


def test_large_logits_in_bfloat16_stay_finite():
    logits = jnp.asarray([[1e4, -1e4, 0.0]], jnp.bfloat16)
    loss, gradient = jax.value_and_grad(
        lambda x: smoothed_cross_entropy(x, jnp.asarray([1])).sum()
    )(logits)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, 2e4, rtol=1e-2)
    assert np.isfinite(np.asarray(gradient, np.float32)).all()


@pytest.mark.parametrize("smoothing", [-0.1, 1.5])
def test_smoothing_is_a_share(smoothing):
    with pytest.raises(ValueError, match=f"smoothing {smoothing} is a share"):
        smoothed_cross_entropy(
            jnp.ones((1, 2)), jnp.zeros(1, jnp.int32), smoothing=smoothing
        )
