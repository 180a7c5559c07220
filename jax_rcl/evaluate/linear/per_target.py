"""Linear evaluation of several yes-or-no questions about each image."""

import dataclasses
import logging

import numpy as np
from jaxtyping import Bool, Float, Int32

from jax_rcl.core import Encode, Source
from jax_rcl.evaluate import metrics
from jax_rcl.evaluate.features import LayerEvaluator, features_and_targets, once
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
      test: the images that are classified.
      targets: names of those that are evaluated; empty for all.
    """

    train: Source
    test: Source
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks the names; what needs the data is in `check`."""
        super().__post_init__()
        if len({*self.targets}) < len(self.targets):
            raise ValueError(f"PerTarget.targets {self.targets} must be different.")

    @property
    def names(self) -> tuple[str, ...]:
        """The targets that are evaluated."""
        return self.targets or target_names_of(self.train)

    @property
    def protocol(self) -> str:
        """One line that says what the numbers mean."""
        return (
            f"{self.describe(self.layer, len(self.train))}, {len(self.test)} "
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
          of them whose fit was done. A target is omitted, with a warning, if the
          training or the test images show only one answer.

        Raises:
          ValueError: if the sources do not fit, or all targets are omitted.
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

    def fit(self, encode: Encode) -> dict[str, LinearClassifier]:
        """The classifier of each target that can be evaluated, by its name."""
        self.check()
        return once(encode, self, lambda: self._fit(encode))

    def _fit(self, encode: Encode) -> dict[str, LinearClassifier]:
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
        fits = self.fit_tasks(x, tasks, classes=2)
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
