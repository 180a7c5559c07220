"""How strong a distortion is: levels as data, and strength that rises over training.

A level is what a distortion is swept over: the share of masked pixels, the deviation of
noise. One compiled program serves all levels, so whether a level makes sense is asked
before, by `checked`.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from jax_rcl.core import Operation

Level = float | int | tuple[float | int, ...]
"""A level as a person writes it: one number, or one for each parameter."""

Values = Float[Array, " p"] | Float[np.ndarray, " p"]
"""A level as data, the way that `checked` gives it."""

Strength = Float[Array, ""] | float
"""What levels are multiplied by: 0 leaves the image, 1 is the full distortion."""


@runtime_checkable
class Scaled(Protocol):
    """An operation that can be made weaker; `at_strength` calls it where it can."""

    def at_strength(
        self, key: jax.Array, image: jax.Array, strength: Strength
    ) -> jax.Array:
        """The image as `__call__` makes it, with its levels times `strength`."""
        ...


@runtime_checkable
class Leveled(Protocol):
    """A distortion that draws its level, or takes it as data.

    Called as any operation, (key, image), it draws a level for each image.
    """

    @property
    def name(self) -> str:
        """What it is in words, for tables and plots."""
        ...

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array: ...

    def level(self, key: jax.Array) -> jax.Array:
        """Draws a level [p], one number for each parameter."""
        ...

    def at(self, key: jax.Array, image: jax.Array, level: Values) -> jax.Array:
        """The image distorted at a level [p], as `checked` gives it."""
        ...

    def at_strength(
        self, key: jax.Array, image: jax.Array, strength: Strength
    ) -> jax.Array:
        """The image distorted at a drawn level times `strength`."""
        ...

    def checked(self, level: Level, size: tuple[int, ...] | None = None) -> np.ndarray:
        """The level as `at` takes it; raises ValueError for one that is out of range.

        It need not lie between the bounds that levels are drawn from. With the height
        and width of the images, what is too large for them is refused, too.
        """
        ...


def at_strength(
    operation: Operation, key: jax.Array, image: jax.Array, strength: Strength | None
) -> jax.Array:
    """An operation with its levels times a strength; None and what has no level: as is.

    Args:
      operation: a distortion, or operations that hold some: the others, such as a
        `ColorJitter`, act as ever, and so do the probabilities of choices.
      key: draws the same as in `operation(key, image)`.
      image: [h, w, c].
      strength: in [0, 1]; data, so that it may change without a new compilation.
    """
    if strength is None or not isinstance(operation, Scaled):
        return operation(key, image)
    return operation.at_strength(key, image, strength)


@dataclasses.dataclass(frozen=True)
class Curriculum:
    """Strength that grows with the epochs towards 1.

    start + (1 - start) (1 - exp(-e / time)) in epoch e = 0, 1, ...: with the defaults
    0.1, 0.263142, 0.668909, 0.878198 and 0.992593 in epochs 0, 1, 5, 10 and 24, as the
    students of Ravula et al. 2021 (https://arxiv.org/abs/2110.07439) may be trained.

    Attributes:
      epochs: of the whole run, in which `Clock.progress` goes from 0 to 1: as many as
        `Experiment.epochs`, also where that is overridden.
      start: strength in the first epoch, in [0, 1].
      time: epochs in which the distance to 1 falls to 1/e of what it was, above 0.

    Raises:
      ValueError: if a field is out of bounds.
    """

    epochs: int
    start: float = 0.1
    time: float = 5.0

    def __post_init__(self) -> None:
        """Checks the fields."""
        if self.epochs < 1:
            raise ValueError(f"Curriculum.epochs {self.epochs} must be at least 1.")
        if not 0 <= self.start <= 1:
            raise ValueError(
                f"Curriculum.start {self.start} must lie in [0, 1], the share of the "
                f"full strength to begin with."
            )
        if not self.time > 0:
            raise ValueError(
                f"Curriculum.time {self.time} must be above 0, a number of epochs."
            )

    def __call__(self, progress: Strength) -> Float[Array, ""]:
        """The strength where this share of the run is done, `Clock.progress`."""
        # The share is rounded: a little more, lest an epoch begin one step late.
        share = jnp.asarray(progress, jnp.float32) * (1.0 + 2.0**-22)
        epoch = jnp.floor(share * self.epochs)
        return self.start - (1.0 - self.start) * jnp.expm1(-epoch / self.time)


def one_number(
    name: str, level: Level, meaning: str, holds: Callable[[float], bool]
) -> float:
    """The number that a level is; `holds` is true of it, also rounded to float32.

    Raises:
      ValueError: naming the distortion, the level and its meaning.
    """
    values = level if isinstance(level, tuple) else (level,)
    with np.errstate(over="ignore"):
        both = (*values, *(float(np.float32(value)) for value in values))
    if len(values) != 1 or not all(math.isfinite(x) and holds(x) for x in both):
        raise ValueError(f"the level {level} of {name} must be {meaning}.")
    return float(values[0])


def taken(distortion: Leveled, level: Values, image: jax.Array) -> Float[Array, " p"]:
    """A level as an array; checked if its values are known, not if it is traced.

    Raises:
      ValueError: what `distortion.checked` finds wrong with it on this image.
    """
    if not isinstance(level, Tracer):
        values = tuple(float(x) for x in np.asarray(level))
        distortion.checked(values, image.shape[:2])
    return jnp.asarray(level)
