"""Colour operations agree with torchvision, in every order, on colours and on gray."""

import colorsys
import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jax_rcl.augment import color
from jax_rcl.augment.color import ColorJitter, Grayscale, Solarize

GOLDEN = np.load(
    pathlib.Path(__file__).parents[1] / "golden" / "torchvision_augment.npz"
)
KEY = jax.random.key(0)
IMAGE = jnp.asarray(np.random.default_rng(0).random((5, 7, 3)), jnp.float32)
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
    result = CORES[kind](GOLDEN["image"], jnp.float32(factor))
    close(result, GOLDEN[name], 1e-4)


def test_grayscale_and_solarize_agree_with_torchvision():
    image = jnp.asarray(GOLDEN["image"])
    close(Grayscale()(KEY, image), GOLDEN["grayscale"], 1e-4)
    close(Solarize(0.5)(KEY, image), GOLDEN["solarize_0.5"], 1e-4)


@pytest.mark.parametrize("shift", [-0.5, -0.3, 0.0, 0.21, 0.5])
def test_hue_agrees_with_colorsys(shift):
    # All colours of five levels: ties between channels, gray, black and white included.
    colors = np.array(list(itertools.product(np.linspace(0, 1, 5), repeat=3)))
    expected = []
    for rgb in colors:
        hue, saturation, value = colorsys.rgb_to_hsv(*rgb)
        expected.append(colorsys.hsv_to_rgb((hue + shift) % 1.0, saturation, value))
    result = CORES["hue"](jnp.asarray(colors[:, None], jnp.float32), shift)
    close(result[:, 0], expected, 1e-5)


def test_extreme_factors_give_black_flat_and_gray():
    close(CORES["brightness"](IMAGE, 0.0), np.zeros_like(IMAGE))
    flat = CORES["contrast"](IMAGE, 0.0)
    close(
        flat, np.full_like(IMAGE, (IMAGE @ np.float32([0.2989, 0.587, 0.114])).mean())
    )
    close(CORES["saturation"](IMAGE, 0.0), Grayscale()(KEY, IMAGE))


@pytest.mark.parametrize("kind", CORES)
def test_neutral_factors_change_nothing(kind):
    close(CORES[kind](IMAGE, 0.0 if kind == "hue" else 1.0), IMAGE)


@pytest.mark.parametrize("kind", ["saturation", "hue"])
def test_gray_images_keep_saturation_and_hue(kind):
    np.testing.assert_array_equal(CORES[kind](GRAY, 0.3), GRAY)


def test_gray_images_change_brightness_and_contrast():
    close(CORES["brightness"](GRAY, 0.3), 0.3 * GRAY)
    close(CORES["contrast"](GRAY, 0.3), 0.3 * GRAY + 0.7 * GRAY.mean())
    np.testing.assert_array_equal(Grayscale()(KEY, GRAY), GRAY)


def test_two_channels_are_no_colours():
    with pytest.raises(ValueError, match="2 channels"):
        color.gray(IMAGE[..., :2])
    with pytest.raises(ValueError, match="2 channels"):
        color.adjust_hue(IMAGE[..., :2], 0.1)


def one_by_one(image, factors, places):
    for kind in np.argsort(places):
        image = list(CORES.values())[kind](image, factors[kind])
    return image


@pytest.mark.parametrize("image", [IMAGE, GRAY], ids=["colour", "gray"])
def test_jitter_is_the_four_adjustments_in_each_of_the_24_orders(image):
    jitter = ColorJitter(0.8, 0.8, 0.8, 0.2)
    factors = jnp.array([1.6, 0.4, 1.7, 0.15], jnp.float32)
    orders = np.array(list(itertools.permutations(range(4))), np.int32)
    apply = jax.jit(jax.vmap(jitter.apply, (None, None, 0)))
    for places, result in zip(orders, apply(image, factors, orders), strict=True):
        close(result, one_by_one(image, factors, places), 1e-5)


@pytest.mark.parametrize("off", ["brightness", "contrast", "saturation", "hue"])
def test_jitter_leaves_out_what_has_no_strength(off):
    strengths = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}
    jitter = ColorJitter(**{**strengths, off: 0.0})
    factors = jnp.array([1.6, 0.4, 1.7, 0.15], jnp.float32)
    neutral = factors.at[list(strengths).index(off)].set(0.0 if off == "hue" else 1.0)
    places = jnp.array([2, 0, 3, 1], jnp.int32)
    result = jax.jit(jitter.apply)(IMAGE, factors, places)
    close(result, one_by_one(IMAGE, neutral, places), 1e-5)


def test_jitter_of_no_strength_is_the_identity():
    np.testing.assert_array_equal(ColorJitter()(KEY, IMAGE), IMAGE)


def drawn(jitter, count):
    keys = jax.random.split(KEY, count)
    return [np.asarray(x) for x in jax.jit(jax.vmap(jitter.draw))(keys)]


def test_jitter_factors_are_uniform_within_their_bounds():
    factors, _ = drawn(ColorJitter(0.4, 1.5, 0.8, 0.1), 3000)
    bounds = [(0.6, 1.4), (0.0, 2.5), (0.2, 1.8), (-0.1, 0.1)]
    for column, (low, high) in zip(factors.T, bounds, strict=True):
        uniform = stats.uniform(low, high - low)
        assert stats.kstest(column, uniform.cdf).pvalue > 1e-3
    correlations = np.corrcoef(factors.T) - np.eye(4)
    assert np.abs(correlations).max() < 0.06


def test_jitter_orders_are_equally_likely():
    factors, places = drawn(ColorJitter(0.4, 0.4, 0.4, 0.1), 6000)
    orders, counts = np.unique(places, axis=0, return_counts=True)
    assert len(orders) == 24 and (np.sort(orders, axis=1) == np.arange(4)).all()
    assert stats.chisquare(counts).pvalue > 1e-3
    # Which comes first says nothing about how strong it is.
    assert abs(np.corrcoef(factors[:, 0], places[:, 0])[0, 1]) < 0.05


def test_solarize_inverts_from_the_threshold_on():
    image = jnp.array([0.0, 0.4, 0.5, 1.0], jnp.float32).reshape(2, 2, 1)
    assert Solarize()(KEY, image).ravel().tolist() == [0.0, jnp.float32(0.4), 0.5, 0.0]
    close(Solarize(0.0)(KEY, IMAGE), 1.0 - IMAGE)


def test_a_shift_out_of_range_is_refused():
    with pytest.raises(
        ValueError, match=r"ColorJitter.hue 0.6 must be in \[0, 0.5\], 0.5 already"
    ):
        ColorJitter(hue=0.6)
