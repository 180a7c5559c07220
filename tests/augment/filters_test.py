"""Blur agrees with torchvision and scipy, fixed kernels with PIL; widths are data."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter
from scipy import ndimage, stats

from jax_rcl.augment.filters import (
    BLUR,
    SMOOTH,
    Blur,
    GaussianBlur,
    Sharpness,
    Smooth,
    apply_kernel,
    gaussian_blur,
)

GOLDEN = np.load(
    pathlib.Path(__file__).parents[1] / "golden" / "torchvision_augment.npz"
)
BLURS = [name for name in GOLDEN if name.startswith("blur")]
KEY = jax.random.key(0)
IMAGE = np.float32(np.random.default_rng(0).random((9, 8, 3)))
PIXELS = np.random.default_rng(1).integers(0, 256, (9, 8, 3), np.uint8)

blur = jax.jit(gaussian_blur, static_argnames="kernel_size")


def test_there_are_goldens_up_to_a_kernel_of_37():
    assert sorted(BLURS) == ["blur_21_5.0", "blur_37_9.0", "blur_5_0.5"]


@pytest.mark.parametrize("name", BLURS)
def test_blur_agrees_with_torchvision(name):
    _, kernel_size, sigma = name.split("_")
    result = blur(GOLDEN["image"], np.float32(sigma), kernel_size=int(kernel_size))
    np.testing.assert_allclose(result, GOLDEN[name], rtol=0, atol=1e-4)


def test_one_program_agrees_for_all_kernels_as_data():
    operation, image = GaussianBlur(5), jnp.asarray(GOLDEN["image"])
    traces = []

    @jax.jit
    def at(level):
        traces.append(level)
        return operation.at(KEY, image, level)

    for name in BLURS:
        _, kernel_size, sigma = name.split("_")
        level = operation.checked((int(kernel_size), float(sigma)), image.shape[:2])
        np.testing.assert_allclose(at(level), GOLDEN[name], rtol=0, atol=1e-4)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("kernel_size", "sigma", "centre", "edge"),
    [
        (21, 5.0, 0.0827184654, 0.0111947269),
        (23, 5.0, 0.0815192424, 0.0072488229),
    ],
)
def test_a_dot_becomes_the_kernel(kernel_size, sigma, centre, edge):
    radius, operation = kernel_size // 2, GaussianBlur(kernel_size, (sigma, sigma))
    dot = np.zeros((41, 41, 1), np.float32)
    dot[20, 20] = 1.0
    drawn = jax.jit(operation)(KEY, dot)
    set_to = operation.checked(sigma)
    for result in (drawn, jax.jit(operation.at)(KEY, dot, set_to)):
        result = np.asarray(result)[..., 0]
        axis = np.sqrt(np.diag(result))
        np.testing.assert_allclose(axis[20], centre, rtol=1e-6)
        np.testing.assert_allclose(axis[[20 - radius, 20 + radius]], edge, rtol=1e-6)
        assert axis[: 20 - radius].max(initial=0) == 0
        np.testing.assert_allclose(result.sum(), 1.0, rtol=1e-5)


def test_the_width_alone_is_a_level_of_the_kernel_of_the_field():
    operation = GaussianBlur(5, (1.0, 3.0))

    @jax.jit
    def make(key, image):
        level, width = operation.level(key), operation.width(key)
        results = [operation.at(key, image, x) for x in (level, width[None])]
        return level, width, operation(key, image), results

    level, width, drawn, results = jax.device_get(make(KEY, IMAGE))
    assert level.tolist() == [5.0, float(width)]
    for result in results:
        np.testing.assert_allclose(result, drawn, rtol=0, atol=1e-6)


def test_a_kernel_that_is_data_ends_where_there_is_nothing_to_mirror():
    flat = np.full((8, 8, 3), 0.7, np.float32)
    by_data = jax.jit(lambda x, size: gaussian_blur(x, 5.0, kernel_size=size))
    np.testing.assert_allclose(by_data(flat, 99), flat, atol=1e-6)
    square = IMAGE[:8]
    expected = blur(square, 5.0, kernel_size=15)
    np.testing.assert_allclose(by_data(square, 99), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kernel_size", [1, 3, 15])
@pytest.mark.parametrize("sigma", [0.1, 1.3, 6.0])
def test_blur_agrees_with_scipy(kernel_size, sigma):
    expected = ndimage.gaussian_filter(
        np.asarray(IMAGE, np.float64),
        sigma,
        mode="mirror",
        radius=kernel_size // 2,
        axes=(0, 1),
    )
    result = blur(IMAGE, sigma, kernel_size=kernel_size)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


def test_a_vanishing_width_is_the_identity():
    result = jax.jit(GaussianBlur(5, sigma=(1e-3, 1e-3)))(KEY, IMAGE)
    np.testing.assert_allclose(result, IMAGE, rtol=0, atol=1e-6)


def test_a_constant_image_stays():
    flat = np.full((9, 8, 3), 0.7, np.float32)
    np.testing.assert_allclose(blur(flat, 2.0, kernel_size=15), flat, atol=1e-6)


def test_widths_are_uniform_within_their_bounds():
    operation = GaussianBlur(5, sigma=(0.1, 2.0))
    draw = jax.vmap(operation.width)
    widths = jax.jit(lambda key: draw(jax.random.split(key, 3000)))(KEY)
    assert stats.kstest(widths, stats.uniform(0.1, 1.9).cdf).pvalue > 1e-3


def test_an_image_too_small_for_the_kernel_is_refused():
    with pytest.raises(ValueError, match=r"kernel_size 17 .*9 x 8.*kernel_size=15"):
        blur(IMAGE, 1.0, kernel_size=17)


def levels(operation, pixels):
    image = np.float32(pixels / 255.0)
    return 255.0 * np.asarray(jax.jit(operation)(KEY, image), np.float64)


@pytest.mark.parametrize(
    ("operation", "filter"),
    [(Blur(), ImageFilter.BLUR), (Smooth(), ImageFilter.SMOOTH)],
    ids=["blur", "smooth"],
)
@pytest.mark.parametrize("shape", [(9, 8), (5, 6), (4, 7), (3, 3), (2, 9)])
def test_fixed_kernels_are_those_of_pil_at_the_edges_too(operation, filter, shape):
    pixels = np.ascontiguousarray(PIXELS[: shape[0], : shape[1]])
    expected = np.asarray(Image.fromarray(pixels).filter(filter))
    # PIL rounds to whole levels.
    np.testing.assert_allclose(levels(operation, pixels), expected, rtol=0, atol=0.501)


# PIL rounds the smoothed image, which counts |1 - factor| times, and truncates.
@pytest.mark.parametrize("factor", [0.0, 0.1, 1.0, 1.9])
def test_sharpness_is_that_of_pil(factor):
    expected = ImageEnhance.Sharpness(Image.fromarray(PIXELS)).enhance(factor)
    np.testing.assert_allclose(
        levels(Sharpness(factor), PIXELS),
        np.asarray(expected),
        rtol=0,
        atol=1.001 + 0.5 * abs(1 - factor),
    )


def test_fixed_kernels_have_sum_one_and_keep_a_constant_image():
    flat = np.full((9, 8, 3), 0.7, np.float32)
    for kernel in (BLUR, SMOOTH):
        assert abs(kernel.sum() - 1) < 1e-6
        result = jax.jit(lambda image, k=kernel: apply_kernel(image, k))(flat)
        np.testing.assert_allclose(result, flat, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianBlur(4), "GaussianBlur.kernel_size 4 must be an odd.*try 5"),
        (lambda: GaussianBlur(3, sigma=(2.0, 1.0)), r"GaussianBlur.sigma \(2.0, 1.0\)"),
    ],
)
def test_constructors_name_field_value_and_constraint(make, message):
    with pytest.raises(ValueError, match=message):
        make()
