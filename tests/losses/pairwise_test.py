"""Rows against columns: lengths, distances, and sums over columns in any blocks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_rcl import parallel
from jax_rcl.losses import pairwise


@jax.jit
def log_sum(logits, present):
    """Log Σ exp over what is present in each row."""
    return pairwise.LogSum.empty(logits).add(logits, present).log()


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_unit_vectors_have_length_one_and_keep_their_direction():
    x = normal(0, 3, 4, 5) * np.float32(100)
    u = np.asarray(jax.jit(pairwise.unit)(x))
    np.testing.assert_allclose(np.linalg.norm(u, axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(u * np.linalg.norm(x, axis=-1)[..., None], x, rtol=1e-5)


def test_unit_of_a_short_vector_is_divided_by_epsilon():
    x = jnp.asarray([[1e-3, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(
        pairwise.unit(x, epsilon=1e-2), [[0.1, 0.0], [0.0, 0.0]], rtol=1e-6
    )


def test_the_gradient_of_unit_at_zero_is_one_over_epsilon():
    for epsilon in (1e-3, 1e-6):
        unit = functools.partial(pairwise.unit, epsilon=epsilon)
        jacobian = jax.jit(jax.jacobian(unit))(jnp.zeros(2))
        np.testing.assert_allclose(jacobian, np.eye(2) / epsilon, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_everything_is_computed_in_float32_or_wider(dtype):
    def results(x):
        return (
            pairwise.widen(x),
            pairwise.unit(x),
            pairwise.similarities(x, x),
            pairwise.squared_distances(x, x),
            pairwise.LogSum.empty(x).total,
        )

    for result in jax.eval_shape(results, jax.ShapeDtypeStruct((4, 3), dtype)):
        assert result.dtype == jnp.float32
    with jax.enable_x64(True):
        wide = jax.ShapeDtypeStruct((4, 3), jnp.float64)
        for result in jax.eval_shape(results, wide):
            assert result.dtype == jnp.float64


def test_squared_distances_are_those_of_every_pair():
    rows, columns = normal(2, 4, 3), normal(3, 6, 3)
    expected = [[np.sum((r - c) ** 2) for c in columns] for r in rows]
    got = jax.jit(pairwise.squared_distances)(rows, columns)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_squared_distances_are_never_negative():
    # Without the lower bound, rounding would make some of the zeros negative.
    x = normal(4, 50, 7) * np.float32(100)
    assert jax.jit(pairwise.squared_distances)(x, x).min() >= 0


def test_squared_distances_have_the_gradient_of_their_formula():
    rows, columns = jnp.asarray(normal(5, 2, 3)), jnp.asarray(normal(6, 4, 3))

    @jax.jit
    @jax.grad
    def slope(r, columns):
        return pairwise.squared_distances(r, columns).sum()

    got = slope(rows, columns)
    expected = [sum(2 * (r - c) for c in np.asarray(columns)) for r in np.asarray(rows)]
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    # Equal rows and columns: no square root, so no 0/0.
    assert np.isfinite(slope(rows, jnp.concatenate([rows, rows]))).all()


def test_view_ids_number_the_views_example_by_example():
    ids = pairwise.view_ids(jnp.asarray([5, 0, 3], jnp.int32), 2)
    assert ids.tolist() == [10, 11, 0, 1, 6, 7]
    assert ids.dtype == jnp.int32


def test_a_log_sum_is_that_of_what_is_present():
    logits = normal(7, 5, 6) * np.float32(10)
    present = np.random.default_rng(8).random((5, 6)) < 0.5
    present[:, 0] = True
    expected = [
        np.log(np.exp(x[p].astype(float)).sum())
        for x, p in zip(logits, present, strict=True)
    ]
    got = log_sum(jnp.asarray(logits), jnp.asarray(present))
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_a_log_sum_neither_overflows_nor_vanishes(size):
    logits = jnp.full((1, 3), size)
    present = jnp.asarray([[True, True, False]])
    program = jax.jit(jax.value_and_grad(lambda x: log_sum(x, present)[0]))
    value, gradient = program(logits)
    np.testing.assert_allclose(value, size + np.log(2), rtol=1e-7)
    np.testing.assert_allclose(gradient, [[0.5, 0.5, 0.0]], rtol=1e-6)


def test_a_row_without_entries_gives_minus_infinity_and_no_gradient():
    logits = jnp.asarray([[1.0, 2.0], [3.0, np.inf], [3.0, 4.0]])
    present = jnp.asarray([[True, True], [False, False], [True, False]])

    def chosen(x):
        sums = log_sum(x, present)
        return jnp.where(present.any(1), sums, 0).sum(), sums

    (_, sums), gradient = jax.jit(jax.value_and_grad(chosen, has_aux=True))(logits)
    assert sums[1] == -np.inf
    np.testing.assert_allclose(sums[2], 3.0)
    assert np.isfinite(gradient).all()
    assert (gradient[1] == 0).all()

    def unused(total):
        return jnp.where(total > 0, pairwise.LogSum(total, total).log(), 0).sum()

    assert jax.jit(jax.grad(unused))(jnp.zeros(1)).tolist() == [0.0]


def potential(rows, columns, block):
    """Σ_j exp(-2 ‖row - column_j‖²), a sum that is not a log-sum-exp."""

    def fold(total, part, present):
        terms = jnp.exp(-2 * pairwise.squared_distances(rows, part))
        return total + jnp.sum(terms, axis=1, where=present[None, :])

    initial = jnp.zeros_like(rows[:, 0])
    return pairwise.fold_columns(fold, initial, columns, block=block)


@pytest.mark.parametrize("block", [1, 3, 7, None])
def test_a_fold_over_blocks_is_the_sum_over_all_columns(block):
    rows, columns = normal(9, 2, 3), normal(10, 7, 3)
    square = ((rows[:, None].astype(float) - columns[None]) ** 2).sum(-1)
    pair = np.exp(-2 * square)
    # d/d row of Σ_j exp(-2‖row - column_j‖²); for a column, the sum over rows.
    slope = -4 * pair[..., None] * (rows[:, None] - columns[None])

    def total(r, c):
        values = potential(r, c, block)
        return values.sum(), values

    (_, values), gradients = jax.jit(
        jax.value_and_grad(total, argnums=(0, 1), has_aux=True)
    )(rows, columns)
    np.testing.assert_allclose(values, pair.sum(1), rtol=1e-5)
    np.testing.assert_allclose(gradients[0], slope.sum(1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradients[1], -slope.sum(0), rtol=1e-4, atol=1e-6)


@jax.jit
def halves(logits, first, second):
    return pairwise.LogSum.empty(logits).add(logits, first).add(logits, second).log()


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    logits=st.lists(st.floats(-80, 80, width=32), min_size=6, max_size=6),
    present=st.lists(st.booleans(), min_size=6, max_size=6),
    cut=st.integers(0, 6),
)
def test_a_running_sum_does_not_depend_on_where_it_is_cut(logits, present, cut):
    x, mask = np.array([logits], np.float32), np.array([present])
    whole = log_sum(x, mask)
    # Masks instead of slices: one shape, one compilation.
    first = mask & (np.arange(6) < cut)
    np.testing.assert_allclose(
        halves(x, first, mask & ~first), whole, rtol=1e-6, atol=1e-6
    )


def test_a_block_without_columns_is_refused():
    x = jnp.ones((2, 2))
    with pytest.raises(ValueError, match="block 0 must be at least 1, or None for all"):
        potential(x, x, 0)


@pytest.mark.parametrize("block", [None, 3])
def test_a_fold_runs_where_rows_vary_over_devices(block):
    x = normal(11, 16, 3)
    mesh = parallel.make_mesh()

    def spread(rows):
        return parallel.mean(potential(rows, parallel.gather(rows), block))

    got = jax.jit(parallel.data_parallel(spread, mesh, whole=0))(x)
    expected = np.mean(jax.jit(lambda x: potential(x, x, None))(x))
    np.testing.assert_allclose(got, expected, rtol=1e-5)
