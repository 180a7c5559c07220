"""Linear evaluation of several questions of yes and no about each image."""

import dataclasses
import logging
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int32

from jax_rcl.core import Encode, Operation, Source, When
from jax_rcl.evaluate import metrics
from jax_rcl.evaluate.features import features_and_targets, once
from jax_rcl.evaluate.linear.grid import (
    STRENGTHS,
    WEIGHT_DECAYS,
    ChosenClassifier,
    LinearGrid,
)
from jax_rcl.evaluate.linear.plain_sgd import PlainSgd
from jax_rcl.evaluate.when import AtEnd

CHEXPERT_COMPETITION = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Pleural Effusion",
)
"""The five pathologies that CheXpert's authors compare methods on (Irvin et al. 2019,
https://arxiv.org/abs/1901.07031)."""

NUMBERS = ("auroc", "balanced", "top1")
"""What is measured of each target."""


@dataclasses.dataclass(frozen=True)
class PerTarget:
    """How well a linear classifier of features answers each of several questions.

    Each target is a problem of two classes on the images for which it is known, in the
    training and in the test set. The classifiers and their choice are those of
    `CrossValidated`; which family "by size" means depends on all training images, so
    that it is the same for all targets.

    Attributes:
      train: the images fitted on; a source with `target_names` whose records hold
        `targets`, 1, 0, or NaN where the answer is missing.
      test: the images that are classified.
      targets: names of those that are evaluated; none of them for all.
      layer: which of the encoder's features.
      family: as in `CrossValidated`, and so are the next seven.
      strengths: of the logistic regression.
      weight_decays: of SGD.
      folds: of the cross-validation.
      tolerance: of the logistic regression.
      max_iterations: of the logistic regression.
      sgd: how SGD trains.
      seed: of SGD.
      preprocess: deterministic operation on each image, or None.
      batch_size: images per call of the encoder.
      when: when it is measured.

    Raises:
      ValueError: if a value is out of its range.
    """

    train: Source
    test: Source
    targets: tuple[str, ...] = ()
    layer: str = "features"
    family: Literal["by size", "logistic", "sgd"] = "by size"
    strengths: tuple[float, ...] = STRENGTHS
    weight_decays: tuple[float, ...] = WEIGHT_DECAYS
    folds: int = 3
    tolerance: float = 1e-8
    max_iterations: int = 1000
    sgd: PlainSgd = dataclasses.field(default=PlainSgd())
    seed: int = 0
    preprocess: Operation | None = None
    batch_size: int = 256
    when: When = dataclasses.field(default=AtEnd())

    def __post_init__(self) -> None:
        """Checks the numbers; what needs the data is in `check`."""
        if self.batch_size < 1:
            raise ValueError(
                f"PerTarget.batch_size {self.batch_size} must be at least 1."
            )
        if len({*self.targets}) < len(self.targets):
            raise ValueError(f"PerTarget.targets {self.targets} must be different.")
        _ = self.grid  # which checks its own

    @property
    def grid(self) -> LinearGrid:
        """How classifiers are fitted and one is chosen."""
        names = (field.name for field in dataclasses.fields(LinearGrid))
        return LinearGrid(**{name: getattr(self, name) for name in names})

    @property
    def needs(self) -> frozenset[str]:
        """Names of the layers that it reads."""
        return frozenset({self.layer})

    @property
    def names(self) -> tuple[str, ...]:
        """The targets that are evaluated."""
        return self.targets or target_names_of(self.train)

    @property
    def protocol(self) -> str:
        """One line that says what the numbers mean."""
        return (
            f"{self.grid.described(self.layer, len(self.train))}, {len(self.test)} "
            f"test images, for each of {len(self.names)} targets on the images where "
            f"it is known; means over those of them with both answers"
        )

    def check(self) -> None:
        """Compares the sources with each other and with `targets`; `run` does so first.

        Raises:
          ValueError: if train and test are equal, have no targets or not the same, or
            there is no target of a name in `targets`.
        """
        own = target_names_of(self.train)
        if self.train == self.test:
            raise ValueError(
                f"train and test are the same source, {self.train}. Give another split "
                f"as test."
            )
        if not own:
            raise ValueError(
                f"{self.train} names no targets; use a source whose records hold "
                f"'targets' and whose `target_names` say what each means."
            )
        if own != target_names_of(self.test):
            raise ValueError(
                f"train has the targets {own} and test {target_names_of(self.test)}; a "
                f"target must mean the same in both."
            )
        missing = [name for name in self.targets if name not in own]
        if missing:
            raise ValueError(
                f"PerTarget.targets has {missing[0]!r}; the source has "
                f"{', '.join(map(repr, own))}."
            )

    def run(self, encode: Encode) -> dict[str, float]:
        """Numbers of every target, and their means over the targets.

        Returns:
          `<target>/auroc`, `<target>/balanced` and `<target>/top1`, names of targets in
          lower case with underscores; `auroc`, `balanced` and `top1`, the unweighted
          means over the targets; `targets`, how many these are; `converged`, the share
          of them whose fit was done. A target is left out, which a warning says, if the
          training or the test images show only one answer.

        Raises:
          ValueError: if the sources do not fit, or all targets are left out.
        """
        fitted = self.fit(encode)
        x, targets = self._columns(encode, self.test)
        own: dict[str, dict[str, float]] = {}
        for name, chosen in fitted.items():
            labels, rows = _task(targets[:, self.names.index(name)])
            scores = chosen.scores(x[rows])
            own[name] = metrics.classification(scores, labels[rows])
        numbers = {
            number: float(np.mean([each[number] for each in own.values()]))
            for number in NUMBERS
        }
        numbers["targets"] = float(len(own))
        done = [chosen.converged for chosen in fitted.values()]
        numbers["converged"] = float(np.mean(done))
        for name, each in own.items():
            numbers |= {f"{plain(name)}/{number}": each[number] for number in NUMBERS}
        return numbers

    def fit(self, encode: Encode) -> dict[str, ChosenClassifier]:
        """The classifier of each target that can be evaluated, by its name."""
        self.check()
        return once(encode, self, lambda: self._fit(encode))

    def _fit(self, encode: Encode) -> dict[str, ChosenClassifier]:
        x, train = self._columns(encode, self.train)
        _, test = self._columns(encode, self.test)
        kept = [
            place
            for place in range(len(self.names))
            if _has_both(train[:, place]) and _has_both(test[:, place])
        ]
        left = [name for i, name in enumerate(self.names) if i not in kept]
        if not kept:
            raise ValueError(
                f"none of the targets {', '.join(map(repr, left))} has images of both "
                f"answers in train and test; there is nothing to evaluate."
            )
        if left:
            logging.getLogger(__name__).warning(
                "left out, since the training or the test images show only one answer: "
                "%s.",
                ", ".join(left),
            )
        tasks = [_task(train[:, place]) for place in kept]
        fits = self.grid.fits(x, tasks, classes=2)
        return {self.names[place]: fit for place, fit in zip(kept, fits, strict=True)}

    def _columns(
        self, encode: Encode, source: Source
    ) -> tuple[Float[np.ndarray, "m f"], Float[np.ndarray, "m t"]]:
        """Features and the targets that are evaluated."""
        x, targets = features_and_targets(
            encode,
            source,
            layer=self.layer,
            preprocess=self.preprocess,
            batch_size=self.batch_size,
        )
        every = target_names_of(source)
        if targets.shape[1:] != (len(every),):
            raise ValueError(
                f"{source} names {len(every)} targets, but its records hold "
                f"{targets.shape[1:]}."
            )
        return x, targets[:, [every.index(name) for name in self.names]]


def target_names_of(source: Source) -> tuple[str, ...]:
    """What each target asks; empty where the source has none."""
    return getattr(source, "target_names", ())


def plain(name: str) -> str:
    """A name in lower case with underscores: `pleural_effusion`."""
    return "_".join(name.lower().split())


def _has_both(target: Float[np.ndarray, " m"]) -> bool:
    return bool((target == 0).any() and (target == 1).any())


def _task(
    target: Float[np.ndarray, " m"],
) -> tuple[Int32[np.ndarray, " m"], Bool[np.ndarray, " m"]]:
    """The answers, 0 where they are missing, and where they are not."""
    known = ~np.isnan(target)
    return (target == 1).astype(np.int32), known
