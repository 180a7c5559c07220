"""A linear classifier of features, and the grid that it is chosen from."""

import dataclasses
import functools
import itertools
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from jax_rcl.artifacts import Grid
from jax_rcl.evaluate import metrics
from jax_rcl.evaluate.features import check_different
from jax_rcl.evaluate.linear.choice import split_folds, validate, warn_of_choice
from jax_rcl.evaluate.linear.logistic import PrincipalAxes, logistic_grid
from jax_rcl.evaluate.linear.plain_sgd import PlainSgd, sgd_grid
from jax_rcl.evaluate.linear.saga import saga_grid
from jax_rcl.ranges import Above, AtLeast, Count, ranged

STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6)
"""C of the logistic regression in the released evaluation of Dufumier et al. 2023."""

WEIGHT_DECAYS = (0.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Weight decays of SGD there, in its order, which decides between equals."""

SGD_FROM = 20_000
"""Training images from which on "by size" means SGD."""


@dataclasses.dataclass(frozen=True, eq=False)
class LinearClassifier:
    """A linear classifier of features, and how it was chosen.

    Its scores are W^T ((x - mean) / scale) + b.

    Attributes:
      weights: W [f, k].
      bias: b [k]; minus infinity for classes without a training image, if the family
        omits them.
      candidate: the strength or weight decay that was chosen.
      converged: whether the fit on everything had converged when it ended.
      candidates: all of them, in their order [s].
      validation: the score of each on each fold [p, s]; no folds, p = 0, when there was
        only one.
      mean: of the features fitted on [f], if they were standardised.
      scale: their standard deviation [f]; 1 where they do not vary.
    """

    weights: Float[np.ndarray, "f k"]
    bias: Float[np.ndarray, " k"]
    candidate: float
    converged: bool
    candidates: tuple[float, ...]
    validation: Float[np.ndarray, "p s"]
    mean: Float[np.ndarray, " f"] | float = 0.0
    scale: Float[np.ndarray, " f"] | float = 1.0

    def scores(self, features: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n k"]:
        """Logarithms of the class probabilities, up to a constant in each row."""
        return (features - self.mean) / self.scale @ self.weights + self.bias

    def predict(self, features: Float[np.ndarray, "n f"]) -> Int[np.ndarray, " n"]:
        """The likeliest class of each row; of equals the first."""
        return self.scores(features).argmax(axis=1)

    def numbers(self) -> dict[str, float]:
        """`chosen`, `converged` as 1.0 or 0.0, and `validation` where there was one."""
        numbers = {"chosen": self.candidate, "converged": float(self.converged)}
        if len(self.validation):
            place = self.candidates.index(self.candidate)
            numbers["validation"] = float(self.validation.mean(axis=0)[place])
        return numbers

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


@dataclasses.dataclass(frozen=True, kw_only=True)
@ranged
class LinearGrid:
    """How linear classifiers are fitted, and how one is chosen.

    Attributes:
      family: "logistic", see `logistic_grid`; "sgd", see `sgd_grid`; or "by size",
        logistic regression on fewer than `SGD_FROM` training images and SGD from there.
      strengths: candidates of the logistic regression, inverse strengths C of the
        penalty, rising.
      weight_decays: candidates of SGD. Of either, a single one needs no folds.
      folds: of the cross-validation that scores the candidates.
      tolerance: of the logistic regression, as a share of its objective.
      max_iterations: of the logistic regression.
      solver: of the logistic regression: "l-bfgs" to `tolerance`, or "saga" of
        scikit-learn, which ends after `passes` whether it is done or not.
      passes: of saga over the rows; the released evaluation of Dufumier et al. 2023
        makes 150.
      seed: of the starts and orders of SGD and of saga.
    """

    family: Literal["by size", "logistic", "sgd"] = "by size"
    strengths: tuple[Annotated[float, Above(0)], ...] = STRENGTHS
    weight_decays: tuple[Annotated[float, AtLeast(0)], ...] = WEIGHT_DECAYS
    folds: Annotated[int, AtLeast(2, "to choose nothing give a single candidate")] = 3
    tolerance: Annotated[float, Above(0, "such as 1e-8")] = 1e-8
    max_iterations: Count = 1000
    sgd: PlainSgd = dataclasses.field(default=PlainSgd())
    seed: int = 0
    solver: Literal["l-bfgs", "saga"] = "l-bfgs"
    passes: Count = 150

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_rising(f"{name}.strengths", self.strengths, STRENGTHS)
        check_different(f"{name}.weight_decays", self.weight_decays)
        if self.family == "sgd" and self.solver == "saga":
            raise ValueError(
                f"{name}.solver 'saga' is of the logistic regression; it does nothing "
                f"with family='sgd'. Write family='logistic', or omit it."
            )

    def is_sgd(self, images: int) -> bool:
        """Whether so many training images are for SGD."""
        return self.family == "sgd" or (self.family == "by size" and images >= SGD_FROM)

    def candidates(self, images: int) -> tuple[float, ...]:
        """What is chosen from with so many training images."""
        return self.weight_decays if self.is_sgd(images) else self.strengths

    def describe(self, layer: str, images: int) -> str:
        """The classifier and the choice, for the protocol of an evaluator."""
        sgd, candidates = self.is_sgd(images), self.candidates(images)
        name = "weight decay" if sgd else "C"
        choice = f"{name} {candidates[0]:g}"
        if len(candidates) > 1:
            choice = (
                f"{name} of {len(candidates)} in [{min(candidates):g}, "
                f"{max(candidates):g}] chosen by balanced accuracy in {self.folds} "
                f"folds"
            )
        family, how = "logistic regression", f"L-BFGS to {self.tolerance:g}"
        if self.solver == "saga":
            how = f"{self.passes} passes of saga"
        if sgd:
            family = "linear classifier"
            how = f"SGD of at most {self.sgd.epochs} epochs"
        return f"{family} on {layer!r} of {images} training images, {choice}, {how}"

    def fit_tasks(
        self,
        x: Float[np.ndarray, "m f"],
        tasks: Iterable[tuple[Integer[np.ndarray, " m"], Bool[np.ndarray, " m"]]],
        *,
        classes: int,
    ) -> list[LinearClassifier]:
        """Chooses and fits a classifier for every task on the same features.

        The candidates are fitted on what each fold leaves, and on everything: the fit
        that is wanted in the end is one more part of the rows in the same program. All
        tasks share it, and the features on the device.

        A task is labels in [0, classes) of all rows, and the rows that count.
        """
        rows, candidates = jax.device_put(x), self.candidates(len(x))
        if self.is_sgd(len(x)):
            name, solve = "weight_decays", functools.partial(sgd_grid, rows)
            settings: dict[str, Any] = {"settings": self.sgd, "seed": self.seed}
        elif self.solver == "saga":
            name, solve = "strengths", functools.partial(saga_grid, x)
            settings = {"passes": self.passes, "seed": self.seed}
        else:
            axes = PrincipalAxes.of(x)
            name, solve = "strengths", functools.partial(logistic_grid, axes)
            settings = {
                "tolerance": self.tolerance,
                "max_iterations": self.max_iterations,
            }
        settings |= {name: candidates, "classes": classes}

        def fit(labels: np.ndarray, counted: np.ndarray) -> LinearClassifier:
            folds = self.folds if len(candidates) > 1 else 0
            held = split_folds(labels, counted, folds)
            parts = np.concatenate([counted & ~held, counted[None]])
            found = solve(labels, parts, **settings)
            validation = validate(rows, labels, held, found, metrics.balanced_accuracy)
            finite = np.isfinite(found.weights[-1]).all(axis=(1, 2))
            if not finite.any():
                raise ValueError(
                    f"SGD diverged for every weight decay of {candidates}: the "
                    f"features are large for a learning rate of "
                    f"{self.sgd.learning_rate:g}. Lower sgd.learning_rate."
                )
            means = validation.mean(axis=0) if folds else np.zeros(len(candidates))
            best = int(np.where(finite, means, -1.0).argmax())
            done = np.asarray(found.converged.all(axis=0))
            if solve.func is saga_grid:
                done[:] = True  # it is meant to end before
            warn_of_choice(name, candidates, means, best, done)
            return LinearClassifier(
                *(found.weights[-1, best], found.bias[-1, best], candidates[best]),
                *(bool(found.converged[-1, best]), candidates, validation),
            )

        return [fit(*task) for task in tasks]


def check_rising(
    name: str, strengths: tuple[float, ...], default: tuple[float, ...]
) -> None:
    """Raises ValueError unless there are strengths, each above the one before it."""
    pairs = itertools.pairwise(strengths)
    if not strengths or not all(low < high for low, high in pairs):
        raise ValueError(
            f"{name} {strengths} must be rising and not empty; the default is "
            f"{default}."
        )
