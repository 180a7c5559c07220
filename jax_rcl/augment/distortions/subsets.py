"""Exactly so many of a number of things, where how many is data."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Int, UInt32


def smallest(values: UInt32[Array, " n"], count: Int[Array, ""]) -> Bool[Array, " n"]:
    """Marks the `count` smallest of n values; of equal values the first ones.

    Nothing is sorted: the value that separates them is found bit by bit, 32 times
    counting what lies below it, and so is the place that separates values equal to it.
    On a CPU this takes less time than drawing the values.
    """
    bound = _bound(values, jnp.ones(values.shape, bool), count)
    below, equal = values < bound, values == bound
    place = jnp.arange(values.size, dtype=jnp.uint32)
    return below | (equal & (place < _bound(place, equal, count - below.sum())))


def _bound(
    values: UInt32[Array, " n"], among: Bool[Array, " n"], count: Int[Array, ""]
) -> UInt32[Array, ""]:
    """The largest number that at most `count` of the values `among` are below."""

    def settle(bit: Int[Array, ""], bound: UInt32[Array, ""]) -> UInt32[Array, ""]:
        higher = bound | (jnp.uint32(2**31) >> bit.astype(jnp.uint32))
        fits = (among & (values < higher)).sum() <= count
        return jnp.where(fits, higher, bound)

    # Made of both, so that it varies over devices if one of them does.
    start = jnp.zeros_like(values[0]) + jnp.zeros_like(count, jnp.uint32)
    return lax.fori_loop(0, 32, settle, start)


def in_two(number: float) -> Float32[np.ndarray, " 2"]:
    """A number as two of float32 that add up to it, to 48 bits: itself and the rest."""
    nearest = np.float32(number)
    return np.array([nearest, number - float(nearest)], np.float32)


def share_of(count: int, rate: Float[Array, " p"]) -> Int[Array, ""]:
    """The whole part of count · rate, although the rate is data.

    Exact for a rate `in_two`, but that a product less than a millionth below a whole
    number counts as that number (above 2¹⁶ things, less than count² / 2⁵⁰). So it is 29
    of 100 for 0.29, of which float64 makes 28.999999999999996. A rate of one float32
    may be wrong by one part in 2²⁴ itself, and is allowed a little more: 0.9 is
    0.89999998, and 90 of 100.

    The count is below 2²⁴, the rate in [0, 1).
    """
    if count >= 2**24:
        raise ValueError(
            f"masks count up to {2**24 - 1} pixels; the image has {count}. Resize it."
        )
    # Whole steps are multiplied as integers of 32 bits, which is exact, and what is
    # left, less than a pixel of most images, in float32.
    grid = 2 ** min(16, 32 - count.bit_length())
    steps = jnp.floor(rate[0] * grid)
    parts = steps.astype(jnp.uint32) * np.uint32(count)
    rest = count * (rate[0] - steps / grid) + count * rate[1:].sum()
    allowance = 1e-6 * max(1.0, count / grid) if len(rate) == 2 else count * 7e-8
    rest = rest + (parts % grid).astype(jnp.float32) / grid + allowance
    return (parts // grid).astype(jnp.int32) + jnp.floor(rest).astype(jnp.int32)
