"""Kernels on priors: the formulas, what is exact, and the bandwidth of a batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import parallel
from jax_rcl.losses.kernels import Cosine, Kernel, Rbf, lower_median

KERNELS = (Rbf(1.5), Rbf(2.0, "median"), Cosine())


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)
def compiled(kernel, priors):
    return kernel(priors)


def matrix(kernel, priors):
    return np.asarray(compiled(kernel, priors))


def squares_of(priors):
    """Squared distances, pair by pair."""
    priors = np.asarray(priors, np.float64)
    return np.array([[np.sum((x - y) ** 2) for y in priors] for x in priors])


def cosines_of(priors):
    priors = np.asarray(priors, np.float64)
    directions = priors / np.linalg.norm(priors, axis=1, keepdims=True)
    return np.array([[np.sum(x * y) for y in directions] for x in directions])


@pytest.mark.parametrize(("dtype", "atol"), [(np.float64, 1e-14), (np.float32, 1e-6)])
@pytest.mark.parametrize(("n", "p", "sigma"), [(1, 3, 1.0), (4, 1, 0.5), (7, 5, 2.0)])
def test_every_pair_gets_its_number(n, p, sigma, dtype, atol):
    priors = normal(n, n, p).astype(dtype)
    with jax.enable_x64(dtype == np.float64):
        expected = np.exp(-squares_of(priors) / (2 * sigma**2))
        np.testing.assert_allclose(matrix(Rbf(sigma), priors), expected, atol=atol)
        got = matrix(Cosine(), priors)
        np.testing.assert_allclose(got, cosines_of(priors), atol=atol)
        assert got.dtype == dtype


def test_the_worked_example_of_the_method():
    i, j = np.arange(4.0)[:, None], np.arange(2.0)[None]
    with jax.enable_x64(True):
        row = matrix(Rbf(1.0), np.cos(2 * i + j))[0]
    np.testing.assert_allclose(row, [1, 0.1137631, 0.24654748, 0.97667076], atol=1e-8)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_a_kernel_is_symmetric_and_positive_semi_definite(kernel):
    k = matrix(kernel, normal(0, 12, 3))
    np.testing.assert_allclose(k, k.T, atol=1e-6)
    np.testing.assert_allclose(np.diag(k), 1, atol=1e-6)
    assert np.linalg.eigvalsh(k.astype(np.float64)).min() > -1e-5
    assert np.abs(k).max() <= 1 + 1e-6


def test_the_rank_of_a_cosine_kernel_is_at_most_the_length_of_a_prior():
    k = matrix(Cosine(), normal(0, 12, 3)).astype(np.float64)
    assert np.linalg.matrix_rank(k, tol=1e-5) == 3


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_kernels_are_values_and_follow_the_order_of_the_examples(kernel):
    assert isinstance(kernel, Kernel)
    assert len({kernel, *KERNELS}) == len(KERNELS)
    priors, order = normal(1, 12, 3), np.random.default_rng(2).permutation(12)
    expected = matrix(kernel, priors)[order][:, order]
    np.testing.assert_allclose(matrix(kernel, priors[order]), expected, atol=1e-6)


@pytest.mark.parametrize("unit", ["one", "median"])
def test_a_gaussian_kernel_does_not_lose_digits_to_an_offset(unit):
    # Of priors near 1000 the squared lengths are rounded to 1, the distances are not.
    priors = normal(3, 12, 3) + np.float32(1000)
    with jax.enable_x64(True):
        expected = matrix(Rbf(1.0, unit), priors.astype(np.float64))
    np.testing.assert_allclose(matrix(Rbf(1.0, unit), priors), expected, atol=2e-6)


def test_cosines_do_not_depend_on_lengths_however_short_or_long():
    priors = normal(4, 12, 3)
    lengths = np.float32([1e-30, 1e-10, 1, 10, 1e10, 1e30] * 2)[:, None]
    got = matrix(Cosine(), priors * lengths)
    np.testing.assert_allclose(got, cosines_of(priors), atol=1e-6)


def test_a_prior_of_zeros_has_cosine_zero_with_all_and_itself():
    priors = normal(5, 12, 3)
    priors[2] = 0
    got = matrix(Cosine(), priors)
    np.testing.assert_array_equal(got[2], 0)
    np.testing.assert_array_equal(got[:, 2], 0)
    np.testing.assert_allclose(np.delete(np.diag(got), 2), 1, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_half_precision_is_widened(kernel):
    priors = jnp.asarray(normal(6, 12, 3), jnp.bfloat16)
    got = matrix(kernel, priors)
    assert got.dtype == jnp.float32
    wide = matrix(kernel, priors.astype(jnp.float32))
    np.testing.assert_allclose(got, wide, atol=1e-6)


@pytest.mark.parametrize(
    ("places", "median"),
    [
        ([0, 1, 3], 2),  # distances 1 2 3
        ([0, 1, 3, 10], 3),  # 1 2 3 7 9 10: the lower of the middle two
        ([0, 0, 0, 1, 3, 3], 3),  # of those that differ 1 1 1 2 2 3 3 3 3 3 3
        ([5, 5, 6], 1),
        ([5, 6], 1),
        ([1000, 1000, 1002, 1006], 4),  # 2 2 4 6 6
    ],
)
def test_the_median_is_of_the_distances_between_priors_that_differ(places, median):
    priors = np.float32(places)[:, None] * np.float32([[0.6, 0.8]])
    expected = np.exp(-squares_of(priors) / (2 * (1.5 * median) ** 2))
    np.testing.assert_allclose(matrix(Rbf(1.5, "median"), priors), expected, atol=1e-5)


def test_half_of_the_pairs_that_differ_are_above_the_kernel_at_one_sigma():
    priors = np.repeat(normal(7, 21, 300), 3, axis=0)
    k = matrix(Rbf(1.0, "median"), priors)[::3, ::3][np.triu_indices(21, 1)]
    assert np.sum(k > np.exp(-0.5) + 1e-6) == len(k) // 2 - 1
    assert np.sum(k > np.exp(-0.5) - 1e-6) == len(k) // 2


def test_the_median_does_not_depend_on_one_prior_that_is_far_away():
    priors = normal(8, 41, 3)
    priors[0] = 1e3
    near = squares_of(priors)[np.triu_indices(41, 1)]
    # One odd prior has 40 of the 820 pairs, so the median is of the others.
    expected = np.exp(-near / (2 * np.sort(near)[(len(near) - 1) // 2]))
    got = matrix(Rbf(1.0, "median"), priors)[np.triu_indices(41, 1)]
    np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("n", [1, 12])
def test_the_kernel_of_equal_priors_is_all_ones(n):
    same = np.repeat(normal(9, 1, 3), n, axis=0)
    for kernel in KERNELS:
        np.testing.assert_allclose(matrix(kernel, same), 1, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (4, 5)])
def test_the_lower_median_is_found_exactly(size, share):
    values = np.exp(10 * normal(10, *size))
    present = np.random.default_rng(11).random(size) < share
    chosen = np.sort(values[present])
    expected = chosen[(len(chosen) - 1) // 2] if len(chosen) else 1
    assert jax.jit(lower_median)(values, present) == expected


def test_the_lower_median_of_zeros_and_of_one_number_many_times():
    def of(value):
        values = np.full((4, 5), value, np.float32)
        return jax.jit(lower_median)(values, np.ones((4, 5), bool))

    assert of(0) == 0
    assert of(0.7) == np.float32(0.7)
    assert np.isnan(of(np.nan))


def test_kernels_run_where_priors_vary_over_devices():
    priors = normal(12, 16, 3)
    mesh = parallel.make_mesh()

    def total(share):
        everyone = parallel.gather(share)
        return parallel.mean([kernel(everyone) for kernel in KERNELS])

    got = jax.jit(parallel.data_parallel(total, mesh, whole=0))(priors)
    expected = [matrix(kernel, priors).mean() for kernel in KERNELS]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_a_bandwidth_is_positive():
    with pytest.raises(
        ValueError, match=r"Rbf\.sigma nan must be above 0 and finite, in doubt"
    ):
        Rbf(float("nan"))
