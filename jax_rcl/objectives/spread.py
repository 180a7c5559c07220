"""Thanos: coarse labels without class collapse, by contrast, reconstruction and both.

Chen, Fu et al. 2022, Perfectly Balanced (https://arxiv.org/abs/2204.07596). The loss is
a weighted sum of cross-entropy, contrastive terms and reconstruction, any of which may
be absent:

| method of the paper | terms |
| --- | --- |
| SupCon | cross-entropy, `Contrast(spread=0)` |
| class-conditional InfoNCE, L_spread | cross-entropy, `Contrast()` |
| class-conditional autoencoder | cross-entropy, `Reconstruction(...)` |
| Thanos | the two before on two encoders, whose features are concatenated |
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_rcl import parallel
from jax_rcl.core import Batch, Clock, Network, Outcome, Variables
from jax_rcl.losses import classification, reconstruction
from jax_rcl.objectives import applying
from jax_rcl.objectives.terms import Contrast, Reconstruction, require_positive


@dataclasses.dataclass(frozen=True)
class Spread:
    """A weighted sum of cross-entropy, contrastive terms and reconstruction.

    With one encoder every term reads its features. With two, trained jointly, the
    contrastive terms read those of `encoder`, the decoder those of `encoder_auto`, and
    the head both, side by side in this order. There is no projector: what is contrasted
    is what is kept.

    Attributes:
      encoder: images [b, h, w, c] in [0, 1] to features [b, f].
      head: features to logits [b, k]; None without cross-entropy.
      contrasts: the contrastive terms, each of a name of its own.
      reconstruction: the decoder's term, or None.
      encoder_auto: the second encoder, or None.
      cross_entropy: weight of the head's cross-entropy, averaged over views.
      smoothing: of the labels, in [0, 1).
    """

    encoder: Network
    head: Network | None
    contrasts: tuple[Contrast, ...] = (Contrast(),)
    reconstruction: Reconstruction | None = None
    encoder_auto: Network | None = None
    cross_entropy: float = 1.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        """Checks which parts there are."""
        if self.head is None and not self.contrasts and self.reconstruction is None:
            raise ValueError(
                "Spread has neither head nor contrasts nor reconstruction: nothing to "
                "learn from. Give at least one."
            )
        if self.head is not None:
            require_positive("Spread.cross_entropy", self.cross_entropy)
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing must be in [0, 1); got {self.smoothing}.")
        names = [term.name for term in self.contrasts]
        if len(set(names)) < len(names):
            raise ValueError(
                f"Spread.contrasts are named {', '.join(names)}; each needs a name of "
                f"its own for its metric."
            )
        taken = sorted(_METRICS.intersection(names))
        if taken:
            raise ValueError(
                f"Spread.contrasts: {taken[0]!r} is the name of another metric; call "
                f"the term something else, such as 'contrast'."
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
        """Keys of the batch: the views, and the labels if anything reads them."""
        contrasts = any(term.classes == "labels" for term in self.contrasts)
        read = self.head is not None or contrasts
        return frozenset({"views", "label"} if read else {"views"})

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        """Fresh encoders, head and decoder.

        Raises:
          ValueError: a decoder that makes images of another shape than the views, or
            contrasts of a single view.
        """
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
        made = self.forward(fresh, images, batch.get("label")).made
        if self.reconstruction is not None and made is not None:
            wanted = self.reconstruction.wanted(images).shape
            if made.shape != wanted:
                raise ValueError(
                    f"the decoder makes images {list(made.shape[1:])}, the views are "
                    f"{list(wanted[1:])}: set its size and channels to theirs."
                )
        return Variables(params=params, frozen={}, memory=memory)

    def loss(self, variables: Variables, batch: Batch, clock: Clock) -> Outcome:
        """The sum of all terms, one value per example; each is a metric, too."""
        views, b, v = batch["views"], *batch["views"].shape[:2]
        # Without a head and labelled contrasts nothing reads them.
        label = batch["label"] if "label" in self.needs else jnp.zeros(b, jnp.int32)
        images, labels = views.reshape(b * v, *views.shape[2:]), jnp.repeat(label, v)
        memory, keys = dict(variables.memory), _keys(clock.key)

        def train(name: str, network: Network, inputs: jax.Array) -> jax.Array:
            outputs, memory[name] = applying.train_apply(
                network, variables.params[name], memory[name], inputs, keys[name]
            )
            return outputs

        found = self.forward(train, images, labels)
        terms: list[tuple[float, jax.Array]] = []
        metrics: dict[str, jax.Array] = {}
        if found.logits is not None:
            right = (jnp.argmax(found.logits, axis=-1) == labels).astype(jnp.float32)
            error = classification.smoothed_cross_entropy(
                found.logits, labels, smoothing=self.smoothing
            )
            metrics |= {"top1": right, "cross_entropy": error}
            terms.append((self.cross_entropy, error.reshape(b, v).mean(axis=1)))
        if self.contrasts:
            z, ids = (
                found.features["encoder"].reshape(b, v, -1),
                parallel.example_ids(b),
            )
            metrics |= applying.view_metrics(z)
            columns = parallel.gather(z)
            examples, classes = (
                (ids, parallel.gather(ids)),
                (label, parallel.gather(label)),
            )
            for term in self.contrasts:
                error = term.between(z, columns, examples, classes)
                metrics[term.name] = error
                terms.append((term.weight, error))
        if self.reconstruction is not None and found.made is not None:
            wanted = self.reconstruction.wanted(images)
            error = reconstruction.pixel_mse(found.made, wanted)
            metrics["reconstruction"] = error
            terms.append((self.reconstruction.weight, error.reshape(b, v).mean(axis=1)))
        value = sum(weight * error for weight, error in terms)
        return Outcome(value, memory, metrics)

    def encode(self, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        """`features` of all encoders, and the layers of the parts that there are.

        `features_of_encoder` and `features_of_encoder_auto` of each of two encoders,
        `logits` of the head, and `reconstruction` [n, h, w, c] in units of [0, 1]; a
        decoder that reads the label is told the one that the head predicts.
        """

        def infer(name: str, network: Network, inputs: jax.Array) -> jax.Array:
            params, stats = variables.params[name], variables.memory[name]
            return applying.eval_apply(network, params, stats, inputs)

        found = self.forward(infer, images)
        layers = {"features": joined(found.features)}
        if self.encoder_auto is not None:
            layers |= {f"features_of_{name}": x for name, x in found.features.items()}
        if found.logits is not None:
            layers["logits"] = found.logits
        if self.reconstruction is not None and found.made is not None:
            layers["reconstruction"] = self.reconstruction.shown(found.made)
        return layers

    def forward(
        self,
        apply: Callable[[str, Network, jax.Array], jax.Array],
        images: jax.Array,
        labels: jax.Array | None = None,
    ) -> "Forward":
        """What the networks make of images, each applied once, by `apply`.

        Args:
          apply: (name, network, inputs) to the outputs of the network.
          images: [n, h, w, c].
          labels: their classes, or None for those that the head predicts.
        """
        features = {name: apply(name, net, images) for name, net in self.encoders}
        logits = made = None
        if self.head is not None:
            logits = apply("head", self.head, joined(features))
        if self.reconstruction is not None:
            read = features[self.encoders[-1][0]]
            if logits is not None:
                labels = jnp.argmax(logits, axis=-1) if labels is None else labels
                read = self.reconstruction.input(read, labels, logits.shape[-1])
            made = apply("decoder", self.reconstruction.decoder, read)
        return Forward(features, logits, made)

    @property
    def encoders(self) -> tuple[tuple[str, Network], ...]:
        """The one encoder, or both, by the names under which `Variables` keeps them."""
        if self.encoder_auto is None:
            return (("encoder", self.encoder),)
        return (("encoder", self.encoder), ("encoder_auto", self.encoder_auto))


_METRICS = {"alignment", "spread", "top1", "cross_entropy", "reconstruction"}
"""What a contrastive term may not be called, since its metric would hide another."""


class Forward(NamedTuple):
    """What the networks of a `Spread` make of images.

    Attributes:
      features: of each encoder, by its name [n, f].
      logits: of the head [n, k], where there is one.
      made: by the decoder [n, h, w, c], where there is one.
    """

    features: dict[str, jax.Array]
    logits: jax.Array | None
    made: jax.Array | None


def joined(features: dict[str, jax.Array]) -> jax.Array:
    """The features of all encoders side by side, [n, f1 + f2]."""
    return jnp.concatenate(list(features.values()), axis=-1)


def _keys(key: jax.Array) -> dict[str, jax.Array]:
    """A key for each network there may be, the same whichever of the others are."""
    names = ("encoder", "encoder_auto", "head", "decoder")
    return dict(zip(names, jax.random.split(key, len(names)), strict=True))
