"""A linear classifier whose regularisation is chosen by cross-validation."""

import dataclasses
import functools
import logging
from collections.abc import Iterable
from typing import Literal

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from jax_rcl.artifacts import Grid
from jax_rcl.evaluate.linear.folds import held_out, judged
from jax_rcl.evaluate.linear.logistic_grid import Turned, logistic_grid
from jax_rcl.evaluate.linear.plain_sgd import PlainSgd, sgd_grid

STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6)
"""C of the logistic regression in the released evaluation of Dufumier et al. 2023."""

WEIGHT_DECAYS = (0.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Weight decays of SGD there, in its order, which decides between equals."""

SGD_FROM = 20_000
"""Training images from which on "by size" means SGD."""


@dataclasses.dataclass(frozen=True, eq=False)
class ChosenClassifier:
    """A linear classifier of features, and how it was chosen.

    Attributes:
      weights: W [f, k].
      bias: b [k]; minus infinity for classes without a training image, if the family
        leaves them out.
      candidate: the strength or weight decay that was chosen.
      converged: whether the fit on everything was done when it ended.
      candidates: all of them, in their order [s].
      validation: balanced accuracy on each fold for each [p, s]; no folds, p = 0, when
        there was only one.
    """

    weights: Float[np.ndarray, "f k"]
    bias: Float[np.ndarray, " k"]
    candidate: float
    converged: bool
    candidates: tuple[float, ...]
    validation: Float[np.ndarray, "p s"]

    def scores(self, features: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n k"]:
        """One for each class, the higher the likelier."""
        return features @ self.weights + self.bias

    def numbers(self) -> dict[str, float]:
        """`chosen`, `converged` as 1.0 or 0.0, and `validation` where there was one."""
        own = {"chosen": self.candidate, "converged": float(self.converged)}
        if len(self.validation):
            place = self.candidates.index(self.candidate)
            own["validation"] = float(self.validation.mean(axis=0)[place])
        return own

    def table(self) -> Grid:
        """The validation score of each candidate on each fold."""
        columns = tuple(f"fold {i + 1}" for i in range(len(self.validation)))
        rows = tuple(f"{candidate:g}" for candidate in self.candidates)
        method = (
            f"balanced accuracy in percent on what each fold holds out, for each "
            f"strength of regularisation; beside each row its mean. Chosen: "
            f"{self.candidate:g}"
        )
        return Grid(self.validation.T, rows, columns, method)


@dataclasses.dataclass(frozen=True)
class LinearGrid:
    """How linear classifiers are fitted, and how one is chosen.

    Attributes:
      family: "logistic", see `logistic_grid`; "sgd", see `sgd_grid`; or "by size",
        logistic regression on fewer than `SGD_FROM` training images and SGD from there.
      strengths: candidates of the logistic regression, C, rising.
      weight_decays: candidates of SGD.
      folds: of the cross-validation that judges the candidates.
      tolerance: of the logistic regression.
      max_iterations: of the logistic regression.
      sgd: how SGD trains.
      seed: of SGD.

    Raises:
      ValueError: if a value is out of its range.
    """

    family: Literal["by size", "logistic", "sgd"] = "by size"
    strengths: tuple[float, ...] = STRENGTHS
    weight_decays: tuple[float, ...] = WEIGHT_DECAYS
    folds: int = 3
    tolerance: float = 1e-8
    max_iterations: int = 1000
    sgd: PlainSgd = dataclasses.field(default=PlainSgd())
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        pairs = zip((0.0, *self.strengths), self.strengths, strict=False)
        if not self.strengths or not all(low < high for low, high in pairs):
            raise ValueError(
                f"strengths {self.strengths} must be positive and rising; the default "
                f"is {STRENGTHS}."
            )
        decays = self.weight_decays
        if not decays or min(decays) < 0 or len({*decays}) < len(decays):
            raise ValueError(
                f"weight_decays {decays} must be different and at least 0; the default "
                f"is {WEIGHT_DECAYS}."
            )
        if self.folds < 2:
            raise ValueError(
                f"folds {self.folds} must be at least 2; to choose nothing, give a "
                f"single candidate."
            )
        if not self.tolerance > 0:
            raise ValueError(
                f"tolerance {self.tolerance} must be positive, such as 1e-8."
            )
        if self.max_iterations < 1:
            raise ValueError(f"max_iterations {self.max_iterations} must be 1 or more.")

    def is_sgd(self, images: int) -> bool:
        """Whether so many training images are for SGD."""
        return self.family == "sgd" or (self.family == "by size" and images >= SGD_FROM)

    def candidates(self, images: int) -> tuple[float, ...]:
        """What is chosen from with so many training images."""
        return self.weight_decays if self.is_sgd(images) else self.strengths

    def described(self, layer: str, images: int) -> str:
        """The classifier and the choice, for the protocol of an evaluator."""
        sgd, own = self.is_sgd(images), self.candidates(images)
        name = "weight decay" if sgd else "C"
        choice = f"{name} {own[0]:g}"
        if len(own) > 1:
            choice = (
                f"{name} of {len(own)} in [{min(own):g}, {max(own):g}] chosen by "
                f"balanced accuracy in {self.folds} folds"
            )
        fitted, how = "logistic regression", f"L-BFGS to {self.tolerance:g}"
        if sgd:
            fitted, how = (
                "linear classifier",
                f"SGD of at most {self.sgd.epochs} epochs",
            )
        return f"{fitted} on {layer!r} of {images} training images, {choice}, {how}"

    def fits(
        self,
        x: Float[np.ndarray, "m f"],
        tasks: Iterable[tuple[Integer[np.ndarray, " m"], Bool[np.ndarray, " m"]]],
        *,
        classes: int,
    ) -> list[ChosenClassifier]:
        """Chooses and fits a classifier for every task on the same features.

        The candidates are fitted on what each fold leaves, and on everything: the fit
        that is wanted in the end is one more part of the rows in the same program. All
        tasks share it, and the features on the device.

        Args:
          x: features of all rows.
          tasks: labels in [0, classes) of all rows, and the rows that count.
          classes: how many there are.

        Raises:
          ValueError: if the rows of a task show fewer than two classes, no class has a
            row for each fold, or SGD diverged for all weight decays.
        """
        rows = jax.device_put(x)
        turned = None if self.is_sgd(len(x)) else Turned.of(x)
        return [self._fit(rows, turned, *task, classes) for task in tasks]

    def _fit(
        self,
        x: Float[Array, "m f"],
        turned: Turned | None,
        labels: Integer[np.ndarray, " m"],
        rows: Bool[np.ndarray, " m"],
        classes: int,
    ) -> ChosenClassifier:
        own = self.candidates(len(x))
        held = held_out(labels, rows, self.folds if len(own) > 1 else 0)
        parts = np.concatenate([rows & ~held, rows[None]])
        if turned is None:
            name, limits = "weight_decays", {"settings": self.sgd, "seed": self.seed}
            solve = functools.partial(sgd_grid, x, weight_decays=own, **limits)
        else:
            name, limits = "strengths", {"max_iterations": self.max_iterations}
            solve = functools.partial(
                *(logistic_grid, turned), strengths=own, tolerance=self.tolerance
            )
        found = solve(labels, parts, classes=classes, **limits)
        validation = judged(x, labels, held, found)
        finite = np.isfinite(found.weights[-1]).all(axis=(1, 2))
        if not finite.any():
            raise ValueError(
                f"SGD diverged for every weight decay of {own}: the features are large "
                f"for a learning rate of {self.sgd.learning_rate:g}. Lower "
                f"sgd.learning_rate."
            )
        means = validation.mean(axis=0) if len(validation) else np.zeros(len(own))
        best = int(np.where(finite, means, -1.0).argmax())
        warn_at_edge(name, own, means, best)
        warn_if_slow(name, own, found.converged, best)
        fitted = found.weights[-1, best], found.bias[-1, best]
        ended = own[best], bool(found.converged[-1, best])
        return ChosenClassifier(*fitted, *ended, own, validation)


def warn_at_edge(
    name: str,
    candidates: tuple[float, ...],
    means: Float[np.ndarray, " s"],
    best: int,
) -> None:
    """Says when a candidate beyond the grid may be better than all that are in it."""
    rising = sorted(range(len(candidates)), key=lambda place: candidates[place])
    place = rising.index(best)
    inner = {0: 1, len(rising) - 1: len(rising) - 2}.get(place)
    if inner is None or len(rising) == 1 or candidates[best] == 0:
        return
    if means[best] > means[rising[inner]]:
        logging.getLogger(__name__).warning(
            "the best of %s, %g, is at the edge of %s; a wider range may give a better "
            "classifier.",
            *(name, candidates[best], candidates),
        )


def warn_if_slow(
    name: str,
    candidates: tuple[float, ...],
    converged: Bool[np.ndarray, "p s"],
    best: int,
) -> None:
    """Says which candidates were judged before their fits were done, and the end."""
    slow = [
        f"{candidates[place]:g}" for place in np.flatnonzero(~converged.all(axis=0))
    ]
    if slow:
        final = "was not done either" if not converged[-1, best] else "was done"
        more = {"strengths": "max_iterations", "weight_decays": "sgd.epochs"}[name]
        logging.getLogger(__name__).warning(
            "fits with %s %s were not done when they ended; the final one, with %g, "
            "%s. A larger %s gives them more time.",
            *(name, ", ".join(slow), candidates[best], final, more),
        )
