"""Linear probe: multinomial logistic regression on frozen features."""

import dataclasses
import functools
import logging
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int32, Integer

from jax_rcl.artifacts import Finding
from jax_rcl.core import Encode, Operation, Source, When
from jax_rcl.evaluate.classifier import accuracies, check_draws, seed_of, told
from jax_rcl.evaluate.features import features, once, shared_classes
from jax_rcl.evaluate.findings import MOST_POINTS, confusion, embedding
from jax_rcl.evaluate.linear.logistic import Fitted, logistic_regression
from jax_rcl.evaluate.when import AtEnd

STRENGTHS = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
"""From hardly any regularisation to class means, for standardised features."""


@dataclasses.dataclass(frozen=True)
class LinearProbe:
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

    With a distortion, the training images are distorted, each once, and so are the test
    images; they draw differently. The same classifier on the clean test images has
    numbers of its own.

    Attributes:
      train: the images fitted on.
      test: the images that are classified.
      layer: which of the encoder's features.
      strengths: candidates, rising. With a single one nothing is held out.
      held_out: share of each class that decides between them, in (0, 0.5].
      seed: decides which images are held out.
      tolerance: converged when no entry of the gradient is larger in absolute value.
      max_iterations: of L-BFGS, for each strength.
      mapped: images on the map of the test features, at most; 0 for no map. Two
        thousand take 20 seconds.
      preprocess: deterministic operation on each image, or None.
      batch_size: images per call of the encoder.
      distortion: what is done to each image after `preprocess`, or None.
      draws: the seed of the distortion.
      when: when it is measured.

    Raises:
      ValueError: if a value is out of its range or the strengths are not rising.
    """

    train: Source
    test: Source
    layer: str = "features"
    strengths: tuple[float, ...] = STRENGTHS
    held_out: float = 0.1
    seed: int = 0
    tolerance: float = 1e-5
    max_iterations: int = 500
    mapped: int = MOST_POINTS
    preprocess: Operation | None = None
    batch_size: int = 256
    distortion: Operation | None = None
    draws: int = 0
    when: When = dataclasses.field(default=AtEnd())

    def __post_init__(self) -> None:
        """Checks the numbers; what needs the data is in `check`."""
        pairs = zip((0.0, *self.strengths), self.strengths, strict=False)
        if not self.strengths or not all(low < high for low, high in pairs):
            raise ValueError(
                f"LinearProbe.strengths {self.strengths} must be positive and rising; "
                f"the default is {STRENGTHS}."
            )
        if not 0 < self.held_out <= 0.5:
            raise ValueError(
                f"LinearProbe.held_out {self.held_out} must lie in (0, 0.5], a share "
                f"of the training set; to hold nothing out, give a single strength."
            )
        if not self.tolerance > 0:
            raise ValueError(
                f"LinearProbe.tolerance {self.tolerance} must be positive, "
                f"such as 1e-5."
            )
        if self.mapped < 0:
            raise ValueError(
                f"LinearProbe.mapped {self.mapped} must be 0, for no map, or more."
            )
        check_draws("LinearProbe.draws", self.draws)
        for name in ("max_iterations", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"LinearProbe.{name} {getattr(self, name)} must be at least 1."
                )

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
            f"{self.tolerance:g}{told(self.distortion, self.draws)}"
        )

    def check(self) -> None:
        """Compares the sources with each other; `run` does so first.

        Raises:
          ValueError: if train and test are equal or their classes differ.
        """
        shared_classes(self.train, self.test)

    def run(self, encode: Encode) -> dict[str, float]:
        """Numbers of `metrics.classification`, and how they came about.

        `strength` is the chosen one, `converged` 1.0 if the classifier that was tested
        reached the tolerance, else 0.0. With a distortion, `clean/top1` and so on are
        of the test images without it.

        Raises:
          ValueError: if the sources do not fit, or fewer than two classes have images.
        """
        fitted = self.fit(encode)
        numbers = accuracies(self, encode, self.distortion)
        converged = float(fitted.converged)
        return {**numbers, "strength": fitted.strength, "converged": converged}

    def scores(
        self, encode: Encode, source: Source
    ) -> tuple[Float[np.ndarray, "m k"], Int32[np.ndarray, " m"]]:
        """A score for every class of every image of a source, and the labels.

        The images are prepared and distorted as those of the test set, and their
        classes are its own.
        """
        given, labels = self._features(encode, source)
        return self.scored(encode, given), labels

    def scored(
        self, encode: Encode, given: Float[np.ndarray, "n f"]
    ) -> Float[np.ndarray, "n k"]:
        """The scores that belong to what `layer` gave, by the fitted classifier.

        Raises:
          ValueError: if these are not as many features as it was fitted on.
        """
        fitted = self.fit(encode)
        if given.shape[1] != len(fitted.mean):
            raise ValueError(
                f"the probe was fitted on {len(fitted.mean)} features {self.layer!r} "
                f"of each image, and is given {given.shape[1]}; give it those of the "
                f"same encoder, for images of the same size."
            )
        return fitted.scores(given)

    def fit(self, encode: Encode) -> Fitted:
        """The classifier; fitted once for each `encode`."""
        self.check()
        return once(
            encode,
            self,
            lambda: self._fit(*self._features(encode, self.train, "train")),
        )

    def findings(self, encode: Encode) -> dict[str, Finding]:
        """Which classes the probe takes for which, and a map of the test features.

        After `run` with the same `encode`, which is not called again.
        """
        fitted = self.fit(encode)
        test, labels = self._features(encode, self.test)
        names = self.test.class_names
        found: dict[str, Finding] = {
            "confusion": confusion(labels, fitted.predict(test), names)
        }
        if self.mapped:
            found["embedding"] = embedding(
                test, labels, names, seed=self.seed, most=self.mapped
            )
        return found

    def _features(
        self, encode: Encode, source: Source, part: Literal["train", "test"] = "test"
    ) -> tuple[np.ndarray, np.ndarray]:
        return features(
            encode,
            source,
            layer=self.layer,
            preprocess=self.preprocess,
            batch_size=self.batch_size,
            distortion=self.distortion,
            seed=seed_of(part, self.draws),
        )

    def _fit(
        self, x: Float[np.ndarray, "m f"], labels: Integer[np.ndarray, " m"]
    ) -> Fitted:
        """Chooses the strength and fits on everything with it."""
        fit = functools.partial(
            logistic_regression,
            x,
            labels,
            classes=len(self.train.class_names),
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )
        best, fits = 0, []
        if len(self.strengths) > 1:
            held = held_out_rows(labels, share=self.held_out, seed=self.seed)
            fits = fit(rows=~held, strengths=self.strengths)
            found = [(each.predict(x[held]) == labels[held]).mean() for each in fits]
            best = max(range(len(fits)), key=lambda place: (found[place], place))
            self._warn_at_edge(best, found)
        everything = np.ones(len(x), bool)
        (final,) = fit(rows=everything, strengths=self.strengths[best : best + 1])
        self._warn_if_slow([*fits, final])
        return final

    def _warn_at_edge(self, best: int, found: list[float]) -> None:
        """Says when a strength beyond the candidates may be better than all of them."""
        inner = {0: 1, len(found) - 1: len(found) - 2}.get(best)
        if inner is not None and found[best] > found[inner]:
            logging.getLogger(__name__).warning(
                "the best strength, %g, is at the edge of LinearProbe.strengths %s; "
                "a wider range may give a better probe.",
                *(self.strengths[best], self.strengths),
            )

    def _warn_if_slow(self, fits: list[Fitted]) -> None:
        """Says which strengths were judged before their fit was done."""
        slow = sorted({each.strength for each in fits if not each.converged})
        if slow:
            logging.getLogger(__name__).warning(
                "LinearProbe.tolerance %g was not reached with strength %s; raise "
                "max_iterations beyond %d or leave these strengths out.",
                self.tolerance,
                ", ".join(f"{strength:g}" for strength in slow),
                self.max_iterations,
            )


def held_out_rows(
    labels: Integer[np.ndarray, " m"], *, share: float, seed: int
) -> Bool[np.ndarray, " m"]:
    """Marks a share of each class: at least one row, never the only one of a class."""
    random = np.random.default_rng(seed)
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        held[rows[: min(max(1, round(share * len(rows))), len(rows) - 1)]] = True
    if not held.any():
        raise ValueError(
            f"none of {len(labels)} images can be held out, since each is the only one "
            f"of its class. Give LinearProbe a single strength."
        )
    return held
