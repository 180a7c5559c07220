"""Masks hide exactly what they say, noise is normal; levels are data."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jax_rcl.augment.distortions.mixtures import Fixed
from jax_rcl.augment.distortions.pixelwise import (
    GaussianNoise,
    Identity,
    RandomMask,
    SquareMask,
)
from jax_rcl.augment.filters import GaussianBlur

KEY = jax.random.key(0)
IMAGE = np.float32(np.random.default_rng(0).uniform(0.1, 1, (9, 8, 3)))
MASK, NOISE = RandomMask((0.5, 0.9)), GaussianNoise((0.1, 0.3))
MASKS = [
    (RandomMask((0.0, 0.0)), (0.0, 0.3, 0.75, 0.99)),
    (SquareMask((0, 0)), (0, 1, 4, 7)),
    (SquareMask((0, 0), "random"), (0, 1, 4, 7)),
]


def random_keys(count):
    """Keys from numbers of the host: to split one is a program for each count."""
    numbers = np.random.default_rng(1).integers(0, 2**32, (count, 2), np.uint32)
    return jax.random.wrap_key_data(numbers)


@functools.cache
def program(mask):
    return jax.jit(jax.vmap(mask.known, (0, None, None)))


def known(mask, level, shape, count=2000):
    """What stays visible of blank images of this shape, for each key."""
    level, image = mask.checked(level, shape), np.zeros((*shape, 1), np.float32)
    return np.asarray(program(mask)(random_keys(count), image, level))[..., 0]


def test_masked_pixels_are_counted_exactly_at_224_pixels():
    expected = {
        **{0.0: 0, 0.5: 25088, 0.75: 37632, 0.8: 40140, 0.9: 45158, 0.93: 46663},
        **{0.95: 47667, 0.96: 48168, 0.97: 48670, 0.98: 49172, 0.99: 49674},
    }
    mask, image = RandomMask((0.5, 0.5)), jnp.ones((224, 224, 3))
    traces = []

    @jax.jit
    def masked(key, level):
        traces.append(level)
        return (mask.at(key, image, level) == 0).sum(axis=(0, 1))

    for rate, count in expected.items():
        key = jax.random.fold_in(KEY, count)
        assert masked(key, mask.checked(rate)).tolist() == [count] * 3
    assert len(traces) == 1


@pytest.mark.parametrize(("mask", "levels"), MASKS)
def test_what_is_known_is_what_a_mask_leaves(mask, levels):
    both = jax.jit(lambda *a: (mask.at(*a), mask.known(*a)))
    for level in levels:
        level = mask.checked(level, IMAGE.shape[:2])
        result, seen = jax.device_get(both(KEY, IMAGE, level))
        assert seen.shape == (9, 8, 1) and seen.dtype == bool
        np.testing.assert_array_equal(result, np.where(seen, IMAGE, 0))
    assert both._cache_size() == 1


OPERATIONS = {
    "RandomMask": MASK,
    "SquareMask": SquareMask((2, 7), "random"),
    "GaussianNoise": NOISE,
    "GaussianBlur": GaussianBlur(5, (0.5, 2.0)),
    "Fixed": Fixed(MASK),
    "Identity": Identity(),
}
IMAGES = np.stack([IMAGE, 1 - IMAGE, np.zeros_like(IMAGE)])


@functools.cache
def gradients_and_results():
    """Of all operations in a batch and alone, by two programs."""

    def value(operation, key, image):
        result = operation(key, image)
        return jnp.square(result).sum(), result

    def one(key, image):
        return {
            name: jax.grad(functools.partial(value, op), 1, has_aux=True)(key, image)
            for name, op in OPERATIONS.items()
        }

    alone, together = jax.jit(one), jax.jit(jax.vmap(one))
    keys = random_keys(3)
    results = together(keys, IMAGES), [alone(keys[i], IMAGES[i]) for i in range(3)]
    return jax.device_get(results)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_image_alone_and_in_a_batch_give_the_same_and_a_finite_gradient(name):
    together, alone = gradients_and_results()
    gradients, results = map(np.asarray, together[name])
    assert np.isfinite(gradients).all() and results.dtype == np.float32
    for place, one in enumerate(alone):
        gradient, result = one[name]
        np.testing.assert_allclose(results[place], result, rtol=0, atol=2e-6)
        np.testing.assert_allclose(gradients[place], gradient, rtol=0, atol=2e-5)
    assert np.abs(gradients[0]).max() > 0


def test_every_set_of_pixels_is_as_likely():
    masked = ~known(RandomMask((0.5, 0.5)), 0.5, (2, 3)).reshape(2000, 6)
    subsets, seen = np.unique(masked @ (1 << np.arange(6)), return_counts=True)
    assert len(subsets) == 20 and stats.chisquare(seen).pvalue > 1e-3


def test_one_key_masks_more_as_the_rate_rises():
    seen = [known(MASK, rate, (9, 8), 20) for rate in (0.2, 0.5, 0.52, 0.9)]
    for more, less in itertools.pairwise(seen):
        assert (less <= more).all() and (less < more).any()


@pytest.mark.parametrize(
    ("distortion", "bounds"), [(MASK, (0.5, 0.9)), (NOISE, (0.1, 0.3))]
)
def test_levels_are_uniform_within_their_bounds(distortion, bounds):
    low, high = bounds
    levels = np.asarray(jax.jit(jax.vmap(distortion.level))(random_keys(2000)))[:, 0]
    assert stats.kstest(levels, stats.uniform(low, high - low).cdf).pvalue > 1e-3


def test_rates_differ_from_image_to_image_and_are_exact_when_fixed():
    @jax.jit
    def black(keys):
        image, fixed = jnp.ones((20, 20, 1)), RandomMask((0.29, 0.29))
        draws = (jax.vmap(mask, (0, None))(keys, image) for mask in (MASK, fixed))
        return [(drawn == 0).sum(axis=(1, 2, 3)) for drawn in draws]

    several, fixed = map(np.asarray, black(random_keys(500)))
    assert stats.kstest(several / 400, stats.uniform(0.5, 0.4).cdf).pvalue > 1e-3
    assert set(fixed.tolist()) == {116}


def test_noise_is_normal_and_independent_of_channel_and_pixel():
    noise = NOISE.checked(0.4)
    images = np.full((20, 16, 16, 3), 0.5, np.float32)
    results = jax.jit(jax.vmap(NOISE.at, (0, 0, None)))(random_keys(20), images, noise)
    results = np.asarray(results)
    values = (results - 0.5) / 0.4
    assert stats.kstest(values.ravel(), stats.norm.cdf).pvalue > 1e-3
    pairs = np.corrcoef(values.reshape(-1, 3).T)
    assert np.abs(pairs[np.triu_indices(3, 1)]).max() < 4 / np.sqrt(20 * 256)
    assert results.min() < 0 and results.max() > 1  # nothing is clamped


def test_noise_of_a_drawn_deviation_has_it():
    images = np.zeros((50, 40, 40, 3), np.float32)
    results = jax.jit(jax.vmap(NOISE))(random_keys(50), images)
    deviations = np.asarray(results).std(axis=(1, 2, 3))
    assert stats.kstest(deviations, stats.uniform(0.1, 0.2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(9, 8), (8, 8), (7, 12)])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 6])
def test_a_square_at_the_centre_has_its_length_and_place(shape, length):
    masked = ~known(SquareMask((1, 1)), length, shape, 1)[0]
    half, (h, w) = length // 2, shape
    expected = np.zeros(shape, bool)
    # Even lengths as released, [c - half, c + half); odd ones have one pixel more.
    last = half + length % 2
    expected[h // 2 - half : h // 2 + last, w // 2 - half : w // 2 + last] = True
    np.testing.assert_array_equal(masked, expected)
    assert masked.sum() == length**2


@pytest.mark.parametrize("length", [4, 5])
def test_a_square_at_random_lies_anywhere_inside_as_likely(length):
    masked = ~known(SquareMask((1, 1), "random"), length, (9, 8))
    assert (masked.sum(axis=(1, 2)) == length**2).all()
    tops, lefts = masked.any(axis=2).argmax(axis=1), masked.any(axis=1).argmax(axis=1)
    table = np.zeros((9 - length + 1, 8 - length + 1), int)
    np.add.at(table, (tops, lefts), 1)
    assert stats.chisquare(table.ravel()).pvalue > 1e-3


def test_lengths_of_squares_are_whole_and_all_as_likely():
    draw = jax.jit(jax.vmap(SquareMask((3, 6)).level))
    lengths = np.asarray(draw(random_keys(2000)))[:, 0]
    values, counts = np.unique(lengths, return_counts=True)
    assert values.tolist() == [3, 4, 5, 6] and stats.chisquare(counts).pvalue > 1e-3


def test_the_identity_is_the_image():
    image = jnp.asarray(IMAGE)
    assert Identity()(KEY, image) is image


@pytest.mark.parametrize("shape", [(8, 30, 3), (30, 8, 3), (5, 5, 1)])
def test_an_image_smaller_than_the_square_mask_is_refused(shape):
    expected = rf"smaller than the square mask: {shape[0]} x {shape[1]} .*length 8"
    for offset in ("center", "random"):
        with pytest.raises(ValueError, match=expected):
            jax.eval_shape(SquareMask((2, 8), offset), KEY, np.zeros(shape))


def test_shares_and_lengths_out_of_range_are_refused():
    with pytest.raises(
        ValueError, match=r"RandomMask.rate \(0.5, 1.0\).*high < 1.*such as"
    ):
        RandomMask((0.5, 1.0))
    # Below 1, but 1 as float32.
    with pytest.raises(ValueError, match=r"level 0.99999999 of random mask"):
        RandomMask((0.5, 0.99999999))
