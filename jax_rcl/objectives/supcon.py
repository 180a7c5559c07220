"""Contrastive learning of two or more views: SupCon with labels, SimCLR without."""

import dataclasses
from typing import Literal

import jax

from jax_rcl import parallel
from jax_rcl.core import Batch, Clock, Network, Outcome, Variables
from jax_rcl.losses import contrastive
from jax_rcl.objectives import applying
from jax_rcl.ranges import Count, Positive, ranged


@dataclasses.dataclass(frozen=True)
@ranged
class SupCon:
    """Supervised contrastive learning, Khosla et al. 2020 (arXiv 2004.11362).

    Every view of every example of the global batch is an anchor; its positives are all
    other views of its class. The formula is in `losses.contrastive.supcon`.

    Attributes:
      temperature: τ; 0.1 in the paper.
      positives: mean over positives "out"side the logarithm (equation 2, the paper's
        choice) or "in"side (equation 3).
      block: columns compared at a time, to bound memory; None compares all at once.
    """

    encoder: Network
    projector: Network
    temperature: Positive = 0.1
    positives: Literal["out", "in"] = "out"
    block: Count | None = None
    needs = frozenset({"views", "label"})

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        return applying.fresh_chain(
            applying.networks_of(self), key, batch["views"][:, 0]
        )[0]

    def loss(self, variables: Variables, batch: Batch, clock: Clock) -> Outcome:
        n = parallel.global_count(len(batch["views"]))
        applying.check_comparable("SupCon", n)  # one view does, if labels repeat
        z, memory = applying.embed_views(
            applying.networks_of(self), variables, batch["views"], clock.key
        )
        rows, row_ids, row_labels = applying.flat_views(z, batch["label"])
        value = contrastive.supcon(
            rows,
            parallel.gather(rows),
            row_ids=row_ids,
            column_ids=parallel.gather(row_ids),
            row_labels=row_labels,
            column_labels=parallel.gather(row_labels),
            temperature=self.temperature,
            positives=self.positives,
            block=self.block,
        )
        return Outcome(value, memory, applying.view_metrics(z))

    def encode(self, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        """`features` of the encoder and `embedding` of the projector."""
        return applying.encode_with(
            applying.networks_of(self), applying.LAYERS, variables, images
        )


@dataclasses.dataclass(frozen=True)
@ranged
class SimCLR:
    """Contrastive learning without labels, Chen et al. 2020 (arXiv 2002.05709).

    As `SupCon`, but an anchor's positives are the other views of the same example. The
    formula is in `losses.contrastive.nt_xent`.

    Attributes:
      block: as for `SupCon`.
      temperature: τ; 0.5 for CIFAR-10 and 0.1 for ImageNet in the paper.
    """

    encoder: Network
    projector: Network
    temperature: Positive = 0.5
    block: Count | None = None
    needs = frozenset({"views"})

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        return applying.fresh_chain(
            applying.networks_of(self), key, batch["views"][:, 0]
        )[0]

    def loss(self, variables: Variables, batch: Batch, clock: Clock) -> Outcome:
        n = parallel.global_count(len(batch["views"]))
        applying.check_comparable("SimCLR", n, batch["views"].shape[1])
        z, memory = applying.embed_views(
            applying.networks_of(self), variables, batch["views"], clock.key
        )
        rows, row_ids, row_examples = applying.flat_views(
            z, parallel.example_ids(len(z))
        )
        value = contrastive.nt_xent(
            rows,
            parallel.gather(rows),
            row_ids=row_ids,
            column_ids=parallel.gather(row_ids),
            row_examples=row_examples,
            column_examples=parallel.gather(row_examples),
            temperature=self.temperature,
            block=self.block,
        )
        return Outcome(value, memory, applying.view_metrics(z))

    def encode(self, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        """`features` of the encoder and `embedding` of the projector."""
        return applying.encode_with(
            applying.networks_of(self), applying.LAYERS, variables, images
        )
