"""Frost on a window: pictures like those that ImageNet-C blends in, made on the device.

The published corruption pastes crops of photographs, which may not be redistributed.
They are replaced by random pictures with the statistics of crops of the published size:
mean colour, the two main directions in which colours vary, by how much and how skewed,
and the power in every octave of frequencies. Needles are oriented noise, in patches of
four directions. The corruption agrees with the published one in these statistics, not
picture by picture.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jax_rcl.augment.color import gray
from jax_rcl.augment.resample import Image

PICTURES = np.array(
    [
        [[0.305, 0.583, 0.647], [0.109, 0.061, 0.044], [-0.027, 0.021, 0.038]],
        [[0.774, 0.791, 0.828], [0.079, 0.082, 0.085], [0.006, 0.001, -0.006]],
        [[0.569, 0.627, 0.677], [0.105, 0.105, 0.110], [0.006, 0.004, -0.009]],
        [[0.393, 0.438, 0.484], [0.147, 0.145, 0.141], [0.004, 0.001, -0.005]],
    ],
    np.float32,
)
"""Mean colour of each photograph, and the two main directions of its colours.

A direction is as long as the standard deviation along it.
"""

SKEW = np.array([0.12, -0.15, 0.0, 0.1], np.float32)
"""For each photograph, the s of z + s (z² - 1), z normal, along the first direction."""

OFTEN = (1, 2, 1, 1)
"""How often each is drawn: two of the five published files are the same photograph."""

POWER = np.array(
    [
        [
            [4.54, 2.75, -0.37, -3.02, -5.32, -6.26, -7.11, -9.29],
            [4.11, 2.12, -0.11, -1.31, -2.70, -4.73, -6.47, -9.13],
            [4.01, 1.62, 0.02, -0.93, -2.11, -3.37, -4.89, -7.36],
            [4.46, 3.26, 2.46, 0.78, -1.24, -3.11, -5.03, -6.46],
        ],
        [
            [0.38, 0.38, 0.38, -1.62, -3.29, -6.31, -7.49, -7.71],
            [-1.17, -1.17, -1.17, -2.47, -3.78, -5.44, -6.22, -6.82],
            [-1.01, -1.01, -1.01, -2.28, -3.55, -4.69, -5.03, -5.32],
            [-0.12, -0.12, -0.12, -0.95, -1.77, -2.87, -4.34, -4.91],
        ],
    ],
    np.float32,
)
"""Power along the first direction at 2⁻⁸, 2⁻⁷ ... 2⁻¹ cycles per pixel, as log₂.

One block for the photographs at full resolution and one for a fifth of it, a row for
each photograph; the power of white noise is its variance.
"""

DIRECTIONS = 4
"""Number of directions that needles may have."""

LENGTH = 4.0
"""Length of a needle over its width."""

PATCH = 0.03
"""Cycles per pixel at which directions change, at full resolution."""


def frost(key: jax.Array, image: Image, level: Float[Array, " 3"]) -> Image:
    """Adds a random picture of frost to a darkened image.

    Level: weight of the image, weight of the frost, and whether the frost is seen at
    full resolution (0) or at a fifth of it (1).
    """
    h, w, channels = image.shape
    if channels not in (1, 3):
        raise ValueError(
            f"frost takes red, green and blue, or one gray channel; "
            f"got an image of {channels} channels."
        )
    window = picture(key, h, w, jnp.round(level[2]).astype(jnp.int32))
    if channels == 1:
        window = gray(window)
    return jnp.clip(level[0] * image + level[1] * window, 0, 1)


def picture(
    key: jax.Array, height: int, width: int, coarse: Int[Array, ""] | int
) -> Float[Array, "{height} {width} 3"]:
    """A random picture of frost, in [0, 1], at full or (`coarse` 1) low resolution."""
    kind_key, field_key = jax.random.split(key)
    kind = jax.random.choice(kind_key, np.repeat(np.arange(len(OFTEN)), OFTEN))
    mean, first, second = jnp.asarray(PICTURES)[kind]
    skew = jnp.asarray(SKEW)[kind]
    along, across = needles(field_key, height, width, kind, coarse)
    along = (along + skew * (along**2 - 1)) / jnp.sqrt(1 + 2 * skew**2)
    colours = mean[None, None, :] + along[..., None] * first[None, None, :]
    colours += across[..., None] * second[None, None, :]
    return jnp.clip(colours, 0, 1)


def needles(
    key: jax.Array,
    height: int,
    width: int,
    kind: Int[Array, ""],
    coarse: Int[Array, ""] | int,
) -> tuple[Float[Array, "{height} {width}"], Float[Array, "{height} {width}"]]:
    """Two independent fields of needles, of mean 0 and variance 1.

    White noise is filtered by `spectra`, once for each direction of needles; at each
    pixel the angle of a slowly varying random vector selects one of them. Waves longer
    than the picture shift all of its pixels alike. `kind` is a row of `PICTURES`.
    """
    side = 2 ** max(max(height, width) - 1, 1).bit_length()
    slow, filters, variances = spectra(side, coarse)
    mean_key, noise_key = jax.random.split(key)
    # Real and imaginary parts are independent fields of the same spectrum. All
    # directions see the same noise, so that slow changes do not end with a patch.
    # Uniform numbers: sums of so many are normal, and these are made faster.
    drawn = jax.random.uniform(noise_key, (2, 2, side, side), minval=-1.0, maxval=1.0)
    real, imaginary = side * 3**0.5 * drawn
    filters = jnp.concatenate([slow[None], filters[kind]])
    which = np.array([0] + [1] * DIRECTIONS)
    noise = lax.complex(filters * real[which], filters * imaginary[which])
    fields = jnp.fft.ifft2(noise)[:, :height, :width]
    turn, fields = fields[0], fields[1:]
    share = (jnp.angle(turn) / (2 * np.pi) + 0.5) * DIRECTIONS
    whose = jnp.clip(jnp.floor(share).astype(jnp.int32), 0, DIRECTIONS - 1)
    chosen = jnp.take_along_axis(fields, whose[None], axis=0)[0]
    rest = jnp.sqrt(jnp.maximum(1 - variances[kind], 0.0))
    common = rest * jax.random.normal(mean_key, (2,))
    return jnp.real(chosen) + common[0], jnp.imag(chosen) + common[1]


def spectra(
    side: int, coarse: Int[Array, ""] | int
) -> tuple[
    Float[Array, "{side} {side}"], Float[Array, "p d {side} {side}"], Float[Array, " p"]
]:
    """The filters by which `needles` multiplies the Fourier transform of white noise.

    First that of the vector that selects a direction; then those of each kind of
    picture and each direction; last, the variance that each kind has after filtering.
    They are computed for all kinds, so that a batch shares them.
    """
    y, x = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij")
    frequency = np.hypot(x, y)
    varies = jnp.asarray(frequency > 0, jnp.float32)
    patch = PATCH * (1.0 + 4.0 * jnp.asarray(coarse, jnp.float32))
    slow = jnp.exp(-0.5 * jnp.square(jnp.asarray(frequency, jnp.float32) / patch))
    steps = np.pi * (np.arange(DIRECTIONS) + 0.3) / DIRECTIONS
    angles = np.arctan2(y, x) - steps[:, None, None]
    # The spectrum of needles is elongated across them; its mean over angles is 1.
    elongated = 1 / (np.cos(angles) ** 2 / LENGTH + LENGTH * np.sin(angles) ** 2)
    oriented = slow[None] + (1 - slow)[None] * jnp.asarray(elongated, jnp.float32)
    octave = jnp.asarray(np.log2(np.maximum(frequency, 2.0**-8)), jnp.float32)
    known = jnp.arange(-8.0, 0.0)
    power = jax.vmap(lambda row: jnp.interp(octave, known, row))(
        jnp.asarray(POWER)[coarse]
    )
    variance = np.square(PICTURES[:, 1]).sum(axis=1)[:, None, None]
    density = varies[None] * jnp.exp2(power) / variance
    filters = jnp.sqrt(density[:, None] * oriented[None])
    return varies * slow, filters, density.mean(axis=(1, 2))
