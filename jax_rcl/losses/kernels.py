"""Kernels on prior knowledge: how similar what is known of two examples is."""

import dataclasses
from typing import Annotated, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jax_rcl.losses.pairwise import similarities, squared_distances, unit, widen
from jax_rcl.ranges import Above, ranged


@runtime_checkable
class Kernel(Protocol):
    """A symmetric, positive semi-definite function of two priors, for all pairs."""

    def __call__(self, priors: Float[Array, "n p"]) -> Float[Array, "n n"]:
        """The matrix of k(p_i, p_j), in float32 or wider."""
        ...


@dataclasses.dataclass(frozen=True)
@ranged
class Rbf:
    """Gaussian kernel, exp(-‖p_i - p_j‖² / (2 σ²)): 1 for equal priors, above 0.

    Attributes:
      sigma: σ.
      unit: of σ: "one", that of the priors; or "median", the median distance between
        those priors of the batch that differ (σ = 1 is the median heuristic, Garreau et
        al. 2017, https://arxiv.org/abs/1707.07269: half of these pairs are above
        exp(-1/2)).
    """

    sigma: Annotated[float, Above(0, 'in doubt Rbf(1.0, unit="median")')]
    unit: Literal["one", "median"] = "one"

    def __call__(self, priors: Float[Array, "n p"]) -> Float[Array, "n n"]:
        # Distances do not change with the origin, but their rounding error does.
        priors = widen(priors)
        priors = priors - jnp.mean(priors, axis=0, keepdims=True)
        squares = squared_distances(priors, priors)
        squares = jnp.where(jnp.eye(len(priors), dtype=bool), 0, squares)
        variance = jnp.asarray(self.sigma**2, squares.dtype)
        if self.unit == "median":
            # Rounding leaves equal priors a distance, below 1e-6 of these lengths.
            lengths = jnp.sum(priors**2, axis=1)
            differ = squares > 1e-5 * (lengths[:, None] + lengths[None, :])
            variance = variance * lower_median(squares, differ)
        return jnp.exp(-squares / (2 * variance))


@dataclasses.dataclass(frozen=True)
class Cosine:
    """Cosine kernel, p_i · p_j / (‖p_i‖ ‖p_j‖), in [-1, 1]; 0 for a prior of zeros."""

    def __call__(self, priors: Float[Array, "n p"]) -> Float[Array, "n n"]:
        # Divided by the largest number first, so that `unit` does not shrink a prior
        # that is small but not zero.
        priors = widen(priors)
        largest = jnp.max(jnp.abs(priors), axis=1, keepdims=True)
        directions = unit(priors / jnp.where(largest > 0, largest, 1))
        return similarities(directions, directions)


def lower_median(
    values: Float[Array, "n m"], present: Bool[Array, "n m"]
) -> Float[Array, ""]:
    """Median of those `values`, at least 0, that are `present`; 1 if none is.

    Of an even number, the lower of the two in the middle.
    """
    # Halves the interval that contains it until no number lies between its ends: some
    # 30 passes over the values, ten times faster than sorting them on a CPU.
    count = jnp.sum(present)

    def halve(bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = low + (high - low) / 2
        enough = 2 * jnp.sum(present & (values <= middle)) >= count
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    def apart(bounds: tuple[jax.Array, jax.Array]) -> jax.Array:
        low, high = bounds
        middle = low + (high - low) / 2
        return (low < middle) & (middle < high)

    high = jnp.max(values, initial=0, where=present)
    median = jax.lax.while_loop(apart, halve, (jnp.zeros_like(high), high))[1]
    return jnp.where(count > 0, median, 1)
