"""Errors of images: the equation, its gradient, what the loss can tell apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl.losses.reconstruction import pixel_mse

OUTPUTS, TARGETS = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 2))


def test_it_is_the_mean_over_pixels_and_channels_and_its_gradient():
    values, slopes = np.zeros(3), np.zeros_like(OUTPUTS)
    for i, y, x, z in np.ndindex(*OUTPUTS.shape):
        difference = OUTPUTS[i, y, x, z] - TARGETS[i, y, x, z]
        values[i] += difference**2 / 40
        slopes[i, y, x, z] = 2 * difference / 40

    def total(outputs, targets):
        value = pixel_mse(outputs, targets)
        return value.sum(), value

    run = jax.jit(jax.value_and_grad(total, has_aux=True))
    with jax.enable_x64(True):
        (_, value), gradient = run(jnp.asarray(OUTPUTS), jnp.asarray(TARGETS))
        np.testing.assert_allclose(value, values, rtol=1e-10)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-10)
    outputs, targets = (jnp.asarray(x, jnp.float32) for x in (OUTPUTS, TARGETS))
    (_, value), gradient = run(outputs, targets)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, values, rtol=1e-5)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-5)


def test_equal_images_cost_nothing():
    images = jnp.asarray(TARGETS, jnp.float32)
    assert (pixel_mse(images, images) == 0).all()


def test_members_of_a_class_cannot_be_exchanged():
    outputs, targets = (jnp.asarray(x, jnp.float32) for x in (OUTPUTS, TARGETS))
    change = (
        pixel_mse(outputs[::-1], targets).mean() - pixel_mse(outputs, targets).mean()
    )
    assert abs(change) > 1e-3


def test_bfloat16_is_widened():
    outputs = jnp.full((1, 16, 16, 3), 0.1, jnp.bfloat16)
    value = pixel_mse(outputs, jnp.zeros((1, 16, 16, 3), jnp.float32))
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, 0.01, rtol=1e-2)


def test_images_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"outputs \(2, 4, 4, 1\) and targets \(2, 4"):
        pixel_mse(jnp.ones((2, 4, 4, 1)), jnp.ones((2, 4, 4, 3)))
