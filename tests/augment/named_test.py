"""Every name of the list has its operation, at the magnitude that the list gives it."""

import functools
import typing

import jax
import numpy as np
import pytest
from PIL import Image, ImageOps

from jax_rcl.augment import named
from jax_rcl.augment.affine import Rotate, Shear, Translate
from jax_rcl.augment.filters import Sharpness
from jax_rcl.augment.geometry import Flip, VerticalFlip
from jax_rcl.augment.named import RANGES, Named, magnitude
from jax_rcl.augment.patches import Cutout
from jax_rcl.augment.tone import Brightness, Contrast, Posterize, Saturation

KEY = jax.random.key(0)
LIST = """
    AutoContrast Blur Brightness CenterCrop Color ColorDistortion ColorJitter Contrast
    Cutout Equalize GaussianBlur Grayscale HorizontalFlip Identity Invert Normalize
    Posterize RandomCrop RandomGrayscale RandomHorizontalFlip RandomResizedCrop
    Reshape2D Resize ResizeAndPad Rotate Sharpness ShearX ShearY Smooth Solarize
    ToTensor TranslateX TranslateY VerticalFlip
""".split()
NAMES = typing.get_args(named.Name)
PIXELS = np.random.default_rng(0).integers(0, 256, (18, 20, 3), np.uint8)
IMAGE = np.float32(PIXELS / 255.0)


def test_each_of_the_34_names_has_an_operation_or_a_word_where_it_is():
    assert len(LIST) == 34 and set(NAMES) <= set(LIST)
    for name in set(LIST) - set(NAMES):
        assert name in named.__doc__


@pytest.mark.parametrize(
    ("name", "level", "operation"),
    [
        ("Brightness", 0.0, Brightness(0.1)),
        ("Color", 1.0, Saturation(1.9)),
        ("Contrast", 0.5, Contrast(1.0)),
        ("Sharpness", 0.0, Sharpness(0.1)),
        ("Cutout", 0.49, Cutout((9, 9))),
        ("Cutout", 1.0, Cutout((20, 20))),
        ("Posterize", 0.0, Posterize(0)),
        ("Posterize", 0.99, Posterize(3)),
        ("Rotate", 0.5, Rotate(15.0)),
        ("ShearX", 1.0, Shear(0.3, "x")),
        ("ShearY", 0.5, Shear(0.15, "y")),
        ("TranslateX", 0.25, Translate(2.5, "x")),
        ("TranslateY", 1.0, Translate(10.0, "y")),
        ("HorizontalFlip", 0.0, Flip(1.0)),
        ("VerticalFlip", 0.0, VerticalFlip(1.0)),
    ],
)
def test_a_name_and_a_level_are_an_operation(name, level, operation):
    assert Named(name, level).operation == operation


def test_magnitudes_are_linear_and_whole_ones_truncated():
    assert magnitude("Rotate", 0.3) == pytest.approx(9.0)
    assert magnitude("Color", 0.25) == pytest.approx(0.55)
    assert [magnitude("Posterize", x / 8) for x in range(9)] == [
        0, 0, 1, 1, 2, 2, 3, 3, 4,
    ]  # fmt: skip


@pytest.mark.parametrize("level", [0.0, 0.3, 0.5, 0.9, 0.995, 1.0])
def test_solarize_inverts_the_same_levels_as_pil(level):
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = ImageOps.solarize(Image.fromarray(pixels), 256 * level)
    image = np.float32(pixels[..., None] / 255.0)
    result = np.asarray(jax.jit(Named("Solarize", level))(KEY, image))
    np.testing.assert_allclose(255 * result[..., 0], expected, rtol=0, atol=1e-3)


@functools.cache
def at_level_zero():
    make = jax.jit(lambda image: {name: Named(name)(KEY, image) for name in RANGES})
    return jax.device_get(make(IMAGE))


@pytest.mark.parametrize("name", ["Brightness", "Posterize"])
def test_level_zero_is_nearly_black(name):
    assert at_level_zero()[name].max() <= 0.1 + 1e-6


def test_level_zero_of_solarize_is_the_negative():
    np.testing.assert_array_equal(at_level_zero()["Solarize"], 1 - IMAGE)


@pytest.mark.parametrize(
    "name", ["Cutout", "Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"]
)
def test_level_zero_of_what_moves_or_cuts_changes_nothing(name):
    np.testing.assert_allclose(at_level_zero()[name], IMAGE, atol=1e-6)


KEYS = jax.random.split(KEY, 3)
IMAGES = np.stack([IMAGE, IMAGE[::-1], 1 - IMAGE])
ALL = {name: Named(name, 0.7 if name in RANGES else 0.0) for name in NAMES}


@functools.cache
def in_a_batch():
    def results(keys, images):
        return {name: jax.vmap(op)(keys, images) for name, op in ALL.items()}

    return jax.device_get(jax.jit(results)(KEYS, IMAGES))


@functools.cache
def alone():
    one = jax.jit(lambda k, x: {name: op.operation(k, x) for name, op in ALL.items()})
    results = [one(key, image) for key, image in zip(KEYS, IMAGES, strict=True)]
    return jax.device_get(results)


@pytest.mark.parametrize("name", NAMES)
def test_named_is_its_operation_in_a_batch_and_alone(name):
    together = in_a_batch()[name]
    for result, one in zip(together, alone(), strict=True):
        np.testing.assert_allclose(result, one[name], rtol=0, atol=2e-6)
    assert together.dtype == np.float32 and together.shape == IMAGES.shape
    assert together.min() >= 0 and together.max() <= 1 + 1e-6
    assert (together != IMAGES).any()
    assert hash(ALL[name]) == hash(Named(name, ALL[name].level))


def test_levels_are_checked():
    with pytest.raises(ValueError, match=r"Named.level 1.5 must be in \[0, 1\]"):
        Named("Rotate", 1.5)
    with pytest.raises(ValueError, match=r"level 0.5 must be 0: Invert has no"):
        Named("Invert", 0.5)
