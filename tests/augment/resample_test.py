"""Crops and resizes as matrix products agree with torchvision and with the formula."""

import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

from jax_rcl.augment.resample import (
    gaussian_weights,
    resize,
    resize_weights,
    resized_crop,
    separable,
)

GOLDEN = np.load(
    pathlib.Path(__file__).parents[1] / "golden" / "torchvision_augment.npz"
)
CROPS = [name for name in GOLDEN if name.startswith("resized_crop")]

CUBIC = {"antialias": True, "interpolation": "bicubic"}

crop = jax.jit(resized_crop, static_argnames=("size", "antialias", "interpolation"))
gaussian = jax.jit(gaussian_weights, static_argnames=("source", "kernel_size"))
axis_weights = jax.jit(
    resize_weights, static_argnames=("source", "size", "antialias", "interpolation")
)


def test_there_are_goldens_with_and_without_antialiasing():
    assert len(CROPS) == 6
    assert sum(name.startswith("resized_crop_aa") for name in CROPS) == 3


@pytest.mark.parametrize("name", CROPS)
def test_resized_crop_agrees_with_torchvision(name):
    *box, size = (int(x) for x in name.split("_") if x.isdigit())
    antialias = "_aa_" in name
    box = [np.int32(x) for x in box]
    result = crop(GOLDEN["image"], *box, size=size, antialias=antialias)
    np.testing.assert_allclose(result, GOLDEN[name], rtol=0, atol=1e-4)


@pytest.mark.parametrize("antialias", [True, False])
def test_nothing_outside_of_the_box_has_an_influence(antialias):
    image, box = GOLDEN["image"], (3, 7, 20, 17)
    poisoned = np.full_like(image, 1e6)
    poisoned[3:23, 7:24] = image[3:23, 7:24]
    clean = crop(image, *box, size=32, antialias=antialias)
    np.testing.assert_array_equal(
        clean, crop(poisoned, *box, size=32, antialias=antialias)
    )


@pytest.mark.parametrize("antialias", [True, False])
def test_dynamic_box_is_crop_then_resize(antialias):
    # Higher than 16 and narrower: one axis shrinks while the other grows.
    image = GOLDEN["image"]
    cut = image[2:37, 11:20]
    np.testing.assert_allclose(
        crop(image, 2, 11, 35, 9, size=16, antialias=antialias),
        jax.jit(lambda cut: resize(cut, 16, 16, antialias=antialias))(cut),
        rtol=0,
        atol=1e-6,
    )


def triangle_loop(start, length, source, size, antialias):
    weights = np.zeros((size, source))
    reach = max(length / size, 1.0) if antialias else 1.0
    for i in range(size):
        center = (i + 0.5) * length / size
        for j in range(length):
            weights[i, start + j] = max(0.0, 1 - abs(j + 0.5 - center) / reach)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [1, 5, 24])
def test_linear_weights_are_the_formula(size, antialias):
    every = [(s, n) for n in range(1, 21) for s in range(21 - n)][::5]
    start, length = np.array(every, np.int32).T
    options = {"source": 20, "size": size, "antialias": antialias}
    make = jax.jit(jax.vmap(lambda *crop: resize_weights(*crop, **options)))
    for crop_, weights in zip(every, np.asarray(make(start, length)), strict=True):
        expected = triangle_loop(*crop_, 20, size, antialias)
        np.testing.assert_allclose(weights, expected, rtol=0, atol=2e-6)
        assert (weights >= 0).all()


def test_growing_is_the_same_with_and_without_antialiasing():
    image = GOLDEN["image"]
    pair = [crop(image, 4, 9, 12, 10, size=16, antialias=a) for a in (True, False)]
    np.testing.assert_array_equal(*pair)


def test_resizing_to_the_same_shape_is_the_identity():
    image = GOLDEN["image"]
    same = jax.jit(lambda image: resize(image, 40, 48, antialias=True))(image)
    np.testing.assert_allclose(same, image, atol=1e-6)


def test_halving_with_antialiasing_weighs_1_3_3_1():
    weights = axis_weights(0, 12, source=12, size=6, antialias=True)
    inner = np.array([0, 1, 3, 3, 1, 0, 0, 0, 0, 0, 0, 0]) / 8
    np.testing.assert_allclose(weights[1], inner, atol=1e-6)


def test_halving_without_antialiasing_is_the_mean_of_two():
    weights = axis_weights(0, 12, source=12, size=6, antialias=False)
    np.testing.assert_allclose(weights, np.kron(np.eye(6), [0.5, 0.5]), atol=1e-6)


@pytest.mark.parametrize("box", [(0, 0, 40, 48), (2, 11, 35, 9), (5, 6, 3, 40)])
def test_bicubic_is_that_of_pil(box):
    # In 32 bits a channel, where PIL neither rounds nor limits.
    image = np.asarray(GOLDEN["image"], np.float32)
    top, left, height, width = box
    cut = image[top : top + height, left : left + width]
    expected = np.stack(
        [
            np.asarray(
                Image.fromarray(cut[..., channel]).resize(
                    (16, 16), Image.Resampling.BICUBIC
                )
            )
            for channel in range(cut.shape[-1])
        ],
        axis=-1,
    )
    found = crop(image, *box, size=16, antialias=True, interpolation="bicubic")
    np.testing.assert_allclose(found, expected.clip(0, 1), rtol=0, atol=1e-5)


def test_cubic_weights_of_what_keeps_its_size_pick_each_pixel():
    weights = axis_weights(0, 9, source=9, size=9, **CUBIC)
    np.testing.assert_allclose(weights, np.eye(9), atol=1e-6)


def test_bicubic_goes_beyond_values_at_an_edge_and_is_limited():
    weights = np.asarray(axis_weights(0, 12, source=12, size=24, **CUBIC))
    np.testing.assert_allclose(weights.sum(1), 1.0, atol=1e-6)
    assert weights.min() < -0.05
    step = np.zeros((12, 12, 1), np.float32)
    step[:, 6:] = 1
    found = crop(step, 0, 0, 12, 12, size=24, antialias=True, interpolation="bicubic")
    beyond = weights @ (np.arange(12) >= 6)
    assert beyond.max() > 1.01 and beyond.min() < -0.01
    np.testing.assert_allclose(found[5, :, 0], beyond.clip(0, 1), atol=1e-5)


def test_bicubic_without_antialiasing_is_refused():
    with pytest.raises(ValueError, match=r"'bicubic' .* write antialias=True"):
        crop(
            GOLDEN["image"],
            0,
            0,
            9,
            9,
            size=8,
            antialias=False,
            interpolation="bicubic",
        )


def test_separable_is_a_double_sum():
    random = np.random.default_rng(0)
    rows, columns = random.random((2, 3)), random.random((5, 4))
    image = random.random((3, 4, 2))
    expected = np.einsum("ih,jw,hwc->ijc", rows, columns, image)
    result = jax.jit(separable)(*(np.float32(x) for x in (rows, columns, image)))
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_products_are_in_full_float32_where_devices_could_round():
    program = jax.make_jaxpr(separable)(
        *[np.eye(2, dtype=np.float32)] * 2, np.zeros((2, 2, 1), np.float32)
    )
    products = [e for e in program.eqns if e.primitive.name == "dot_general"]
    assert len(products) == 2
    for product in products:
        assert set(product.params["precision"]) == {jax.lax.Precision.HIGHEST}


def test_gaussian_weights_sum_to_one_when_the_mirror_overlaps():
    # The kernel is wider than the axis: both mirrors fall on the same pixels.
    weights = gaussian(3.0, source=4, kernel_size=7)
    np.testing.assert_allclose(np.asarray(weights).sum(1), 1.0, atol=1e-6)
    padded = np.pad(np.eye(4), ((3, 3), (0, 0)), mode="reflect")
    kernel = np.exp(-0.5 * (np.arange(-3, 4) / 3.0) ** 2)
    expected = [kernel @ padded[i : i + 7] / kernel.sum() for i in range(4)]
    np.testing.assert_allclose(weights, expected, atol=1e-6)
