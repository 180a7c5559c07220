"""What evaluators under shifts and distortions ask of a classifier, and of a restorer.

A classifier is `HeadAccuracy`, `LinearProbe`, `CrossValidated`, `ZeroShot` or anything
else with test images and scores for a layer of the encoder.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, runtime_checkable

import numpy as np
import tqdm
from jaxtyping import Bool, Float, Float32, Int32

from jax_rcl import parallel
from jax_rcl.artifacts import Finding
from jax_rcl.core import Encode, Operation, Source
from jax_rcl.evaluate import metrics
from jax_rcl.evaluate.features import LayerEvaluator, check_finite, features
from jax_rcl.evaluate.findings import confusion, embedding
from jax_rcl.ranges import AtLeast, Within


@runtime_checkable
class Classifier(Protocol):
    """Tells the classes of images apart by a layer of an encoder.

    Attributes:
      test: the images that it is measured on; its classes are theirs.
      layer, preprocess, batch_size: as for `features.LayerEvaluator`.
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

    It may have `cost`, a few words on how long an image takes. What takes long calls
    `done` with how many images, or parts of one, it has come further.
    """

    @property
    def reads(self) -> Literal["images", "images and mask"]: ...

    @property
    def protocol(self) -> str: ...

    def __call__(
        self,
        images: Float[np.ndarray, "n h w c"],
        known: Bool[np.ndarray, "n h w 1"] | None,
        done: Callable[[float], object],
    ) -> Float[np.ndarray, "n h w c"]:
        """Images as they may have been; `known` is None unless a mask is read."""
        ...


Draws = Annotated[int, Within(0, 2**31, open="high", hint="as it is a seed")]
"""The seed of a distortion; it makes two of 32 bits, of training and test images."""

Mapped = Annotated[int, AtLeast(0, "where 0 shows none")]
"""Images on a map of test features, at most; two thousand take 20 seconds."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerClassifier(LayerEvaluator):
    """What the classifiers of this package have in common; see `Classifier`."""

    if TYPE_CHECKING:

        @property
        def test(self) -> Source: ...

        @property
        def protocol(self) -> str: ...

        def check(self) -> None: ...

    @property
    def embedded(self) -> str:
        """The layer that the map of the test images shows."""
        return self.layer

    def scored(
        self, encode: Encode, values: Float[np.ndarray, "n f"]
    ) -> Float[np.ndarray, "n k"]:
        """See `Classifier`."""
        raise NotImplementedError

    def scores(
        self, encode: Encode, source: Source
    ) -> tuple[Float[np.ndarray, "m k"], Int32[np.ndarray, " m"]]:
        """A score for every class of every image of a source, and the labels.

        The images are prepared and distorted as those of the test set, and their
        classes are the same.
        """
        values, labels = self.features(encode, source)
        return self.scored(encode, values), labels

    def run(self, encode: Encode) -> dict[str, float]:
        """`top1`, `balanced`, `top5` beyond five classes, `auroc` for two."""
        return metrics.classification(*self.scores(encode, self.test))

    def show(
        self, encode: Encode, mapped: int = 0, seed: int = 0
    ) -> dict[str, Finding]:
        """Which classes are taken for which, and a map of at most so many test images.

        After `run` with the same `encode`, which is not called again.
        """
        scores, labels = self.scores(encode, self.test)
        predicted, names = scores.argmax(axis=1), self.test.class_names
        found: dict[str, Finding] = {"confusion": confusion(labels, predicted, names)}
        if mapped:
            values, _ = self.features(encode, self.test, layer=self.embedded)
            found["embedding"] = embedding(
                values, labels, names, seed=seed, most=mapped
            )
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistortableClassifier(LayerClassifier):
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
        layer: str = "",
        part: Literal["train", "test"] = "test",
    ) -> tuple[Float32[np.ndarray, "m f"], Int32[np.ndarray, " m"]]:
        """A layer for every image, distorted as those of a part are, and the labels."""
        seed = 2 * self.draws + (part == "test")
        drawn = {"distortion": self.distortion, "seed": seed}
        return super().features(encode, source, layer=layer, **drawn)

    def run(self, encode: Encode) -> dict[str, float]:
        """`top1`, `balanced`, `top5` beyond five classes, `auroc` for two.

        With a distortion `clean/<number>` is of the same images without it.
        """
        numbers = super().run(encode)
        if self.distortion is None:
            return numbers
        clean = metrics.classification(*undistorted(self, encode, self.test))
        return numbers | {f"clean/{name}": value for name, value in clean.items()}


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


def score(
    classifier: Classifier, encode: Encode, images: Any, count: int, of: str
) -> Float[np.ndarray, "_ k"]:
    """Scores of the first `count` of some images, which a message calls `of`."""
    values = np.asarray(encode(images)[classifier.layer], np.float32)[:count]
    check_finite(values, classifier.layer, of)
    return classifier.scored(encode, values)


def progress(total: int, name: str, delay: float = 2) -> tqdm.tqdm:
    """A bar for so many images, shown by the process that prints, with time left."""
    options = {"unit": " images", "disable": not parallel.is_main(), "delay": delay}
    form = (
        "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total_fmt}"
        " [{elapsed}<{remaining}, {rate_fmt}]"
    )
    return tqdm.tqdm(total=total, desc=name, bar_format=form, **options)
