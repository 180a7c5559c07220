"""Momentum contrast with a queue, and with negatives that have lost their meaning."""

import dataclasses
from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from jax_rcl import parallel
from jax_rcl.core import Batch, Clock, Network, Outcome, Tree, Variables
from jax_rcl.losses import pairwise
from jax_rcl.losses.infonce import found_within, infonce, instance_logits
from jax_rcl.objectives import applying
from jax_rcl.ranges import Above, AtLeast, Count, Within, ranged


@dataclasses.dataclass(frozen=True)
@ranged
class MoCo:
    """Momentum contrast, He et al. 2020 (arXiv 1911.05722), and Ge et al. 2021.

    A query, the first view of an image, has to find the key of the same image, the
    second view, among keys of earlier batches, which are in a queue. Keys are made by a
    slow copy of the networks, which has batch statistics of its own and whose
    parameters follow the trained ones:

        slow ← momentum · slow + (1 - momentum) · fast

    With `negatives`, each query is also compared to images made from itself that keep
    its patches or its texture and lose its meaning (Ge et al. 2021, arXiv 2110.14189).
    The slow networks embed them, and they never enter the queue. The formula is in
    `losses.infonce.instance_logits`.

    Attributes:
      queue_size: q, keys in the queue; a multiple of the global batch.
      momentum: 0.999 in both papers, 0.99 with large batches.
      temperature: τ; 0.07 in MoCo v1, 0.2 in v2.
      negatives: m, non-semantic negatives of each query, `negatives` [b, m, h, w, c] of
        the batch; 0 is plain MoCo.
      alpha: α, the factor of their cosines; 2 or 3 in the paper. None for 1, and where
        there are no negatives.
      keys: the order in which keys and negatives pass batch normalisation: "in order",
        or "shuffled" over the global batch and put back after. It matters only for
        norm="local", where the statistics of a query and of its key must differ or they
        give the key away (He et al. 2020, section 3.3).
      slow_starts: the slow networks at the first step: "as fast", a copy of the trained
        ones, wherever these are from; "as given", what `init_from` put there, to go on
        with both from another run.
    """

    encoder: Network
    projector: Network
    queue_size: Count = 65536
    momentum: Annotated[float, Within(0, 1, "high", "such as 0.999")] = 0.999
    temperature: Annotated[float, Above(0, "such as 0.2")] = 0.07
    negatives: Annotated[int, AtLeast(0)] = 0
    alpha: Annotated[float, Above(0, "or write negatives=0")] | None = None
    keys: Literal["in order", "shuffled"] = "in order"
    slow_starts: Literal["as fast", "as given"] = "as fast"

    def __post_init__(self) -> None:
        if self.alpha is not None and not self.negatives:
            raise ValueError(
                f"MoCo.alpha {self.alpha} scales negatives, but there are none; write "
                "negatives=1 and add them with an augment such as Negatives, or leave "
                "alpha at None."
            )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"views", "negatives"} if self.negatives else {"views"})

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        """Fresh networks, their slow copies, and a queue of random directions."""
        networks_key, queue_key = jax.random.split(key)
        queries = batch["views"][:, 0]
        fast, z = applying.fresh_chain(self.networks, networks_key, queries)
        queue = jax.random.normal(queue_key, (self.queue_size, z.shape[-1]))
        memory = {
            **fast.memory,
            "slow": applying.copies(fast),
            "queue": pairwise.unit(queue),
            "cursor": jnp.zeros((), jnp.int32),
        }
        return dataclasses.replace(fast, memory=memory)

    def loss(self, variables: Variables, batch: Batch, clock: Clock) -> Outcome:
        """InfoNCE of each query, and the memory with this batch's keys in the queue."""
        self._check(batch)
        memory = variables.memory
        query_key, *slow_keys = jax.random.split(clock.key, 2 + self.negatives)
        # The average is taken before the keys, with the parameters of the last update:
        # taken afterwards, it would leave the queue one step behind the encoder.
        slow = self._follow(variables, clock.step)
        z, changed = applying.embed_views(
            self.networks, variables, batch["views"][:, :1], query_key
        )
        queries = pairwise.unit(z[:, 0])
        keys, slow = self._embed(slow, batch["views"][:, 1], slow_keys[0])
        # One pass for each, as in the release: in a joint pass the negatives would
        # change the batch statistics by which the keys are normalised.
        own = []
        for place, own_key in enumerate(slow_keys[1:]):
            embedded, slow = self._embed(slow, batch["negatives"][:, place], own_key)
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
        metrics |= {f"contrastive_top{k}": found_within(logits, k) for k in (1, 5)}
        return Outcome(infonce(logits), {**changed, **slow_memory}, metrics)

    def encode(self, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        """`features` of the trained encoder and `embedding` of its projector."""
        layers = ("features", "embedding")
        return applying.encode_with(self.networks, layers, variables, images)

    @property
    def networks(self) -> dict[str, Network]:
        return {"encoder": self.encoder, "projector": self.projector}

    def _follow(self, variables: Variables, step: jax.Array) -> Tree:
        """The slow networks, moved one step towards the fast ones."""
        copies = (step == 0) & (self.slow_starts == "as fast")

        def one(slow: jax.Array, fast: jax.Array) -> jax.Array:
            average = slow + (1 - self.momentum) * (fast - slow)
            return jax.lax.stop_gradient(jnp.where(copies, fast, average))

        found = {}
        for name, own in variables.memory["slow"].items():
            params = jax.tree.map(one, own["params"], variables.params[name])
            found[name] = {**own, "params": params}
        return found

    def _embed(
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
        return z, applying.copies(dataclasses.replace(own, memory=stats))

    def _check(self, batch: Batch) -> None:
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
                f"batch {n}: whole batches of it are replaced at a time. Try {nearest}."
            )
        given = batch["negatives"].shape[1] if self.negatives else 0
        if given != self.negatives:
            raise ValueError(
                f"MoCo.negatives is {self.negatives}, but the augment makes {given} "
                "for each image; make the two equal."
            )


def enqueue(
    queue: jax.Array, cursor: jax.Array, keys: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Writes keys [n, d] over the oldest of a queue [q, d], a ring, with n up to q.

    `cursor` is the place of the oldest in [0, q). Returns the queue, and the next
    cursor.
    """
    # Not a dynamic slice, which JAX would silently shift where it reaches over the end:
    # the cursor of an imported queue may be no multiple of this run's batch.
    places = (cursor + jnp.arange(len(keys), dtype=cursor.dtype)) % len(queue)
    return queue.at[places].set(keys), (cursor + len(keys)) % len(queue)
