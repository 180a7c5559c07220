"""Spatter: drops of water that catch the light, or stains of mud."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jax_rcl.augment.color import gray
from jax_rcl.augment.corruptions.blurs import smooth
from jax_rcl.augment.resample import Image

WATER = (175 / 255, 238 / 255, 238 / 255)
"""Red, green and blue of drops: pale turquoise."""

MUD = (63 / 255, 42 / 255, 20 / 255)
"""Red, green and blue of stains: brown."""

FARTHEST = 20
"""Pixels from a rim of a drop beyond which distance no longer matters."""

LIGHT = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.float64)
"""Kernel of the light: slopes that rise towards the lower right are bright."""


def spatter(key: jax.Array, image: Image, level: Float[Array, " 6"]) -> Image:
    """Spatters the image with drops of water or stains of mud.

    Smoothed normal noise above a threshold is liquid. Mud covers what remains of the
    liquid when it is smoothed and cut at 0.8. Water is added, more where there is more
    of it and where `relief` says that its surface catches the light.

    Level: mean, deviation and smoothing σ of the noise; threshold; weight of the water,
    or smoothing σ of the mud; 0 for water, 1 for mud.
    """
    h, w, channels = image.shape
    gray(image[:1, :1])  # Raises unless these are colours.
    mean, deviation, sigma, threshold, strength, mud = level
    noise = mean + deviation * jax.random.normal(key, (h, w, 1))
    liquid = smooth(noise, sigma)
    liquid = jnp.where(liquid < threshold, 0.0, liquid)

    def with_water() -> Image:
        whole = jnp.floor(jnp.clip(liquid[..., 0], 0, 1) * 255)
        light = whole * relief(whole)
        light = strength * light / jnp.maximum(light.max(), 1.0)
        return jnp.clip(image + light[..., None] * colour(WATER, channels), 0, 1)

    def with_mud() -> Image:
        cover = smooth((liquid > threshold).astype(jnp.float32), strength)
        cover = jnp.where(cover < 0.8, 0.0, cover)
        return jnp.clip(image * (1 - cover) + colour(MUD, channels) * cover, 0, 1)

    return lax.cond(mud > 0.5, with_mud, with_water)


def colour(rgb: tuple[float, float, float], channels: int) -> Float[Array, "1 1 c"]:
    """A colour as an image of one pixel, gray if there is only one channel."""
    pixel = jnp.asarray(rgb, jnp.float32)[None, None, :]
    return gray(pixel) if channels == 1 else pixel


def relief(liquid: Float[Array, "h w"]) -> Float[Array, "h w"]:
    """How much light drops, in whole numbers 0 ... 255, reflect at each place.

    Steps are those of the public sets, on whole numbers as there: the distance to the
    nearest of the `rims`, up to 20 pixels; its mean over 3 x 3; its histogram made
    even; light from one corner by a small kernel; the mean over 3 x 3.

    Deviation: the published distance is one of knight's moves, up to 2 % off; ours is
    Euclid's.
    """
    far = jnp.float32(4 * FARTHEST**2)
    cost = jnp.where(rims(liquid), 0.0, far)
    squared = lower_envelope(lower_envelope(cost).T).T
    distance = jnp.minimum(jnp.sqrt(squared), FARTHEST)
    height = jnp.floor(correlate(distance, np.full((3, 3), 1 / 9)) + 1e-3)
    light = correlate(equalize(height.astype(jnp.int32)), LIGHT)
    light = jnp.clip(light, 0, 255)
    return jnp.round(correlate(light, np.full((3, 3), 1 / 9)))


def rims(image: Float[Array, "h w"]) -> Bool[Array, "h w"]:
    """Edges by Canny's method, thresholds 50 and 150, as in OpenCV.

    Where the slope, |∂x| + |∂y| by Sobel's kernels, is largest across the edge and
    above 50, and connected to a place where it is above 150.
    """
    padded = jnp.pad(image, 1, mode="edge")
    columns = padded[:, 2:] - padded[:, :-2]
    rows = padded[2:] - padded[:-2]
    right = columns[:-2] + 2 * columns[1:-1] + columns[2:]
    down = rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]
    x, y = jnp.abs(right), jnp.abs(down)
    slope = x + y
    around = jnp.pad(slope, 1)
    h, w = image.shape

    def at(i: int, j: int) -> Float[Array, "h w"]:
        return around[1 + i : 1 + i + h, 1 + j : 1 + j + w]

    upright = (slope > at(0, -1)) & (slope >= at(0, 1))
    level = (slope > at(-1, 0)) & (slope >= at(1, 0))
    falling = (slope > at(-1, -1)) & (slope > at(1, 1))
    rising = (slope > at(-1, 1)) & (slope > at(1, -1))
    slanted = jnp.where(right * down < 0, rising, falling)
    eighth = np.tan(np.pi / 8)
    largest = jnp.where(y > (2 + eighth) * x, level, slanted)
    thin = jnp.where(y < eighth * x, upright, largest) & (slope > 50)

    def grow(state: tuple[Array, Array]) -> tuple[Array, Array]:
        kept, _ = state
        near = lax.reduce_window(
            kept, False, lax.bitwise_or, (3, 3), (1, 1), ((1, 1), (1, 1))
        )
        return near & thin, kept

    start = thin & (slope > 150), thin & ~thin
    kept, _ = lax.while_loop(lambda state: (state[0] != state[1]).any(), grow, start)
    return kept


def lower_envelope(cost: Float[Array, "h w"]) -> Float[Array, "h w"]:
    """Lowest of cost[i + k, j] + k², |k| ≤ 20; along both axes, squared distances."""
    h, w = cost.shape
    margin = ((FARTHEST, FARTHEST), (0, 0))
    padded = jnp.pad(cost, margin, constant_values=4.0 * FARTHEST**2)

    def step(k: Int[Array, ""], least: Float[Array, "h w"]) -> Float[Array, "h w"]:
        moved = lax.dynamic_slice(padded, (k, jnp.zeros_like(k)), (h, w))
        away = (k - FARTHEST).astype(jnp.float32)
        return jnp.minimum(least, moved + away**2)

    return lax.fori_loop(0, 2 * FARTHEST + 1, step, cost)


def equalize(height: Int[Array, "h w"]) -> Float[Array, "h w"]:
    """Spreads heights 0 ... 20 over 0 ... 255 so that all occur about as often.

    The lowest that occurs becomes 0, the others are as far from it as pixels lie
    between.
    """
    values = jnp.arange(FARTHEST + 1)
    counts = (height[..., None] == values[None, None, :]).sum(axis=(0, 1))
    counts = counts.astype(jnp.float32)
    lowest = counts[jnp.argmax(counts > 0)]
    above, others = jnp.cumsum(counts) - lowest, height.size - lowest
    spread = jnp.round(255 * above / jnp.maximum(others, 1.0))
    spread = jnp.where(others > 0, jnp.maximum(spread, 0.0), values.astype(jnp.float32))
    return spread[height]


def correlate(
    image: Float[Array, "h w"], kernel: Float[np.ndarray, "3 3"]
) -> Float[Array, "h w"]:
    """Weighs each pixel and its eight neighbours; mirrored, the edge not repeated."""
    h, w = image.shape
    padded = jnp.pad(image, 1, mode="reflect")
    terms = [
        float(weight) * padded[i : i + h, j : j + w]
        for (i, j), weight in np.ndenumerate(kernel)
        if weight
    ]
    return jnp.stack(terms).sum(axis=0)
