"""Decoupled uniformity: no positives, no negatives, centroids that repel each other.

Dufumier et al. 2023 (https://arxiv.org/abs/2206.01646). Given prior knowledge about the
examples, a kernel on it smooths the centroids, so that examples with similar priors
stay together.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jax_rcl import parallel
from jax_rcl.core import Batch, Clock, Network, Outcome, Variables
from jax_rcl.losses import uniformity
from jax_rcl.losses.kernels import Kernel
from jax_rcl.objectives import applying
from jax_rcl.ranges import AtLeast, Count, Positive, ranged


@dataclasses.dataclass(frozen=True)
@ranged
class Uniformity:
    """Decoupled uniformity of centroids of two or more views, with or without a prior.

    The formulas are in `losses.uniformity`. With a kernel, the batch brings a vector of
    prior knowledge with each example, as `data.prior.WithPrior` adds it; labels are
    never read.

    Attributes:
      fc: a layer between encoder and projector that is kept at evaluation, as the 2048
        features of the released code are.
      kernel: how alike two priors are, positive semi-definite; None without prior.
      ridge: λ of the kernel ridge regression; None for 1/√n, with the number n of
        centroids that are compared. 0.01 in the released code.
      scale: t, inverse squared width of the potential.
      scope: what is compared: the "global" batch; or the share of a "device", as in the
        released code, where the result depends on the number of devices.
      group: with scope="device", compares so many consecutive examples instead of a
        share, which they must divide, on any number of devices; None for the share.
      block: as for `SupCon`; a kernel needs a matrix [n, n] on every device anyway.
    """

    encoder: Network
    projector: Network
    fc: Network | None = None
    kernel: Kernel | None = None
    ridge: Positive | None = 0.01
    scale: Positive = 2.0
    # Deviation: the released code compares within each device and never gathers. Its
    # loss on four GPUs is scope="device" with group=batch // 4.
    scope: Literal["global", "device"] = "global"
    group: Annotated[int, AtLeast(2, "or None for all")] | None = None
    block: Count | None = None

    def __post_init__(self) -> None:
        if self.group is not None and self.scope == "global":
            raise ValueError(
                f"Uniformity.group {self.group} is of centroids on one device: it goes "
                'with scope="device"; None for all.'
            )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"views"} if self.kernel is None else {"views", "prior"})

    def check(self, records: Mapping[str, np.ndarray]) -> None:
        """Raises ValueError if the kernel of some priors is not what `loss` needs.

        It must be a finite symmetric matrix, positive semi-definite up to rounding, and
        not too near to singular for `ridge` in float32.
        """
        if self.kernel is not None:
            check_kernel(self.kernel, self.ridge, jnp.asarray(records["prior"]))

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        return applying.fresh_chain(networks(self), key, batch["views"][:, 0])[0]

    def loss(self, variables: Variables, batch: Batch, clock: Clock) -> Outcome:
        """The loss of the global batch, or of each group; metrics per example.

        Metrics besides those of all contrastive methods: `centroid_alignment`, -‖c‖² of
        the centroids that are compared, which a kernel has smoothed.
        """
        views = batch["views"]
        if views.shape[1] < 2:
            raise ValueError(
                "Uniformity averages the views of an image, but there is one; let the "
                "augmentation make two or more: Views(..., count=2)."
            )
        n = len(views) if self.scope == "device" else parallel.global_count(len(views))
        applying.check_comparable(f"Uniformity.scope {self.scope!r}", n)
        z, memory = applying.embed_views(networks(self), variables, views, clock.key)
        centroids = uniformity.centroids(z)
        prior = None if self.kernel is None else checked_prior(batch["prior"])
        if self.scope == "global":
            value, compared = self._of_all(centroids, prior)
        else:
            value, compared = self._of_groups(centroids, prior)
        alignment = uniformity.alignment(jax.lax.stop_gradient(compared))
        metrics = applying.view_metrics(z) | {"centroid_alignment": alignment}
        return Outcome(value, memory, metrics)

    def encode(self, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        """`features`, which are kept, and `embedding`; with `fc` also `pooled`."""
        layers = ("features", "embedding")
        if self.fc is not None:
            layers = ("pooled", *layers)
        return applying.encode_with(networks(self), layers, variables, images)

    def _of_all(
        self, centroids: jax.Array, prior: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """The loss of the global batch, and this device's smoothed centroids."""
        ids = parallel.example_ids(len(centroids))
        columns = parallel.gather(centroids)
        if prior is not None:
            columns = self._smooth(columns, parallel.gather(prior))
            centroids = columns[ids]
        potentials = parallel.gather(self._potentials(centroids, columns, ids))
        return uniformity.decoupled_uniformity(potentials), centroids

    def _of_groups(
        self, centroids: jax.Array, prior: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """The loss of each group of this device, and its smoothed centroids."""
        size = self.group or len(centroids)
        if len(centroids) % size:
            raise ValueError(
                f"Uniformity.group {size} must divide the {len(centroids)} examples of "
                f"each device."
            )

        def one(group: jax.Array, prior: jax.Array | None) -> tuple:
            if prior is not None:
                group = self._smooth(group, prior)
            potentials = self._potentials(group, group, jnp.arange(size))
            return uniformity.decoupled_uniformity(potentials), group

        split = jax.tree.map(
            lambda x: x.reshape(-1, size, x.shape[-1]), (centroids, prior)
        )
        values, compared = jax.vmap(one)(*split)
        return values, compared.reshape(centroids.shape)

    def _potentials(
        self, rows: jax.Array, columns: jax.Array, row_ids: jax.Array
    ) -> jax.Array:
        own = {"scale": self.scale, "block": self.block}
        ids = {"row_ids": row_ids, "column_ids": jnp.arange(len(columns))}
        return uniformity.log_potentials(rows, columns, **ids, **own)

    def _smooth(self, centroids: jax.Array, prior: jax.Array) -> jax.Array:
        assert self.kernel is not None
        kernel = self.kernel(prior)
        return uniformity.kernel_centroids(kernel, centroids, ridge=self.ridge)


def networks(objective: Uniformity) -> dict[str, Network]:
    """The networks that feed one another, by their names in `Variables`."""
    named = {name: getattr(objective, name) for name in ("encoder", "fc", "projector")}
    return {name: network for name, network in named.items() if network is not None}


def checked_prior(prior: jax.Array) -> jax.Array:
    """The priors of a batch, [b, p]; ValueError if they are no vectors of floats."""
    if prior.ndim != 2 or not jnp.issubdtype(prior.dtype, jnp.floating):
        raise ValueError(
            f"the prior must be a vector of floats for each example, [p]; got "
            f"{prior.dtype} {list(prior.shape[1:])}. WithPrior(source, file) makes it."
        )
    return prior


def check_kernel(kernel: Kernel, ridge: float | None, priors: jax.Array) -> None:
    """Checks the matrix of a kernel on some priors; see `Uniformity.check`."""
    matrix = np.asarray(kernel(checked_prior(priors)), np.float64)
    n = len(priors)
    if matrix.shape != (n, n):
        raise ValueError(
            f"the kernel {kernel} gives {list(matrix.shape)} for {n} priors; it must "
            f"give a matrix [n, n]."
        )
    if not np.isfinite(matrix).all():
        raise ValueError(
            f"the kernel {kernel} gives {int((~np.isfinite(matrix)).sum())} numbers of "
            f"{n * n} that are not finite; look for a division by zero in it."
        )
    largest_entry = np.abs(matrix).max()
    difference = np.abs(matrix - matrix.T).max()
    if difference > 1e-4 * largest_entry:
        raise ValueError(
            f"the kernel {kernel} is not symmetric: of {n} priors, k(p, q) and k(q, p) "
            f"differ by up to {difference:.3g}. Average the two."
        )
    spectrum = np.linalg.eigvalsh((matrix + matrix.T) / 2)
    smallest, largest = float(spectrum[0]), float(spectrum[-1])
    rounding = 10 * float(jnp.finfo(jnp.float32).eps) * n * largest_entry
    if smallest < -rounding:
        raise ValueError(
            f"the kernel {kernel} is not positive semi-definite: its smallest "
            f"eigenvalue of {n} priors is {smallest:.4g} (the largest {largest:.4g}), "
            f"below what rounding explains. Use Rbf or Cosine, or a kernel that is."
        )
    # Not by trying the factorisation: near the bound it fails on some processors only.
    ridge = 1 / math.sqrt(n) if ridge is None else ridge
    least = uniformity.least_ridge(n, largest_entry)
    if smallest + ridge < least:
        raise ValueError(
            f"Uniformity.ridge {ridge} is too small for the kernel {kernel} in "
            f"float32: the eigenvalues of {n} priors reach from {smallest:.3g} to "
            f"{largest:.3g}. Try {1.1 * (least - smallest):.2g} or more."
        )
