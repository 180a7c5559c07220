"""Decoupled uniformity: centroids of views that repel, smoothed by a kernel."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jax_rcl.losses.pairwise import (
    LogSum,
    Scalar,
    fold_columns,
    squared_distances,
    unit,
    widen,
)
from jax_rcl.ranges import Above, check

Ridge = Annotated[float, Above(0, "such as 0.01, or None for 1/√n")]


def centroids(embeddings: Float[Array, "b v d"]) -> Float[Array, "b d"]:
    """Mean of the unit vectors of the views of each example; length in [0, 1].

    The length is 1 only where all views agree. In float32 or wider.
    """
    return jnp.mean(unit(embeddings), axis=1)


def alignment(centroids: Float[Array, "b d"]) -> Float[Array, " b"]:
    """-‖c‖² of each centroid, in [-1, 0]: -1 where all views of an example agree.

    For two views 1 - ‖c‖² is a quarter of the squared distance between their unit
    vectors. For smoothed centroids that does not hold, and it may be below -1.
    """
    return -jnp.sum(widen(centroids) ** 2, axis=1)


def kernel_centroids(
    kernel: Float[Array, "n n"],
    centroids: Float[Array, "n d"],
    *,
    ridge: Scalar | None = None,
) -> Float[Array, "n d"]:
    """Smooths centroids over examples with similar priors: (K + λI)⁻¹ K c.

    The estimate of the conditional mean embedding in Dufumier et al. 2023
    (https://arxiv.org/abs/2206.01646): a kernel ridge regression of the centroids on
    the priors, evaluated where it was fitted. Centroids do not get longer on average,
    because the eigenvalues of (K + λI)⁻¹ K lie in [0, 1). The smaller λ, the more a
    centroid keeps of itself; None takes 1/√n.

    Solved as c - λ (K + λI)⁻¹ c by one Cholesky factorisation, n³/3 + 2n²d operations
    on every device, which reads the lower triangle of K. The kernel is a constant: no
    gradient reaches it.

    Where priors are much alike, λ = 0.01 and n = 4096, float32 costs up to 4% of the
    length of a centroid, 2e-5 of the loss and 0.2% of its gradient, where an inverse
    would cost three lengths (`python -m benchmarks.uniformity --numerics`). With a λ
    below `least_ridge`, rounding may leave K + λI not positive definite, and the result
    is NaN.
    """
    n = len(centroids)
    ridge = 1 / math.sqrt(n) if ridge is None else ridge
    check(ridge, Ridge, "ridge")
    centroids = widen(centroids)
    kernel = jax.lax.stop_gradient(widen(kernel)).astype(centroids.dtype)
    regular = kernel + ridge * jnp.eye(n, dtype=kernel.dtype)
    factor = jax.scipy.linalg.cho_factor(regular, lower=True)
    solved = jax.scipy.linalg.cho_solve(factor, centroids)
    return centroids - ridge * solved


def least_ridge(n: int, largest_entry: float) -> float:
    """The least λ for which float32 solves K + λI of any kernel: 1e-6 n max |K|.

    The largest λ that was seen to fail is 3e-7 n max |K|, of kernels of rank 1 to 3
    with n from 64 to 4096 and the routines for three families of processors.
    """
    return 1e-6 * n * largest_entry


def log_potentials(
    rows: Float[Array, "b d"],
    columns: Float[Array, "n d"],
    *,
    row_ids: Int[Array, " b"],
    column_ids: Int[Array, " n"],
    scale: Scalar = 2.0,
    block: int | None = None,
) -> Float[Array, " b"]:
    """Logarithm of the mean Gaussian potential between a centroid and the others.

        log 1/(n-1) Σ_{j ≠ i} exp(-scale ‖c_i - c_j‖²)

    The rows are the centroids of this device's examples, the columns those of all. A
    column of the id of a row is the row itself, and an id occurs once among them. The
    release has a scale of 2. `block` columns at a time need memory O(b·block).
    """
    n = len(columns)
    if n < 2:
        raise ValueError(f"uniformity compares centroids; got {n}, it takes two.")
    check(scale, Annotated[float, Above(0, "such as 2.0")], "scale")

    def fold(total: LogSum, part: tuple[Array, Array], present: Array) -> LogSum:
        others: Bool[Array, "b m"] = present[None, :] & (
            row_ids[:, None] != part[1][None, :]
        )
        return total.add(-scale * squared_distances(rows, part[0]), others)

    nothing = LogSum.empty(rows)
    total = fold_columns(fold, nothing, (columns, column_ids), block=block)
    return total.log() - math.log(n - 1)


def decoupled_uniformity(log_potentials: Float[Array, " n"]) -> Float[Array, ""]:
    """Log mean Gaussian potential between centroids; low when they spread.

        log 1/(n(n-1)) Σ_{i ≠ j} exp(-scale ‖c_i - c_j‖²)

    Dufumier et al. 2023 (https://arxiv.org/abs/2206.01646), the loss; with kernel
    centroids its version with a prior. There is no alignment term: a centroid is the
    mean of unit vectors, so its length already rewards agreement of the views.

    It lies between -2·scale·n/(n-1) and 0, which it reaches when all centroids
    coincide; it is -2·scale when they are orthogonal unit vectors.
    """
    return jax.nn.logsumexp(log_potentials) - math.log(len(log_potentials))
