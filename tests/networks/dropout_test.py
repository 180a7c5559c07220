"""Dropout: each example draws for itself, whatever the number of devices."""

import functools

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import parallel
from jax_rcl.networks.dropout import Dropout, DropRates, StochasticDepth
from tests.tiny import quick_jit

X = (1 + np.random.RandomState(0).rand(64, 6, 50)).astype(np.float32)


class Twice(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        first, second = Dropout(0.5, name="first"), Dropout(0.5, name="second")
        return jnp.stack([first(x, train=train), second(x, train=train)], axis=1)


@functools.lru_cache
def trained(network, devices=1, seed=0, dtype="float32"):
    """What a network without parameters makes of X in training."""

    def step(key, x):
        y = network.apply({}, x, train=True, rngs={"dropout": key})
        return parallel.gather_constant(y)

    mesh = parallel.make_mesh(jax.devices()[:devices])
    key = parallel.replicate(jax.random.key(seed), mesh)
    run = quick_jit(parallel.data_parallel(step, mesh))
    return np.asarray(run(key, parallel.put(X.astype(dtype), mesh)))


@pytest.mark.parametrize("network", [Dropout(0.3), StochasticDepth(0.3)])
def test_one_device_and_eight_drop_the_same(network):
    np.testing.assert_array_equal(trained(network, 8), trained(network, 1))


def test_what_is_kept_is_divided_by_its_probability():
    y = trained(Dropout(0.3))
    np.testing.assert_allclose(y[y > 0], (X / 0.7)[y > 0], rtol=1e-6)
    # Four deviations of a mean of 19,200 draws.
    assert abs((y > 0).mean() - 0.7) < 4 * np.sqrt(0.3 * 0.7 / X.size)


def test_every_example_has_its_own_mask():
    masks = (trained(Dropout(0.3)) > 0).reshape(len(X), -1)
    assert len(np.unique(masks, axis=0)) == len(X)


def test_every_key_has_its_own_masks():
    assert (trained(Dropout(0.3), seed=1) != trained(Dropout(0.3))).any()


def test_every_layer_has_its_own_masks():
    first, second = (trained(Twice()) > 0).swapaxes(0, 1)
    # Independent fair draws agree half of the time.
    assert abs((first == second).mean() - 0.5) < 4 * np.sqrt(0.25 / X.size)


def test_shared_axes_are_dropped_together():
    y = trained(Dropout(0.3, shared=(2,)))
    kept = (y > 0).all(axis=2)
    np.testing.assert_array_equal(y[~kept], 0)
    np.testing.assert_allclose(y[kept], X[kept] / 0.7, rtol=1e-6)
    assert abs(kept.mean() - 0.7) < 4 * np.sqrt(0.3 * 0.7 / kept.size)
    assert len(np.unique(kept, axis=0)) > 2  # Not whole examples.


def test_stochastic_depth_drops_whole_examples():
    y = trained(StochasticDepth(0.3))
    kept = (y > 0).all(axis=(1, 2))
    np.testing.assert_array_equal(y[~kept], 0)
    np.testing.assert_allclose(y[kept], X[kept] / 0.7, rtol=1e-6)
    assert abs(kept.mean() - 0.7) < 4 * np.sqrt(0.3 * 0.7 / len(X))


def test_types_are_kept():
    assert trained(Dropout(0.3), dtype=jnp.bfloat16).dtype == jnp.bfloat16


@pytest.mark.parametrize("kind", [Dropout, StochasticDepth])
def test_nothing_is_drawn_without_training_or_without_a_rate(kind):
    # No key is given here, and there is no axis of devices.
    x = jnp.asarray(X)
    np.testing.assert_array_equal(kind(0.3).apply({}, x, train=False), X)
    np.testing.assert_array_equal(kind(0.0).apply({}, x, train=True), X)


def test_initialisation_draws_nothing():
    init = functools.partial(Twice().init_with_output, train=True)
    y, variables = init(jax.random.key(0), jnp.asarray(X))
    np.testing.assert_array_equal(y, np.stack([X, X], axis=1))
    assert variables == {}


def test_training_without_a_key_is_an_error():
    with pytest.raises(flax.errors.InvalidRngError, match='needs PRNG for "dropout"'):
        Dropout(0.3).apply({}, jnp.asarray(X), train=True)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_is_below_one(rate):
    for kind in (Dropout, StochasticDepth):
        with pytest.raises(ValueError, match=rf"{kind.__name__}.rate {rate} must be"):
            kind(rate)
    with pytest.raises(ValueError, match=rf"DropRates.depth {rate} must be in"):
        DropRates(depth=rate)


def test_examples_do_not_share_what_they_draw():
    with pytest.raises(
        ValueError, match=r"shared \(0, 2\) must be at least 1, as every"
    ):
        Dropout(0.3, shared=(0, 2))
