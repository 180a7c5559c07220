"""Accuracy of the classifier that was trained itself."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int32

from jax_rcl.artifacts import Finding
from jax_rcl.core import Encode, Operation, Source, When
from jax_rcl.evaluate.classifier import accuracies, check_draws, seed_of, told
from jax_rcl.evaluate.features import features
from jax_rcl.evaluate.findings import MOST_POINTS, confusion, embedding
from jax_rcl.evaluate.when import Every


@dataclasses.dataclass(frozen=True)
class HeadAccuracy:
    """How often the highest logit of a trained head is that of the right class.

    Attributes:
      test: the images that are classified.
      layer: the name of the logits among what the objective's `encode` gives.
      embedded: the layer that the map of the test images shows.
      mapped: images on that map, at most; 0 for no map. Two thousand take 20 seconds.
      preprocess: deterministic operation on each image, or None.
      batch_size: images per call of the encoder.
      distortion: what is done to each image after `preprocess`, or None.
      draws: the seed of the distortion.
      when: when it is measured.

    Raises:
      ValueError: if a number is out of its range.
    """

    test: Source
    layer: str = "logits"
    embedded: str = "features"
    mapped: int = MOST_POINTS
    preprocess: Operation | None = None
    batch_size: int = 256
    distortion: Operation | None = None
    draws: int = 0
    when: When = dataclasses.field(default=Every(epochs=1))

    def __post_init__(self) -> None:
        """Checks the numbers; what needs the data is in `check`."""
        if self.mapped < 0:
            raise ValueError(
                f"HeadAccuracy.mapped {self.mapped} must be 0, for no map, or more."
            )
        check_draws("HeadAccuracy.draws", self.draws)
        if self.batch_size < 1:
            raise ValueError(
                f"HeadAccuracy.batch_size {self.batch_size} must be at least 1."
            )

    @property
    def needs(self) -> frozenset[str]:
        """Names of the layers that it reads."""
        return frozenset({self.layer, self.embedded} if self.mapped else {self.layer})

    @property
    def protocol(self) -> str:
        """One line that says what the numbers mean."""
        return (
            f"highest of the trained {self.layer!r} for {len(self.test)} test images "
            f"of {len(self.test.class_names)} classes"
            f"{told(self.distortion, self.draws)}"
        )

    def check(self) -> None:
        """Reads the test set's names and size; `run` checks that the head fits them.

        Raises:
          ValueError: if it has no classes.
        """
        if len(self.test.class_names) < 2:
            raise ValueError(f"{self.test} names no classes; use a labelled source.")

    def run(self, encode: Encode) -> dict[str, float]:
        """`top1`, `balanced`, `top5` beyond five classes, `auroc` for two.

        With a distortion, `clean/top1` and so on are of the test images without it.

        Raises:
          ValueError: if the head has another number of classes than the test set.
        """
        return accuracies(self, encode, self.distortion)

    def findings(self, encode: Encode) -> dict[str, Finding]:
        """Which classes are taken for which, and a map of the test images."""
        logits, labels = self.scores(encode, self.test)
        names = self.test.class_names
        found: dict[str, Finding] = {
            "confusion": confusion(labels, logits.argmax(axis=1), names)
        }
        if self.mapped:
            shown, _ = self._layer(encode, self.test, self.embedded)
            found["embedding"] = embedding(shown, labels, names, most=self.mapped)
        return found

    def scores(
        self, encode: Encode, source: Source
    ) -> tuple[Float[np.ndarray, "m k"], Int32[np.ndarray, " m"]]:
        """A score for every class of every image of a source, and the labels.

        The images are prepared and distorted as those of the test set, and their
        classes are its own.
        """
        logits, labels = self._layer(encode, source, self.layer)
        return self.scored(encode, logits), labels

    def scored(
        self, encode: Encode, given: Float[np.ndarray, "n f"]
    ) -> Float[np.ndarray, "n k"]:
        """The scores that belong to what `layer` gave: just these.

        Raises:
          ValueError: if the head has another number of classes than the test set.
        """
        del encode
        if given.shape[1] != len(self.test.class_names):
            raise ValueError(
                f"the head tells {given.shape[1]} classes apart, but the test set has "
                f"{len(self.test.class_names)}; give the head as many outputs."
            )
        return given

    def _layer(
        self, encode: Encode, source: Source, layer: str
    ) -> tuple[np.ndarray, np.ndarray]:
        return features(
            encode,
            source,
            layer=layer,
            preprocess=self.preprocess,
            batch_size=self.batch_size,
            distortion=self.distortion,
            seed=seed_of("test", self.draws),
        )
