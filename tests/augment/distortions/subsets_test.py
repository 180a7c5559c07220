"""So many of a number of things: exactly, whatever the number and wherever ties are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jax_rcl.augment.distortions.subsets import in_two, share_of, smallest

marked = jax.jit(jax.vmap(smallest, (None, 0)))
shares = jax.jit(jax.vmap(share_of, (None, 0)), static_argnums=0)


@pytest.mark.parametrize("kinds", [2**32, 7, 1])
def test_the_smallest_are_marked_and_of_equal_ones_the_first(kinds):
    values = np.random.default_rng(0).integers(0, kinds, 50, np.uint32)
    values[[3, 17]] = 2**32 - 1
    result = np.asarray(marked(values, jnp.arange(51)))
    order = np.argsort(values, kind="stable")
    for count, row in enumerate(result):
        assert set(np.flatnonzero(row)) == set(order[:count].tolist())


def test_of_random_values_every_subset_is_as_likely():
    drawn = np.random.default_rng(1).integers(0, 2**32, (3000, 5), np.uint32)
    masks = jax.jit(jax.vmap(smallest, (0, None)))(drawn, np.int32(3))
    codes = np.asarray(masks) @ (1 << np.arange(5))
    subsets, seen = np.unique(codes, return_counts=True)
    assert len(subsets) == 10
    assert stats.chisquare(seen).pvalue > 1e-3


@pytest.mark.parametrize("side", [1, 10, 111, 224, 299, 512])
def test_a_share_is_the_whole_part_of_the_product_as_written(side):
    thousandths = np.arange(1000)
    rates = jnp.asarray(np.stack([in_two(k / 1000) for k in thousandths]))
    expected = side**2 * thousandths // 1000
    np.testing.assert_array_equal(shares(side**2, rates), expected)


@pytest.mark.parametrize("side", [10, 28, 160, 224])
def test_hundredths_are_exact_in_one_float32_too(side):
    hundredths = np.arange(100)
    rates = jnp.asarray(hundredths[:, None] / 100, jnp.float32)
    np.testing.assert_array_equal(shares(side**2, rates), side**2 * hundredths // 100)


def test_any_share_of_an_image_is_what_float64_makes_of_it():
    rates = np.random.default_rng(0).random(5000)
    placed = jnp.asarray(np.stack([in_two(rate) for rate in rates]))
    for count in (1, 784, 224**2):
        np.testing.assert_array_equal(shares(count, placed), np.floor(count * rates))


def test_a_number_in_two_is_right_to_48_bits():
    assert in_two(0.5).tolist() == [0.5, 0.0]
    nearest, rest = in_two(0.29).astype(np.float64)
    assert nearest == np.float32(0.29) and abs(nearest + rest - 0.29) < 2.0**-49


def test_29_of_100_are_029_though_float64_has_less():
    assert 0.29 * 100 < 29
    assert shares(100, jnp.asarray(in_two(0.29))[None]).tolist() == [29]


def test_more_than_can_be_counted_is_refused():
    with pytest.raises(ValueError, match=r"up to 16777215 pixels; .* 16777216"):
        share_of(4096**2, jnp.zeros(1))
