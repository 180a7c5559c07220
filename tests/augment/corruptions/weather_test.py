"""Weather and dirt do to a picture what those of the two public sets do, on average.

The golden arrays hold, for a picture of 64 pixels and one of 32, means and deviations
over many draws of three statistics, in levels: root mean square change, brightness, and
root mean square of what varies faster than every four pixels. They were obtained with
the package imagecorruptions 1.1.2, with its parameters for 224 pixels and with those of
CIFAR-10-C in their place; those of frost with crops of its photographs.
"""

import functools
import pathlib

import jax
import numpy as np
import pytest
from scipy import ndimage

from jax_rcl.augment.corruptions import frost, spatter, weather
from jax_rcl.augment.corruptions.table import EXTRA, FUNCTIONS, LEVELS, STANDARD

GOLDEN = np.load(
    pathlib.Path(__file__).parents[2] / "golden" / "corruptions_weather_digital.npz"
)
PUBLISHED = (*STANDARD, *EXTRA[:4])
NAMES = [name for name in PUBLISHED if FUNCTIONS[name] in weather.LEVELS]
KEY = jax.random.key(0)
SIDES = (224, 32)
SLOW_SIDES = [224, pytest.param(32, marks=pytest.mark.slow)]
DRAWS = 48


def rows(name, side):
    return np.asarray(LEVELS[name][side], np.float32)


def picture_of(side):
    return GOLDEN[f"picture{side}"].astype(np.float32) / 255


# Keys from numbers of the host: to split one is a program for each count.
NUMBERS = np.random.default_rng(0).integers(0, 2**32, (200, 2), np.uint32)
KEYS = jax.random.wrap_key_data(NUMBERS[:DRAWS])
SECOND = jax.random.wrap_key_data(np.tile(NUMBERS[1], (DRAWS, 1)))
"""The second of the keys for all images of a batch."""


@functools.cache
def program(name):
    """For a key per image; counted apart from all others."""
    return jax.jit(jax.vmap(functools.partial(FUNCTIONS[name]), (0, None, None)))


def statistics(results, clean):
    """Change, brightness and detail of each result."""
    gray = results.mean(axis=-1)
    spectrum = np.square(np.abs(np.fft.fft2(gray, norm="ortho")))
    rows, columns = (np.fft.fftfreq(side) for side in gray.shape[1:])
    fast = np.hypot(rows[:, None], columns[None, :]) > 0.25
    change = np.square(results - clean).mean(axis=(1, 2, 3))
    detail = (spectrum * fast).mean(axis=(1, 2))
    return np.stack(
        [np.sqrt(change), results.mean(axis=(1, 2, 3)), np.sqrt(detail)], axis=1
    )


def assert_alike(name, side, *, off):
    """Means agree within 4 standard errors and `off` of their size besides."""
    picture = picture_of(side)
    for row, golden in zip(rows(name, side), GOLDEN[f"{name}/{side}"], strict=True):
        results = np.asarray(program(name)(KEYS, picture, row))
        assert results.dtype == np.float32
        assert results.min() >= 0 and results.max() <= 1
        found = statistics(results * 255, picture * 255)
        mean, deviation = golden.T
        error = 4 * deviation / DRAWS**0.5
        assert (np.abs(found.mean(axis=0) - mean) < error + off * mean).all()


@pytest.mark.parametrize("side", SLOW_SIDES)
@pytest.mark.parametrize("name", ["snow", "fog", "spatter"])
def test_on_average_they_change_a_picture_as_the_public_sets_do(name, side):
    assert_alike(name, side, off=0.02)


@pytest.mark.parametrize("side", SLOW_SIDES)
def test_frost_without_photographs_changes_a_picture_about_as_they_do(side):
    assert_alike("frost", side, off=0.06)


@pytest.mark.parametrize("name", NAMES)
def test_one_program_serves_all_severities_and_each_image_draws_its_own(name):
    picture, run = picture_of(32), program(name)
    results = [np.asarray(run(KEYS, picture, row)) for row in rows(name, 32)]
    before = run._cache_size()
    results += [np.asarray(run(KEYS, picture, row)) for row in rows(name, 224)]
    # What is drawn for the others in the batch, and how long their loops are, is
    # nothing to an image.
    among_equals = run(SECOND, picture, rows(name, 224)[4])
    assert run._cache_size() == before
    assert before <= 2  # One for each size of picture that the tests use.
    np.testing.assert_allclose(among_equals[0], results[-1][1], atol=1e-5)
    if name != "brightness":
        for result in results:
            assert not np.allclose(result[0], result[1], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_image_alone_gives_what_it_gives_in_a_batch(name):
    picture, row = picture_of(32), rows(name, 224)[4]
    together = program(name)(KEYS, picture, row)
    alone = jax.jit(FUNCTIONS[name])(KEYS[1], picture, row)
    np.testing.assert_allclose(alone, np.asarray(together)[1], atol=1e-5)


LATER = pytest.param("spatter", marks=pytest.mark.slow)  # two seconds


@pytest.mark.parametrize("name", ["snow", "frost", "fog", "brightness", LATER])
def test_images_may_be_gray_and_of_any_size(name):
    image = picture_of(32)[:9, :13, :1]
    result = np.asarray(jax.jit(FUNCTIONS[name])(KEY, image, rows(name, 224)[1]))
    assert (result.shape, result.dtype) == (image.shape, image.dtype)
    assert result.min() >= 0 and result.max() <= 1  # hence none is NaN
    assert (result != image).any()


@pytest.mark.parametrize("name", ["snow", "frost", "spatter"])
def test_what_needs_colours_refuses_two_channels(name):
    with pytest.raises(ValueError, match="2 channels"):
        jax.eval_shape(FUNCTIONS[name], KEY, np.zeros((8, 8, 2)), rows(name, 224)[0])


@pytest.mark.parametrize("side", SIDES)
def test_brightness_is_that_of_the_public_sets(side):
    picture = GOLDEN["picture"].astype(np.float32) / 255
    expected = GOLDEN[f"brightness/{side}"].astype(np.float32) / 256
    for row, levels in zip(rows("brightness", side), expected, strict=True):
        result = np.asarray(jax.jit(weather.brightness)(KEY, picture, row))
        np.testing.assert_allclose(255 * result, levels, atol=0.003)


def test_brightness_of_gray_is_a_sum_and_of_black_too():
    image = np.float32([0.0, 0.25, 0.9])[:, None, None]
    result = np.asarray(jax.jit(weather.brightness)(KEY, image, np.float32([0.3])))
    np.testing.assert_allclose(result[:, 0, 0], [0.3, 0.55, 1.0], atol=1e-6)


def test_a_cloud_is_made_of_squares_and_diamonds():
    side, decay = 8, 1.7
    drawn = np.asarray(jax.random.uniform(KEY, (side * side,), minval=-1.0, maxval=1.0))
    grid, amplitude = np.zeros((side, side)), 1.0
    step = side
    while step > 1:
        half, n = step // 2, side // step
        noise = drawn[n * n : 4 * n * n].reshape(3, n, n) * amplitude**2
        for i, j in np.ndindex(n, n):
            y, x = i * step, j * step
            far_y, far_x = (y + step) % side, (x + step) % side
            corners = grid[y, x] + grid[far_y, x] + grid[y, far_x] + grid[far_y, far_x]
            grid[y + half, x + half] = corners / 4 + noise[0, i, j]
        for i, j in np.ndindex(n, n):
            y, x = i * step, j * step
            middle = grid[y + half, x + half]
            above, left = grid[y - half, x + half], grid[y + half, x - half]
            ends = grid[y, x] + grid[y, (x + step) % side]
            grid[y, x + half] = (middle + above + ends) / 4 + noise[1, i, j]
            ends = grid[y, x] + grid[(y + step) % side, x]
            grid[y + half, x] = (middle + left + ends) / 4 + noise[2, i, j]
        step, amplitude = half, amplitude / decay
    grid = (grid - grid.min()) / (grid.max() - grid.min())
    cloud = jax.jit(weather.plasma, static_argnums=1)(KEY, side, np.float32(decay))
    np.testing.assert_allclose(cloud, grid, atol=1e-5)


def test_fog_keeps_the_lightest_value_possible_and_black_black():
    level = np.float32([1.5, 2.0])
    half, black = (np.full((32, 32, 3), x, np.float32) for x in (0.5, 0.0))
    foggy = np.asarray(program("fog")(KEYS, half, level))
    np.testing.assert_allclose(foggy.max(axis=(1, 2, 3)), np.full(48, 0.5), atol=1e-6)
    np.testing.assert_array_equal(program("fog")(KEYS, black, level), 0)


magnify = jax.jit(weather.magnified_weights, static_argnames="source")


@pytest.mark.parametrize("factor", [1.0, 1.25, 2.5, 3.0, 4.5])
def test_flakes_are_magnified_as_scipy_does(factor):
    source = 24
    kept = int(np.ceil(source / factor))
    noise = np.random.default_rng(0).random(source).astype(np.float32)
    expected = ndimage.zoom(noise[:kept], factor, order=1)[:source]
    weights = magnify(np.float32(factor), source=source)
    np.testing.assert_allclose(np.asarray(weights) @ noise, expected, atol=1e-5)


pictures_of_frost = jax.jit(
    jax.vmap(lambda key, coarse: frost.picture(key, 32, 32, coarse), (0, None))
)
fields_of_needles = jax.jit(
    jax.vmap(lambda key, kind: frost.needles(key, 64, 64, kind, 0)[0], (0, None))
)


@pytest.mark.parametrize("coarse", [0, 1])
def test_frost_has_the_colours_and_the_spread_of_the_photographs(coarse):
    keys = jax.random.wrap_key_data(NUMBERS)
    pictures = np.asarray(pictures_of_frost(keys, np.int32(coarse)))
    often = np.array(frost.OFTEN) / sum(frost.OFTEN)
    mean = often @ frost.PICTURES[:, 0]
    inside = often @ np.square(frost.PICTURES[:, 1:]).sum(axis=1)
    between = often @ np.square(frost.PICTURES[:, 0] - mean)
    np.testing.assert_allclose(pictures.mean(axis=(0, 1, 2)), mean, atol=0.05)
    deviation = np.sqrt(inside + between)
    np.testing.assert_allclose(pictures.std(axis=(0, 1, 2)), deviation, rtol=0.12)


@pytest.mark.parametrize("kind", range(4))
def test_needles_have_the_wanted_power_in_every_octave(kind):
    keys = jax.random.wrap_key_data(NUMBERS[:24])
    found = np.asarray(fields_of_needles(keys, np.int32(kind)))
    window = np.sqrt(np.outer(np.hanning(64), np.hanning(64)))
    window = window / np.sqrt(np.square(window).mean())
    found = (found - found.mean(axis=(1, 2), keepdims=True)) * window
    power = np.square(np.abs(np.fft.fft2(found, norm="ortho"))).mean(axis=0)
    frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)[None])
    variance = np.square(frost.PICTURES[kind, 1]).sum()
    for octave in (-4, -3, -2):
        inside = np.abs(np.log2(np.maximum(frequency, 1e-3)) - octave) < 0.25
        wanted = frost.POWER[0, kind, octave + 8] - np.log2(variance)
        assert abs(np.log2(power[inside].mean()) - wanted) < 0.5


def test_rims_of_drops_and_light_on_them_are_those_of_opencv_but_for_distances():
    both = jax.jit(lambda liquid: (spatter.rims(liquid), spatter.relief(liquid)))
    goldens = (GOLDEN[name] for name in ("liquid", "rims", "relief"))
    for liquid, rims, relief in zip(*goldens, strict=True):
        found, light = map(np.asarray, both(liquid.astype(np.float32)))
        np.testing.assert_array_equal(found, rims)
        apart = np.abs(light - relief)[liquid > 0]
        assert apart.mean() < 5
        assert np.corrcoef(light[liquid > 0], relief[liquid > 0])[0, 1] > 0.98


def test_distances_are_euclidean_up_to_the_farthest():
    cost = np.full((50, 45), 4.0 * spatter.FARTHEST**2, np.float32)
    cost[3, 4] = cost[30, 40] = cost[31, 7] = 0
    expected = ndimage.distance_transform_edt(cost > 0)
    lower = jax.jit(spatter.lower_envelope)
    squared = np.asarray(lower(np.asarray(lower(cost)).T)).T
    near = expected <= spatter.FARTHEST
    np.testing.assert_allclose(np.sqrt(squared)[near], expected[near], atol=1e-4)
    assert np.sqrt(squared)[~near].min() > spatter.FARTHEST


def test_no_liquid_leaves_the_image():
    image = np.full((32, 32, 3), 0.3, np.float32)
    for mud in (0.0, 1.0):
        level = np.float32([0.1, 0.01, 1.0, 0.69, 0.6, mud])
        results = program("spatter")(KEYS, image, level)
        np.testing.assert_allclose(results, np.broadcast_to(image, results.shape))
