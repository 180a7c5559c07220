"""Terms of a loss: contrast of embeddings, reconstruction of views."""

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jax_rcl.core import Network
from jax_rcl.losses import class_conditional
from jax_rcl.ranges import Count, NotNegative, Positive, ranged


@dataclasses.dataclass(frozen=True)
@ranged
class Contrast:
    """A contrastive term: attraction to the class, and spread within it.

    The formula, and what each number means, is in `losses.class_conditional.spread`;
    with `attraction` a and `spread` s, the paper's α is s / (a + s).

    Attributes:
      attraction: weight of the pull towards the class against the others (L_attract).
      spread: weight of the class-conditional InfoNCE; 0 for SupCon.
      classes: "labels", or "examples", where each image is a class (SimCLR).
      positives_in_denominator: weight of all positives in each denominator; 0 for the
        paper's single one.
      logit_clip: the largest logit of a positive that still counts; None for no limit.
      similarity: of embeddings; see `class_conditional.over_view_pairs`.
      direction: "symmetric" contrasts every view with every other, "one-way" a view
        with those before it.
      block: as for `SupCon`.
    """

    name: str = "contrast"
    weight: Positive = 1.0
    attraction: NotNegative = 1.0
    spread: NotNegative = 1.0
    temperature: Positive = 0.5
    classes: Literal["labels", "examples"] = "labels"
    positives_in_denominator: NotNegative = 0.0
    # Deviation: the released code clips at 1.0 unless told to clip elsewhere, when it
    # does not clip at all; contrasts one way; and divides by the norm of the wrong row.
    logit_clip: float | None = None
    similarity: Literal["cosine", "dot", "released"] = "cosine"
    direction: Literal["symmetric", "one-way"] = "symmetric"
    block: Count | None = None

    def __post_init__(self) -> None:
        if self.attraction == self.spread == 0:
            raise ValueError(
                "Contrast.attraction and spread are both 0, so that there is no loss; "
                "give one of them a weight, such as 1."
            )

    def __call__(
        self,
        first: Float[Array, "n d"],
        second: Float[Array, "n d"],
        labels: Int[Array, " n"],
    ) -> Float[Array, " n"]:
        """The term of two views of n examples, on one device; one value per example."""
        pair, examples = jnp.stack([first, second], axis=1), jnp.arange(len(first))
        return self.between(pair, pair, (examples, examples), (labels, labels))

    def between(
        self,
        rows: Float[Array, "b v d"],
        columns: Float[Array, "n v d"],
        examples: tuple[Int[Array, " b"], Int[Array, " n"]],
        labels: tuple[Int[Array, " b"], Int[Array, " n"]],
    ) -> Float[Array, " b"]:
        """The term of some examples, the rows, against all, the columns.

        `examples` and `labels` are ids and classes of the rows and of the columns.
        """
        row_labels, column_labels = labels if self.classes == "labels" else examples
        pair_loss = functools.partial(
            class_conditional.spread,
            row_examples=examples[0],
            column_examples=examples[1],
            row_labels=row_labels,
            column_labels=column_labels,
            temperature=self.temperature,
            attraction=self.attraction,
            spread=self.spread,
            positives_in_denominator=self.positives_in_denominator,
            logit_clip=self.logit_clip,
            block=self.block,
        )
        return class_conditional.over_view_pairs(
            rows,
            columns,
            pair_loss,
            direction=self.direction,
            similarity=self.similarity,
        )


@dataclasses.dataclass(frozen=True)
@ranged
class Reconstruction:
    """A decoder that reconstructs each augmented view from its features.

    The error is the mean square over the pixels of (view - mean) / std.

    Attributes:
      decoder: features [b, f] to images [b, h, w, c].
      mean: of each channel, or one for all, in units of [0, 1].
      std: likewise; pixels are compared in units of it.
      target: "color", or "gray", the mean of the channels.
      reads: "features"; or "features and label", the label as a one-hot vector after
        the features, so that they need not encode the class.
    """

    decoder: Network
    weight: Positive = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[Positive, ...] = (1.0,)
    target: Literal["color", "gray"] = "color"
    # Deviation: the paper calls the autoencoder class-conditional; in the released code
    # the decoder never sees the class, which the encoder learns by cross-entropy alone.
    reads: Literal["features", "features and label"] = "features"

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.std:
            raise ValueError(
                f"Reconstruction.mean {self.mean} and std {self.std} must hold one "
                f"number per channel each."
            )

    def targets(self, images: Float[Array, "b h w c"]) -> Float[Array, "b h w t"]:
        """What the decoder should output for images: [b, h, w, c], or [b, h, w, 1]."""
        channels = images.shape[-1]
        if len(self.mean) not in (1, channels):
            raise ValueError(
                f"Reconstruction.mean has {len(self.mean)} channels, the images have "
                f"{channels}: give {channels} numbers, or one for all."
            )
        mean, std = (jnp.asarray(x, images.dtype) for x in (self.mean, self.std))
        pixels = (images - mean.reshape(1, 1, 1, -1)) / std.reshape(1, 1, 1, -1)
        if self.target == "gray":
            pixels = pixels.mean(axis=-1, keepdims=True)
        return pixels

    def to_images(self, decoded: Float[Array, "b h w t"]) -> Float[Array, "b h w t"]:
        """Decoded images in units of [0, 1]; gray ones by the channels' averages."""
        mean, std = (jnp.asarray(x, decoded.dtype) for x in (self.mean, self.std))
        if self.target == "gray":
            mean, std = mean.mean(keepdims=True), std.mean(keepdims=True)
        return decoded * std.reshape(1, 1, 1, -1) + mean.reshape(1, 1, 1, -1)

    def input(
        self, features: Float[Array, "b f"], labels: Int[Array, " b"], classes: int
    ) -> Float[Array, "b g"]:
        """The decoder's input for images with these labels in [0, classes)."""
        if self.reads == "features":
            return features
        onehot = jax.nn.one_hot(labels, classes, dtype=features.dtype)
        return jnp.concatenate([features, onehot], axis=-1)
