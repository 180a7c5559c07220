"""What remains of an image in a JPEG file."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jax_rcl.augment.resample import Image

LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
"""Steps of the luminance's coefficients at quality 50: ITU-T T.81, table K.1."""

CHROMINANCE = np.full((8, 8), 99, np.float32)
"""Steps of the colour differences' coefficients at quality 50: table K.2."""
CHROMINANCE[:4, :4] = [
    [17, 18, 24, 47],
    [18, 21, 26, 66],
    [24, 26, 56, 99],
    [47, 66, 99, 99],
]

_WAVES = np.cos(np.pi * np.outer(np.arange(8), 2 * np.arange(8) + 1) / 16) / 2
_WAVES[0] /= np.sqrt(2)
_COSINES = np.kron(_WAVES, _WAVES).astype(np.float32)
"""The 64 coefficients of a block of 64 pixels: the orthonormal cosine transform."""


def levels(image: Image) -> Image:
    """The image in the levels 0 ... 255 of 8 bits, whole numbers."""
    return nearest(jnp.clip(image, 0, 1) * 255)


def nearest(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The nearest whole number, the upper one of two."""
    # Sums of a few hundred terms miss a half by less than this small number, and
    # fixed-point arithmetic would have met it.
    return jnp.floor(x + (0.5 + 1e-4))


def jpeg_compression(key: jax.Array, image: Image, level: Float[Array, " 1"]) -> Image:
    """What remains of an image in a JPEG file; level: the quality, 1 ... 100.

    Baseline JPEG as the library of the Independent JPEG Group writes and reads it: 8
    bits, luminance and two colour differences, the latter at half the resolution per
    axis, blocks of 8 x 8 pixels, cosine transform, coefficients rounded to multiples of
    the steps of ITU-T T.81, annex K, scaled by the quality, and back with the colour
    differences interpolated linearly. Entropy coding is lossless and omitted. Gray
    images have only the luminance.
    """
    if image.shape[2] not in (1, 3):
        raise ValueError(
            f"jpeg_compression takes red, green and blue, or one gray channel; "
            f"got an image of {image.shape[2]} channels."
        )
    pixels, quality = levels(image), level[0]
    if image.shape[2] == 1:
        return _coded(pixels[..., 0], LUMINANCE, quality)[..., None] / 255
    red, green, blue = (pixels[..., i] for i in range(3))
    # The weights of ITU-R BT.601, rounded as the library does.
    luma = nearest(0.299 * red + 0.587 * green + 0.114 * blue)
    cb = nearest(128 - 0.168735892 * red - 0.331264108 * green + 0.5 * blue)
    cr = nearest(128 + 0.5 * red - 0.418687589 * green - 0.081312411 * blue)
    luma = _coded(luma, LUMINANCE, quality)
    cb, cr = (_subsampled(x, quality) - 128 for x in (cb, cr))
    green = luma + nearest(-0.344136286 * cb - 0.714136286 * cr)
    colours = [luma + nearest(1.402 * cr), green, luma + nearest(1.772 * cb)]
    return jnp.clip(jnp.stack(colours, axis=-1), 0, 255) / 255


def quantisation(
    table: Float[np.ndarray, "8 8"], quality: Float[Array, ""]
) -> Float[Array, "8 8"]:
    """The steps of a quality: the table in percent, 50 for 100, in [1, 255]."""
    percent = jnp.where(quality < 50, jnp.floor(5000 / quality), 200 - 2 * quality)
    return jnp.clip(jnp.floor((table * percent + 50) / 100), 1, 255)


def _coded(
    plane: Float[Array, "h w"],
    table: Float[np.ndarray, "8 8"],
    quality: Float[Array, ""],
) -> Float[Array, "h w"]:
    """One plane, coded in blocks and decoded; the edge is repeated to whole blocks."""
    h, w = plane.shape
    rows, columns = -(-h // 8), -(-w // 8)
    whole = jnp.pad(plane, ((0, 8 * rows - h), (0, 8 * columns - w)), mode="edge")
    blocks = whole.reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3).reshape(-1, 64)
    full, steps = lax.Precision.HIGHEST, quantisation(table, quality).reshape(1, 64)
    waves = jnp.matmul(blocks - 128, _COSINES.T, precision=full)
    # The library's transform gives whole eighths, its division rounds halves away from
    # zero: halves are met often.
    size = jnp.floor(nearest(8 * jnp.abs(waves)) / (8 * steps) + 0.5)
    kept = jnp.sign(waves) * size * steps
    blocks = nearest(jnp.matmul(kept, jnp.asarray(_COSINES), precision=full)) + 128
    whole = blocks.reshape(rows, columns, 8, 8).transpose(0, 2, 1, 3)
    return jnp.clip(whole.reshape(8 * rows, 8 * columns)[:h, :w], 0, 255)


def _subsampled(
    plane: Float[Array, "h w"], quality: Float[Array, ""]
) -> Float[Array, "h w"]:
    """A colour difference, coded at half the resolution of each axis and decoded."""
    h, w = plane.shape
    rows, columns = -(-h // 2), -(-w // 2)
    # To the right the edge is repeated before means are taken, up to whole blocks;
    # downwards `_coded` repeats the last means.
    margin = 16 * -(-w // 16) - w
    whole = jnp.pad(plane, ((0, h % 2), (0, margin)), mode="edge")
    total = whole.reshape(rows, 2, -1, 2).sum(axis=(1, 3))
    # Halves are rounded down and up alternately.
    turn = jnp.arange(total.shape[1], dtype=plane.dtype)[None, :] % 2
    means = jnp.floor((total + 1 + turn) / 4)
    small = _coded(means, CHROMINANCE, quality)[:, :columns]
    # Each pixel is 3/4 the nearest of the small ones and 1/4 the next, per axis.
    tall = jnp.stack([3 * small + x for x in _neighbours(small)], axis=1)
    tall = tall.reshape(2 * rows, columns)
    left, right = _neighbours(tall.T)
    left, right = (3 * tall + left.T + 8) / 16, (3 * tall + right.T + 7) / 16
    whole = jnp.floor(jnp.stack([left, right], axis=2))
    return whole.reshape(2 * rows, 2 * columns)[:h, :w]


def _neighbours(
    plane: Float[Array, "i j"],
) -> tuple[Float[Array, "i j"], Float[Array, "i j"]]:
    """For each row the one before and the one after it; the first and last repeated."""
    before = jnp.concatenate([plane[:1], plane[:-1]])
    return before, jnp.concatenate([plane[1:], plane[-1:]])
