"""Accuracy of the classifier that was trained itself."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int32

from jax_rcl.artifacts import Finding
from jax_rcl.core import Encode, Source, When
from jax_rcl.evaluate.classifier import DistortableClassifier, Mapped, accuracies, show
from jax_rcl.evaluate.findings import MOST_POINTS
from jax_rcl.evaluate.when import Every


@dataclasses.dataclass(frozen=True)
class HeadAccuracy(DistortableClassifier):
    """How often the highest logit of a trained head is that of the right class.

    Attributes:
      test: the images that are classified.
      embedded: the layer that the map of the test images shows.
      mapped: images on that map, at most; 0 for no map.
    """

    test: Source
    _: dataclasses.KW_ONLY
    layer: str = "logits"
    embedded: str = "features"
    mapped: Mapped = MOST_POINTS
    when: When = dataclasses.field(default=Every(epochs=1))

    @property
    def needs(self) -> frozenset[str]:
        """Names of the layers that it reads."""
        return frozenset({self.layer, self.embedded} if self.mapped else {self.layer})

    @property
    def protocol(self) -> str:
        """One line that says what the numbers mean."""
        return (
            f"highest of the trained {self.layer!r} for {len(self.test)} test images "
            f"of {len(self.test.class_names)} classes{self.distortion_protocol}"
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

        Raises:
          ValueError: if the head has another number of classes than the test set.
        """
        return accuracies(self, encode, self.distortion)

    def findings(self, encode: Encode) -> dict[str, Finding]:
        """Which classes are taken for which, and a map of the test images."""
        if not self.mapped:
            return show(self, encode)
        embedded, _ = self.features(encode, self.test, layer=self.embedded)
        return show(self, encode, embedded, mapped=self.mapped)

    def scores(
        self, encode: Encode, source: Source
    ) -> tuple[Float[np.ndarray, "m k"], Int32[np.ndarray, " m"]]:
        """See `Classifier`."""
        logits, labels = self.features(encode, source)
        return self.scored(encode, logits), labels

    def scored(
        self, encode: Encode, values: Float[np.ndarray, "n f"]
    ) -> Float[np.ndarray, "n k"]:
        """The logits as they are.

        Raises:
          ValueError: if the head has another number of classes than the test set.
        """
        del encode
        if values.shape[1] != len(self.test.class_names):
            raise ValueError(
                f"the head tells {values.shape[1]} classes apart, but the test set has "
                f"{len(self.test.class_names)}; give the head as many outputs."
            )
        return values
