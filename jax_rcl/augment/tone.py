"""Operations on tones: what becomes of a pixel's values, at a strength that is set.

They reproduce PIL's `ImageOps` and `ImageEnhance` on images in [0, 1]. What PIL defines
by a histogram or by bits is defined here on the 256 levels of `eight_bits`; everything
else is PIL's formula without the rounding to levels. Strengths drawn at random are in
`color.ColorJitter`.
"""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from jax_rcl.augment.color import adjust_brightness, adjust_contrast, adjust_saturation
from jax_rcl.augment.resample import Image
from jax_rcl.ranges import AtLeast, Within, ranged

Factor = Annotated[float, AtLeast(0, "1 changes nothing")]
"""Of a blend of an image with another one: 0 is the other, 1 the image."""


def eight_bits(image: Image) -> Int[Array, "h w c"]:
    """The level of each value, round(255 x) limited to 0 ... 255."""
    return jnp.clip(jnp.round(image * 255.0), 0.0, 255.0).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class AutoContrast:
    """Stretches each channel to the whole range, as `PIL.ImageOps.autocontrast`.

    With a the darkest and b the lightest of the channel's levels, level l becomes
    ⌊255 (l - a) / (b - a)⌋; a channel of one level stays. PIL divides first, so that
    some of its levels are lower by one.
    """

    def __call__(self, key: jax.Array, image: Image) -> Image:
        level = eight_bits(image)
        low = level.min(axis=(0, 1), keepdims=True)
        high = level.max(axis=(0, 1), keepdims=True)
        stretched = (level - low) * 255 // jnp.maximum(high - low, 1)
        return jnp.where(high > low, stretched.astype(image.dtype) / 255.0, image)


@dataclasses.dataclass(frozen=True)
class Equalize:
    """Makes all levels of a channel about equally frequent: `PIL.ImageOps.equalize`.

    With s = ⌊(pixels - pixels of the lightest level) / 255⌋, a level that n pixels are
    darker than becomes ⌊(⌊s / 2⌋ + n) / s⌋, at most 255. A channel stays where s is 0,
    that is where fewer than 255 pixels are darker than its lightest level.
    """

    def __call__(self, key: jax.Array, image: Image) -> Image:
        h, w, c = image.shape
        level = eight_bits(image)
        # One histogram for all channels, each with 256 places of its own.
        place = level + 256 * jnp.arange(c, dtype=jnp.int32)[None, None, :]
        counts = jnp.zeros(256 * c, jnp.int32).at[place.ravel()].add(1).reshape(c, 256)
        darker = jnp.cumsum(counts, axis=1) - counts
        lightest = (level == level.max(axis=(0, 1), keepdims=True)).sum(axis=(0, 1))
        step = ((h * w - lightest) // 255)[:, None]
        table = jnp.minimum((step // 2 + darker) // jnp.maximum(step, 1), 255)
        equal = table.ravel()[place].astype(image.dtype) / 255.0
        return jnp.where(step.reshape(1, 1, c) > 0, equal, image)


@dataclasses.dataclass(frozen=True)
@ranged
class Posterize:
    """Keeps the upper `bits` of the eight bits of each value; 0 gives black."""

    bits: Annotated[int, Within(0, 8)]

    def __call__(self, key: jax.Array, image: Image) -> Image:
        step = 2 ** (8 - self.bits)
        return (eight_bits(image) // step * step).astype(image.dtype) / 255.0


@dataclasses.dataclass(frozen=True)
class Invert:
    """The negative, x -> 1 - x."""

    def __call__(self, key: jax.Array, image: Image) -> Image:
        return 1.0 - image


@dataclasses.dataclass(frozen=True)
@ranged
class Brightness:
    """Blends with black: factor 0 is black, 1 the image, 1.9 nearly twice as light."""

    factor: Factor

    def __call__(self, key: jax.Array, image: Image) -> Image:
        return adjust_brightness(image, self.factor)


@dataclasses.dataclass(frozen=True)
@ranged
class Contrast:
    """Blends with the mean gray: factor 0 is flat, 1 the image, more is harder."""

    factor: Factor

    def __call__(self, key: jax.Array, image: Image) -> Image:
        return adjust_contrast(image, self.factor)


@dataclasses.dataclass(frozen=True)
@ranged
class Saturation:
    """Blends with the gray image: factor 0 is gray, 1 the image, more is gaudier."""

    factor: Factor

    def __call__(self, key: jax.Array, image: Image) -> Image:
        return adjust_saturation(image, self.factor)
