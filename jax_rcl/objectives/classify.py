"""Supervised classification: the baseline, fine-tuning, and the linear probe by SGD."""

import dataclasses
from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from jax_rcl import parallel
from jax_rcl.core import Batch, Clock, Network, Outcome, Tree, Variables
from jax_rcl.losses import classification
from jax_rcl.objectives import applying
from jax_rcl.ranges import Within, ranged


@dataclasses.dataclass(frozen=True)
@ranged
class Classify:
    """Cross-entropy of a head on an encoder that is trained, or frozen.

    A frozen encoder is in `Variables.frozen` and runs in inference mode, statistics
    included, so that not a bit of it can move; fill it by a rule of `init_from`, such
    as `Restore(workdir, FROZEN_ENCODER)`.

    Attributes:
      encoder: for several `networks.heads.Concatenated`.
      encoder_is: "trained" along with the head; "frozen"; or "frozen in training mode",
        where only its parameters are: dropout acts and batch statistics follow the new
        images, as in the released code of Thanos.
      smoothing: the share of the target that is spread evenly over all classes.
      reduction: of the losses of all views of the global batch: their "mean"; or their
        "sum", as the supervised baseline of the released code of Ravula et al. 2021
        has it, which is n·v times as large.
      targets: the batch's "label", or its "target" [b, k], a distribution for each
        example, which an augmentation such as `Mixup` adds.
    """

    encoder: Network
    head: Network
    encoder_is: Literal["trained", "frozen", "frozen in training mode"] = "trained"
    smoothing: Annotated[float, Within(0, 1, open="high")] = 0.0
    targets: Literal["label", "target"] = "label"
    reduction: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        if self.smoothing and self.targets == "target":
            raise ValueError(
                f"Classify.smoothing {self.smoothing} softens labels, which "
                f'targets="target" does not read; set it to 0.0.'
            )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"views", "label", self.targets})

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        variables, _ = applying.fresh_chain(self.networks, key, batch["views"][:, 0])
        if self.encoder_is == "trained":
            return variables
        params, memory = dict(variables.params), dict(variables.memory)
        encoder = {"params": params.pop("encoder")}
        if self.encoder_is == "frozen":
            encoder["batch_stats"] = memory.pop("encoder")
        return Variables(params=params, frozen={"encoder": encoder}, memory=memory)

    def loss(self, variables: Variables, batch: Batch, clock: Clock) -> Outcome:
        """Cross-entropy of every view, [b·v], and the head's accuracy on the batch."""
        views, v = batch["views"], batch["views"].shape[1]
        images = views.reshape(-1, *views.shape[2:])
        encoder_key, head_key = jax.random.split(clock.key)
        memory = dict(variables.memory)
        if self.encoder_is == "frozen":
            features = self.features(variables, images)
        else:
            features, memory["encoder"] = applying.train_apply(
                self.encoder, *self.encoder_arrays(variables), images, encoder_key
            )
        logits, memory["head"] = applying.train_apply(
            self.head, variables.params["head"], memory["head"], features, head_key
        )
        labels = jnp.repeat(batch["label"], v)
        if self.targets == "label":
            value = classification.smoothed_cross_entropy(
                logits, labels, smoothing=self.smoothing
            )
        else:
            targets = jnp.repeat(batch["target"], v, axis=0)
            value = classification.soft_cross_entropy(logits, targets)
        if self.reduction == "sum":  # the step takes the mean
            value = value * parallel.global_count(len(value))
        return Outcome(value, memory, {"top1": applying.share_right(logits, labels)})

    def encode(self, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        """`features` of the encoder and `logits` of the head."""
        features = self.features(variables, images)
        params, stats = variables.params["head"], variables.memory["head"]
        logits = applying.eval_apply(self.head, params, stats, features)
        return {"features": features, "logits": logits}

    def features(self, variables: Variables, images: jax.Array) -> jax.Array:
        """The encoder's features [n, f] of images [n, h, w, c], in inference mode."""
        return applying.eval_apply(
            self.encoder, *self.encoder_arrays(variables), images
        )

    def encoder_arrays(self, variables: Variables) -> tuple[Tree, Tree]:
        """The encoder's parameters and statistics, wherever they are kept."""
        params, stats = variables.params.get("encoder"), variables.memory.get("encoder")
        frozen = variables.frozen.get("encoder", {})
        return frozen.get("params", params), frozen.get("batch_stats", stats)

    @property
    def networks(self) -> dict[str, Network]:
        return {"encoder": self.encoder, "head": self.head}


def encoder_paths(
    encoder_is: Literal["trained", "frozen", "frozen in training mode"],
    *,
    source: str = "encoder",
    place: str = "",
) -> dict[str, str]:
    """Paths for `Restore` that fill the encoder of `Classify` from another run.

    `source` is the encoder's name among the other run's variables, `place` the part of
    a `networks.heads.Concatenated` to fill; "" for all of it.
    """
    params = "params/encoder" if encoder_is == "trained" else "frozen/encoder/params"
    kept = encoder_is == "frozen"
    stats = "frozen/encoder/batch_stats" if kept else "memory/encoder"
    own = {params: f"params/{source}", stats: f"memory/{source}"}
    return {f"{path}/{place}".rstrip("/"): theirs for path, theirs in own.items()}


FROZEN_ENCODER = encoder_paths("frozen")
"""For `Restore`: a trained encoder into the frozen one of a probe."""

TRAINED_ENCODER = encoder_paths("trained")
"""For `Restore`: a trained encoder into one that goes on training."""
