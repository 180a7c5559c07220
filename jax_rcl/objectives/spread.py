"""Thanos: coarse labels without class collapse, by contrast, reconstruction and both.

Chen, Fu et al. 2022, Perfectly Balanced (https://arxiv.org/abs/2204.07596). The loss is
a weighted sum of cross-entropy, contrastive terms and reconstruction; any may be
absent:

| method of the paper | terms |
| --- | --- |
| SupCon | cross-entropy, `Contrast(spread=0)` |
| class-conditional InfoNCE, L_spread | cross-entropy, `Contrast()` |
| class-conditional autoencoder | cross-entropy, `Reconstruction(...)` |
| Thanos | the last two on two encoders, whose features are concatenated |
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jax_rcl import parallel
from jax_rcl.core import Batch, Clock, Network, Outcome, Variables
from jax_rcl.losses import classification, reconstruction
from jax_rcl.objectives import applying
from jax_rcl.objectives.terms import Contrast, Reconstruction
from jax_rcl.ranges import Positive, Within, ranged


@dataclasses.dataclass(frozen=True)
@ranged
class Spread:
    """A weighted sum of cross-entropy, contrastive terms and reconstruction.

    With one encoder every term reads its features. With two, trained jointly, the
    contrastive terms read those of `encoder`, the decoder those of `encoder_auto`, and
    the head both, concatenated in this order. There is no projector: the features that
    are contrasted are those that are kept.

    Attributes:
      head: None without cross-entropy.
      contrasts: the contrastive terms, each with a name of its own.
      encoder_auto: the second encoder, or None.
      cross_entropy: weight of the head's cross-entropy, averaged over views.
    """

    encoder: Network
    head: Network | None
    contrasts: tuple[Contrast, ...] = (Contrast(),)
    reconstruction: Reconstruction | None = None
    encoder_auto: Network | None = None
    cross_entropy: Positive = 1.0
    smoothing: Annotated[float, Within(0, 1, open="high")] = 0.0

    def __post_init__(self) -> None:
        if self.head is None and not self.contrasts and self.reconstruction is None:
            raise ValueError(
                "Spread has neither head nor contrasts nor reconstruction: nothing to "
                "learn from. Give at least one."
            )
        names = [term.name for term in self.contrasts]
        if len({*names, *_METRICS}) < len(names) + len(_METRICS):
            raise ValueError(
                f"Spread.contrasts are named {', '.join(names)}; each needs a name of "
                f"its own, and none of {', '.join(_METRICS)}, for its metric."
            )
        alone = self.reconstruction is None or not self.contrasts
        if self.encoder_auto is not None and alone:
            raise ValueError(
                "Spread.encoder_auto is for the decoder while `encoder` is for the "
                "contrasts; give both contrasts and reconstruction, or one encoder."
            )
        reads = self.reconstruction.reads if self.reconstruction else "features"
        if self.head is None and reads != "features":
            raise ValueError(
                "a decoder that reads the label needs a head, which knows how many "
                'classes there are; give Spread.head, or reads="features".'
            )

    @property
    def needs(self) -> frozenset[str]:
        contrasts = any(term.classes == "labels" for term in self.contrasts)
        read = self.head is not None or contrasts
        return frozenset({"views", "label"} if read else {"views"})

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        if self.contrasts and batch["views"].shape[1] < 2:
            raise ValueError(
                "Spread.contrasts compare a view with another view of the image, but "
                "there is one; let the augmentation make two: Views(..., count=2)."
            )
        params: dict[str, Any] = {}
        memory: dict[str, Any] = {}
        keys = _keys(key)

        def fresh(name: str, network: Network, inputs: jax.Array) -> jax.Array:
            params[name], memory[name], outputs = applying.fresh(
                network, keys[name], inputs
            )
            return outputs

        images = batch["views"][:, 0]
        _, _, decoded = self.forward(fresh, images, batch.get("label"))
        if self.reconstruction is not None and decoded is not None:
            shape = self.reconstruction.targets(images).shape
            if decoded.shape != shape:
                raise ValueError(
                    f"the decoder makes images {list(decoded.shape[1:])}, the views "
                    f"are {list(shape[1:])}: set its size and channels to theirs."
                )
        return Variables(params=params, frozen={}, memory=memory)

    def loss(self, variables: Variables, batch: Batch, clock: Clock) -> Outcome:
        """The sum of all terms, one value per example; each is a metric, too."""
        views, b, v = batch["views"], *batch["views"].shape[:2]
        if self.contrasts:
            applying.check_comparable("Spread.contrasts", parallel.global_count(b), v)
        # Without a head and contrasts of labels, nothing reads them.
        label = batch["label"] if "label" in self.needs else jnp.zeros(b, jnp.int32)
        images, labels = views.reshape(b * v, *views.shape[2:]), jnp.repeat(label, v)
        memory, keys = dict(variables.memory), _keys(clock.key)

        def train(name: str, network: Network, inputs: jax.Array) -> jax.Array:
            outputs, memory[name] = applying.train_apply(
                network, variables.params[name], memory[name], inputs, keys[name]
            )
            return outputs

        features, logits, decoded = self.forward(train, images, labels)
        terms: list[tuple[float, jax.Array]] = []
        metrics: dict[str, jax.Array] = {}
        if logits is not None:
            right = applying.share_right(logits, labels)
            error = classification.smoothed_cross_entropy(
                logits, labels, smoothing=self.smoothing
            )
            metrics |= {"top1": right, "cross_entropy": error}
            terms.append((self.cross_entropy, error.reshape(b, v).mean(axis=1)))
        if self.contrasts:
            z = features["encoder"].reshape(b, v, -1)
            ids = parallel.example_ids(b)
            metrics |= applying.view_metrics(z)
            columns = parallel.gather(z)
            examples = (ids, parallel.gather(ids))
            classes = (label, parallel.gather(label))
            for term in self.contrasts:
                error = term.between(z, columns, examples, classes)
                metrics[term.name] = error
                terms.append((term.weight, error))
        if self.reconstruction is not None and decoded is not None:
            targets = self.reconstruction.targets(images)
            error = reconstruction.pixel_mse(decoded, targets)
            metrics["reconstruction"] = error
            terms.append((self.reconstruction.weight, error.reshape(b, v).mean(axis=1)))
        value = sum(weight * error for weight, error in terms)
        return Outcome(value, memory, metrics)

    def encode(self, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        """`features` of all encoders, and what the other parts give.

        With two encoders `features_of_encoder` and `features_of_encoder_auto`; with a
        head `logits`; with a decoder `reconstruction` [n, h, w, c] in units of [0, 1].
        A decoder that reads the label gets the one that the head predicts.
        """

        def infer(name: str, network: Network, inputs: jax.Array) -> jax.Array:
            params, stats = variables.params[name], variables.memory[name]
            return applying.eval_apply(network, params, stats, inputs)

        features, logits, decoded = self.forward(infer, images)
        layers = {"features": jnp.concatenate(list(features.values()), axis=-1)}
        if self.encoder_auto is not None:
            layers |= {f"features_of_{name}": x for name, x in features.items()}
        if logits is not None:
            layers["logits"] = logits
        if self.reconstruction is not None and decoded is not None:
            layers["reconstruction"] = self.reconstruction.to_images(decoded)
        return layers

    def forward(
        self,
        apply: Callable[[str, Network, jax.Array], jax.Array],
        images: jax.Array,
        labels: jax.Array | None = None,
    ) -> tuple[dict[str, jax.Array], jax.Array | None, jax.Array | None]:
        """Features of each encoder by its name [n, f], logits and decoded images.

        `apply` takes (name, network, inputs) to outputs; labels of None stand for those
        that the head predicts.
        """
        features = {"encoder": apply("encoder", self.encoder, images)}
        if self.encoder_auto is not None:
            features["encoder_auto"] = apply("encoder_auto", self.encoder_auto, images)
        logits = decoded = None
        if self.head is not None:
            joined = jnp.concatenate(list(features.values()), axis=-1)
            logits = apply("head", self.head, joined)
        if self.reconstruction is not None:
            read = features.get("encoder_auto", features["encoder"])
            if logits is not None:
                labels = jnp.argmax(logits, axis=-1) if labels is None else labels
                read = self.reconstruction.input(read, labels, logits.shape[-1])
            decoded = apply("decoder", self.reconstruction.decoder, read)
        return features, logits, decoded


_METRICS = ("alignment", "spread", "top1", "cross_entropy", "reconstruction")
"""Names that a contrastive term may not have, or its metric would hide another."""


def _keys(key: jax.Array) -> dict[str, jax.Array]:
    """A key for each possible network, the same whichever others there are."""
    names = ("encoder", "encoder_auto", "head", "decoder")
    return dict(zip(names, jax.random.split(key, len(names)), strict=True))
