"""Linear evaluation with a regularisation chosen by cross-validation."""

import dataclasses

import numpy as np
from jaxtyping import Float

from jax_rcl.artifacts import Finding
from jax_rcl.core import Encode, Source
from jax_rcl.data.records import known_labels, labels_of
from jax_rcl.evaluate.classifier import LayerClassifier, Mapped
from jax_rcl.evaluate.features import once, shared_classes
from jax_rcl.evaluate.findings import MOST_POINTS
from jax_rcl.evaluate.linear.choice import split_folds
from jax_rcl.evaluate.linear.grid import LinearClassifier, LinearGrid


@dataclasses.dataclass(frozen=True)
class CrossValidated(LinearGrid, LayerClassifier):
    """Accuracy of a linear classifier on features as they are, chosen in folds.

    The protocol of Dufumier et al. 2023 (https://arxiv.org/abs/2206.01646), as in the
    released code. Features are neither standardised nor normalised. Every candidate is
    fitted on what each of the stratified folds leaves of the training images, in their
    order, and scored by balanced accuracy on what it holds out; of equals the first in
    the grid is taken. The classifier that is tested is fitted on all training images.

    Below 20,000 training images it is scikit-learn's LogisticRegression, with its C in
    `strengths`; from there on a linear layer trained by SGD, with `weight_decays`.

    Deviation: the released code ends the logistic regression after 150 passes of saga,
    too few for a weak penalty, as solver="saga" does. Here each problem is solved to
    `tolerance`, and `converged` tells whether it was. The released code also shuffles
    the images before the folds are made, and with recent versions of scikit-learn makes
    those of SGD without regard to the classes; here both families have the same
    stratified folds, in the order of the source.
    """

    train: Source
    test: Source
    _: dataclasses.KW_ONLY
    mapped: Mapped = MOST_POINTS

    @property
    def protocol(self) -> str:
        return (
            f"{self.describe(self.layer, len(self.train))}, {len(self.test)} test "
            f"images of {len(self.test.class_names)} classes"
        )

    def check(self) -> None:
        """Compares the sources with each other, and makes the folds."""
        shared_classes(self.train, self.test)
        several = len(self.candidates(len(self.train))) > 1
        labels = labels_of(self.train) if several else known_labels(self.train)
        if labels is not None:
            every = np.ones(len(labels), bool)
            split_folds(labels, every, self.folds if several else 0)

    def run(self, encode: Encode) -> dict[str, float]:
        """Numbers of `metrics.classification`, and how they came about.

        Returns:
          Besides these: `chosen`, the C or the weight decay; `validation`, its mean
          balanced accuracy in the folds, where there was a choice; `converged`, 1.0 if
          the fit of the classifier that was tested was done, else 0.0.
        """
        chosen = self.fit(encode).numbers()
        return super().run(encode) | chosen

    def scored(
        self, encode: Encode, values: Float[np.ndarray, "n f"]
    ) -> Float[np.ndarray, "n k"]:
        return self.fit(encode).scores(values)

    def fit(self, encode: Encode) -> LinearClassifier:
        """The classifier; chosen once for each `encode`."""
        # Not `check`, which would split the folds again at every call.
        shared_classes(self.train, self.test)

        def fit() -> LinearClassifier:
            x, labels = self.features(encode, self.train)
            task = labels, np.ones(len(labels), bool)
            return self.fit_tasks(x, [task], classes=len(self.train.class_names))[0]

        return once(encode, self, fit)

    def findings(self, encode: Encode) -> dict[str, Finding]:
        """Which classes are taken for which, the choice, a map of the test features."""
        chosen, found = self.fit(encode), self.show(encode, self.mapped, self.seed)
        return found | (
            {"validation": chosen.table()} if len(chosen.validation) else {}
        )
