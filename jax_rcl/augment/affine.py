"""Affine maps of the plane, random in sign or angle: rotation, shear, translation.

Conventions are PIL's: places are measured in pixels from the upper left corner, pixel
centres lie at half integers, and a matrix takes places of the result to places of the
image. What comes from outside the image is filled.
"""

import dataclasses
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jax_rcl.augment.resample import Image, Number
from jax_rcl.ranges import AtLeast, Share, ranged

Interpolation = Literal["nearest", "bilinear"]
"""The pixel that a place falls into, PIL's default; or a mean of the nearest four."""


def affine(
    image: Image,
    matrix: Float[Array, "2 3"],
    *,
    interpolation: Interpolation = "nearest",
    fill: float = 0.0,
) -> Image:
    """The image seen through an affine map, as `PIL.Image.transform(..., AFFINE)`.

    The pixel with centre (x, y) takes the image at (a x + b y + c, d x + e y + f) if
    that lies in [0, w) × [0, h), else `fill`. Bilinear means take the four centres
    around the place; at the edges, the pixels of the edge are repeated. The matrix is
    ((a, b, c), (d, e, f)), and data: one program serves all maps.
    """
    h, w, _ = image.shape
    x = (jnp.arange(w, dtype=jnp.float32) + 0.5)[None, :]
    y = (jnp.arange(h, dtype=jnp.float32) + 0.5)[:, None]
    u = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
    v = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]

    def pixels(row: Float[Array, "h w"], column: Float[Array, "h w"]) -> Image:
        rows = jnp.clip(row, 0.0, h - 1.0).astype(jnp.int32)
        return image[rows, jnp.clip(column, 0.0, w - 1.0).astype(jnp.int32)]

    if interpolation == "nearest":
        seen = pixels(jnp.floor(v), jnp.floor(u))
    else:
        top, left = jnp.floor(v - 0.5), jnp.floor(u - 0.5)
        lower, right = (v - 0.5 - top)[..., None], (u - 0.5 - left)[..., None]
        above = (1.0 - right) * pixels(top, left) + right * pixels(top, left + 1.0)
        below = (1.0 - right) * pixels(top + 1.0, left)
        below = below + right * pixels(top + 1.0, left + 1.0)
        seen = (1.0 - lower) * above + lower * below
    inside: Bool[Array, "h w"] = (u >= 0.0) & (u < w) & (v >= 0.0) & (v < h)
    return jnp.where(inside[..., None], seen, fill)


def rotation(degrees: Number, height: int, width: int) -> Float[Array, "2 3"]:
    """The matrix that turns an image about its middle, against the clock."""
    angle = jnp.deg2rad(jnp.asarray(degrees, jnp.float32))
    cos, sin, x, y = jnp.cos(angle), jnp.sin(angle), width / 2, height / 2
    return jnp.array(
        [[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]]
    )


def shear(slope: Number, axis: Literal["x", "y"]) -> Float[Array, "2 3"]:
    """The matrix that moves rows along x by slope · y, or columns along y by slope · x.

    The first row, or column, hardly moves: the corner stays and not the middle, as in
    policies written for PIL. Positive slopes move towards the left, or up.
    """
    zero, slope = jnp.float32(0.0), jnp.asarray(slope, jnp.float32)
    along, down = (slope, zero) if axis == "x" else (zero, slope)
    return jnp.array([[1.0, along, 0.0], [down, 1.0, 0.0]])


def translation(pixels: Number, axis: Literal["x", "y"]) -> Float[Array, "2 3"]:
    """The matrix that moves an image to the left by `pixels`, or up by as many."""
    zero, pixels = jnp.float32(0.0), jnp.asarray(pixels, jnp.float32)
    along, down = (pixels, zero) if axis == "x" else (zero, pixels)
    return jnp.array([[1.0, 0.0, along], [0.0, 1.0, down]])


def either_sign(key: jax.Array, magnitude: float) -> Float[Array, ""]:
    """The magnitude or its negative, equally often."""
    return jnp.where(jax.random.bernoulli(key), magnitude, -magnitude)


Magnitude = Annotated[float, AtLeast(0, "its sign is drawn")]


@dataclasses.dataclass(frozen=True)
@ranged
class Rotate:
    """Turns by so many degrees about the middle, either way equally often.

    Interpolation and fill, here and below, are those of `affine`.
    """

    degrees: Magnitude
    interpolation: Interpolation = "nearest"
    fill: Share = 0.0

    def __call__(self, key: jax.Array, image: Image) -> Image:
        h, w, _ = image.shape
        matrix = rotation(self.angle(key), h, w)
        return affine(image, matrix, interpolation=self.interpolation, fill=self.fill)

    def angle(self, key: jax.Array) -> Float[Array, ""]:
        """Draws how far to turn, in degrees."""
        return either_sign(key, self.degrees)


@dataclasses.dataclass(frozen=True)
class RandomRotation(Rotate):
    """Turns about the middle by an angle uniform in ±degrees, as torchvision's."""

    def angle(self, key: jax.Array) -> Float[Array, ""]:
        return jax.random.uniform(key, (), minval=-self.degrees, maxval=self.degrees)


@dataclasses.dataclass(frozen=True)
@ranged
class Shear:
    """Slants along one axis by a slope, either way equally often; see `shear`."""

    slope: Magnitude
    axis: Literal["x", "y"] = "x"
    interpolation: Interpolation = "nearest"
    fill: Share = 0.0

    def __call__(self, key: jax.Array, image: Image) -> Image:
        matrix = shear(either_sign(key, self.slope), self.axis)
        return affine(image, matrix, interpolation=self.interpolation, fill=self.fill)


@dataclasses.dataclass(frozen=True)
@ranged
class Translate:
    """Moves along one axis by so many pixels, either way equally often.

    A fraction of a pixel shows only with bilinear interpolation.
    """

    pixels: Magnitude
    axis: Literal["x", "y"] = "x"
    interpolation: Interpolation = "nearest"
    fill: Share = 0.0

    def __call__(self, key: jax.Array, image: Image) -> Image:
        matrix = translation(either_sign(key, self.pixels), self.axis)
        return affine(image, matrix, interpolation=self.interpolation, fill=self.fill)
