"""Distortions with a level: pixels masked at random, a square masked, Gaussian noise.

They act on images in [0, 1], hence before a network subtracts its mean: what is masked
is black. Nothing is limited to [0, 1] afterwards. As the forward operators of Ravula et
al. 2021 (https://arxiv.org/abs/2110.07439); the fourth is `filters.GaussianBlur`.
"""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32

from jax_rcl.augment.distortions.levels import (
    Level,
    Leveled,
    Strength,
    Values,
    one_number,
    taken,
)
from jax_rcl.augment.distortions.subsets import in_two, share_of, smallest

__all__ = [
    "GaussianNoise",
    "Identity",
    "Leveled",
    "RandomMask",
    "SquareMask",
]


@dataclasses.dataclass(frozen=True)
class RandomMask:
    """Blackens pixels at random places, exactly ⌊h · w · rate⌋ of them.

    Places are uniform without replacement, and the same in all channels. One key masks
    more and more pixels as the rate rises, and never shows one again. As data the rate
    is two numbers, see `subsets.share_of`; `at` takes one as well.

    Attributes:
      rate: bounds of the share of masked pixels, in [0, 1); the share is uniform
        between them for each image. Twice the same for a fixed one.

    Raises:
      ValueError: if a rate is out of bounds.
    """

    rate: tuple[float, float]

    def __post_init__(self) -> None:
        """Checks the bounds."""
        if not 0 <= self.rate[0] <= self.rate[1] < 1:
            raise ValueError(
                f"RandomMask.rate {self.rate} must be two shares of the pixels, "
                f"0 <= low <= high < 1, such as (0.5, 0.95)."
            )
        self.checked(self.rate[1])

    def __call__(
        self, key: jax.Array, image: Float[Array, "h w c"]
    ) -> Float[Array, "h w c"]:
        """The image, masked at a random rate."""
        return self.at_strength(key, image, 1.0)

    @property
    def name(self) -> str:
        """What it is in words."""
        return "random mask"

    def level(self, key: jax.Array) -> Float[Array, " 2"]:
        """Draws the rate."""
        low, high = self.rate
        return jax.random.uniform(key) * in_two(high - low) + in_two(low)

    def checked(
        self, level: Level, size: tuple[int, ...] | None = None
    ) -> Float32[np.ndarray, " 2"]:
        """A rate as data; raises ValueError outside of [0, 1)."""
        meaning = "a share of the pixels in [0, 1)"
        rate = one_number(self.name, level, meaning, lambda rate: 0 <= rate < 1)
        return in_two(rate)

    def at(
        self, key: jax.Array, image: Float[Array, "h w c"], level: Values
    ) -> Float[Array, "h w c"]:
        """The image, masked at this rate."""
        return jnp.where(self.known(key, image, level), image, 0.0)

    def known(
        self, key: jax.Array, image: Float[Array, "h w c"], level: Values
    ) -> Bool[Array, "h w 1"]:
        """Where pixels stay visible, the same as in `at` with this key and level."""
        taken(self, level[:1], image)
        h, w, _ = image.shape
        drawn = jax.random.bits(key, (h * w,), jnp.uint32)
        masked = smallest(drawn, share_of(h * w, jnp.asarray(level)))
        return ~masked.reshape(h, w, 1)

    def at_strength(
        self, key: jax.Array, image: Float[Array, "h w c"], strength: Strength
    ) -> Float[Array, "h w c"]:
        """The image, masked at a random rate times `strength`."""
        level_key, draw_key = jax.random.split(key)
        return self.at(draw_key, image, strength * self.level(level_key))


@dataclasses.dataclass(frozen=True)
class SquareMask:
    """Blackens a square that lies inside of the image.

    Deviation: the release masks length - 1 pixels per axis where the length is odd.
    Here they are `length`; even lengths lie where they do in the release.

    Attributes:
      length: bounds of the side of the square in pixels, 0 or more, both included, each
        as likely; twice the same for a fixed one.
      offset: whether the square lies at the centre, its first row h // 2 - length // 2,
        or anywhere, every place inside of the image as likely.

    Raises:
      ValueError: if a length is out of bounds; when called, for an image smaller than
        the square mask, or as small.
    """

    length: tuple[int, int]
    offset: Literal["center", "random"] = "center"

    def __post_init__(self) -> None:
        """Checks the bounds."""
        if not 0 <= self.length[0] <= self.length[1]:
            raise ValueError(
                f"SquareMask.length {self.length} must be two numbers of pixels, "
                f"0 <= low <= high, such as (50, 100)."
            )

    def __call__(
        self, key: jax.Array, image: Float[Array, "h w c"]
    ) -> Float[Array, "h w c"]:
        """The image, a square of it masked."""
        return self.at_strength(key, image, 1.0)

    @property
    def name(self) -> str:
        """What it is in words."""
        return "square mask"

    def level(self, key: jax.Array) -> Float[Array, " 1"]:
        """Draws the length."""
        low, high = self.length
        return jax.random.randint(key, (1,), low, high + 1).astype(jnp.float32)

    def checked(
        self, level: Level, size: tuple[int, ...] | None = None
    ) -> Float32[np.ndarray, " 1"]:
        """A length as data; raises ValueError unless it is a number of pixels.

        With a size, it is also compared with that: an image smaller than the square
        mask, or as small, would be black.
        """
        length = one_number(
            self.name,
            level,
            "a whole number of pixels, 0 or more",
            lambda length: length >= 0 and length == math.floor(length),
        )
        if size is not None and length >= min(size):
            raise ValueError(
                f"an image smaller than the square mask: {size[0]} x {size[1]} pixels, "
                f"but SquareMask has length {length:.0f}, which must be less than "
                f"both sides. Try {min(size) // 2}, or larger images."
            )
        return np.array([length], np.float32)

    def at(
        self, key: jax.Array, image: Float[Array, "h w c"], level: Values
    ) -> Float[Array, "h w c"]:
        """The image, a square of this length masked."""
        return jnp.where(self.known(key, image, level), image, 0.0)

    def known(
        self, key: jax.Array, image: Float[Array, "h w c"], level: Values
    ) -> Bool[Array, "h w 1"]:
        """Where pixels stay visible, the same as in `at` with this key and level."""
        level = taken(self, level, image)
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

    def at_strength(
        self, key: jax.Array, image: Float[Array, "h w c"], strength: Strength
    ) -> Float[Array, "h w c"]:
        """The image, a square of a random length times `strength` masked."""
        self.checked(self.length[1], image.shape[:2])
        level_key, draw_key = jax.random.split(key)
        length = jnp.floor(strength * self.level(level_key))
        return self.at(draw_key, image, length)


@dataclasses.dataclass(frozen=True)
class GaussianNoise:
    """Adds normal noise, independent for each pixel and channel; nothing is clamped.

    Attributes:
      std: bounds of the noise's standard deviation, 0 or more; it is uniform between
        them for each image. Twice the same for a fixed one.

    Raises:
      ValueError: if a deviation is out of bounds.
    """

    std: tuple[float, float]

    def __post_init__(self) -> None:
        """Checks the bounds."""
        if not 0 <= self.std[0] <= self.std[1] < math.inf:
            raise ValueError(
                f"GaussianNoise.std {self.std} must be two standard deviations, "
                f"0 <= low <= high, such as (0.1, 0.3); white is 1."
            )

    def __call__(
        self, key: jax.Array, image: Float[Array, "h w c"]
    ) -> Float[Array, "h w c"]:
        """The image with noise of a random deviation, in no particular range."""
        return self.at_strength(key, image, 1.0)

    @property
    def name(self) -> str:
        """What it is in words."""
        return "Gaussian noise"

    def level(self, key: jax.Array) -> Float[Array, " 1"]:
        """Draws the deviation."""
        low, high = self.std
        return low + jax.random.uniform(key, (1,)) * (high - low)

    def checked(
        self, level: Level, size: tuple[int, ...] | None = None
    ) -> Float32[np.ndarray, " 1"]:
        """A deviation as data; raises ValueError below 0."""
        meaning = "a standard deviation, 0 or more"
        std = one_number(self.name, level, meaning, lambda std: std >= 0)
        return np.array([std], np.float32)

    def at(
        self, key: jax.Array, image: Float[Array, "h w c"], level: Values
    ) -> Float[Array, "h w c"]:
        """The image with noise of this deviation."""
        level = taken(self, level, image)
        return image + level[0] * jax.random.normal(key, image.shape, image.dtype)

    def at_strength(
        self, key: jax.Array, image: Float[Array, "h w c"], strength: Strength
    ) -> Float[Array, "h w c"]:
        """The image with noise of a random deviation times `strength`."""
        level_key, draw_key = jax.random.split(key)
        return self.at(draw_key, image, strength * self.level(level_key))


@dataclasses.dataclass(frozen=True)
class Identity:
    """No distortion: the clean image, such as one of `OneOf`."""

    def __call__(
        self, key: jax.Array, image: Float[Array, "h w c"]
    ) -> Float[Array, "h w c"]:
        """The image itself; the key is not used."""
        return image
