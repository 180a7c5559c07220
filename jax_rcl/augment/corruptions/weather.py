"""Weather and dirt as corruptions: snow, frost, fog, brightness, spatter."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jax_rcl.augment.color import gray
from jax_rcl.augment.corruptions.blurs import blur_along, zoom_weights
from jax_rcl.augment.corruptions.frost import frost
from jax_rcl.augment.corruptions.spatter import spatter
from jax_rcl.augment.resample import Image, separable


def brightness(key: jax.Array, image: Image, level: Float[Array, " 1"]) -> Image:
    """Raises the lightest channel of each pixel, hue and saturation kept.

    The others keep their ratio to it: x -> x V' / V with V' = min(V + shift, 1), where
    the shift is the level.
    """
    value = image.max(axis=2, keepdims=True)
    lifted = jnp.clip(value + level[0], 0, 1)
    # Black has no hue, and becomes gray.
    return jnp.where(value > 0, image / jnp.where(value > 0, value, 1.0), 1.0) * lifted


def plasma(
    key: jax.Array, side: int, decay: Float[Array, ""]
) -> Float[Array, "{side} {side}"]:
    """A random cloud in [0, 1] by the diamond-square algorithm, without seams.

    On a grid that becomes twice as fine each time, new points are the mean of the four
    nearest old ones plus a uniform number in [-a², a²], first in the middle of squares,
    then of diamonds; a is divided by `decay`, above 1, from grid to grid. The side is a
    power of two.
    """
    # One number for each point but the first, in the order in which they are used.
    drawn = jax.random.uniform(key, (side * side,), minval=-1.0, maxval=1.0)
    grid, amplitude = jnp.zeros((1, 1)), jnp.float32(1.0)
    while len(grid) < side:
        n = len(grid)
        noise = amplitude**2 * drawn[n * n : 4 * n * n].reshape(3, n, n)
        pairs = grid + jnp.roll(grid, -1, axis=0)
        middle = (pairs + jnp.roll(pairs, -1, axis=1)) / 4 + noise[0]
        rows = middle + jnp.roll(middle, 1, axis=0) + grid + jnp.roll(grid, -1, axis=1)
        columns = (
            middle + jnp.roll(middle, 1, axis=1) + grid + jnp.roll(grid, -1, axis=0)
        )
        upper = jnp.stack([grid, rows / 4 + noise[1]], axis=2)
        lower = jnp.stack([columns / 4 + noise[2], middle], axis=2)
        grid = jnp.stack([upper, lower], axis=1).reshape(2 * n, 2 * n)
        # Without it XLA fuses all grids into one loop and compiles twice as long.
        grid = lax.optimization_barrier(grid)
        amplitude = amplitude / decay
    grid = grid - grid.min()
    return grid / jnp.maximum(grid.max(), jnp.finfo(jnp.float32).tiny)


def fog(key: jax.Array, image: Image, level: Float[Array, " 2"]) -> Image:
    """Adds a cloud, and darkens the whole so that the lightest value stays possible.

    (x + amount · `plasma`) m / (m + amount), with m the lightest value of the image.
    Level: amount, and decay of the cloud.
    """
    h, w, _ = image.shape
    side = 2 ** (max(h, w) - 1).bit_length()
    cloud = plasma(key, side, level[1])[:h, :w, None]
    lightest = image.max()
    return jnp.clip((image + level[0] * cloud) * lightest / (lightest + level[0]), 0, 1)


def magnified_weights(
    factor: Float[Array, ""], *, source: int
) -> Float[Array, "source source"]:
    """Weights that magnify the first pixels of an axis so that they fill it.

    ⌈source / factor⌉ pixels become as many as the factor makes of them, to the nearest
    whole number, as in `zoom_weights`.
    """
    # A rounding error must not add a pixel.
    kept = jnp.ceil(source / factor - 1e-4)
    count = jnp.round(kept * factor).astype(jnp.int32)
    return zoom_weights(kept.astype(jnp.int32), count, source=source, first=0)


def snow(key: jax.Array, image: Image, level: Float[Array, " 7"]) -> Image:
    """Bleaches the image and adds falling snow, once upright and once upside down.

    Flakes are magnified normal noise above a threshold, blurred in a direction drawn
    from -135 to -45 degrees. Bleached is max(x, 1.5 gray + 0.5).

    Level: mean and deviation of the noise, magnification, threshold, radius and σ of
    the motion in pixels, weight of the image against the bleached one.
    """
    h, w, _ = image.shape
    bleached = jnp.maximum(image, 1.5 * gray(image) + 0.5)
    mean, deviation, factor, threshold, radius, sigma, weight = level
    noise_key, angle_key = jax.random.split(key)
    noise = mean + deviation * jax.random.normal(noise_key, (h, w, 1))
    rows, columns = (magnified_weights(factor, source=side) for side in (h, w))
    flakes = separable(rows, columns, noise)
    flakes = jnp.where(flakes < threshold, 0.0, jnp.clip(flakes, 0, 1))
    angle = jax.random.uniform(angle_key, minval=-135.0, maxval=-45.0)
    flakes = blur_along(flakes, angle, radius, sigma)
    pale = weight * image + (1 - weight) * bleached
    return jnp.clip(pale + flakes + flakes[::-1, ::-1], 0, 1)


LEVELS = {
    snow: {
        224: (
            (0.1, 0.3, 3.0, 0.5, 10.0, 4.0, 0.8),
            (0.2, 0.3, 2.0, 0.5, 12.0, 4.0, 0.7),
            (0.55, 0.3, 4.0, 0.9, 12.0, 8.0, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12.0, 8.0, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12.0, 12.0, 0.55),
        ),
        32: (
            (0.1, 0.2, 1.0, 0.6, 8.0, 3.0, 0.95),
            (0.1, 0.2, 1.0, 0.5, 10.0, 4.0, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10.0, 4.0, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12.0, 6.0, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14.0, 12.0, 0.8),
        ),
    },
    frost: {
        224: (
            (1.0, 0.4, 0.0),
            (0.8, 0.6, 0.0),
            (0.7, 0.7, 0.0),
            (0.65, 0.7, 0.0),
            (0.6, 0.75, 0.0),
        ),
        32: (
            (1.0, 0.2, 1.0),
            (1.0, 0.3, 1.0),
            (0.9, 0.4, 1.0),
            (0.85, 0.4, 1.0),
            (0.75, 0.45, 1.0),
        ),
    },
    fog: {
        224: ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)),
        32: ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)),
    },
    brightness: {
        224: ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)),
        32: ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,)),
    },
    spatter: {
        224: (
            (0.65, 0.3, 4.0, 0.69, 0.6, 0.0),
            (0.65, 0.3, 3.0, 0.68, 0.6, 0.0),
            (0.65, 0.3, 2.0, 0.68, 0.5, 0.0),
            (0.65, 0.3, 1.0, 0.65, 1.5, 1.0),
            (0.67, 0.4, 1.0, 0.65, 1.5, 1.0),
        ),
        32: (
            (0.62, 0.1, 0.7, 0.7, 0.5, 0.0),
            (0.65, 0.1, 0.8, 0.7, 0.5, 0.0),
            (0.65, 0.3, 1.0, 0.69, 0.5, 0.0),
            (0.65, 0.1, 0.7, 0.69, 0.6, 1.0),
            (0.65, 0.1, 0.5, 0.68, 0.6, 1.0),
        ),
    },
}
