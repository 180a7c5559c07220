"""Corruptions by name: complete, one program for all severities, a key per image."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl.augment.corruptions.table import (
    EXTRA,
    FUNCTIONS,
    LEVELS,
    SEVERITIES,
    STANDARD,
    Corruption,
)

KEY = jax.random.key(0)
IMAGE = np.random.default_rng(0).random((16, 16, 3), np.float32)


def test_the_15_published_corruptions_and_their_4_extra_ones_are_there():
    assert {"speckle_noise", "gaussian_blur", "spatter", "saturate"} <= set(EXTRA)
    assert sorted(FUNCTIONS) == sorted({*STANDARD, *EXTRA})
    assert sorted(LEVELS) == sorted(FUNCTIONS)
    assert STANDARD == (
        "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur",
        "motion_blur", "zoom_blur", "snow", "frost", "fog", "brightness", "contrast",
        "elastic_transform", "pixelate", "jpeg_compression",
    )  # fmt: skip


@pytest.mark.parametrize("name", LEVELS)
def test_each_has_five_rows_of_numbers_for_both_calibrations(name):
    assert sorted(LEVELS[name]) == [32, 224]
    widths = {len(row) for levels in LEVELS[name].values() for row in levels}
    assert [len(levels) for levels in LEVELS[name].values()] == [5, 5]
    assert len(widths) == 1


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_severity_is_data_and_shape_and_type_are_kept(name):
    image = jax.ShapeDtypeStruct((40, 36, 3), jnp.float32)
    severity = jax.ShapeDtypeStruct((), jnp.int32)
    result = jax.eval_shape(Corruption(name), KEY, image, severity)
    assert (result.shape, result.dtype) == (image.shape, image.dtype)


# Of the slow ones it is known from the tests of their distributions.
@pytest.mark.parametrize(
    "name",
    [
        "shot_noise",
        "motion_blur",
        pytest.param("glass_blur", marks=pytest.mark.slow),
        pytest.param("elastic_transform", marks=pytest.mark.slow),
    ],
)
def test_one_program_serves_all_severities_with_a_key_for_each_image(name):
    corruption = Corruption(name, calibration=32)
    program = jax.jit(jax.vmap(corruption, (0, 0, None)))
    keys, images = jax.random.split(KEY, 2), np.stack([IMAGE, IMAGE])
    results = [np.asarray(program(keys, images, np.int32(s))) for s in SEVERITIES]
    assert program._cache_size() == 1
    for result in results:
        assert result.shape == images.shape and result.dtype == np.float32
        assert result.min() >= 0 and result.max() <= 1
        assert not np.allclose(result[0], result[1], atol=1e-3)
    assert not np.allclose(results[0], results[4], atol=1e-3)


def test_a_severity_is_the_row_of_its_number():
    corruption = Corruption("gaussian_noise")
    level = jax.jit(corruption.level)
    known = [float(corruption.level(s)[0]) for s in SEVERITIES]
    traced = [float(level(np.int32(s))[0]) for s in SEVERITIES]
    np.testing.assert_allclose(known, [0.08, 0.12, 0.18, 0.26, 0.38])
    np.testing.assert_allclose(traced, known)


def test_a_severity_may_differ_from_image_to_image():
    corruption = Corruption("motion_blur", calibration=32)
    severities = np.int32([1, 5])
    together = jax.jit(jax.vmap(corruption, (None, None, 0)))(KEY, IMAGE, severities)
    together = np.asarray(together)
    alone = jax.jit(corruption)
    for result, severity in zip(together, severities, strict=True):
        np.testing.assert_allclose(result, alone(KEY, IMAGE, severity), atol=1e-6)


@pytest.mark.parametrize("severity", [0, 6, jnp.int32(6)])
def test_a_severity_that_is_known_beforehand_is_checked(severity):
    with pytest.raises(ValueError, match=r"severity . of fog must be one of 1, 2, 3"):
        Corruption("fog")(KEY, jnp.asarray(IMAGE), severity)


def test_a_traced_severity_is_limited():
    level = jax.jit(Corruption("gaussian_noise").level)
    np.testing.assert_allclose(level(np.int32(9)), [0.38])
    np.testing.assert_allclose(level(np.int32(-1)), [0.08])


def test_a_mistyped_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"'motion_blurr'.*Did you mean 'motion_blur'"):
        Corruption("motion_blurr")


def test_corruptions_are_values_and_say_their_name_in_words():
    assert Corruption("snow") == Corruption("snow", calibration=224)
    assert hash(Corruption("snow")) != hash(Corruption("snow", calibration=32))
    assert dataclasses.replace(Corruption("snow"), name="fog") == Corruption("fog")
    assert str(Corruption("motion_blur")) == "motion blur"
    assert str(Corruption("jpeg_compression")) == "JPEG compression"
