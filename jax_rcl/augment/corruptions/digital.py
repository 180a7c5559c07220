"""Digital corruptions: contrast, elastic transform, pixels, JPEG, saturation.

Strengths are data: sizes and widths become weights of matrices whose shapes only the
image decides.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jax_rcl.augment.corruptions.jpeg import jpeg_compression, levels, nearest
from jax_rcl.augment.resample import Image, Number, separable

REACH = 512
"""Pixels to either side that the widest Gaussian of `elastic_transform` covers."""


def contrast(key: jax.Array, image: Image, level: Float[Array, " 1"]) -> Image:
    """Pulls each channel towards its mean; level: the factor."""
    means = image.mean(axis=(0, 1), keepdims=True)
    return jnp.clip((image - means) * level[0] + means, 0, 1)


def saturate(key: jax.Array, image: Image, level: Float[Array, " 2"]) -> Image:
    """Scales and shifts the saturation of the colours.

    The saturation S is 1 - darkest / lightest channel; it becomes S' = factor · S +
    shift, limited to [0, 1]. Hue and lightest channel V stay: x -> V - (V - x) S' / S.
    Pixels without a hue count as red, so that a shift reddens gray: as in scikit-image,
    hence in the public sets. Gray images stay as they are. Level: factor and shift.
    """
    if image.shape[2] == 1:
        return image
    value = image.max(axis=2, keepdims=True)
    chroma = value - image.min(axis=2, keepdims=True)
    colourful = chroma > 0
    saturation = chroma / jnp.where(value > 0, value, 1.0)
    new = jnp.clip(saturation * level[0] + level[1], 0, 1)
    # How far each channel lies below the lightest, as a fraction of the chroma.
    red = jnp.asarray([0.0] + [1.0] * (image.shape[2] - 1))[None, None, :]
    depth = (value - image) / jnp.where(colourful, chroma, 1.0)
    depth = jnp.where(colourful, depth, red)
    return jnp.clip(value * (1 - depth * new), 0, 1)


def pixel_weights(
    count: Int[Array, ""], *, source: int
) -> Float[Array, "source source"]:
    """Weights that turn an axis into `count` equal pixels and these back into `source`.

    Large pixel number i is the mean of the pixels whose centres lie in (i, i + 1] times
    source / count, and is repeated for all pixels whose centres lie in [i, i + 1) times
    the same: PIL's `resize` with `BOX` and back with `NEAREST` or `BOX`.
    """
    pixel = jnp.arange(source, dtype=jnp.int32)
    large = (2 * pixel + 1) * count // (2 * source)
    # Twice the distance between centres, times count: from -source to source inside.
    apart = (2 * pixel + 1)[None, :] * count - ((2 * large + 1) * source)[:, None]
    inside = ((apart > -source) & (apart <= source)).astype(jnp.float32)
    return inside / inside.sum(axis=1, keepdims=True)


def pixelate(key: jax.Array, image: Image, level: Float[Array, " 1"]) -> Image:
    """Makes large pixels; level: how many, as a fraction of the image's.

    Means are taken along rows, rounded to 8 bits, and then along columns and rounded,
    as PIL does.
    """
    h, w, _ = image.shape

    def weights(side: int) -> Float[Array, "side side"]:
        count = jnp.floor(level[0] * side).astype(jnp.int32)
        return pixel_weights(jnp.maximum(count, 1), source=side)

    full = lax.Precision.HIGHEST
    image = jnp.einsum("jw,iwc->ijc", weights(w), levels(image), precision=full)
    image = jnp.einsum("ih,hjc->ijc", weights(h), nearest(image), precision=full)
    return nearest(image) / 255


def elastic_transform(key: jax.Array, image: Image, level: Float[Array, " 3"]) -> Image:
    """Distorts by a random affine map, then by random smooth displacements.

    The affine map moves three corners of a square in the middle, two thirds of the
    shorter side long, each coordinate uniformly within `shift` pixels. Displacements
    per axis are uniform in [-1, 1], smoothed by a Gaussian of width σ cut off at 3 σ,
    times `strength`. Both steps interpolate linearly between pixels; outside, the image
    is mirrored, by the first without its edge and by the second with it. Level:
    strength, σ and shift, in pixels.
    """
    h, w, _ = image.shape
    strength, sigma, shift = level
    corner_key, field_key = jax.random.split(key)
    x, y = jnp.arange(w, dtype=jnp.float32), jnp.arange(h, dtype=jnp.float32)
    matrix = move_corners(corner_key, h, w, shift)
    places = jnp.stack(jnp.meshgrid(x, y, indexing="xy"))
    places = jnp.einsum(
        "ij,jhw->ihw", matrix[:, :2], places, precision=lax.Precision.HIGHEST
    )
    places += matrix[:, 2, None, None]
    image = interpolate(image, places[1], places[0], edge="once")
    field = jax.random.uniform(field_key, (h, w, 2), minval=-1.0, maxval=1.0)
    rows, columns = (mirrored_weights(sigma, source=side) for side in (h, w))
    field = separable(rows, columns, field) * strength
    down, right = y[:, None] + field[..., 0], x[None, :] + field[..., 1]
    return jnp.clip(interpolate(image, down, right, edge="twice"), 0, 1)


def move_corners(
    key: jax.Array, height: int, width: int, shift: Float[Array, ""]
) -> Float[Array, "2 3"]:
    """The affine map from (x, y) in the result to (x, y) in the image.

    It takes three corners of a square in the middle, moved by up to `shift` per
    coordinate, to where they were.
    """
    centre = jnp.asarray([width // 2, height // 2], jnp.float32)
    half = max(min(height, width) // 3, 1)
    signs = jnp.asarray([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    moves = shift * jax.random.uniform(key, (3, 2), minval=-1.0, maxval=1.0)
    old = centre[None, :] + half * signs
    new = old + moves
    # Columns are the sides of the two triangles.
    (a, b), (c, d) = (new[:2] - new[1:]).T
    inverse = jnp.array([[d, -b], [-c, a]]) / (a * d - b * c)
    turn = jnp.matmul((old[:2] - old[1:]).T, inverse, precision=lax.Precision.HIGHEST)
    offset = old[2] - (turn * new[2][None, :]).sum(axis=1)
    return jnp.concatenate([turn, offset[:, None]], axis=1)


def mirrored_weights(sigma: Number, *, source: int) -> Float[Array, "source source"]:
    """Weights that blur an axis with a Gaussian, the axis mirrored over and over.

    A pixel at distance u weighs exp(-u² / 2σ²) up to ⌊3σ + 1/2⌋, normalised to sum 1.
    Outside, the axis is its mirror image, end pixels repeated, and then itself again,
    as often as the Gaussian is wide. σ is from 0, the identity, to 170.8 pixels.
    """
    period = 2 * source
    turns = -(-(REACH + 1) // period)
    distance = jnp.abs(jnp.arange(-turns * period, turns * period)).astype(jnp.float32)
    bell = jnp.exp(-0.5 * jnp.square(distance / jnp.maximum(sigma, 1e-3)))
    bell = jnp.where(distance <= jnp.floor(3 * sigma + 0.5), bell, 0.0)
    wrapped = bell.reshape(2 * turns, period).sum(axis=0) / bell.sum()
    given, wanted = jnp.arange(source)[None, :], jnp.arange(source)[:, None]
    mirror = wrapped[(-1 - given - wanted) % period]
    return wrapped[(given - wanted) % period] + mirror


def interpolate(
    image: Image,
    rows: Float[Array, "i j"],
    columns: Float[Array, "i j"],
    *,
    edge: Literal["once", "twice"],
) -> Float[Array, "i j c"]:
    """Interpolates linearly between pixels, at places counted from the first one's.

    Outside, the image is mirrored over and over; `edge` says how often the outermost
    pixels come at each mirror.
    """
    h, w, _ = image.shape

    def folded(place: Float[Array, "i j"], side: int) -> Int[Array, "i j"]:
        period = 2 * side if edge == "twice" else max(2 * side - 2, 1)
        place = place.astype(jnp.int32) % period
        return jnp.minimum(place, (2 * side - 1 if edge == "twice" else period) - place)

    top, left = jnp.floor(rows), jnp.floor(columns)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    above, below = folded(top, h), folded(top + 1, h)
    before, after = folded(left, w), folded(left + 1, w)
    upper = (1 - right) * image[above, before] + right * image[above, after]
    lower = (1 - right) * image[below, before] + right * image[below, after]
    return (1 - down) * upper + down * lower


LEVELS = {
    contrast: {
        224: ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)),
        32: ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,)),
    },
    elastic_transform: {
        224: (
            (488.0, 170.8, 24.4),
            (488.0, 19.52, 48.8),
            (12.2, 2.44, 4.88),
            (17.08, 2.44, 4.88),
            (29.28, 2.44, 4.88),
        ),
        32: (
            (0.0, 0.0, 2.56),
            (1.6, 6.4, 2.24),
            (2.56, 1.92, 1.92),
            (3.2, 1.28, 1.6),
            (3.2, 0.96, 0.96),
        ),
    },
    pixelate: {
        224: ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)),
        32: ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,)),
    },
    jpeg_compression: {
        224: ((25.0,), (18.0,), (15.0,), (10.0,), (7.0,)),
        32: ((80.0,), (65.0,), (58.0,), (50.0,), (40.0,)),
    },
    saturate: {
        224: ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2)),
        32: ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2)),
    },
}
