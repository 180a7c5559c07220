"""Decoupled uniformity: centroids of views that repel, smoothed by a kernel."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jax_rcl.losses.pairwise import (
    LogSum,
    fold_columns,
    squared_distances,
    unit,
    widened,
)


def centroids(embeddings: Float[Array, "b v d"]) -> Float[Array, "b d"]:
    """Mean of the unit vectors of the views of each example; length in [0, 1].

    Of length 1 only where all views agree. In float32 or wider.
    """
    return jnp.mean(unit(embeddings), axis=1)


def alignment(centroids: Float[Array, "b d"]) -> Float[Array, " b"]:
    """-‖c‖² of each centroid, in [-1, 0]: -1 where all views of an example agree.

    For two views 1 - ‖c‖² is a quarter of the squared distance between their unit
    vectors. Of smoothed centroids it says less and may be below -1.
    """
    return -jnp.sum(widened(centroids) ** 2, axis=1)


def kernel_centroids(
    kernel: Float[Array, "n n"],
    centroids: Float[Array, "n d"],
    *,
    ridge: float | None = None,
) -> Float[Array, "n d"]:
    """Centroids that share with those of similar priors: (K + λI)⁻¹ K c.

    The estimate of the conditional mean embedding in Dufumier et al. 2023
    (https://arxiv.org/abs/2206.01646): a kernel ridge regression of the centroids on
    the priors, evaluated where it was fitted. No centroid gets longer in the mean: the
    eigenvalues of (K + λI)⁻¹ K lie in [0, 1).

    Solved as c - λ (K + λI)⁻¹ c by one Cholesky factorisation, n³/3 + 2n²d operations
    on every device. The kernel is a constant: no gradient reaches it.

    In float32 with λ = 0.01 and n = 4096 the condition number of K + λI reaches 4e5
    where all priors are much alike. Smoothed centroids then differ from those of
    float64 by up to 4% of their length, the loss by 2e-5 and its gradient by 0.2%; with
    an inverse of K + λI they would differ by up to three times their length
    (`python -m benchmarks.uniformity --numerics`). With a λ below about n·5e-7
    rounding may leave K + λI not positive definite, first where K has a low rank.

    Args:
      kernel: K, symmetric and positive semi-definite; its lower triangle is read.
      centroids: c, of all examples.
      ridge: λ, above 0, the smaller the more a centroid keeps of itself; None takes
        1/√n.

    Returns:
      The smoothed centroids, not of unit length; nan if K + λI is not positive
      definite.

    Raises:
      ValueError: for a λ that is not above 0 and finite.
    """
    n = len(centroids)
    ridge = 1 / math.sqrt(n) if ridge is None else ridge
    if not 0 < ridge < math.inf:
        raise ValueError(
            f"ridge {ridge} must be above 0 and finite, or None for 1/√n. Try 0.01."
        )
    centroids = widened(centroids)
    kernel = jax.lax.stop_gradient(widened(kernel)).astype(centroids.dtype)
    regular = kernel + ridge * jnp.eye(n, dtype=kernel.dtype)
    factor = jax.scipy.linalg.cho_factor(regular, lower=True)
    solved = jax.scipy.linalg.cho_solve(factor, centroids)
    return centroids - ridge * solved


def log_potentials(
    rows: Float[Array, "b d"],
    columns: Float[Array, "n d"],
    *,
    row_ids: Int[Array, " b"],
    column_ids: Int[Array, " n"],
    scale: float = 2.0,
    block: int | None = None,
) -> Float[Array, " b"]:
    """Logarithm of the mean Gaussian potential between a centroid and the others.

        log 1/(n-1) Σ_{j ≠ i} exp(-scale ‖c_i - c_j‖²)

    Args:
      rows: centroids of this device's examples.
      columns: centroids of all examples, the rows among them.
      row_ids: who a row is. A column of the same id is the row itself.
      column_ids: who a column is; an id occurs once.
      scale: t, above 0, inverse squared width of the potential; 2 in the release.
      block: columns per block, for memory O(b·block); None for all at once.

    Returns:
      A number of each row, at most 0, in float32 or wider.

    Raises:
      ValueError: with fewer than two centroids, a scale that is not above 0 and finite,
        or a block of less than one column.
    """
    n = len(columns)
    if n < 2:
        raise ValueError(f"uniformity compares centroids; got {n}, it takes two.")
    if not 0 < scale < math.inf:
        raise ValueError(f"scale {scale} must be above 0 and finite. Try 2.0.")

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

    Args:
      log_potentials: of all examples (the function of that name).

    Returns:
      A scalar between -2·scale·n/(n-1) and 0, which it reaches when all centroids
      coincide; -2·scale when they are orthogonal unit vectors.
    """
    return jax.nn.logsumexp(log_potentials) - math.log(len(log_potentials))
