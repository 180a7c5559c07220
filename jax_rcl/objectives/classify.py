"""Supervised classification: the baseline, fine-tuning, and the linear probe by SGD."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from jax_rcl.core import Batch, Clock, Network, Outcome, Variables
from jax_rcl.losses import classification
from jax_rcl.objectives import applying


@dataclasses.dataclass(frozen=True)
class Classify:
    """Cross-entropy of a head on an encoder that is trained, or frozen.

    A frozen encoder lives in `Variables.frozen` and runs in inference mode, statistics
    and all, so that not a bit of it can move; fill it by an `init_from` rule, such as
    `transfer.Restore(workdir, FROZEN_ENCODER)`.

    Attributes:
      encoder: images [b, h, w, c] in [0, 1] to features [b, f].
      head: features to logits [b, k].
      encoder_is: "trained" along with the head, or "frozen".
      smoothing: of the labels, in [0, 1): the share of the target that is spread evenly
        over all classes.
    """

    encoder: Network
    head: Network
    encoder_is: Literal["trained", "frozen"] = "trained"
    smoothing: float = 0.0
    needs = frozenset({"views", "label"})

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing must be in [0, 1); got {self.smoothing}.")

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        """Fresh encoder and head."""
        variables, _ = applying.fresh_chain(self.networks, key, batch["views"][:, 0])
        if self.encoder_is == "trained":
            return variables
        params, memory = dict(variables.params), dict(variables.memory)
        stats = memory.pop("encoder")
        encoder = {"params": params.pop("encoder"), "batch_stats": stats}
        return Variables(params=params, frozen={"encoder": encoder}, memory=memory)

    def loss(self, variables: Variables, batch: Batch, clock: Clock) -> Outcome:
        """Cross-entropy of every view, [b·v], and the head's accuracy on the batch."""
        views, v = batch["views"], batch["views"].shape[1]
        if self.encoder_is == "frozen":
            images = views.reshape(-1, *views.shape[2:])
            views = self.features(variables, images).reshape(*views.shape[:2], -1)
            chain = {"head": self.head}
        else:
            chain = self.networks
        logits, memory = applying.embed_views(chain, variables, views, clock.key)
        logits, labels = (
            logits.reshape(-1, logits.shape[-1]),
            jnp.repeat(batch["label"], v),
        )
        value = classification.smoothed_cross_entropy(
            logits, labels, smoothing=self.smoothing
        )
        right = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
        return Outcome(value, memory, {"top1": right})

    def encode(self, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        """`features` of the encoder and `logits` of the head."""
        features = self.features(variables, images)
        params, stats = variables.params["head"], variables.memory["head"]
        logits = applying.eval_apply(self.head, params, stats, features)
        return {"features": features, "logits": logits}

    def features(self, variables: Variables, images: jax.Array) -> jax.Array:
        """The encoder's features [n, f] of images [n, h, w, c], in inference mode."""
        if self.encoder_is == "frozen":
            own = variables.frozen["encoder"]
            params, stats = own["params"], own["batch_stats"]
        else:
            params, stats = variables.params["encoder"], variables.memory["encoder"]
        return applying.eval_apply(self.encoder, params, stats, images)

    @property
    def networks(self) -> dict[str, Network]:
        """Encoder and head, by the names under which `Variables` keeps them."""
        return {"encoder": self.encoder, "head": self.head}


FROZEN_ENCODER = {
    "frozen/encoder/params": "params/encoder",
    "frozen/encoder/batch_stats": "memory/encoder",
}
"""For `transfer.Restore`: a trained encoder into the frozen one of a probe."""

TRAINED_ENCODER = {
    "params/encoder": "params/encoder",
    "memory/encoder": "memory/encoder",
}
"""For `transfer.Restore`: a trained encoder into one that is trained on."""
