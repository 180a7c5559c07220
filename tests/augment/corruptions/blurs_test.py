"""Blurs are those of the two public sets; see `noises_test` for the golden arrays."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from jax_rcl.augment.corruptions import blurs
from jax_rcl.augment.corruptions.blurs import (
    blur,
    blur_along,
    correlate,
    disk,
    displace,
)
from jax_rcl.augment.corruptions.table import EXTRA, FUNCTIONS, LEVELS, STANDARD

GOLDEN = np.load(
    pathlib.Path(__file__).parents[2] / "golden" / "corruptions_noise_blur.npz"
)
PUBLISHED = (*STANDARD, *EXTRA[:4])
NAMES = [name for name in PUBLISHED if FUNCTIONS[name] in blurs.LEVELS]
KEY = jax.random.key(0)
IMAGE = np.float32(np.random.default_rng(0).random((13, 17, 3)))
SIDES = (224, 32)


def picture(side):
    return GOLDEN[f"image{side}"].astype(np.float32) / 255


def rows(name, side):
    return np.asarray(LEVELS[name][side], np.float32)


def random_keys(count):
    """Keys from numbers of the host: to split one is a program for each count."""
    numbers = np.random.default_rng(1).integers(0, 2**32, (count, 2), np.uint32)
    return jax.random.wrap_key_data(numbers)


def counted(function):
    """A program of its own, whose compilations can be counted."""
    return jax.jit(functools.partial(function))


def assert_same_levels(result, expected, *, off=0.0):
    """Equal but for the 8 bits of the reference, which cuts fractions of a level off.

    `off` is the greatest number of levels beyond that.
    """
    lost = 255 * np.asarray(result, np.float64) - expected
    assert lost.min() > -0.01 - off and lost.max() < 1.01 + off


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", ["defocus_blur", "zoom_blur", "gaussian_blur"])
def test_fixed_blurs_are_the_published_ones(name, side):
    program, image = counted(FUNCTIONS[name]), picture(side)
    for level, expected in zip(rows(name, side), GOLDEN[f"{name}{side}"], strict=True):
        assert_same_levels(program(KEY, image, level), expected)
    assert program._cache_size() == 1


@pytest.mark.parametrize("side", SIDES)
def test_motion_blur_at_a_given_angle_is_the_published_one(side):
    # Those of side 32 were made by ImageMagick itself.
    program, image = counted(blur_along), picture(side)
    angles = GOLDEN[f"motion_blur{side}_angle"]
    expected = GOLDEN[f"motion_blur{side}"]
    for s, (radius, sigma) in enumerate(rows("motion_blur", side)):
        assert_same_levels(program(image, angles[s], radius, sigma), expected[s])
    assert program._cache_size() == 1


@jax.jit
def glass(image, offsets, reach, times, sigma):
    def once(i, image):
        return displace(image, offsets[i], reach)

    # The published one cuts to 8 bits in between as well.
    image = jnp.floor(blur(image, sigma) * 255) / 255.0
    return blur(jax.lax.fori_loop(0, times, once, image), sigma)


@pytest.mark.parametrize("side", SIDES)
def test_glass_blur_with_given_draws_is_the_published_one(side):
    image, offsets = picture(side), GOLDEN[f"glass_blur{side}_offsets"]
    for s, (sigma, reach, times) in enumerate(LEVELS["glass_blur"][side]):
        drawn = offsets[s].astype(np.int32)
        result = glass(image, drawn, reach, times, float(sigma))
        # Where a blur hardly changes a level, rounding decides which way it is cut.
        assert_same_levels(result, GOLDEN[f"glass_blur{side}"][s], off=1.0)


@pytest.mark.parametrize("side", [224, pytest.param(32, marks=pytest.mark.slow)])
def test_glass_blur_is_distributed_as_the_published_one(side):
    program = jax.jit(jax.vmap(FUNCTIONS["glass_blur"], (0, None, None)))
    keys = jax.random.split(KEY, 40)
    for s, level in enumerate(rows("glass_blur", side)):
        results = np.asarray(program(keys, picture(side), level), np.float64)
        assert results.min() >= 0 and results.max() <= 1
        error = results - results.mean(axis=0)
        variance = np.square(error).mean()
        mean, deviation, across, down, _ = GOLDEN[f"glass_blur{side}_numbers"][s]
        # The reference is up to two levels darker, once for each cut to 8 bits.
        assert -0.5 / 255 < results.mean() - mean < 2.5 / 255
        assert np.sqrt(variance * 40 / 39) == pytest.approx(deviation, rel=0.05)
        right = (error[:, :, 1:] * error[:, :, :-1]).mean() / variance
        below = (error[:, 1:] * error[:, :-1]).mean() / variance
        np.testing.assert_allclose([right, below], [across, down], rtol=0, atol=0.02)
    assert program._cache_size() == 1


@pytest.mark.parametrize("reach", [1, 2, 4])
def test_neighbours_overwrite_each_other_one_by_one(reach):
    offsets = np.random.default_rng(reach).integers(-reach, reach, (2, 13, 17))
    expected = np.array(IMAGE)
    for i in range(13 - reach, reach, -1):
        for j in range(17 - reach, reach, -1):
            expected[i, j] = expected[i + offsets[0, i, j], j + offsets[1, i, j]]
    result = jax.jit(displace)(IMAGE, offsets.astype(np.int32), reach)
    np.testing.assert_array_equal(result, expected)


def test_long_chains_of_overwriting_are_followed_to_their_end():
    offsets = np.zeros((2, 13, 17), np.int32)
    offsets[1] = 1  # each pixel asks the one that has just been overwritten
    result = jax.jit(displace)(IMAGE, offsets, 2)
    expected = np.array(IMAGE)
    expected[3:12, 3:16] = expected[3:12, 16:17]
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("sigma", [0.05, 0.7, 6.0])
def test_the_edge_is_repeated_beyond_it(sigma):
    expected = ndimage.gaussian_filter(
        np.asarray(IMAGE, np.float64), sigma, mode="nearest", truncate=4, axes=(0, 1)
    )
    result = jax.jit(blur)(IMAGE, sigma)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


def test_a_kernel_weighs_neighbours_without_turning_around():
    kernel = np.random.default_rng(1).random((5, 5)).astype(np.float32)
    expected = ndimage.correlate(
        np.asarray(IMAGE, np.float64), kernel[..., None], mode="mirror"
    )
    result = jax.jit(correlate)(IMAGE, kernel)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


def test_a_disk_of_radius_3_has_29_pixels():
    sharp = np.asarray(jax.jit(disk)(3.0, 0.1))
    assert (sharp > 1e-6).sum() == 29
    np.testing.assert_allclose(sharp[sharp > 1e-6], 1 / 29, rtol=1e-5)


def test_disks_that_touch_the_edge_of_their_square_weigh_more_than_1():
    disks = [np.asarray(jax.jit(disk)(r, 0.5)) for r in (4.0, 6.0, 8.0, 10.0)]
    sums = [disk.sum() for disk in disks]
    np.testing.assert_allclose(sums, [1, 1, 1.013, 1.011], rtol=0, atol=5e-4)


def test_motion_has_an_angle_of_its_own_for_each_image_up_to_45_degrees():
    point = np.zeros((81, 81, 1), np.float32)
    point[40, 40] = 1.0
    program = jax.jit(jax.vmap(FUNCTIONS["motion_blur"], (0, None, None)))
    keys = random_keys(200)
    results = np.asarray(program(keys, point, rows("motion_blur", 224)[4]))[..., 0]
    place = np.arange(81) - 40
    # Pixels look ahead along the path: what they see lies behind the point.
    down = -(results.sum(axis=2) @ place) / results.sum(axis=(1, 2))
    right = -(results.sum(axis=1) @ place) / results.sum(axis=(1, 2))
    angles = np.rad2deg(np.arctan2(down, right))
    assert np.abs(angles).max() < 46
    assert stats.kstest(angles, stats.uniform(-45, 90).cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_a_flat_image_of_any_shape_stays(name):
    flat = np.full((5, 19, 1), 0.7, np.float32)
    result = jax.jit(FUNCTIONS[name])(KEY, flat, rows(name, 224)[0])
    np.testing.assert_allclose(result, flat, rtol=0, atol=1e-5)


# The others are those of the public sets in the tests above.
@pytest.mark.parametrize("name", ["motion_blur"])
def test_results_stay_in_range_and_are_stronger_with_severity(name):
    program, image = jax.jit(FUNCTIONS[name]), picture(224)
    changes = []
    for level in rows(name, 224):
        result = np.asarray(program(KEY, image, level))
        assert result.dtype == np.float32
        assert 0 <= result.min() and result.max() <= 1
        changes.append(np.square(result - image).mean())
    assert changes[0] > 0 and changes[4] > changes[0]
