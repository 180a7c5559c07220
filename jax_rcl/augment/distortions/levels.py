"""How strong a distortion is: levels as data, and strength that rises over training.

A level is what a distortion is swept over: the share of masked pixels, the deviation of
noise. One compiled program serves all levels.
"""

import dataclasses
from typing import Annotated, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Float32

from jax_rcl.augment.resample import Image, Number
from jax_rcl.core import Operation
from jax_rcl.ranges import Above, Count, Share, Within, ranged

Level = float | int | tuple[float | int, ...]
"""A level as a person writes it: one number, or one for each parameter."""

Values = Float[Array, " p"] | Float[np.ndarray, " p"]
"""A level as data, as `checked` returns it."""

Strength = Number
"""What levels are multiplied by: 0 leaves the image, 1 is the full distortion."""


@runtime_checkable
class Scaled(Protocol):
    """An operation that can be made weaker."""

    def at_strength(
        self, key: jax.Array, image: jax.Array, strength: Strength
    ) -> jax.Array:
        """The image as `__call__` makes it, with its levels times `strength`."""
        ...


@runtime_checkable
class Leveled(Scaled, Protocol):
    """A distortion that draws its level for each image, or takes it as data."""

    @property
    def name(self) -> str:
        """What it is in words, for tables and plots."""
        ...

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array: ...

    def level(self, key: jax.Array) -> jax.Array:
        """Draws a level [p], one number for each parameter."""
        ...

    def at(self, key: jax.Array, image: jax.Array, level: Values) -> jax.Array:
        """The image distorted at a level [p]."""
        ...

    def checked(self, level: Level, size: tuple[int, ...] | None = None) -> np.ndarray:
        """The level as `at` takes it; ValueError if it makes no sense.

        It need not lie between the bounds that levels are drawn from. With the height
        and width of the images, it must not be too large for them.
        """
        ...


class Distortion(Leveled):
    """What distortions with a level have in common; they add `level` and `at`.

    Where a level is several numbers, they also add a `checked` of their own.

    Attributes:
      measure: what its level is, in words.
      bounds: of any level, whatever the bounds that levels are drawn from.
    """

    name: str
    measure: str
    bounds: Within

    def __call__(self, key: jax.Array, image: Image) -> Float[Array, "..."]:
        return self.at_strength(key, image, 1.0)

    def at_strength(self, key: jax.Array, image: Image, strength: Strength) -> Image:
        level_key, draw_key = jax.random.split(key)
        return self.at(draw_key, image, strength * self.level(level_key))

    def checked(
        self, level: Level, size: tuple[int, ...] | None = None
    ) -> Float32[np.ndarray, " p"]:
        return np.array([self.number(level)], np.float32)

    def number(self, level: Level) -> float:
        """The one number that a level is, in range also when rounded to float32."""
        values = [float(x) for x in (level if isinstance(level, tuple) else (level,))]
        with np.errstate(over="ignore"):
            rounded = [float(np.float32(value)) for value in values]
        if len(values) != 1 or not all(map(self.holds, values + rounded)):
            raise ValueError(
                f"the level {level} of {self.name} must be {self.measure}, "
                f"{self.bounds}."
            )
        return values[0]

    def holds(self, number: float) -> bool:
        """Whether a number may be a level."""
        return self.bounds.holds(number)


def as_level(distortion: Leveled, level: Values, image: Image) -> Float[Array, " p"]:
    """A level as an array; checked if its values are known, not if it is traced."""
    if not isinstance(level, Tracer):
        values = tuple(float(x) for x in np.asarray(level))
        distortion.checked(values, image.shape[:2])
    return jnp.asarray(level)


def at_strength(
    operation: Operation, key: jax.Array, image: jax.Array, strength: Strength | None
) -> jax.Array:
    """The image after an operation, the levels of distortions in it times `strength`.

    What has no level, such as a `ColorJitter`, is not changed, nor are the
    probabilities of choices. The key draws the same as in `operation(key, image)`,
    which is also what None gives. The strength, in [0, 1], is data.
    """
    if strength is None or not isinstance(operation, Scaled):
        return operation(key, image)
    return operation.at_strength(key, image, strength)


@dataclasses.dataclass(frozen=True)
@ranged
class Curriculum:
    """Strength that grows with the epochs towards 1.

    start + (1 - start) (1 - exp(-e / time)) in epoch e = 0, 1, ...: with the defaults
    0.1, 0.263142, 0.668909, 0.878198 and 0.992593 in epochs 0, 1, 5, 10 and 24, as the
    students of Ravula et al. 2021 (https://arxiv.org/abs/2110.07439) may be trained.

    Attributes:
      epochs: as many as `Experiment.epochs`, also where that is overridden.
      start: strength in the first epoch.
      time: epochs in which the distance to 1 falls to 1/e of what it was.
    """

    epochs: Count
    start: Share = 0.1
    time: Annotated[float, Above(0, "a number of epochs")] = 5.0

    def __call__(self, progress: Strength) -> Float[Array, ""]:
        # The share is rounded; a little more keeps an epoch from starting a step late.
        share = jnp.asarray(progress, jnp.float32) * (1.0 + 2.0**-22)
        epoch = jnp.floor(share * self.epochs)
        return self.start - (1.0 - self.start) * jnp.expm1(-epoch / self.time)
