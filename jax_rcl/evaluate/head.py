"""Accuracy of the classifier that was trained itself."""

import dataclasses

import numpy as np
from jaxtyping import Float

from jax_rcl.artifacts import Finding
from jax_rcl.core import Encode, Source, When
from jax_rcl.evaluate.classifier import DistortableClassifier, Mapped
from jax_rcl.evaluate.features import check_labelled
from jax_rcl.evaluate.findings import MOST_POINTS
from jax_rcl.evaluate.when import Every


@dataclasses.dataclass(frozen=True)
class HeadAccuracy(DistortableClassifier):
    """How often the highest logit of a trained head is that of the right class.

    Attributes:
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
        return frozenset({self.layer, self.embedded} if self.mapped else {self.layer})

    @property
    def protocol(self) -> str:
        return (
            f"highest of the trained {self.layer!r} for {len(self.test)} test images "
            f"of {len(self.test.class_names)} classes{self.distortion_protocol}"
        )

    def check(self) -> None:
        """Raises ValueError if the test set has no classes; `run` reads the head."""
        check_labelled(self.test)

    def findings(self, encode: Encode) -> dict[str, Finding]:
        """Which classes are taken for which, and a map of the test images."""
        return self.show(encode, self.mapped)

    def scored(
        self, encode: Encode, values: Float[np.ndarray, "n f"]
    ) -> Float[np.ndarray, "n k"]:
        """The logits as they are, which must be as many as the classes."""
        del encode
        if values.shape[1] != len(self.test.class_names):
            raise ValueError(
                f"the head tells {values.shape[1]} classes apart, but the test set has "
                f"{len(self.test.class_names)}; give the head as many outputs."
            )
        return values
