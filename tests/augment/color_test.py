"""Colour operations agree with torchvision, in every order, on colours and on gray."""

import colorsys
import functools
import itertools
import pathlib

import jax
import numpy as np
import pytest
from scipy import stats

from jax_rcl.augment import color
from jax_rcl.augment.color import ColorJitter, Grayscale, Solarize

GOLDEN = np.load(
    pathlib.Path(__file__).parents[1] / "golden" / "torchvision_augment.npz"
)
KEY = jax.random.key(0)
IMAGE = np.float32(np.random.default_rng(0).random((5, 7, 3)))
GRAY = IMAGE[..., :1]
CORES = {
    "brightness": jax.jit(color.adjust_brightness),
    "contrast": jax.jit(color.adjust_contrast),
    "saturation": jax.jit(color.adjust_saturation),
    "hue": jax.jit(color.adjust_hue),
}
ADJUSTED = [name for name in GOLDEN if name.partition("_")[0] in CORES]


def close(actual, expected, tolerance=1e-6):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


def test_there_are_goldens_for_all_four():
    assert len(ADJUSTED) == 14


@pytest.mark.parametrize("name", ADJUSTED)
def test_adjustments_agree_with_torchvision(name):
    kind, _, factor = name.partition("_")
    result = CORES[kind](GOLDEN["image"], np.float32(factor))
    close(result, GOLDEN[name], 1e-4)


def test_grayscale_and_solarize_agree_with_torchvision():
    for operation, name in (
        (Grayscale(), "grayscale"),
        (Solarize(0.5), "solarize_0.5"),
    ):
        close(jax.jit(operation)(KEY, GOLDEN["image"]), GOLDEN[name], 1e-4)


@pytest.mark.parametrize("shift", [-0.5, -0.3, 0.0, 0.21, 0.5])
def test_hue_agrees_with_colorsys(shift):
    # All colours of five levels: ties between channels, gray, black and white included.
    colors = np.array(list(itertools.product(np.linspace(0, 1, 5), repeat=3)))
    expected = []
    for rgb in colors:
        hue, saturation, value = colorsys.rgb_to_hsv(*rgb)
        expected.append(colorsys.hsv_to_rgb((hue + shift) % 1.0, saturation, value))
    result = np.asarray(CORES["hue"](np.float32(colors[:, None]), np.float32(shift)))
    close(result[:, 0], expected, 1e-5)


def test_extreme_factors_give_black_flat_and_gray():
    close(CORES["brightness"](IMAGE, 0.0), np.zeros_like(IMAGE))
    flat = CORES["contrast"](IMAGE, 0.0)
    close(
        flat, np.full_like(IMAGE, (IMAGE @ np.float32([0.2989, 0.587, 0.114])).mean())
    )
    close(CORES["saturation"](IMAGE, 0.0), jax.jit(Grayscale())(KEY, IMAGE))


@pytest.mark.parametrize("kind", CORES)
def test_neutral_factors_change_nothing(kind):
    close(CORES[kind](IMAGE, 0.0 if kind == "hue" else 1.0), IMAGE)


@pytest.mark.parametrize("kind", ["saturation", "hue"])
def test_gray_images_keep_saturation_and_hue(kind):
    np.testing.assert_array_equal(CORES[kind](GRAY, 0.3), GRAY)


def test_gray_images_change_brightness_and_contrast():
    close(CORES["brightness"](GRAY, 0.3), 0.3 * GRAY)
    close(CORES["contrast"](GRAY, 0.3), 0.3 * GRAY + 0.7 * GRAY.mean())
    np.testing.assert_array_equal(jax.jit(Grayscale())(KEY, GRAY), GRAY)


def test_two_channels_are_no_colours():
    with pytest.raises(ValueError, match="2 channels"):
        jax.eval_shape(color.gray, IMAGE[..., :2])
    with pytest.raises(ValueError, match="2 channels"):
        jax.eval_shape(color.adjust_hue, IMAGE[..., :2], 0.1)


def one_by_one(image, factors, places):
    for kind in np.argsort(places):
        image = list(CORES.values())[kind](image, factors[kind])
    return image


@pytest.mark.parametrize("image", [IMAGE, GRAY], ids=["colour", "gray"])
def test_jitter_is_the_four_adjustments_in_each_of_the_24_orders(image):
    jitter = ColorJitter(0.8, 0.8, 0.8, 0.2)
    factors = np.float32([1.6, 0.4, 1.7, 0.15])
    orders = np.array(list(itertools.permutations(range(4))), np.int32)
    apply = jax.jit(jax.vmap(jitter.apply, (None, None, 0)))
    results = np.asarray(apply(image, factors, orders))
    for places, result in zip(orders, results, strict=True):
        close(result, one_by_one(image, factors, places), 1e-5)


def test_jitter_leaves_out_what_has_no_strength():
    strengths = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}
    factors = np.float32([1.6, 0.4, 1.7, 0.15])
    places = np.int32([2, 0, 3, 1])

    @jax.jit
    def without_one(*given):
        jitters = [ColorJitter(**{**strengths, off: 0.0}) for off in strengths]
        return [jitter.apply(*given) for jitter in jitters]

    for off, result in enumerate(without_one(IMAGE, factors, places)):
        neutral = factors.copy()
        neutral[off] = 0.0 if off == 3 else 1.0
        close(result, one_by_one(IMAGE, neutral, places), 1e-5)


def test_jitter_of_no_strength_is_the_identity():
    np.testing.assert_array_equal(jax.jit(ColorJitter())(KEY, IMAGE), IMAGE)


@functools.cache
def drawn():
    numbers = np.random.default_rng(1).integers(0, 2**32, (6000, 2), np.uint32)
    keys = jax.random.wrap_key_data(numbers)
    draw = jax.jit(jax.vmap(ColorJitter(0.4, 1.5, 0.8, 0.1).draw))
    return jax.device_get(draw(keys))


def test_jitter_factors_are_uniform_within_their_bounds():
    factors, _ = drawn()
    bounds = [(0.6, 1.4), (0.0, 2.5), (0.2, 1.8), (-0.1, 0.1)]
    for column, (low, high) in zip(factors.T, bounds, strict=True):
        uniform = stats.uniform(low, high - low)
        assert stats.kstest(column, uniform.cdf).pvalue > 1e-3
    correlations = np.corrcoef(factors.T) - np.eye(4)
    assert np.abs(correlations).max() < 0.06


def test_jitter_orders_are_equally_likely():
    factors, places = drawn()
    orders, counts = np.unique(places, axis=0, return_counts=True)
    assert len(orders) == 24 and (np.sort(orders, axis=1) == np.arange(4)).all()
    assert stats.chisquare(counts).pvalue > 1e-3
    # Which comes first says nothing about how strong it is.
    assert abs(np.corrcoef(factors[:, 0], places[:, 0])[0, 1]) < 0.05


def test_solarize_inverts_from_the_threshold_on():
    image = np.float32([0.0, 0.4, 0.5, 1.0]).reshape(2, 2, 1)
    result = np.asarray(jax.jit(Solarize())(KEY, image))
    assert result.ravel().tolist() == [0.0, np.float32(0.4), 0.5, 0.0]
    close(jax.jit(Solarize(0.0))(KEY, IMAGE), 1.0 - IMAGE)


def test_a_shift_out_of_range_is_refused():
    with pytest.raises(
        ValueError, match=r"ColorJitter.hue 0.6 must be in \[0, 0.5\], 0.5 already"
    ):
        ColorJitter(hue=0.6)
