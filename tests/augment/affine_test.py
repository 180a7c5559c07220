"""Rotations, shears and translations are those of PIL, either way equally often."""

import jax
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from jax_rcl.augment.affine import (
    RandomRotation,
    Rotate,
    Shear,
    Translate,
    affine,
    rotation,
    shear,
    translation,
)

KEY = jax.random.key(0)
# Keys from numbers of the host: to split one is a program for each count.
NUMBERS = np.random.default_rng(1).integers(0, 2**32, (2000, 2), np.uint32)
KEYS = jax.random.wrap_key_data(NUMBERS[:400])
PIXELS = np.random.default_rng(0).integers(1, 256, (31, 24, 3), np.uint8)
IMAGE = np.float32(PIXELS / 255.0)
RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
}
seen = jax.jit(affine, static_argnames=("interpolation", "fill"))


def differences(result, image):
    return np.abs(255.0 * np.asarray(result, np.float64) - np.asarray(image))


def agree(result, image, interpolation):
    """Places are rounded differently: a few pixels may be taken from a neighbour."""
    off = differences(result, image).max(axis=-1)
    allowed = 0.01 if interpolation == "nearest" else 1.01
    assert (off > allowed).mean() < 0.005


def by_pil(matrix, interpolation):
    image = Image.fromarray(PIXELS)
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, RESAMPLING[interpolation]
    )


@pytest.mark.parametrize("interpolation", RESAMPLING)
@pytest.mark.parametrize("degrees", [-30.0, -7.0, 13.0, 77.0])
def test_rotation_is_that_of_pil(degrees, interpolation):
    matrix = rotation(degrees, 31, 24)
    result = seen(IMAGE, matrix, interpolation=interpolation)
    expected = Image.fromarray(PIXELS).rotate(degrees, RESAMPLING[interpolation])
    agree(result, expected, interpolation)


@pytest.mark.parametrize("interpolation", RESAMPLING)
@pytest.mark.parametrize("slope", [-0.3, 0.17])
def test_shear_is_that_of_pil(slope, interpolation):
    for axis, matrix in [("x", (1, slope, 0, 0, 1, 0)), ("y", (1, 0, 0, slope, 1, 0))]:
        result = seen(IMAGE, shear(slope, axis), interpolation=interpolation)
        agree(result, by_pil(matrix, interpolation), interpolation)


@pytest.mark.parametrize("interpolation", RESAMPLING)
@pytest.mark.parametrize("pixels", [-10.0, -2.3, 4.0, 6.6])
def test_translation_is_that_of_pil(pixels, interpolation):
    for axis, matrix in [
        ("x", (1, 0, pixels, 0, 1, 0)),
        ("y", (1, 0, 0, 0, 1, pixels)),
    ]:
        result = seen(IMAGE, translation(pixels, axis), interpolation=interpolation)
        agree(result, by_pil(matrix, interpolation), interpolation)


@pytest.mark.parametrize("interpolation", RESAMPLING)
def test_the_map_that_moves_nothing_changes_nothing(interpolation):
    matrix = translation(0.0, "x")
    result = seen(IMAGE, matrix, interpolation=interpolation, fill=0.5)
    np.testing.assert_array_equal(result, IMAGE)


def test_a_quarter_turn_of_a_square_is_exact():
    square = IMAGE[:24]
    result = seen(square, rotation(90.0, 24, 24))
    np.testing.assert_array_equal(result, np.rot90(square))


def test_whole_pixels_move_and_the_rest_is_filled():
    result = np.asarray(seen(IMAGE, translation(3.0, "y"), fill=0.25))
    np.testing.assert_array_equal(result[:-3], IMAGE[3:])
    assert (result[-3:] == 0.25).all()


@pytest.mark.parametrize(
    ("operation", "cases"),
    [
        (Rotate(30.0), [rotation(30.0, 31, 24), rotation(-30.0, 31, 24)]),
        (Shear(0.2), [shear(0.2, "x"), shear(-0.2, "x")]),
        (Shear(0.2, "y"), [shear(0.2, "y"), shear(-0.2, "y")]),
        (Translate(5.0), [translation(5.0, "x"), translation(-5.0, "x")]),
        (Translate(5.0, "y"), [translation(5.0, "y"), translation(-5.0, "y")]),
    ],
    ids=["rotate", "shear x", "shear y", "translate x", "translate y"],
)
def test_both_directions_are_equally_likely(operation, cases):
    results = np.asarray(jax.jit(jax.vmap(operation, (0, None)))(KEYS, IMAGE))
    counts = []
    for matrix in cases:
        same = np.abs(results - np.asarray(seen(IMAGE, matrix))[None]) < 1e-5
        counts.append(int((same.mean((1, 2, 3)) > 0.99).sum()))
    assert sum(counts) == 400
    assert stats.binomtest(counts[0], 400).pvalue > 1e-3


def test_random_rotations_turn_by_any_angle_up_to_the_largest():
    operation = RandomRotation(45.0)
    keys = jax.random.wrap_key_data(NUMBERS)
    angles = np.asarray(jax.jit(jax.vmap(operation.angle))(keys))
    assert stats.kstest(angles, stats.uniform(-45, 90).cdf).pvalue > 1e-3
    key = jax.random.wrap_key_data(NUMBERS[3])
    result = jax.jit(operation)(key, IMAGE)
    assert abs(angles[3]) > 10
    expected = Image.fromarray(PIXELS).rotate(float(angles[3]))
    agree(result, expected, "nearest")
    assert (np.asarray(result)[0, 0] == 0).all()


def test_random_rotations_of_no_degrees_change_nothing():
    operation = RandomRotation(0.0, interpolation="bilinear", fill=1.0)
    result = jax.jit(operation)(KEY, IMAGE)
    np.testing.assert_array_equal(result, IMAGE)


def test_fill_and_interpolation_are_those_of_the_fields():
    options = {"interpolation": "bilinear", "fill": 1.0}
    for operation, make in [
        (Rotate(20.0, **options), lambda sign: rotation(sign * 20.0, 31, 24)),
        (Shear(0.2, **options), lambda sign: shear(sign * 0.2, "x")),
        (Translate(2.5, **options), lambda sign: translation(sign * 2.5, "x")),
    ]:
        result = jax.jit(operation)(KEY, IMAGE)
        each = [seen(IMAGE, make(sign), **options) for sign in (1, -1)]
        assert min(np.abs(result - x).max() for x in each) < 1e-4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Rotate(-1.0),
            "Rotate.degrees -1.0 must be at least 0 and finite, its sign is",
        ),
        (lambda: Shear(0.1, fill=-1.0), r"Shear.fill -1.0 must be in \[0, 1\]"),
    ],
)
def test_constructors_name_field_value_and_constraint(make, message):
    with pytest.raises(ValueError, match=message):
        make()
