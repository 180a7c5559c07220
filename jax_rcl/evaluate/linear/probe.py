"""Linear probe: multinomial logistic regression on frozen features."""

import dataclasses
import functools
from typing import Annotated

import jax
import numpy as np
from jaxtyping import Bool, Float, Integer
from sklearn.metrics import accuracy_score

from jax_rcl.artifacts import Finding
from jax_rcl.core import Encode, Source
from jax_rcl.data.records import known_labels
from jax_rcl.evaluate.classifier import DistortableClassifier, Mapped
from jax_rcl.evaluate.features import once, shared_classes
from jax_rcl.evaluate.findings import MOST_POINTS
from jax_rcl.evaluate.linear.choice import (
    check_two_classes,
    hold_out_share,
    validate,
    warn_of_choice,
)
from jax_rcl.evaluate.linear.grid import LinearClassifier, check_rising
from jax_rcl.evaluate.linear.logistic import logistic_probe
from jax_rcl.ranges import Above, Count, Within, ranged

STRENGTHS = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
"""From hardly any regularisation to class means, for standardised features."""


@dataclasses.dataclass(frozen=True)
@ranged
class LinearProbe(DistortableClassifier):
    """Accuracy of a linear classifier fitted on features of the training images.

    The classifier minimises, over W [f, k] and b [k],

      mean_i cross_entropy(W^T x_i + b, y_i) + strength / 2 ‖W‖²

    where x_i are the features less their mean and divided by their standard deviation,
    both of the images fitted on; b is not regularised. scikit-learn's
    LogisticRegression reaches the same W for C = 1 / (strength m), with m images and
    more than two classes. For two it fits one vector, the difference of our two, and
    C = 2 / (strength m).

    The strength is the one with the highest accuracy on a share of each class that is
    held out of the training set, of equals the strongest; then the classifier is fitted
    again on the whole training set.

    Attributes:
      strengths: candidates, rising. With a single one nothing is held out.
      held_out: share of each class that decides between them.
      seed: of the images that are held out, and of the map.
      tolerance: converged when no entry of the gradient is larger in absolute value,
        and one more step promises to lower the objective by a tenth of this share of it
        at most.
      max_iterations: evaluations of the objective by L-BFGS, for each strength.
    """

    train: Source
    test: Source
    _: dataclasses.KW_ONLY
    strengths: tuple[Annotated[float, Above(0)], ...] = STRENGTHS
    held_out: Annotated[
        float, Within(0, 0.5, "low", "to hold nothing out give a single strength")
    ] = 0.1
    seed: int = 0
    tolerance: Annotated[float, Above(0, "such as 1e-5")] = 1e-5
    max_iterations: Count = 500
    mapped: Mapped = MOST_POINTS

    def __post_init__(self) -> None:
        check_rising("LinearProbe.strengths", self.strengths, STRENGTHS)

    @property
    def protocol(self) -> str:
        choice = f"strength {self.strengths[0]:g}"
        if len(self.strengths) > 1:
            choice = (
                f"strength of {len(self.strengths)} in [{self.strengths[0]:g}, "
                f"{self.strengths[-1]:g}] chosen on {self.held_out:.0%} held out"
            )
        return (
            f"logistic regression on standardised {self.layer!r} of {len(self.train)} "
            f"training images, {len(self.test)} test images of "
            f"{len(self.test.class_names)} classes, L2 {choice}, L-BFGS to "
            f"{self.tolerance:g}{self.distortion_protocol}"
        )

    def check(self) -> None:
        """Compares the sources with each other; holds out, where labels are known."""
        shared_classes(self.train, self.test)
        labels = known_labels(self.train)
        if labels is not None:
            self._hold_out(labels)

    def run(self, encode: Encode) -> dict[str, float]:
        """Numbers of `metrics.classification`, and how they came about.

        `strength` is the chosen one, `converged` 1.0 if the classifier that was tested
        reached the tolerance, else 0.0.
        """
        fitted = self.fit(encode)
        chosen = {"strength": fitted.candidate, "converged": float(fitted.converged)}
        return super().run(encode) | chosen

    def scored(
        self, encode: Encode, values: Float[np.ndarray, "n f"]
    ) -> Float[np.ndarray, "n k"]:
        """See `Classifier`; there must be as many features as it was fitted on."""
        fitted = self.fit(encode)
        if values.shape[1] != len(fitted.weights):
            raise ValueError(
                f"the probe was fitted on {len(fitted.weights)} features "
                f"{self.layer!r} of each image, but was given {values.shape[1]}; use "
                f"those of the same encoder, for images of the same size."
            )
        return fitted.scores(values)

    def fit(self, encode: Encode) -> LinearClassifier:
        """The classifier; fitted once for each `encode`."""
        shared_classes(self.train, self.test)
        return once(
            encode,
            self,
            lambda: self._fit(*self.features(encode, self.train, part="train")),
        )

    def findings(self, encode: Encode) -> dict[str, Finding]:
        """Which classes the probe takes for which, and a map of the test features."""
        return self.show(encode, self.mapped, self.seed)

    def _hold_out(
        self, labels: Integer[np.ndarray, " m"]
    ) -> Bool[np.ndarray, " m"] | None:
        """Which images decide between strengths, if there are several."""
        check_two_classes(labels)
        if len(self.strengths) == 1:
            return None
        # Of each class some stay, so that there are two classes to fit on.
        return hold_out_share(labels, share=self.held_out, seed=self.seed)

    def _fit(
        self, x: Float[np.ndarray, "m f"], labels: Integer[np.ndarray, " m"]
    ) -> LinearClassifier:
        """Chooses the strength and fits on everything with it."""
        candidates, best = self.strengths, 0
        validation = np.zeros((0, len(candidates)))
        means, converged = np.zeros(len(candidates)), np.ones(len(candidates), bool)
        solve = functools.partial(
            logistic_probe,
            classes=len(self.train.class_names),
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )
        held = self._hold_out(labels)
        if held is not None:
            z, _, _ = standardise(x, ~held)
            found = solve(z, labels, ~held, strengths=candidates)
            z, converged = jax.device_put(z), found.converged[0]
            validation = validate(z, labels, held[None], found, accuracy_score)
            means = validation[0]
            best = int(np.flatnonzero(means == means.max())[-1])
        everything = np.ones(len(x), bool)
        z, mean, scale = standardise(x, everything)
        final = solve(z, labels, everything, strengths=candidates[best : best + 1])
        done = bool(final.converged[0, 0])
        converged = converged & ((np.arange(len(candidates)) != best) | done)
        warn_of_choice("strengths", candidates, means, best, converged)
        return LinearClassifier(
            *(final.weights[0, 0], final.bias[0, 0], candidates[best], done),
            *(candidates, validation, mean, scale),
        )


def standardise(
    x: Float[np.ndarray, "m f"], rows: np.ndarray
) -> tuple[Float[np.ndarray, "m f"], Float[np.ndarray, " f"], Float[np.ndarray, " f"]]:
    """Features less the mean of some rows over their standard deviation, and these."""
    mean = x[rows].mean(axis=0, dtype=np.float64)
    scale = x[rows].std(axis=0, dtype=np.float64)
    # What varies less than this is rounding, which must not be blown up to unit scale.
    scale = np.where(scale > 1e-6 * np.abs(mean), scale, 1.0)
    mean, scale = mean.astype(np.float32), scale.astype(np.float32)
    return (x - mean) / scale, mean, scale
