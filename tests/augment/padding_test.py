"""An image fits into its frame as PIL fits it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps

from jax_rcl.augment.geometry import ResizeAndPad

KEY = jax.random.key(0)
PIXELS = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)


@pytest.mark.parametrize(
    ("shape", "frame"),
    [
        ((30, 50), (16, 16)),
        ((30, 17), (16, 16)),
        ((30, 50), (41, 29)),
        ((20, 20), (9, 12)),
        ((30, 50), (9, 15)),
    ],
)
def test_the_frame_is_filled_as_by_pil(shape, frame):
    pixels = PIXELS[: shape[0], : shape[1]]
    expected = ImageOps.pad(
        Image.fromarray(pixels), frame[::-1], Image.Resampling.BILINEAR
    )
    operation = jax.jit(ResizeAndPad(*frame))
    result = operation(KEY, jnp.asarray(pixels, jnp.float32) / 255.0)
    assert result.shape == (*frame, 3)
    np.testing.assert_allclose(255 * result, np.asarray(expected), rtol=0, atol=1.01)


def test_a_thin_image_keeps_a_pixel():
    assert ResizeAndPad(8, 8).inner(1, 100) == (1, 8)
    assert ResizeAndPad(8, 8).inner(100, 1) == (8, 1)


def test_an_empty_frame_is_refused():
    with pytest.raises(ValueError, match=r"ResizeAndPad.height 0 .*width 8 must be"):
        ResizeAndPad(0, 8)
