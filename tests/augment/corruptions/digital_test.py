"""Digital corruptions are those of the two public sets, JPEG is Pillow's.

For the golden arrays of `saturate`, `contrast` and `elastic_transform` see
`weather_test`; the latter's statistics were obtained with an implementation in OpenCV
and SciPy of the steps and parameters of the scripts that made the public sets.
"""

import functools
import io
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from jax_rcl.augment.corruptions import digital, jpeg
from jax_rcl.augment.corruptions.table import EXTRA, FUNCTIONS, LEVELS, STANDARD

GOLDEN = np.load(
    pathlib.Path(__file__).parents[2] / "golden" / "corruptions_weather_digital.npz"
)
PUBLISHED = (*STANDARD, *EXTRA[:4])
NAMES = [name for name in PUBLISHED if FUNCTIONS[name] in digital.LEVELS]
KEY = jax.random.key(0)
SIDES = (224, 32)
SLOW_SIDES = [224, pytest.param(32, marks=pytest.mark.slow)]
DRAWS = 48
BIG = np.asarray(Image.fromarray(GOLDEN["picture224"]).resize((224, 224)))


def rows(name, side):
    return np.asarray(LEVELS[name][side], np.float32)


@functools.cache
def program(name):
    return jax.jit(functools.partial(FUNCTIONS[name]))


def levels_of(name, picture, row):
    """The result in levels, of a picture in levels."""
    image = picture.astype(np.float32) / 255
    return 255 * np.asarray(program(name)(KEY, image, row))


def stored(picture, quality):
    """What Pillow reads from the file that it writes."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).astype(np.float32)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", ["contrast", "saturate"])
def test_colours_change_as_in_the_public_sets(name, side):
    expected = GOLDEN[f"{name}/{side}"].astype(np.float32) / 256
    for row, levels in zip(rows(name, side), expected, strict=True):
        result = levels_of(name, GOLDEN["picture"], row)
        np.testing.assert_allclose(result, levels, atol=0.003)


def test_saturation_turns_gray_pixels_red_but_leaves_gray_images():
    level, saturate = np.float32([20.0, 0.2]), program("saturate")
    pixel = saturate(KEY, np.full((1, 1, 3), 0.5, np.float32), level)
    np.testing.assert_allclose(pixel[0, 0], [0.5, 0.4, 0.4], atol=1e-6)
    gray = np.full((2, 2, 1), 0.5, np.float32)
    np.testing.assert_array_equal(saturate(KEY, gray, level), gray)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("shape", [(32, 32), (33, 47)])
def test_jpeg_is_that_of_pillow(shape, side):
    picture = BIG[60 : 60 + shape[0], 40 : 40 + shape[1]]
    for row in rows("jpeg_compression", side):
        apart = np.abs(
            levels_of("jpeg_compression", picture, row) - stored(picture, int(row[0]))
        )
        # Where a coefficient lies half way between two steps, a block may differ.
        assert apart.mean() < 1 and (apart < 0.01).mean() > 0.8


def test_jpeg_of_a_whole_picture_differs_by_a_tenth_of_a_level():
    for row in rows("jpeg_compression", 224):
        result = levels_of("jpeg_compression", BIG, row)
        assert np.abs(result - np.round(result)).max() < 1e-3
        assert np.abs(result - stored(BIG, int(row[0]))).mean() < 0.1


def test_jpeg_of_gray_images_is_that_of_pillow():
    picture = BIG[30:60, 20:57, 1]
    result = levels_of("jpeg_compression", picture[..., None], np.float32([25.0]))
    assert np.abs(result[..., 0] - stored(picture, 25)).mean() < 0.3


TABLES = (jpeg.LUMINANCE, jpeg.CHROMINANCE)
QUANTISE = jax.jit(lambda quality: [jpeg.quantisation(x, quality) for x in TABLES])


@pytest.mark.parametrize("quality", [1, 7, 25, 49, 50, 80, 100])
def test_quantisation_steps_are_those_that_pillow_writes(quality):
    file = io.BytesIO()
    Image.fromarray(BIG).save(file, "JPEG", quality=quality)
    tables = Image.open(file).quantization
    for i, steps in enumerate(QUANTISE(np.float32(quality))):
        np.testing.assert_array_equal(steps.ravel(), tables[i])


def test_jpeg_refuses_two_channels():
    with pytest.raises(ValueError, match="2 channels"):
        jpeg.jpeg_compression(KEY, jnp.zeros((8, 8, 2)), jnp.asarray([50.0]))


@pytest.mark.parametrize("side", SIDES)
def test_pixels_are_those_of_pillow_at_the_calibrated_size(side):
    picture = BIG[:side, :side]
    for row in rows("pixelate", side):
        count = int(side * round(float(row[0]), 2))
        small = Image.fromarray(picture).resize((count, count), Image.Resampling.BOX)
        for way in (Image.Resampling.NEAREST, Image.Resampling.BOX):
            expected = np.asarray(small.resize((side, side), way))
            result = levels_of("pixelate", picture, row)
            np.testing.assert_allclose(result, expected, atol=0.01)


pixels = jax.jit(digital.pixel_weights, static_argnames="source")
mirrored = jax.jit(digital.mirrored_weights, static_argnames="source")
interpolate = jax.jit(digital.interpolate, static_argnames="edge")


def test_pixels_of_other_sizes_are_means_of_what_they_cover():
    weights = pixels(np.int32(2), source=5)
    half = [[1 / 3, 1 / 3, 1 / 3, 0, 0]] * 2
    rest = [[0, 0, 0, 1 / 2, 1 / 2]] * 3
    np.testing.assert_allclose(weights, half + rest, atol=1e-6)
    np.testing.assert_array_equal(pixels(np.int32(4), source=4), np.eye(4))


@pytest.mark.parametrize("sigma", [0.0, 0.96, 6.4, 19.52])
@pytest.mark.parametrize("source", [11, 40])
def test_displacements_are_smoothed_as_scipy_does(source, sigma):
    line = np.random.default_rng(0).random(source).astype(np.float32)
    width = max(sigma, 0.01)  # SciPy divides by it.
    expected = ndimage.gaussian_filter1d(line, width, mode="reflect", truncate=3)
    weights = mirrored(np.float32(sigma), source=source)
    np.testing.assert_allclose(weights @ line, expected, atol=1e-5)


@pytest.mark.parametrize("edge, mode", [("once", "mirror"), ("twice", "reflect")])
def test_places_between_pixels_are_interpolated_as_scipy_does(edge, mode):
    random = np.random.default_rng(0)
    image = random.random((9, 12, 1)).astype(np.float32)
    places = random.uniform(-30, 40, (2, 20, 15)).astype(np.float32)
    expected = ndimage.map_coordinates(image[..., 0], places, order=1, mode=mode)
    found = interpolate(image, *places, edge=edge)
    np.testing.assert_allclose(found[..., 0], expected, atol=1e-4)


def test_the_affine_map_takes_moved_corners_back():
    height, width, shift = 30, 44, 3.0
    move = jax.jit(digital.move_corners, static_argnums=(1, 2))
    matrix = np.asarray(move(KEY, height, width, np.float32(shift)))
    old = np.array([[32.0, 25.0], [32.0, 5.0], [12.0, 5.0]])
    forth = np.linalg.inv(matrix[:, :2])
    moves = (old - matrix[:, 2]) @ forth.T - old
    assert 0.1 < np.abs(moves).max() <= shift + 1e-4
    drawn = jax.random.uniform(KEY, (3, 2), minval=-1.0, maxval=1.0)
    np.testing.assert_allclose(moves, shift * drawn, atol=1e-4)


elastic = jax.jit(jax.vmap(digital.elastic_transform, (0, None, None)))


@pytest.mark.parametrize("side", SLOW_SIDES)
def test_elastic_transform_changes_a_picture_as_the_public_sets_on_average(side):
    picture = GOLDEN[f"picture{side}"].astype(np.float32)
    keys = jax.random.split(KEY, DRAWS)
    levels = rows("elastic_transform", side)
    golden = GOLDEN[f"elastic_transform/{side}"]
    for row, (mean, deviation) in zip(levels, golden.transpose(0, 2, 1), strict=True):
        results = np.asarray(elastic(keys, picture / 255, row))
        assert results.dtype == np.float32
        assert results.min() >= 0 and results.max() <= 1
        assert not np.allclose(results[0], results[1], atol=1e-3)
        results = 255 * results
        gray = results.mean(axis=-1)
        frequency = np.fft.fftfreq(gray.shape[1])
        fast = np.hypot(frequency[:, None], frequency[None, :]) > 0.25
        spectrum = np.square(np.abs(np.fft.fft2(gray, norm="ortho"))) * fast
        change = np.sqrt(np.square(results - picture).mean(axis=(1, 2, 3))).mean()
        detail = np.sqrt(spectrum.mean(axis=(1, 2))).mean()
        found = np.array([change, results.mean(), detail])
        error = 4 * deviation / DRAWS**0.5
        assert (np.abs(found - mean) < error + 0.02 * mean).all()
    assert elastic._cache_size() <= 2  # one for each size of picture
    # Without strength and shift nothing changes.
    same = np.asarray(elastic(keys, picture / 255, np.float32([0.0, 2.0, 0.0])))
    np.testing.assert_allclose(255 * same[0], picture, atol=3e-3)


# The elastic transform, which draws, is above.
@pytest.mark.parametrize("name", sorted({*NAMES} - {"elastic_transform"}))
def test_one_program_serves_all_severities_of_a_batch(name):
    images = np.stack([GOLDEN["picture32"].astype(np.float32) / 255] * 2)
    run = jax.jit(jax.vmap(functools.partial(FUNCTIONS[name]), (0, 0, None)))
    keys = jax.random.split(KEY, 2)
    for side in SIDES:
        for row in rows(name, side):
            results = np.asarray(run(keys, images, row))
            assert results.dtype == np.float32 and results.shape == images.shape
            assert results.min() >= 0 and results.max() <= 1
            np.testing.assert_allclose(results[0], results[1], atol=1e-3)
    assert run._cache_size() == 1


@pytest.mark.parametrize("name", NAMES)
def test_images_may_be_gray_and_of_any_size(name):
    image = GOLDEN["picture32"][:9, :13, :1].astype(np.float32) / 255
    result = np.asarray(program(name)(KEY, image, rows(name, 224)[2]))
    assert (result.shape, result.dtype) == (image.shape, image.dtype)
    assert result.min() >= 0 and result.max() <= 1  # hence none is NaN
    assert (result != image).any() or name == "saturate"
