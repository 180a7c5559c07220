"""InfoNCE against a queue: the released numbers, closed forms, edges."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl.losses.infonce import found_within, infonce, instance_logits
from jax_rcl.losses.pairwise import unit

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "moco_nonsemantic.npz")
RELEASED = sorted({name.split("/")[0] for name in GOLDEN.files})


def of(name, dtype):
    """What the release was given, and what it found."""
    found = {
        key.split("/")[1]: GOLDEN[key].astype(dtype)
        for key in GOLDEN.files
        if key.startswith(f"{name}/")
    }
    temperature, alpha = float(found["temperature"]), float(found["alpha"])
    return found, {"temperature": temperature, "alpha": alpha}


@jax.jit
def logits_of(*vectors, **settings):
    return instance_logits(*vectors, **settings)


@jax.jit
@jax.value_and_grad
def mean_loss(q, k, t, queue, settings):
    logits = logits_of(unit(q), unit(k), queue, unit(t), **settings)
    return infonce(logits).mean()


def sphere(seed, *shape):
    x = np.random.default_rng(seed).normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("name", RELEASED)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-10), (np.float32, 1e-5)])
def test_value_and_gradient_are_the_release_s(name, dtype, rtol):
    with jax.enable_x64(dtype == np.float64):
        given, settings = of(name, dtype)
        arrays = (given[x] for x in ("q", "k", "nonsemantic", "queue"))
        value, gradient = mean_loss(*arrays, settings)
        np.testing.assert_allclose(value, given["loss"], rtol=rtol)
        scale = np.abs(given["grad_q"]).max()
        np.testing.assert_allclose(
            gradient, given["grad_q"], rtol=10 * rtol, atol=rtol * scale
        )


def test_the_worked_example_of_the_method():
    def rows(values, *shape):
        x = values.reshape(shape)
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    r = np.arange(6.0)
    t = np.stack([np.sin(3 + 10 * j + r).reshape(2, 3) for j in range(2)], axis=1)
    with jax.enable_x64():
        logits = logits_of(
            rows(np.sin(1 + r), 2, 3),
            rows(np.sin(2 + r), 2, 3),
            rows(np.cos(np.arange(12.0)).reshape(3, 4).T, 4, 3),
            rows(t, 2, 2, 3),
            temperature=0.2,
            alpha=2.0,
        )
        expected = [
            [2.647627, 0.754933, 2.135479, 1.209237, -0.473384, -4.596016, 8.586304],
            [2.703629, -0.296232, -1.551186, -1.10461, 0.080343, -4.545624, 8.592232],
        ]
        np.testing.assert_allclose(logits, expected, atol=1e-6)
        every, without = (jax.jit(infonce)(x) for x in (logits, logits[:, :5]))
        assert np.isclose(np.mean(every), 5.91791387, atol=1e-8)
        assert np.isclose(np.mean(without), 0.42800349, atol=1e-8)


def test_own_negatives_are_seen_by_their_own_query_alone():
    q, k, queue, t = (
        sphere(0, 3, 4),
        sphere(1, 3, 4),
        sphere(2, 5, 4),
        sphere(3, 3, 2, 4),
    )
    one = logits_of(q, k, queue, t, temperature=0.2, alpha=3.0)
    t[1] = sphere(4, 2, 4)
    other = logits_of(q, k, queue, t, temperature=0.2, alpha=3.0)
    changed = np.any(np.asarray(one) != np.asarray(other), axis=1)
    np.testing.assert_array_equal(changed, [False, True, False])


def test_without_negatives_it_is_the_cross_entropy_of_moco():
    q, k, queue = sphere(0, 3, 4), sphere(1, 3, 4), sphere(2, 5, 4)
    none = np.zeros((3, 0, 4), np.float32)
    logits = np.asarray(logits_of(q, k, queue, none, temperature=0.2))
    expected = np.concatenate([np.sum(q * k, 1, keepdims=True), q @ queue.T], 1) / 0.2
    np.testing.assert_allclose(logits, expected, rtol=1e-5)
    e = np.exp(expected)
    loss = jax.jit(infonce)(logits)
    np.testing.assert_allclose(loss, -np.log(e[:, 0] / e.sum(1)), rtol=1e-5)


def test_equal_logits_give_the_logarithm_of_their_number():
    value = jax.jit(infonce)(jnp.zeros((2, 9)))
    np.testing.assert_allclose(value, np.log(9), rtol=1e-6)


def test_it_is_never_below_zero_and_finite_where_a_temperature_is_low():
    q = sphere(0, 8, 16)
    settings = {"temperature": 0.001, "alpha": 3.0}
    value, gradient = mean_loss(q, q, q[:, None], -np.tile(q, (4, 1)), settings)
    assert value >= 0 and np.isfinite(value) and np.isfinite(gradient).all()


def test_a_zero_query_has_a_finite_gradient():
    zero, k, queue = np.zeros((8, 16), np.float32), sphere(1, 8, 16), sphere(2, 32, 16)
    settings = {"temperature": 0.07, "alpha": 2.0}
    assert np.isfinite(mean_loss(zero, k, k[:, None], queue, settings)[1]).all()


def test_the_first_is_found_where_fewer_than_k_are_not_below_it():
    logits = jnp.array([[3.0, 1, 2, 0], [1.0, 2, 0, 0], [0.0, 1, 2, 3], [1.0, 1, 1, 1]])
    np.testing.assert_array_equal(found_within(logits, 1), [1, 0, 0, 0])
    np.testing.assert_array_equal(found_within(logits, 2), [1, 1, 0, 0])
    np.testing.assert_array_equal(found_within(logits * jnp.nan, 1), 0)


@pytest.mark.parametrize("setting", ["temperature", "alpha"])
def test_what_scales_the_cosines_is_above_zero(setting):
    x = sphere(0, 2, 3)
    settings = {"temperature": 0.2, "alpha": 2.0, setting: 0.0}
    vectors = map(jnp.asarray, (x, x, x, x[:, None]))
    with pytest.raises(ValueError, match=f"{setting} 0.0 must be above 0"):
        instance_logits(*vectors, **settings)
