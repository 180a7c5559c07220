"""Operations that filter an image: Gaussian blur, and kernels of fixed weights."""

import dataclasses
import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from jax_rcl.augment.color import blend
from jax_rcl.augment.distortions.levels import (
    Distortion,
    Level,
    Strength,
    Values,
    as_level,
)
from jax_rcl.augment.resample import Image, Number, Whole, gaussian_weights, separable
from jax_rcl.augment.tone import Factor
from jax_rcl.ranges import Above, Count, Rising, ranged

BLUR = np.pad(np.zeros((3, 3), np.float32), 1, constant_values=1 / 16)
"""PIL's `ImageFilter.BLUR`: the mean of the 16 pixels on the rim of a square of 5."""

SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
"""PIL's `ImageFilter.SMOOTH`: the pixel five times and its eight neighbours once."""

SHARP = 0.01
"""A width in pixels at which a Gaussian is a single pixel, and less changes nothing."""


def gaussian_blur(image: Image, sigma: Number, *, kernel_size: Whole) -> Image:
    """Convolves with a Gaussian of width σ, cut off at a square of kernel_size pixels.

    The weights along each axis are `resample.gaussian_weights`. σ and kernel_size may
    be data, different for each image; a kernel_size that is data is cut off where a
    side has no more pixels to mirror.
    """
    h, w, _ = image.shape
    if isinstance(kernel_size, int):
        _require_pixels_to_mirror(kernel_size, (h, w))
    rows = gaussian_weights(sigma, source=h, kernel_size=kernel_size)
    columns = gaussian_weights(sigma, source=w, kernel_size=kernel_size)
    return separable(rows, columns, image)


def _require_pixels_to_mirror(kernel_size: int, size: tuple[int, ...]) -> None:
    if min(size) <= kernel_size // 2:
        raise ValueError(
            f"a blur of kernel_size {kernel_size} mirrors {kernel_size // 2} pixels at "
            f"the edges; the image of {size[0]} x {size[1]} has too few. "
            f"Try kernel_size={2 * min(size) - 1} or less."
        )


def apply_kernel(image: Image, kernel: Float[np.ndarray, "s s"]) -> Image:
    """Weighs the neighbourhood of each pixel by a kernel, as `PIL.Image.filter`.

    Pixels so near the edge that the kernel leaves the image stay as they are.
    """
    h, w, _ = image.shape
    reach = len(kernel) // 2
    rows, columns = h - 2 * reach, w - 2 * reach
    if min(rows, columns) < 1:
        return image
    # Shifted images rather than a convolution: on a batch this is one pass over it.
    inner = sum(
        weight * image[i : i + rows, j : j + columns]
        for (i, j), weight in np.ndenumerate(kernel)
        if weight
    )
    return image.at[reach : reach + rows, reach : reach + columns].set(inner)


@dataclasses.dataclass(frozen=True)
@ranged
class GaussianBlur(Distortion):
    """Blurs with a Gaussian whose width is drawn uniformly for each image.

    As a distortion it has the level (kernel_size, σ); σ alone stands for the kernel of
    the field. Strength acts on σ. Kernels of all sizes are one program.

    Attributes:
      kernel_size: pixels per axis that are weighed, odd; SimCLR takes a tenth of the
        image's side. Widths above a fourth of it are visibly cut off.
      sigma: bounds of the width σ in pixels.
    """

    kernel_size: Count
    sigma: Annotated[
        tuple[float, float], Rising(Above(0), "widths in pixels", (0.1, 2.0))
    ] = (0.1, 2.0)
    name = "Gaussian blur"
    deterministic = True  # at a given level, so that a sweep looks only once

    def __post_init__(self) -> None:
        if self.kernel_size % 2 == 0:
            raise ValueError(
                f"GaussianBlur.kernel_size {self.kernel_size} must be an odd number of "
                f"pixels; try {self.kernel_size + 1}."
            )

    def width(self, key: jax.Array) -> Float[Array, ""]:
        """Draws σ."""
        low, high = self.sigma
        return low + jax.random.uniform(key) * (high - low)

    def level(self, key: jax.Array) -> Float[Array, " 2"]:
        return jnp.stack([jnp.float32(self.kernel_size), self.width(key)])

    def checked(
        self, level: Level, size: tuple[int, ...] | None = None
    ) -> Float32[np.ndarray, " 2"]:
        values = level if isinstance(level, tuple) else (level,)
        kernel_size, sigma = (self.kernel_size, *values)[-2:] if values else (0, 0)
        odd = kernel_size > 0 and kernel_size % 2 == 1
        if len(values) > 2 or not odd or not 0 < sigma < math.inf:
            raise ValueError(
                f"the level {level} of {self.name} must be (kernel_size, sigma), an "
                f"odd number of pixels and a width in pixels above 0, such as "
                f"(21, 5.0), or the width alone."
            )
        if size is not None:
            _require_pixels_to_mirror(int(kernel_size), size)
        return np.array([kernel_size, sigma], np.float32)

    def at(self, key: jax.Array, image: Image, level: Values) -> Image:
        level = as_level(self, level, image)
        whole = level[0].astype(jnp.int32) if len(level) == 2 else self.kernel_size
        return gaussian_blur(image, jnp.maximum(level[-1], SHARP), kernel_size=whole)

    def at_strength(self, key: jax.Array, image: Image, strength: Strength) -> Image:
        # Only σ shrinks; it is all that is drawn, so the key is not split.
        sigma = jnp.maximum(strength * self.width(key), SHARP)
        return gaussian_blur(image, sigma, kernel_size=self.kernel_size)


@dataclasses.dataclass(frozen=True)
class Blur:
    """A strong blur of fixed width, the kernel `BLUR`."""

    def __call__(self, key: jax.Array, image: Image) -> Image:
        return apply_kernel(image, BLUR)


@dataclasses.dataclass(frozen=True)
class Smooth:
    """A weak blur of fixed width, the kernel `SMOOTH`."""

    def __call__(self, key: jax.Array, image: Image) -> Image:
        return apply_kernel(image, SMOOTH)


@dataclasses.dataclass(frozen=True)
@ranged
class Sharpness:
    """Blends with the smoothed image: factor 0 is smooth, 1 the image, 1.9 sharp."""

    factor: Factor

    def __call__(self, key: jax.Array, image: Image) -> Image:
        return blend(image, apply_kernel(image, SMOOTH), self.factor)
