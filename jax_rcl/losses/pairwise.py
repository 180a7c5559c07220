"""Rows against columns: similarities, distances and sums over them, whole or in blocks.

A pairwise loss compares *rows* [b, d], what this device embedded, with *columns*
[n, d], what all devices embedded; on one device they are the same array. Vectors of ids
and labels, one entry per row and per column, say who is who, never positions.

Whatever is summed over columns goes through `fold_columns`, all at once or block by
block. Similarities, distances and sums are computed in float32 or wider.
"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jax_rcl import ranges

Tree = Any
Carry = TypeVar("Carry")

Scalar = float | Float[Array, ""]
"""A number, or one that is traced or learned, whose range is then not checked."""

Temperature = Annotated[float, ranges.Above(0, "for example 0.1")]
"""What similarities are divided by."""


def widen(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Converts `x` to float32 unless it is wider."""
    return x if jnp.finfo(x.dtype).bits >= 32 else x.astype(jnp.float32)


def unit(
    x: Float[Array, "*shape d"], epsilon: float = 1e-6
) -> Float[Array, "*shape d"]:
    """Vectors of length one, x / max(‖x‖, epsilon) over the last axis.

    The zero vector stays zero, and the gradient, at most 1 / epsilon, is finite.
    """
    return widen(x) * inverse_length(x, epsilon)


def inverse_length(
    x: Float[Array, "*shape d"], epsilon: float = 1e-6
) -> Float[Array, "*shape 1"]:
    """The factor 1 / max(‖x‖, epsilon) by which `unit` scales a vector."""
    x = widen(x)
    square = jnp.sum(x * x, axis=-1, keepdims=True)
    return lax.rsqrt(jnp.maximum(square, epsilon**2))


def similarities(
    rows: Float[Array, "b d"], columns: Float[Array, "n d"]
) -> Float[Array, "b n"]:
    """Inner products of every row with every column: cosines for unit vectors."""
    # Accelerators round the factors of a float32 product to 8 or 11 bits unless asked
    # not to; divided by a temperature, that error would reach the first digits.
    return jnp.matmul(widen(rows), widen(columns).T, precision="highest")


def squared_distances(
    rows: Float[Array, "b d"], columns: Float[Array, "n d"]
) -> Float[Array, "b n"]:
    """‖row - column‖² of every row and every column, at least 0.

    Memory is b·n, not b·n·d; the rounding error is that of the squared lengths, also
    where the distance is much smaller.
    """
    rows, columns = widen(rows), widen(columns)
    lengths = jnp.sum(rows**2, axis=1)[:, None] + jnp.sum(columns**2, axis=1)[None, :]
    return jnp.maximum(lengths - 2 * similarities(rows, columns), 0)


def view_ids(example_ids: Int[Array, " b"], views: int) -> Int[Array, " r"]:
    """Ids of the views of examples: view w of example i gets i·views + w.

    They are in the order of `embeddings.reshape(-1, d)`, for embeddings [b, views, d].
    """
    return (example_ids[:, None] * views + jnp.arange(views)[None, :]).reshape(-1)


class LogSum(NamedTuple):
    """A running log Σ exp for each row, which neither overflows nor loses small terms.

    Attributes:
      shift: the largest logit so far; the lowest finite number while there is none.
      total: Σ exp(logit - shift) over the logits so far.
    """

    shift: Float[Array, " b"]
    total: Float[Array, " b"]

    @classmethod
    def empty(cls, rows: Float[Array, "b _"]) -> "LogSum":
        """The empty sum for each row; it varies over devices as the rows do."""
        zero = jnp.zeros_like(widen(rows[:, 0]))
        return cls(zero + jnp.finfo(zero.dtype).min, zero)

    def add(self, logits: Float[Array, "b m"], present: Bool[Array, "b m"]) -> "LogSum":
        """The sum with the exponentials of those `logits` that are `present`."""
        lowest = jnp.finfo(logits.dtype).min
        # The shift cancels in the result, so it needs no gradient.
        largest = lax.stop_gradient(jnp.max(logits, 1, initial=lowest, where=present))
        shift = jnp.maximum(self.shift, largest)
        # The `where` keeps exp and its gradient finite where nothing is added.
        terms = jnp.exp(jnp.where(present, logits - shift[:, None], 0))
        added = jnp.sum(terms, axis=1, where=present)
        return LogSum(shift, self.total * jnp.exp(self.shift - shift) + added)

    def log(self) -> Float[Array, " b"]:
        """The log Σ exp of each row; -inf, with gradient 0, where nothing was added."""
        some = self.total > 0
        value = self.shift + jnp.log(jnp.where(some, self.total, 1))
        return jnp.where(some, value, -jnp.inf)


def fold_columns(
    fold: Callable[[Carry, Any, Bool[Array, " m"]], Carry],
    initial: Carry,
    columns: Tree,
    *,
    block: int | None,
) -> Carry:
    """Folds over the columns, all at once or a block at a time.

    A block is computed again in the backward pass, so that the [b, block] matrices of
    no more than one live at a time: memory O(b·block) instead of O(b·n), for one more
    forward computation. Value and gradient are the same to rounding.

    Args:
      fold: `(carry, part, present) -> carry`, where `part` is like `columns` with m
        entries and `present` [m] is False for the padding of the last block.
      initial: the carry before the first column. Inside a `shard_map` it must vary over
        devices as the result does: make it from the rows (`LogSum.empty(rows)`,
        `jnp.zeros_like(rows[:, 0])`), not from constants.
      columns: arrays that share their first axis, n: embeddings, ids, labels.
      block: columns per block, of any size; None takes all columns at once.
    """
    if block is not None:
        least = ranges.AtLeast(1, "or None for all columns at once")
        ranges.check(block, Annotated[int, least], "block")
    n = len(jax.tree.leaves(columns)[0])
    if block is None or block >= n:
        return fold(initial, columns, jnp.ones(n, bool))
    count = -(-n // block)

    def blocks(x: jax.Array) -> jax.Array:
        padding = [(0, count * block - n)] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x, padding).reshape(count, block, *x.shape[1:])

    # A scan needs no barrier against common subexpressions: its body is compiled once.
    again = jax.checkpoint(fold, prevent_cse=False)
    parts = jax.tree.map(blocks, (columns, jnp.ones(n, bool)))
    return lax.scan(lambda carry, part: (again(carry, *part), None), initial, parts)[0]
