"""Tones change as in PIL, whose results are of 256 levels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from jax_rcl.augment.color import gray
from jax_rcl.augment.tone import (
    AutoContrast,
    Brightness,
    Contrast,
    Equalize,
    Invert,
    Posterize,
    Saturation,
    eight_bits,
)

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
# Channels of different range and shape of histogram.
COLOUR = np.stack(
    [
        RNG.integers(40, 200, (40, 30)),
        RNG.binomial(255, 0.3, (40, 30)),
        RNG.integers(0, 256, (40, 30)) ** 2 // 255,
    ],
    axis=-1,
).astype(np.uint8)
GRAY = COLOUR[..., :1]
FLAT = np.full((40, 30, 3), 77, np.uint8)
# Less than 255 pixels, where PIL's equalize leaves the image alone; and a second level
# in so few pixels that it does so too.
SMALL = COLOUR[:10, :10]
NEARLY_FLAT = np.where(np.arange(1200).reshape(40, 30, 1) < 200, FLAT - 9, FLAT)
IMAGES = {
    "colour": COLOUR,
    "gray": GRAY,
    "flat": FLAT,
    "small": SMALL,
    "nearly flat": NEARLY_FLAT,
}


def by_pil(function, pixels):
    gray = pixels.shape[2] == 1
    image = Image.fromarray(pixels[..., 0] if gray else pixels)
    return np.asarray(function(image)).reshape(pixels.shape)


def levels(operation, pixels):
    """255 times the result, not rounded."""
    image = jnp.asarray(pixels, jnp.float32) / 255.0
    return 255.0 * np.asarray(jax.jit(operation)(KEY, image), np.float64)


@pytest.mark.parametrize("name", IMAGES)
def test_equalize_is_that_of_pil(name):
    pixels = IMAGES[name]
    np.testing.assert_allclose(
        levels(Equalize(), pixels), by_pil(ImageOps.equalize, pixels), atol=1e-3
    )


def test_equalize_of_every_level_once_is_monotone_and_spread():
    ramp = jnp.repeat(jnp.arange(256, dtype=jnp.float32) / 255.0, 20) ** 2
    result = np.asarray(jax.jit(Equalize())(KEY, ramp.reshape(64, 80, 1))).ravel()
    assert (np.diff(result) >= 0).all() and result[0] == 0 and result[-1] == 1
    assert abs(result.mean() - 0.5) < 0.02


@pytest.mark.parametrize("name", IMAGES)
def test_autocontrast_is_that_of_pil(name):
    # PIL truncates the result of a product of two rounded numbers: at whole levels it
    # may be one lower.
    pixels = IMAGES[name]
    expected = by_pil(ImageOps.autocontrast, pixels)
    result = levels(AutoContrast(), pixels)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1.001)
    assert (np.abs(result - expected) < 0.01).mean() > 0.95


def test_autocontrast_reaches_both_ends_of_each_channel():
    result = jax.jit(AutoContrast())(KEY, jnp.asarray(COLOUR, jnp.float32) / 255.0)
    assert result.min((0, 1)).tolist() == [0, 0, 0]
    assert result.max((0, 1)).tolist() == [1, 1, 1]


@pytest.mark.parametrize("operation", [AutoContrast(), Equalize()])
def test_rounding_errors_of_a_flat_image_are_not_stretched(operation):
    image = jnp.float32(0.31) + 1e-6 * jnp.asarray(COLOUR, jnp.float32) / 255.0
    np.testing.assert_array_equal(jax.jit(operation)(KEY, image), image)


FACTORS = (0.0, 0.7, 1.0, 1.9)
BITS = (0, 1, 4, 7, 8)
ENHANCEMENTS = {
    Brightness: ImageEnhance.Brightness,
    Contrast: ImageEnhance.Contrast,
    Saturation: ImageEnhance.Color,
}
OPERATIONS = [
    *(Posterize(bits) for bits in BITS),
    *(operation(factor) for operation in ENHANCEMENTS for factor in FACTORS),
]


@functools.cache
def of_all():
    """255 times the results of all operations, by one program."""
    make = jax.jit(lambda image: [operation(KEY, image) for operation in OPERATIONS])
    results = make(np.float32(COLOUR / 255.0))
    return dict(zip(OPERATIONS, 255 * np.array(results, np.float64), strict=True))


@pytest.mark.parametrize("bits", BITS)
def test_posterize_is_that_of_pil_and_without_bits_black(bits):
    expected = np.zeros_like(COLOUR)
    if bits:
        expected = by_pil(lambda image: ImageOps.posterize(image, bits), COLOUR)
    np.testing.assert_allclose(of_all()[Posterize(bits)], expected, atol=1e-3)


def test_invert_is_that_of_pil():
    expected = by_pil(ImageOps.invert, COLOUR)
    np.testing.assert_allclose(levels(Invert(), COLOUR), expected, atol=1e-3)


# PIL truncates the blend to whole levels, and before that rounds the gray value that is
# blended with, which counts |1 - factor| times.
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("operation", ENHANCEMENTS)
def test_enhancements_are_those_of_pil(operation, factor):
    enhance = ENHANCEMENTS[operation]
    expected = by_pil(lambda image: enhance(image).enhance(factor), COLOUR)
    allowed = 1.05 + 0.55 * abs(1 - factor)
    result = of_all()[operation(factor)]
    np.testing.assert_allclose(result, expected, rtol=0, atol=allowed)


def test_factor_zero_is_black_flat_and_gray():
    operations = (Brightness(0.0), Contrast(0.0), Saturation(0.0))

    @jax.jit
    def make(image):
        in_gray = jnp.broadcast_to(gray(image), image.shape)
        return *[operation(KEY, image) for operation in operations], in_gray

    black, flat, pale, in_gray = make(np.float32(COLOUR / 255.0))
    assert not black.any() and np.ptp(flat) < 1e-6
    np.testing.assert_allclose(pale, in_gray, atol=1e-6)


def test_levels_are_rounded_and_limited():
    image = jnp.array([[[-0.1, 0.0, 0.4999 / 255, 0.501 / 255, 1.0, 1.1]]])
    assert eight_bits(image).ravel().tolist() == [0, 0, 0, 1, 255, 255]


def test_a_factor_out_of_range_is_refused():
    with pytest.raises(
        ValueError, match=r"Contrast.factor -0.1 must be at least 0 and finite, 1"
    ):
        Contrast(-0.1)
