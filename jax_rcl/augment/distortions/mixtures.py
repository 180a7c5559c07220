"""Distortions put together: one that is always the same, and the four mixtures."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32

from jax_rcl.augment.color import ColorJitter
from jax_rcl.augment.compose import Chain, Maybe, OneOf
from jax_rcl.augment.distortions import levels
from jax_rcl.augment.distortions.levels import Level, Leveled, Strength, Values
from jax_rcl.augment.distortions.pixelwise import GaussianNoise, RandomMask
from jax_rcl.augment.filters import GaussianBlur
from jax_rcl.core import Operation

JITTER = ColorJitter(0.4, 0.4, 0.2, 0.1)
BLUR = GaussianBlur(23, (1.0, 5.0))
NOISE = GaussianNoise((0.1, 0.5))
MASK = RandomMask((0.25, 0.5))
"""What the mixtures are made of."""


def mixture(number: int) -> Operation:
    """One of the four mixtures that students were trained on for ImageNet-100-C.

    Drawn anew for each image:

    1. colour jitter with probability 0.5, then blur 0.4, noise 0.4 and mask 0.1;
    2. with probability 0.6 one of the same four, weighted 0.5 : 0.4 : 0.4 : 0.1;
    3. blur with probability 0.8, then noise, from a deviation of 0.05 on, 0.8;
    4. with probability 0.6 blur or noise, equally often;

    with ColorJitter(0.4, 0.4, 0.2, 0.1), GaussianBlur(23, (1.0, 5.0)),
    GaussianNoise((0.1, 0.5)) and RandomMask((0.25, 0.5)).

    Deviation: the release draws 2 and 4 once for a whole run, and lets the jitter of
    1 and 2 round to 8 bits.

    Raises:
      ValueError: for another number.
    """
    if number not in MIXTURES:
        raise ValueError(f"mixture {number} must be one of 1, 2, 3 and 4.")
    return MIXTURES[number]


MIXTURES: dict[int, Operation] = {
    1: Chain(
        (Maybe(JITTER, 0.5), Maybe(BLUR, 0.4), Maybe(NOISE, 0.4), Maybe(MASK, 0.1))
    ),
    2: Maybe(OneOf((JITTER, BLUR, NOISE, MASK), (0.5, 0.4, 0.4, 0.1)), 0.6),
    3: Chain((Maybe(BLUR, 0.8), Maybe(GaussianNoise((0.05, 0.5)), 0.8))),
    4: Maybe(OneOf((BLUR, NOISE)), 0.6),
}
"""The mixtures by number; see `mixture`."""


@dataclasses.dataclass(frozen=True)
class Fixed:
    """An operation that draws the same for every image.

    What is drawn is a function of the seed and of the image's shape alone: one mask for
    training, for the test set, and after a restart. The level, too, is drawn once.

    Attributes:
      operation: what is done; a distortion with a level stays one.
      seed: of all that is drawn; 0 or more.

    Raises:
      ValueError: if the seed is negative.
    """

    operation: Operation
    seed: int = 0
    deterministic = True  # at a given level, which a sweep then looks at once

    def __post_init__(self) -> None:
        """Checks the seed."""
        if self.seed < 0:
            raise ValueError(f"Fixed.seed {self.seed} must be 0 or more.")

    def __call__(
        self, key: jax.Array, image: Float[Array, "h w c"]
    ) -> Float[Array, "..."]:
        """The image after the operation; the key is not used."""
        return self.operation(self._key, image)

    @property
    def name(self) -> str:
        """What it is in words."""
        inner = self.operation
        return f"fixed {inner.name if isinstance(inner, Leveled) else inner}"

    def level(self, key: jax.Array) -> Float[Array, " p"]:
        """The level of the seed; the key is not used."""
        return self._leveled.level(jax.random.split(self._key)[0])

    def checked(
        self, level: Level, size: tuple[int, ...] | None = None
    ) -> Float32[np.ndarray, " p"]:
        """A level of the operation as data; raises ValueError if it is out of range."""
        return self._leveled.checked(level, size)

    def at(
        self, key: jax.Array, image: Float[Array, "h w c"], level: Values
    ) -> Float[Array, "h w c"]:
        """The image distorted at this level; the key is not used."""
        return self._leveled.at(jax.random.split(self._key)[1], image, level)

    def at_strength(
        self, key: jax.Array, image: Float[Array, "h w c"], strength: Strength
    ) -> Float[Array, "..."]:
        """The image distorted at the level of the seed times `strength`."""
        return levels.at_strength(self.operation, self._key, image, strength)

    @property
    def _key(self) -> jax.Array:
        """The key of everything; of the same kind whatever JAX is set to elsewhere."""
        return jax.random.key(self.seed, impl="threefry2x32")

    @property
    def _leveled(self) -> Leveled:
        """The operation, which has a level."""
        if not isinstance(self.operation, Leveled):
            raise ValueError(
                f"Fixed.operation {self.operation} has no level to set; distortions "
                f"such as RandomMask((0.5, 0.5)) have one."
            )
        return self.operation

    def __getattr__(self, name: str) -> Callable[..., Bool[Array, "h w 1"]]:
        """`known(key, image, level)`, if the operation is a mask and so has it."""
        if name != "known":
            raise AttributeError(f"Fixed has no attribute {name!r}.")
        known: Any = getattr(self.operation, name)
        key = jax.random.split(self._key)[1]
        return lambda _, image, level: known(key, image, level)


@dataclasses.dataclass(frozen=True)
class ByStrength:
    """Any operation as a distortion whose level is its strength, from 0 to 1.

    At 1 it is the operation as it is: every image draws its own level, which is what
    students of a range of levels, or of a mixture, are tested on. Below, all levels
    that are drawn are multiplied; what has no level, such as a `ColorJitter`, acts as
    ever.

    Attributes:
      operation: what is done.
    """

    operation: Operation

    def __call__(
        self, key: jax.Array, image: Float[Array, "h w c"]
    ) -> Float[Array, "..."]:
        """The image after the operation."""
        return self.operation(key, image)

    @property
    def name(self) -> str:
        """What it is in words."""
        inner = self.operation
        return f"{inner.name if isinstance(inner, Leveled) else inner} by strength"

    def level(self, key: jax.Array) -> Float[Array, " 1"]:
        """1, the full strength; the key is not used."""
        return jnp.ones(1)

    def checked(
        self, level: Level, size: tuple[int, ...] | None = None
    ) -> Float32[np.ndarray, " 1"]:
        """A strength as data.

        Raises:
          ValueError: if it is not in [0, 1].
        """
        meaning = "in [0, 1], 1 for the operation as it is"
        number = levels.one_number(self.name, level, meaning, lambda x: 0 <= x <= 1)
        return np.array([number], np.float32)

    def at(
        self, key: jax.Array, image: Float[Array, "h w c"], level: Values
    ) -> Float[Array, "h w c"]:
        """The image after the operation at this strength."""
        return self.at_strength(key, image, jnp.asarray(level)[0])

    def at_strength(
        self, key: jax.Array, image: Float[Array, "h w c"], strength: Strength
    ) -> Float[Array, "..."]:
        """The image after the operation, its levels times `strength`."""
        return levels.at_strength(self.operation, key, image, strength)
