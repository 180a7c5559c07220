"""Exchanges embeddings within classes, and measures what that changes."""

import functools
from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, Int64, Integer

from jax_rcl.augment import compose
from jax_rcl.core import Operation, Source
from jax_rcl.evaluate.reconstructions import batches_of


@runtime_checkable
class Term(Protocol):
    """A part of an objective, as a function of two views of every image."""

    def __call__(
        self,
        first: Float[Array, "n d"],
        second: Float[Array, "n d"],
        labels: Int32[Array, " n"],
    ) -> Float[Array, "..."]:
        """The loss of each row or their mean; row i of both is a view of image i."""
        ...


Terms = Mapping[str, Term] | tuple[Term, ...]
"""Terms by name, or each with a field `name`, as the contrasts of an objective."""


def by_name(terms: Terms) -> dict[str, Term]:
    """The terms by name."""
    if isinstance(terms, Mapping):
        return dict(terms)
    return {str(getattr(term, "name", n)): term for n, term in enumerate(terms)}


def permute_within_classes(
    labels: Integer[np.ndarray, " n"], *, seed: int
) -> Int64[np.ndarray, " n"]:
    """A permutation that keeps classes: one random cycle through each.

    Row i goes to another of its class, except the only one of a class.
    """
    random = np.random.default_rng(seed)
    permutation = np.arange(len(labels))
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        permutation[rows] = np.roll(rows, 1)
    return permutation


def term_gap(
    term: Term,
    first: Float[np.ndarray, "n d"],
    second: Float[np.ndarray, "n d"],
    labels: Integer[np.ndarray, " n"],
    moved: Int64[np.ndarray, " n"],
) -> float:
    """Mean of a term with pairs of embeddings permuted, less that without."""
    apply = jax.jit(term)

    def loss(rows: np.ndarray) -> float:
        views = (jnp.asarray(x[rows], jnp.float32) for x in (first, second))
        value = apply(*views, jnp.asarray(labels, jnp.int32))
        return float(np.asarray(value, np.float64).mean())

    return loss(moved) - loss(np.arange(len(labels)))


def two_views(
    source: Source,
    rows: Int64[np.ndarray, " n"],
    operation: Operation,
    batch_size: int,
    *,
    seed: int,
) -> Iterator[tuple[Float[Array, "b v h w c"], int]]:
    """Two views of each image, random by seed and place in the source; how many count.

    The last batch is filled up.
    """
    key = jax.random.key(seed)
    for images, filled, count in batches_of(source, rows, batch_size):
        yield _views(operation, key, filled.astype(np.int32), images), count


@functools.partial(jax.jit, static_argnums=0)
def _views(
    operation: Operation,
    key: jax.Array,
    rows: Int32[Array, " b"],
    images: Integer[Array, "b h w c"],
) -> Float[Array, "b v ..."]:
    """Two views of each image, random by its place in the source."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, rows)
    both = compose.Views(operation, count=2).of_one
    return jax.vmap(both)(keys, compose.unit_range(images))
