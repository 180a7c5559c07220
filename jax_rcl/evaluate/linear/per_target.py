"""Linear evaluation of several yes-or-no questions about each image."""

import dataclasses
import logging

import numpy as np
from jaxtyping import Bool, Float, Int32

from jax_rcl.core import Encode, Source
from jax_rcl.evaluate import metrics
from jax_rcl.evaluate.features import (
    LayerEvaluator,
    check_apart,
    check_different,
    check_same,
    once,
)
from jax_rcl.evaluate.linear.choice import split_folds
from jax_rcl.evaluate.linear.grid import LinearClassifier, LinearGrid
from jax_rcl.ranges import ranged

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
@ranged
class PerTarget(LinearGrid, LayerEvaluator):
    """How well a linear classifier of features answers each of several questions.

    Each target is a problem of two classes on the images for which it is known, in the
    training and in the test set. The classifiers and their choice are those of
    `CrossValidated`; which family "by size" means depends on all training images, so
    that it is the same for all targets.

    Attributes:
      train: the images fitted on; a source with `target_names` whose records hold
        `targets`, 1, 0, or NaN where the answer is missing.
      targets: names of those that are evaluated; empty for all.
    """

    train: Source
    test: Source
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.targets:
            check_different("PerTarget.targets", self.targets)

    @property
    def names(self) -> tuple[str, ...]:
        """The targets that are evaluated."""
        return self.targets or target_names_of(self.train)

    @property
    def protocol(self) -> str:
        return (
            f"{self.describe(self.layer, len(self.train))}, {len(self.test)} "
            f"test images, for each of {len(self.names)} targets on the images where "
            f"it is known; means over those of them with both answers"
        )

    def check(self) -> None:
        """Compares the sources with each other and with `targets`, before `run`."""
        own = target_names_of(self.train)
        check_apart(self.train, self.test)
        if not own:
            raise ValueError(
                f"{self.train} names no targets; use a source whose records hold "
                f"'targets' and whose `target_names` say what each means."
            )
        check_same("targets", own, target_names_of(self.test), of=("train", "test"))
        missing = [name for name in self.targets if name not in own]
        if missing:
            raise ValueError(
                f"PerTarget.targets has {missing[0]!r}; the source has "
                f"{', '.join(map(repr, own))}."
            )
        known = [getattr(x, "all_targets", None) for x in (self.train, self.test)]
        if known[0] is not None and known[1] is not None:
            places = [own.index(name) for name in self.names]
            train, test = (np.asarray(x)[:, places] for x in known)
            several = len(self.candidates(len(train))) > 1
            for place in self._answered(train, test)[0]:
                split_folds(*_task(train[:, place]), self.folds if several else 0)

    def run(self, encode: Encode) -> dict[str, float]:
        """Numbers of every target, and their means over the targets.

        Returns:
          `<target>/auroc`, `<target>/balanced` and `<target>/top1`, names of targets in
          lower case with underscores; `auroc`, `balanced` and `top1`, the unweighted
          means over the targets; `targets`, how many these are; `converged`, the share
          of them whose fit was done. A target is omitted, with a warning, if the
          training or the test images show only one answer; all may not be.
        """
        self.check()
        fitted = self.fit(encode)
        x, targets = self._columns(encode, self.test)
        own: dict[str, dict[str, float]] = {}
        for name, chosen in fitted.items():
            labels, rows = _task(targets[:, self.names.index(name)])
            scores = chosen.scores(x[rows])
            own[name] = metrics.classification(scores, labels[rows])
        columns = {
            number: [each[number] for each in own.values()] for number in NUMBERS
        }
        columns["converged"] = [chosen.converged for chosen in fitted.values()]
        numbers = {number: float(np.mean(each)) for number, each in columns.items()}
        numbers["targets"] = float(len(own))
        for name, each in own.items():
            plain = "_".join(name.lower().split())
            numbers |= {f"{plain}/{number}": each[number] for number in NUMBERS}
        return numbers

    def fit(self, encode: Encode) -> dict[str, LinearClassifier]:
        """The classifier of each target that can be evaluated, by its name."""
        return once(encode, self, lambda: self._fit(encode))

    def _fit(self, encode: Encode) -> dict[str, LinearClassifier]:
        x, train = self._columns(encode, self.train)
        _, test = self._columns(encode, self.test)
        kept, left = self._answered(train, test)
        if left:
            logging.getLogger(__name__).warning(
                "left out, since the training or the test images show only one answer: "
                "%s.",
                ", ".join(left),
            )
        tasks = [_task(train[:, place]) for place in kept]
        fits = self.fit_tasks(x, tasks, classes=2)
        return {self.names[place]: fit for place, fit in zip(kept, fits, strict=True)}

    def _answered(
        self, train: Float[np.ndarray, "m t"], test: Float[np.ndarray, "n t"]
    ) -> tuple[list[int], list[str]]:
        """Places of the targets with both answers in both, and names of the others."""
        both = [[(x == answer).any(axis=0) for answer in (0, 1)] for x in (train, test)]
        kept = np.flatnonzero(np.all(both, axis=(0, 1))).tolist()
        left = [name for i, name in enumerate(self.names) if i not in kept]
        if not kept:
            raise ValueError(
                f"none of the targets {', '.join(map(repr, left))} has images of both "
                f"answers in train and test; there is nothing to evaluate."
            )
        return kept, left

    def _columns(
        self, encode: Encode, source: Source
    ) -> tuple[Float[np.ndarray, "m f"], Float[np.ndarray, "m t"]]:
        """Features and the targets that are evaluated."""
        x, targets = self.features(encode, source, answer="targets")
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


def _task(
    target: Float[np.ndarray, " m"],
) -> tuple[Int32[np.ndarray, " m"], Bool[np.ndarray, " m"]]:
    """The answers, 0 where they are missing, and where they are not."""
    known = ~np.isnan(target)
    return (target == 1).astype(np.int32), known
