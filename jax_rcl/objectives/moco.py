"""Momentum contrast with a queue, and with negatives that have lost their meaning."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jax_rcl import parallel
from jax_rcl.core import Batch, Clock, Network, Outcome, Tree, Variables
from jax_rcl.losses import pairwise
from jax_rcl.losses.infonce import found_within, infonce, instance_logits
from jax_rcl.objectives import applying


@dataclasses.dataclass(frozen=True)
class MoCo:
    """Momentum contrast, He et al. 2020 (arXiv 1911.05722), and Ge et al. 2021.

    A query, the first view of an image, is to find the key of the same image, the
    second view, among the keys of earlier batches, which a queue holds. Keys are made
    by a slow copy of the networks, whose parameters follow the trained ones:

        slow ← momentum · slow + (1 - momentum) · fast

    With `negatives`, each query is also to be told from images made of itself that keep
    its patches or its texture and lose its meaning (Ge et al. 2021, arXiv 2110.14189).
    The slow networks embed them, and they never enter the queue. The formula is in
    `losses.infonce.instance_logits`.

    Batch statistics are not averaged: the slow networks have their own.

    Attributes:
      encoder: images [b, h, w, c] in [0, 1] to features [b, f], which are what is kept.
      projector: features to the embeddings [b, d] that are compared.
      queue_size: q, keys in the queue; a multiple of the global batch.
      momentum: in [0, 1); 0.999 in both papers, 0.99 with large batches.
      temperature: τ, positive; 0.07 in MoCo v1, 0.2 in v2.
      negatives: m, non-semantic negatives of each query, which the batch holds as
        `negatives` [b, m, h, w, c]; 0 is plain MoCo.
      alpha: α, the factor of their cosines; 2 or 3 in the paper. None for 1, and where
        there are no negatives.
      keys: how keys and negatives meet batch normalisation: "in order", or "shuffled"
        over the global batch before and put back after. That matters for networks with
        norm="local" alone, where statistics of a query and of its key must differ or
        they give the key away (He et al. 2020, section 3.3).
      slow_starts: what the slow networks are at the first step: "as fast", a copy of
        the trained ones, wherever these are from; "as given", what `init_from` put
        there, to go on with networks that both come from another run.

    Raises:
      ValueError: for a number out of its range, or `alpha` without negatives; when
        traced, for a queue that is no multiple of the global batch, or a batch with
        other views or negatives.
    """

    encoder: Network
    projector: Network
    queue_size: int = 65536
    momentum: float = 0.999
    temperature: float = 0.07
    negatives: int = 0
    alpha: float | None = None
    keys: Literal["in order", "shuffled"] = "in order"
    slow_starts: Literal["as fast", "as given"] = "as fast"

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name in ("queue_size", "negatives"):
            least = 0 if name == "negatives" else 1
            if getattr(self, name) < least:
                raise ValueError(
                    f"MoCo.{name} {getattr(self, name)} must be at least {least}."
                )
        if not 0 <= self.momentum < 1:
            raise ValueError(
                f"MoCo.momentum {self.momentum} must be in [0, 1), such as 0.999."
            )
        if self.temperature <= 0:
            raise ValueError(
                f"MoCo.temperature {self.temperature} must be above 0, such as 0.2."
            )
        if self.alpha is None:
            return
        if not self.negatives:
            raise ValueError(
                f"MoCo.alpha {self.alpha} scales negatives, of which there are none; "
                "write negatives=1 and add them with an augment such as Negatives, or "
                "leave alpha at None."
            )
        if self.alpha <= 0:
            raise ValueError(
                f"MoCo.alpha {self.alpha} must be above 0; for MoCo without "
                "non-semantic negatives write negatives=0."
            )

    @property
    def needs(self) -> frozenset[str]:
        """Keys of the batch: two views, and the negatives if there are any."""
        return frozenset({"views", "negatives"} if self.negatives else {"views"})

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        """Fresh networks, their slow copies, and a queue of random directions."""
        networks_key, queue_key = jax.random.split(key)
        queries = batch["views"][:, 0]
        fast, z = applying.fresh_chain(self.networks, networks_key, queries)
        queue = jax.random.normal(queue_key, (self.queue_size, z.shape[-1]))
        slow = {
            name: {"params": fast.params[name], "batch_stats": fast.memory[name]}
            for name in self.networks
        }
        memory = {
            **fast.memory,
            "slow": slow,
            "queue": pairwise.unit(queue),
            "cursor": jnp.zeros((), jnp.int32),
        }
        return dataclasses.replace(fast, memory=memory)

    def loss(self, variables: Variables, batch: Batch, clock: Clock) -> Outcome:
        """InfoNCE of each query, and the memory with this batch's keys in the queue."""
        self._check(batch)
        memory = variables.memory
        query_key, *slow_keys = jax.random.split(clock.key, 2 + self.negatives)
        # The average comes before the keys, from what the optimizer has just made:
        # averaging afterwards would leave the queue one step behind the encoder.
        slow = self._followed(variables, clock.step)
        z, changed = applying.embed_views(
            self.networks, variables, batch["views"][:, :1], query_key
        )
        queries = pairwise.unit(z[:, 0])
        keys, slow = self._embedded(slow, batch["views"][:, 1], slow_keys[0])
        # One pass for each, as in the release: in a common one the negatives would have
        # a part in the batch statistics that the keys are normalised with.
        own = []
        for place, own_key in enumerate(slow_keys[1:]):
            embedded, slow = self._embedded(slow, batch["negatives"][:, place], own_key)
            own.append(embedded)
        own_negatives = jnp.stack(own, axis=1) if own else keys[:, None][:, :0]
        logits = instance_logits(
            queries,
            keys,
            memory["queue"],
            own_negatives,
            temperature=self.temperature,
            alpha=1.0 if self.alpha is None else self.alpha,
        )
        queue, cursor = enqueue(
            memory["queue"], memory["cursor"], parallel.gather_constant(keys)
        )
        slow_memory = {"slow": slow, "queue": queue, "cursor": cursor}
        metrics = applying.view_metrics(jnp.stack([queries, keys], axis=1))
        metrics |= contrastive_metrics(logits)
        return Outcome(infonce(logits), {**changed, **slow_memory}, metrics)

    def encode(self, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        """`features` of the trained encoder and `embedding` of its projector."""
        layers = ("features", "embedding")
        return applying.encode_with(self.networks, layers, variables, images)

    @property
    def networks(self) -> dict[str, Network]:
        """Encoder and projector, by the names under which `Variables` keeps them."""
        return {"encoder": self.encoder, "projector": self.projector}

    def _followed(self, variables: Variables, step: jax.Array) -> Tree:
        """The slow networks, a step nearer to the fast ones."""
        copies = (step == 0) & (self.slow_starts == "as fast")

        def one(slow: jax.Array, fast: jax.Array) -> jax.Array:
            average = momentum_average(slow, fast, self.momentum)
            return jax.lax.stop_gradient(jnp.where(copies, fast, average))

        found = {}
        for name, own in variables.memory["slow"].items():
            params = jax.tree.map(one, own["params"], variables.params[name])
            found[name] = {**own, "params": params}
        return found

    def _embedded(
        self, slow: Tree, images: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        """Unit embeddings [b, d] by the slow networks, and their new statistics."""
        order_key, network_key = jax.random.split(key)
        shuffled = self.keys == "shuffled"
        if shuffled:
            images = parallel.shuffle(images, order_key)
        own = Variables(
            params={name: each["params"] for name, each in slow.items()},
            frozen={},
            memory={name: each["batch_stats"] for name, each in slow.items()},
        )
        z, stats = applying.embed_views(
            self.networks, own, images[:, None], network_key
        )
        z = jax.lax.stop_gradient(pairwise.unit(z[:, 0]))
        if shuffled:
            z = parallel.unshuffle(z, order_key)
        slow = {
            name: {**each, "batch_stats": stats[name]} for name, each in slow.items()
        }
        return z, slow

    def _check(self, batch: Batch) -> None:
        """Raises ValueError for what the shapes of a batch give away."""
        b, v = batch["views"].shape[:2]
        if v != 2:
            raise ValueError(
                f"MoCo compares two views, a query and its key; the batch has {v}. "
                "Write Views(..., count=2)."
            )
        n = parallel.global_count(b)
        if self.queue_size % n:
            nearest = n * max(1, round(self.queue_size / n))
            raise ValueError(
                f"MoCo.queue_size {self.queue_size} must be a multiple of the global "
                f"batch {n}: the queue is replaced whole batches at a time. Try "
                f"{nearest}."
            )
        given = batch["negatives"].shape[1] if self.negatives else 0
        if given != self.negatives:
            raise ValueError(
                f"MoCo.negatives is {self.negatives}, but the augment makes {given} "
                "for each image; make the two equal."
            )


def momentum_average(slow: Any, fast: Any, momentum: float) -> Any:
    """The slow one, moved to the fast: momentum · slow + (1 - momentum) · fast."""
    return slow + (1 - momentum) * (fast - slow)


def enqueue(
    queue: jax.Array, cursor: jax.Array, keys: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Writes keys [n, d] over the oldest of a queue [q, d]; gives both anew.

    Args:
      queue: q is at least n.
      cursor: the place of the oldest in [0, q); the last is followed by the first.
      keys: of the global batch.

    Returns:
      The queue, and the place after the keys, 0 behind the last.
    """
    # A slice that reached over the end would be moved back, silently: the cursor of an
    # imported queue may be no multiple of this run's batch.
    places = (cursor + jnp.arange(len(keys), dtype=cursor.dtype)) % len(queue)
    return queue.at[places].set(keys), (cursor + len(keys)) % len(queue)


def contrastive_metrics(logits: jax.Array) -> dict[str, jax.Array]:
    """How often the key is the most likely one, and among the five most likely."""
    return {f"contrastive_top{k}": found_within(logits, k) for k in (1, 5)}
