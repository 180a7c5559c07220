"""Distortions put together: one that is always the same, and the four mixtures."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32

from jax_rcl.augment.color import ColorJitter
from jax_rcl.augment.compose import Chain, Maybe, OneOf
from jax_rcl.augment.distortions import levels
from jax_rcl.augment.distortions.levels import (
    Distortion,
    Level,
    Leveled,
    Strength,
    Values,
)
from jax_rcl.augment.distortions.pixelwise import GaussianNoise, RandomMask
from jax_rcl.augment.filters import GaussianBlur
from jax_rcl.augment.resample import Image
from jax_rcl.core import Operation
from jax_rcl.ranges import AtLeast, Within, ranged

JITTER = ColorJitter(0.4, 0.4, 0.2, 0.1)
BLUR = GaussianBlur(23, (1.0, 5.0))
NOISE = GaussianNoise((0.1, 0.5))
MASK = RandomMask((0.25, 0.5))
"""What the mixtures are made of."""


def mixture(number: int) -> Operation:
    """One of `MIXTURES`, drawn independently for each image.

    Deviation: the release draws 2 and 4 once for a whole run, and lets the jitter of
    1 and 2 round to 8 bits.
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
"""What students were trained on for ImageNet-100-C, by the number in the release."""


@dataclasses.dataclass(frozen=True)
@ranged
class Fixed:
    """An operation that draws the same for every image.

    What is drawn is a function of the seed and of the image's shape alone: one mask for
    training, for the test set, and after a restart. The level, too, is drawn once. A
    distortion with a level stays one.
    """

    operation: Operation
    seed: Annotated[int, AtLeast(0)] = 0
    deterministic = True  # at a given level, so that a sweep looks only once

    def __call__(self, key: jax.Array, image: Image) -> Float[Array, "..."]:
        return self.operation(self._key, image)

    @property
    def name(self) -> str:
        return f"fixed {_words(self.operation)}"

    def level(self, key: jax.Array) -> Float[Array, " p"]:
        return self._leveled.level(jax.random.split(self._key)[0])

    def checked(
        self, level: Level, size: tuple[int, ...] | None = None
    ) -> Float32[np.ndarray, " p"]:
        return self._leveled.checked(level, size)

    def at(self, key: jax.Array, image: Image, level: Values) -> Image:
        return self._leveled.at(jax.random.split(self._key)[1], image, level)

    def at_strength(
        self, key: jax.Array, image: Image, strength: Strength
    ) -> Float[Array, "..."]:
        return levels.at_strength(self.operation, self._key, image, strength)

    @property
    def _key(self) -> jax.Array:
        # Of one kind, whatever JAX's default is.
        return jax.random.key(self.seed, impl="threefry2x32")

    @property
    def _leveled(self) -> Leveled:
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
class ByStrength(Distortion):
    """Any operation as a distortion whose level is its strength, from 0 to 1.

    At 1 it is the operation as it is: every image draws its own level, which is what
    students of a range of levels, or of a mixture, are tested on. Below, all levels
    that are drawn are multiplied; what has no level, such as a `ColorJitter`, is not
    changed.
    """

    operation: Operation
    measure = "a share of the full strength"
    bounds = Within(0, 1)

    @property
    def name(self) -> str:
        return f"{_words(self.operation)} by strength"

    def level(self, key: jax.Array) -> Float[Array, " 1"]:
        return jnp.ones(1)

    def at(self, key: jax.Array, image: Image, level: Values) -> Float[Array, "..."]:
        return self.at_strength(key, image, jnp.asarray(level)[0])

    def at_strength(
        self, key: jax.Array, image: Image, strength: Strength
    ) -> Float[Array, "..."]:
        return levels.at_strength(self.operation, key, image, strength)


def _words(operation: Operation) -> str:
    """The name of a distortion, or how an operation is written."""
    return operation.name if isinstance(operation, Leveled) else str(operation)
