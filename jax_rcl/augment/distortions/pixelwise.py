"""Distortions with a level: pixels masked at random, a square masked, Gaussian noise.

They act on images in [0, 1], hence before a network subtracts its mean: what is masked
is black. Nothing is limited to [0, 1] afterwards. They are forward operators of Ravula
et al. 2021 (https://arxiv.org/abs/2110.07439); the fourth is `filters.GaussianBlur`.
"""

import dataclasses
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32

from jax_rcl.augment.distortions.levels import (
    Distortion,
    Level,
    Strength,
    Values,
    as_level,
)
from jax_rcl.augment.distortions.subsets import in_two, share_of, smallest
from jax_rcl.augment.resample import Image
from jax_rcl.ranges import AtLeast, Rising, Within, ranged


class Mask(Distortion):
    """What masks have in common: hidden pixels are black, and one may ask which."""

    def at(self, key: jax.Array, image: Image, level: Values) -> Image:
        return jnp.where(self.known(key, image, level), image, 0.0)

    def known(
        self, key: jax.Array, image: Image, level: Values
    ) -> Bool[Array, "h w 1"]:
        """Where pixels stay visible in `at`."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
@ranged
class RandomMask(Mask):
    """Blackens pixels at random places, exactly ⌊h · w · rate⌋ of them.

    Places are uniform without replacement, and the same in all channels. One key masks
    more and more pixels as the rate rises, and never shows one again. As data the rate
    is two numbers, see `subsets.share_of`; `at` takes one as well.

    Attributes:
      rate: bounds of the share of masked pixels, uniform between them for each image.
    """

    rate: Annotated[
        tuple[float, float],
        Rising(Within(0, 1, open="high"), "shares of the pixels", (0.5, 0.95)),
    ]
    name = "random mask"
    measure = "a share of the pixels"
    bounds = Within(0, 1, open="high")

    def __post_init__(self) -> None:
        # A share just below 1 may be 1 as float32, in which levels are data.
        self.number(self.rate[1])

    def level(self, key: jax.Array) -> Float[Array, " 2"]:
        low, high = self.rate
        return jax.random.uniform(key) * in_two(high - low) + in_two(low)

    def checked(
        self, level: Level, size: tuple[int, ...] | None = None
    ) -> Float32[np.ndarray, " 2"]:
        return in_two(self.number(level))

    def known(
        self, key: jax.Array, image: Image, level: Values
    ) -> Bool[Array, "h w 1"]:
        as_level(self, level[:1], image)
        h, w, _ = image.shape
        drawn = jax.random.bits(key, (h * w,), jnp.uint32)
        masked = smallest(drawn, share_of(h * w, jnp.asarray(level)))
        return ~masked.reshape(h, w, 1)


@dataclasses.dataclass(frozen=True)
@ranged
class SquareMask(Mask):
    """Blackens a square that lies inside the image.

    Deviation: the release masks length - 1 pixels per axis where the length is odd.
    Here they are `length`; even lengths lie where they do in the release.

    Attributes:
      length: bounds of the side in pixels, both included, all equally likely.
      offset: whether the square lies at the centre, its first row h // 2 - length // 2,
        or anywhere inside the image, all places equally likely.
    """

    length: Annotated[
        tuple[int, int], Rising(AtLeast(0), "numbers of pixels", (50, 100))
    ]
    offset: Literal["center", "random"] = "center"
    name = "square mask"
    measure = "a whole number of pixels"
    bounds = AtLeast(0)

    def level(self, key: jax.Array) -> Float[Array, " 1"]:
        low, high = self.length
        return jax.random.randint(key, (1,), low, high + 1).astype(jnp.float32)

    def holds(self, number: float) -> bool:
        return super().holds(number) and number % 1 == 0

    def checked(
        self, level: Level, size: tuple[int, ...] | None = None
    ) -> Float32[np.ndarray, " 1"]:
        length = self.number(level)
        if size is not None and length >= min(size):
            raise ValueError(
                f"an image smaller than the square mask: {size[0]} x {size[1]} pixels, "
                f"but SquareMask has length {length:.0f}, which must be less than "
                f"both sides. Try {min(size) // 2}, or larger images."
            )
        return np.array([length], np.float32)

    def known(
        self, key: jax.Array, image: Image, level: Values
    ) -> Bool[Array, "h w 1"]:
        level = as_level(self, level, image)
        shape = jnp.array(image.shape[:2], jnp.int32)
        length = level[0].astype(jnp.int32)
        first = shape // 2 - length // 2
        if self.offset == "random":
            first = jax.random.randint(key, (2,), 0, shape - length + 1)
        rows, columns = (
            (jnp.arange(side) >= start) & (jnp.arange(side) < start + length)
            for side, start in zip(image.shape[:2], first, strict=True)
        )
        return ~(rows[:, None] & columns[None, :])[..., None]

    def at_strength(self, key: jax.Array, image: Image, strength: Strength) -> Image:
        # What is drawn is traced, and `at` cannot compare it with the image.
        self.checked(self.length[1], image.shape[:2])
        level_key, draw_key = jax.random.split(key)
        length = jnp.floor(strength * self.level(level_key))
        return self.at(draw_key, image, length)


@dataclasses.dataclass(frozen=True)
@ranged
class GaussianNoise(Distortion):
    """Adds normal noise, independent for each pixel and channel; nothing is clamped.

    Attributes:
      std: bounds of the standard deviation, uniform between them for each image.
    """

    std: Annotated[
        tuple[float, float], Rising(AtLeast(0), "standard deviations", (0.1, 0.3))
    ]
    name = "Gaussian noise"
    measure = "a finite standard deviation"
    bounds = AtLeast(0)

    def level(self, key: jax.Array) -> Float[Array, " 1"]:
        low, high = self.std
        return low + jax.random.uniform(key, (1,)) * (high - low)

    def at(self, key: jax.Array, image: Image, level: Values) -> Image:
        level = as_level(self, level, image)
        return image + level[0] * jax.random.normal(key, image.shape, image.dtype)


@dataclasses.dataclass(frozen=True)
class Identity:
    """No distortion: the clean image, such as one of `OneOf`."""

    def __call__(self, key: jax.Array, image: Image) -> Image:
        return image
