"""Blurs of ImageNet-C and CIFAR-10-C: defocus, glass, motion, zoom, Gaussian.

Strengths are data: every kernel is padded with zeros to the size of the largest, or is
a loop of as many steps as the data says. A batch of one severity shares both.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jax_rcl.augment.resample import Image, Number, Whole, gaussian_weights, separable

REACH = 24
"""Pixels to either side at which a Gaussian of the largest width, 6, is cut off."""

RADIUS = 10
"""Pixels to either side of the largest disk."""

PATH = 41
"""Pixels on the longest path of motion."""


def extended_weights(sigma: Number, *, source: int) -> Float[Array, "source source"]:
    """Weights that blur an axis with a Gaussian, its end pixels repeated outside.

    A pixel at distance u weighs exp(-u² / 2σ²) up to ⌊4σ + 1/2⌋, normalised to sum 1,
    as in `scipy.ndimage.gaussian_filter(mode="nearest")`. The width σ is above 0 and at
    most 6 pixels.
    """
    limit = jnp.floor(4 * jnp.asarray(sigma, jnp.float32) + 0.5)

    def kernel(offset: Int[Array, "..."]) -> Float[Array, "..."]:
        distance = jnp.abs(offset).astype(jnp.float32)
        bell = jnp.exp(-0.5 * jnp.square(distance / sigma))
        return jnp.where(distance <= limit, bell, 0.0)

    place, outside = jnp.arange(source), jnp.arange(1, REACH + 1)
    weights = kernel(place[None, :] - place[:, None])
    before = kernel(place[:, None] + outside[None, :]).sum(axis=1)
    weights = weights.at[:, 0].add(before).at[:, -1].add(before[::-1])
    return weights / kernel(jnp.arange(-REACH, REACH + 1)).sum()


def smooth(image: Image, sigma: Number) -> Image:
    """Blurs by `extended_weights`."""
    h, w, _ = image.shape
    rows, columns = (extended_weights(sigma, source=side) for side in (h, w))
    return separable(rows, columns, image)


def blur(image: Image, sigma: Number) -> Image:
    """`smooth`, clipped to [0, 1], which rounding may leave by the last digit."""
    return jnp.clip(smooth(image, sigma), 0, 1)


def gaussian_blur(key: jax.Array, image: Image, level: Float[Array, " 1"]) -> Image:
    """Blurs with a Gaussian; level: its width σ in pixels."""
    return blur(image, level[0])


def disk(radius: Number, sigma: Number) -> Float[Array, "s s"]:
    """A disk of weights whose rim is smoothed by a Gaussian of width σ.

    All pixels up to `radius`, at most 10, weigh the same, with sum 1, and are blurred:
    up to a radius of 8 with 3 pixels per axis in a square of 17, above with 5 in one of
    21, mirrored at the edges of that square. Where the disk touches them the sum is
    more than 1, at radii 8 and 10 by one percent, as it is in the public sets.
    """

    def within(reach: int, kernel_size: int) -> Float[Array, "s s"]:
        square = np.square(np.arange(-reach, reach + 1, dtype=np.float32))
        inside = (square[:, None] + square[None, :]) <= jnp.square(radius)
        inside = inside.astype(jnp.float32)
        axis = gaussian_weights(sigma, source=2 * reach + 1, kernel_size=kernel_size)
        return separable(axis, axis, (inside / inside.sum())[..., None])[..., 0]

    small = jnp.pad(within(8, 3), RADIUS - 8)
    return jnp.where(jnp.asarray(radius) <= 8, small, within(RADIUS, 5))


def correlate(image: Image, kernel: Float[Array, "s s"]) -> Image:
    """Weighs the neighbourhood of each pixel by a kernel of odd size.

    Beyond its edges the image is mirrored, the edge not repeated. By Fourier
    transforms: with 21 x 21 weights a CPU is 20 times as fast as by a convolution.
    """
    h, w, _ = image.shape
    reach = len(kernel) // 2
    padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    shape = padded.shape[:2]
    pattern = jnp.conj(jnp.fft.rfft2(kernel, s=shape))[..., None]
    product = jnp.fft.rfft2(padded, axes=(0, 1)) * pattern
    # A correlation: what wraps around lies beyond the last row and column kept.
    return jnp.fft.irfft2(product, s=shape, axes=(0, 1))[:h, :w]


def defocus_blur(key: jax.Array, image: Image, level: Float[Array, " 2"]) -> Image:
    """Blurs with a `disk`; level: its radius and the width of its rim, in pixels."""
    return jnp.clip(correlate(image, disk(level[0], level[1])), 0, 1)


def displace(
    image: Image, offsets: Int[Array, "2 h w"], reach: Int[Array, ""]
) -> Image:
    """Lets pixels be overwritten by neighbours, one after the other.

    From the last pixel to the first, in rows and in each from right to left, the pixel
    at (i, j) gets the present value of that at (i + offsets[0, i, j], j + offsets[1, i,
    j]), where reach < i ≤ h - reach and reach < j ≤ w - reach; others stay.

    Offsets are rows and columns, from -reach to reach - 1.
    """
    # The loop in parallel: a pixel gets either the original value of another one or
    # whatever that one got before, so each points to one place; the chains of pointers
    # lead only towards the end of the image and are halved until all are followed.
    h, w, c = image.shape
    row, column = jnp.arange(h)[:, None], jnp.arange(w)[None, :]
    moves = (row > reach) & (row <= h - reach)
    moves = (moves & (column > reach) & (column <= w - reach)).ravel()
    own = jnp.arange(h * w)
    neighbour = ((row + offsets[0]) * w + column + offsets[1]).ravel()
    asked = jnp.where(moves, neighbour, own)
    # Places that are final are marked by their complement, which is negative.
    follow = (asked > own) & moves[asked]
    source = lax.while_loop(
        lambda source: (source >= 0).any(),
        lambda source: jnp.where(source >= 0, source[source], source),
        jnp.where(follow, asked, ~asked),
    )
    return image.reshape(h * w, c)[~source].reshape(image.shape)


def glass_blur(key: jax.Array, image: Image, level: Float[Array, " 3"]) -> Image:
    """Disturbs pixels locally between two Gaussian blurs.

    Deviation: the paper swaps pixels, but the script that made the public sets
    overwrites one of the two before it reads it, so that its colours are copied.

    Level: the width σ of the blurs, how far a pixel may move, and how many times.
    """
    h, w, _ = image.shape
    reach, times = (jnp.round(x).astype(jnp.int32) for x in (level[1], level[2]))

    def once(i: Int[Array, ""], image: Image) -> Image:
        turn = jax.random.fold_in(key, i)
        offsets = jax.random.randint(turn, (2, h, w), -reach, reach)
        return displace(image, offsets, reach)

    disturbed = lax.fori_loop(0, times, once, blur(image, level[0]))
    return blur(disturbed, level[0])


def blur_along(image: Image, angle: Number, radius: Number, sigma: Number) -> Image:
    """Blurs along a path that starts at each pixel, as ImageMagick's motion blur.

    Of the 2 radius + 1 pixels on the path, number i lies ⌈i sin(angle) - 1/2⌉ rows
    below and ⌈i cos(angle) - 1/2⌉ columns to the right and weighs exp(-i² / 2σ²),
    normalised to sum 1. Beyond its edges the image continues with their pixels. The
    angle is in degrees, the radius whole and at most 20.
    """
    length = 2 * jnp.round(jnp.asarray(radius)).astype(jnp.int32) + 1
    direction = jnp.deg2rad(jnp.asarray(angle, jnp.float32))
    sine, cosine = jnp.sin(direction), jnp.cos(direction)
    steps = jnp.arange(PATH)
    weights = jnp.exp(-0.5 * jnp.square(steps.astype(jnp.float32) / sigma))
    weights = jnp.where(steps < length, weights, 0.0)
    weights = weights / weights.sum()
    margin = PATH - 1
    padded = jnp.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="edge")

    def step(i: Int[Array, ""], total: Image) -> Image:
        way = i.astype(jnp.float32)
        down = jnp.ceil(way * sine - 0.5).astype(jnp.int32)
        right = jnp.ceil(way * cosine - 0.5).astype(jnp.int32)
        corner = (margin + down, margin + right, jnp.zeros_like(down))
        return total + weights[i] * lax.dynamic_slice(padded, corner, image.shape)

    return lax.fori_loop(0, length, step, jnp.zeros_like(image))


def motion_blur(key: jax.Array, image: Image, level: Float[Array, " 2"]) -> Image:
    """Blurs along a path, `blur_along`, at an angle drawn from -45 to 45 degrees.

    Level: radius and σ of the path in pixels.
    """
    angle = jax.random.uniform(key, (), image.dtype, -45.0, 45.0)
    return jnp.clip(blur_along(image, angle, level[0], level[1]), 0, 1)


def magnifications(source: int) -> Int[np.ndarray, "3 26 2"]:
    """How many middle pixels of an axis are magnified to how many, as `zoom_blur` does.

    For steps of 1, 2 and 3 percent and the 1st to 26th magnification:
    ⌈source / factor⌉, and that times the factor, rounded.
    """
    # On the host in float64, with the rounding errors of `numpy.arange`, which may
    # change whole numbers.
    step = (1 + np.arange(1, 4)[:, None] / 100) - 1
    factor = 1 + np.arange(26) * step
    kept = np.ceil(source / factor)
    return np.stack([kept, np.rint(kept * factor)], axis=-1).astype(np.int32)


def zoom_weights(
    kept: Whole, count: Whole, *, source: int, first: Whole
) -> Float[Array, "source source"]:
    """Weights that magnify `kept` pixels of an axis, from the `first` on, to `count`.

    They interpolate linearly at points that divide the way from the first to the last
    one evenly; the first `source` of these points are kept. As `scipy.ndimage.zoom` of
    order 1.
    """
    # Whole numbers and a fraction: exact, however long the axis is.
    place, part = jnp.arange(source), jnp.maximum(count - 1, 1)
    whole, rest = jnp.divmod(place * (kept - 1), part)
    at = whole + first
    fraction = rest.astype(jnp.float32) / part.astype(jnp.float32)
    distance = (place[None, :] - at[:, None]).astype(jnp.float32)
    return jnp.maximum(1 - jnp.abs(distance - fraction[:, None]), 0.0)


def zoom_blur(key: jax.Array, image: Image, level: Float[Array, " 2"]) -> Image:
    """The mean of the image and of magnified ones.

    Level: by how many percent, 1 to 3, each magnification exceeds the one before, and
    how many there are, at most 26, the first of which is by 1.
    """
    h, w, _ = image.shape
    step, times = (jnp.round(x).astype(jnp.int32) for x in (level[0], level[1]))

    def weights(i: Int[Array, ""], side: int) -> Float[Array, "{side} {side}"]:
        kept, count = jnp.asarray(magnifications(side))[step - 1, i]
        return zoom_weights(kept, count, source=side, first=(side - kept) // 2)

    def add(i: Int[Array, ""], total: Image) -> Image:
        return total + separable(weights(i, h), weights(i, w), image)

    total = lax.fori_loop(0, times, add, image)
    return jnp.clip(total / (times + 1).astype(image.dtype), 0, 1)


LEVELS = {
    defocus_blur: {
        224: ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        32: ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    },
    glass_blur: {
        224: ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        32: ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    },
    motion_blur: {
        224: ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        32: ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    },
    zoom_blur: {
        224: ((1, 12), (1, 16), (2, 11), (2, 13), (3, 11)),
        32: ((1, 7), (1, 12), (1, 16), (1, 21), (1, 26)),
    },
    gaussian_blur: {
        224: ((1,), (2,), (3,), (4,), (6,)),
        32: ((0.4,), (0.6,), (0.7,), (0.8,), (1,)),
    },
}
