"""What evaluators under shifts and distortions ask of a classifier, and of a restorer.

A classifier is `HeadAccuracy`, `LinearProbe`, `CrossValidated`, `ZeroShot` or anything
else with test images and scores for a layer of the encoder.
"""

import dataclasses
from typing import Annotated, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32

from jax_rcl.artifacts import Finding
from jax_rcl.core import Encode, Operation, Source
from jax_rcl.evaluate import metrics
from jax_rcl.evaluate.features import LayerEvaluator, features
from jax_rcl.evaluate.findings import confusion, embedding
from jax_rcl.ranges import AtLeast, Within


@runtime_checkable
class Classifier(Protocol):
    """Tells the classes of images apart by a layer of an encoder.

    Attributes:
      test: the images that it is measured on; its classes are theirs.
      layer: which of the encoder's layers it reads.
      preprocess: deterministic operation on each image, or None.
      batch_size: images per call of the encoder.
      protocol: one line that says what its numbers mean.
    """

    @property
    def test(self) -> Source: ...

    @property
    def layer(self) -> str: ...

    @property
    def preprocess(self) -> Operation | None: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def protocol(self) -> str: ...

    def check(self) -> None:
        """Raises ValueError for what cannot work, before anything is trained."""
        ...

    def scores(
        self, encode: Encode, source: Source
    ) -> tuple[Float[np.ndarray, "m k"], Int32[np.ndarray, " m"]]:
        """A score for every class of every image of a source, and the labels.

        The images are prepared and distorted as those of the test set, and their
        classes are the same.
        """
        ...

    def scored(
        self, encode: Encode, values: Float[np.ndarray, "n f"]
    ) -> Float[np.ndarray, "n k"]:
        """A score for every class, of what `layer` gave for each image."""
        ...


@runtime_checkable
class Restorer(Protocol):
    """Undoes a distortion as well as it can, before the images are classified.

    Attributes:
      reads: what it needs; a mask says which pixels are known.
      protocol: a few words that say what it does.
    """

    @property
    def reads(self) -> Literal["images", "images and mask"]: ...

    @property
    def protocol(self) -> str: ...

    def __call__(
        self,
        images: Float[np.ndarray, "n h w c"],
        known: Bool[np.ndarray, "n h w 1"] | None,
    ) -> Float[np.ndarray, "n h w c"]:
        """Images as they may have been; `known` is None unless a mask is read."""
        ...


Draws = Annotated[int, Within(0, 2**31, open="high", hint="as it is a seed")]
"""The seed of a distortion; it makes two seeds of 32 bits, see `seed_of`."""

Mapped = Annotated[int, AtLeast(0, "where 0 shows none")]
"""Images on a map of test features, at most; two thousand take 20 seconds."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistortableClassifier(LayerEvaluator):
    """What classifiers have in common whose images may be distorted.

    Training and test images are distorted, each once; they draw differently. Numbers
    then come with those of the same classifier on the clean test images, `clean/…`.

    Attributes:
      distortion: what is done to each image after `preprocess`, or None.
      draws: the seed of the distortion.
    """

    distortion: Operation | None = None
    draws: Draws = 0

    @property
    def distortion_protocol(self) -> str:
        """What the protocol says of the distortion; nothing without one."""
        if self.distortion is None:
            return ""
        return (
            f", all images distorted by {self.distortion}, draws {self.draws}, but for "
            f"clean/…"
        )

    def features(
        self,
        encode: Encode,
        source: Source,
        *,
        layer: str | None = None,
        part: Literal["train", "test"] = "test",
    ) -> tuple[Float32[np.ndarray, "m f"], Int32[np.ndarray, " m"]]:
        """A layer for every image, distorted as those of a part are, and the labels."""
        return features(
            encode,
            source,
            layer=layer or self.layer,
            preprocess=self.preprocess,
            batch_size=self.batch_size,
            distortion=self.distortion,
            seed=seed_of(part, self.draws),
        )


def undistorted(
    classifier: Classifier, encode: Encode, source: Source
) -> tuple[Float[np.ndarray, "m k"], Int32[np.ndarray, " m"]]:
    """Scores for every image as it is, only prepared, and the labels."""
    values, labels = features(
        encode,
        source,
        layer=classifier.layer,
        preprocess=classifier.preprocess,
        batch_size=classifier.batch_size,
    )
    return classifier.scored(encode, values), labels


def accuracies(
    classifier: Classifier, encode: Encode, distortion: Operation | None
) -> dict[str, float]:
    """Numbers of `metrics.classification` for the test images of a classifier.

    Args:
      classifier: whose.
      encode: what it reads.
      distortion: of its test images; where there is one, `clean/<number>` is of the
        same images and the same classifier without it.
    """
    numbers = metrics.classification(*classifier.scores(encode, classifier.test))
    if distortion is None:
        return numbers
    clean = metrics.classification(*undistorted(classifier, encode, classifier.test))
    return numbers | {f"clean/{name}": value for name, value in clean.items()}


def seed_of(part: Literal["train", "test"], draws: int) -> int:
    """The seed by which images of a part are distorted, a different one for each."""
    return 2 * draws + (part == "test")


def show(
    classifier: Classifier,
    encode: Encode,
    features: Float[np.ndarray, "n f"] | None = None,
    *,
    mapped: int = 0,
    seed: int = 0,
) -> dict[str, Finding]:
    """Which classes are taken for which, and a map of the test features.

    The map shows at most `mapped` images; there is none with 0, or without features.
    """
    scores, labels = classifier.scores(encode, classifier.test)
    names = classifier.test.class_names
    found: dict[str, Finding] = {
        "confusion": confusion(labels, scores.argmax(axis=1), names)
    }
    if features is not None and mapped:
        found["embedding"] = embedding(features, labels, names, seed=seed, most=mapped)
    return found
