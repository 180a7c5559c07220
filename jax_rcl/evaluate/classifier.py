"""What evaluators under shifts and distortions ask of a classifier, and of a restorer.

A classifier is `HeadAccuracy`, `LinearProbe` or anything else of this form: it has test
images, and scores for what a layer of the encoder gives.
"""

from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int32

from jax_rcl.core import Encode, Operation, Source
from jax_rcl.evaluate import metrics
from jax_rcl.evaluate.features import features


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
        """Scores and labels of a source whose images are treated as the test images.

        That is prepared and, where the classifier has a distortion, distorted.
        """
        ...

    def scored(
        self, encode: Encode, given: Float[np.ndarray, "n f"]
    ) -> Float[np.ndarray, "n k"]:
        """A score for every class that belongs to what `layer` gave for images."""
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


def undistorted(
    classifier: Classifier, encode: Encode, source: Source
) -> tuple[Float[np.ndarray, "m k"], Int32[np.ndarray, " m"]]:
    """Scores for every image as it is, only prepared, and the labels."""
    given, labels = features(
        encode,
        source,
        layer=classifier.layer,
        preprocess=classifier.preprocess,
        batch_size=classifier.batch_size,
    )
    return classifier.scored(encode, given), labels


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


def check_draws(name: str, draws: int) -> None:
    """Raises ValueError unless the setting `name` can be the seed of two draws."""
    if not 0 <= draws < 2**31:
        raise ValueError(f"{name} {draws} must lie in [0, 2^31); it is a seed.")


def seed_of(part: Literal["train", "test"], draws: int) -> int:
    """The seed that images of a part are distorted by, another one for each part."""
    return 2 * draws + (part == "test")


def told(distortion: Operation | None, draws: int) -> str:
    """What a protocol says of the distortion of its images; nothing of none."""
    if distortion is None:
        return ""
    return f", all images distorted by {distortion}, draws {draws}, but for clean/…"
