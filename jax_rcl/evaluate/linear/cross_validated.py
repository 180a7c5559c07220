"""Linear evaluation with a regularisation that is chosen by cross-validation."""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float, Int32

from jax_rcl.artifacts import Finding
from jax_rcl.core import Encode, Operation, Source, When
from jax_rcl.data.records import labels_of
from jax_rcl.evaluate import metrics
from jax_rcl.evaluate.features import features, once, shared_classes
from jax_rcl.evaluate.findings import MOST_POINTS, confusion, embedding
from jax_rcl.evaluate.linear.folds import held_out
from jax_rcl.evaluate.linear.grid import (
    STRENGTHS,
    WEIGHT_DECAYS,
    ChosenClassifier,
    LinearGrid,
)
from jax_rcl.evaluate.linear.plain_sgd import PlainSgd
from jax_rcl.evaluate.when import AtEnd


@dataclasses.dataclass(frozen=True)
class CrossValidated:
    """Accuracy of a linear classifier on features as they are, chosen in folds.

    The protocol of Dufumier et al. 2023 (https://arxiv.org/abs/2206.01646), as in the
    released code. Features are neither standardised nor normalised. Every candidate is
    fitted on what each of the stratified folds leaves of the training images, in their
    order, and judged by balanced accuracy on what it holds out; of equals the first in
    the grid is taken. The classifier that is tested is fitted on all training images.

    Below 20,000 training images it is scikit-learn's LogisticRegression, with its C in
    `strengths`; from there on a linear layer trained by SGD, with `weight_decays`.

    Deviation: the released code ends the logistic regression after 150 passes of saga,
    too few for a weak penalty. Here each problem is solved to `tolerance`, and
    `converged` tells whether it was. The released code also shuffles the images before
    the folds are made, and with recent versions of scikit-learn makes those of SGD
    without regard to the classes; here both families have the same stratified folds, in
    the order of the source.

    Attributes:
      train: the images fitted on.
      test: the images that are classified.
      layer: which of the encoder's features.
      family: "by size" as above, or one of the two whatever the size.
      strengths: inverse strengths of the penalty of the logistic regression, C, rising.
      weight_decays: of SGD. Of either, a single candidate needs no folds.
      folds: how many.
      tolerance: of the logistic regression, as a share of its objective; see
        `logistic_grid`.
      max_iterations: of the logistic regression.
      sgd: how SGD trains.
      seed: decides the starts and orders of SGD, and the map.
      mapped: images on the map of the test features, at most; 0 for no map.
      preprocess: deterministic operation on each image, or None.
      batch_size: images per call of the encoder.
      when: when it is measured.

    Raises:
      ValueError: if a value is out of its range.
    """

    train: Source
    test: Source
    layer: str = "features"
    family: Literal["by size", "logistic", "sgd"] = "by size"
    strengths: tuple[float, ...] = STRENGTHS
    weight_decays: tuple[float, ...] = WEIGHT_DECAYS
    folds: int = 3
    tolerance: float = 1e-8
    max_iterations: int = 1000
    sgd: PlainSgd = dataclasses.field(default=PlainSgd())
    seed: int = 0
    mapped: int = MOST_POINTS
    preprocess: Operation | None = None
    batch_size: int = 256
    when: When = dataclasses.field(default=AtEnd())

    def __post_init__(self) -> None:
        """Checks the numbers; what needs the data is in `check`."""
        if self.mapped < 0:
            raise ValueError(
                f"CrossValidated.mapped {self.mapped} must be 0, for no map, or more."
            )
        if self.batch_size < 1:
            raise ValueError(
                f"CrossValidated.batch_size {self.batch_size} must be at least 1."
            )
        _ = self.grid  # which checks its own

    @property
    def grid(self) -> LinearGrid:
        """How classifiers are fitted and one is chosen."""
        names = (field.name for field in dataclasses.fields(LinearGrid))
        return LinearGrid(**{name: getattr(self, name) for name in names})

    @property
    def embedded(self) -> str:
        """The layer that the map of the test images shows."""
        return self.layer

    @property
    def needs(self) -> frozenset[str]:
        """Names of the layers that it reads."""
        return frozenset({self.layer})

    @property
    def protocol(self) -> str:
        """One line that says what the numbers mean."""
        return (
            f"{self.grid.described(self.layer, len(self.train))}, {len(self.test)} "
            f"test images of {len(self.test.class_names)} classes"
        )

    def check(self) -> None:
        """Compares the sources with each other, and makes the folds.

        Raises:
          ValueError: if train and test are equal, their classes differ, or no class has
            an image for each fold.
        """
        shared_classes(self.train, self.test)
        if len(self.grid.candidates(len(self.train))) > 1:
            labels = labels_of(self.train)
            held_out(labels, np.ones(len(labels), bool), self.folds)

    def run(self, encode: Encode) -> dict[str, float]:
        """Numbers of `metrics.classification`, and how they came about.

        Returns:
          Besides these: `chosen`, the C or the weight decay; `validation`, its mean
          balanced accuracy in the folds, where there was a choice; `converged`, 1.0 if
          the fit of the classifier that was tested was done, else 0.0.

        Raises:
          ValueError: if the sources do not fit, fewer than two classes have images, no
            class has an image for each fold, or SGD diverged.
        """
        own = self.fit(encode).numbers()
        return {**metrics.classification(*self.scores(encode, self.test)), **own}

    def scores(
        self, encode: Encode, source: Source
    ) -> tuple[Float[np.ndarray, "m k"], Int32[np.ndarray, " m"]]:
        """A score for every class of every image of a source, and the labels.

        The images are prepared as those of the test set, and their classes are its own.
        """
        given, labels = self._features(encode, source)
        return self.scored(encode, given), labels

    def scored(
        self, encode: Encode, given: Float[np.ndarray, "n f"]
    ) -> Float[np.ndarray, "n k"]:
        """The scores that belong to what `layer` gave, by the fitted classifier."""
        return self.fit(encode).scores(given)

    def fit(self, encode: Encode) -> ChosenClassifier:
        """The classifier; chosen once for each `encode`."""
        # Not `check`, whose folds would be made once more each time this is asked for.
        shared_classes(self.train, self.test)
        return once(
            encode, self, lambda: self._fit(*self._features(encode, self.train))
        )

    def findings(self, encode: Encode) -> dict[str, Finding]:
        """Which classes are taken for which, the choice, a map of the test features.

        After `run` with the same `encode`, which is not called again.
        """
        chosen = self.fit(encode)
        test, labels = self._features(encode, self.test)
        names = self.test.class_names
        predicted = chosen.scores(test).argmax(axis=1)
        found: dict[str, Finding] = {"confusion": confusion(labels, predicted, names)}
        if len(chosen.validation):
            found["validation"] = chosen.table()
        if self.mapped:
            found["embedding"] = embedding(
                test, labels, names, seed=self.seed, most=self.mapped
            )
        return found

    def _features(
        self, encode: Encode, source: Source
    ) -> tuple[np.ndarray, np.ndarray]:
        return features(
            encode,
            source,
            layer=self.layer,
            preprocess=self.preprocess,
            batch_size=self.batch_size,
        )

    def _fit(self, x: np.ndarray, labels: np.ndarray) -> ChosenClassifier:
        task = labels, np.ones(len(labels), bool)
        (chosen,) = self.grid.fits(x, [task], classes=len(self.train.class_names))
        return chosen
