"""Accuracy of a classifier on images that are corrupted, drawn or restyled."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from jax_rcl.artifacts import Finding, Grid
from jax_rcl.augment.corruptions.table import FAMILIES
from jax_rcl.core import Encode, Operation, Source, When
from jax_rcl.data.records import labels_of
from jax_rcl.evaluate import metrics
from jax_rcl.evaluate.classifier import Classifier, progress, score, undistorted
from jax_rcl.evaluate.features import once
from jax_rcl.evaluate.shifts.corrupted import Corrupted, Graded, counted
from jax_rcl.evaluate.shifts.corrupted_folders import CorruptedCopy, CorruptedFolders
from jax_rcl.evaluate.when import AtEnd

__all__ = ["Corrupted", "CorruptedFolders", "Graded", "Robustness", "counted"]

FEW = 5
"""Beyond so many classes there is a top-5 accuracy."""

CLEAN = "clean"
"""The name of the classifier's test set among the sets."""


@dataclasses.dataclass(frozen=True)
class Robustness:
    """Accuracy of one classifier on its test set, and on sets that are shifted from it.

    The classifier learns nothing of the shift: it is the head that was trained, or the
    linear probe of training images, which is fitted once and shared with a
    `LinearProbe` that is equal to it. Where it has a distortion, that is of its own
    test images and of what it is fitted on, not of the sets here. Ge et al. 2021
    (https://arxiv.org/abs/2110.14189) report such numbers for ImageNet-C, -Sketch,
    -Stylized and -R on a hundred classes.

    Attributes:
      classifier: `HeadAccuracy` of the trained head, a `LinearProbe`, or the like; says
        what is clean, how images are prepared and how many are encoded at a time.
      sets: by name. A source is prepared as the clean images are, and so are the images
        of `Corrupted` before they are corrupted; `CorruptedFolders` and
        `CorruptedArrays` say for themselves.
        The classes of every set are named as those of the test set, in the same order,
        though not every class needs to have an image.
    """

    classifier: Classifier
    sets: Mapping[str, Source | Corrupted | CorruptedCopy]
    when: When = dataclasses.field(default=AtEnd())

    def __post_init__(self) -> None:
        if not self.sets:
            raise ValueError("Robustness.sets must hold at least one set.")
        for name in self.sets:
            if not name or name == CLEAN or "/" in name:
                raise ValueError(
                    f"Robustness.sets: a set cannot be called {name!r}; the name "
                    f"begins that of its numbers, has no '/' and is not {CLEAN!r}."
                )

    @property
    def preprocess(self) -> Operation | None:
        """How images are prepared, of sets that do not say so themselves."""
        return self.classifier.preprocess

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({self.classifier.layer})

    @property
    def protocol(self) -> str:
        sets = [
            f"{name}: {part.protocol}"
            if isinstance(part, Corrupted | CorruptedCopy)
            else f"{name}: {len(part)} images"
            for name, part in self.sets.items()
        ]
        return "; ".join([self.classifier.protocol, *sets])

    def check(self) -> None:
        """Compares the classes of all sets; reads names of folders, but no image."""
        self.classifier.check()
        names = self.classifier.test.class_names
        for name, part in self.sets.items():
            if isinstance(part, Corrupted | CorruptedCopy):
                part.check()
            own = part.class_names
            if own != names:
                strange = [each for each in own if each not in names]
                first = f", such as {strange[0]!r}, which it lacks" if strange else ""
                raise ValueError(
                    f"the set {name!r} names {len(own)} classes{first}, and the test "
                    f"set {len(names)}; a label must mean the same in both. Give "
                    f"the folder those of the test set, such as classes=IMAGENET_100, "
                    f"and missing='skip' where some have no folder."
                )

    def run(self, encode: Encode) -> dict[str, float]:
        """Accuracies, as shares of the images; `check` comes first.

        Returns:
          `clean/top1` and `<set>/top1`. For corrupted sets this is the mean over all
          cells of corruption and severity, each of the same weight; where all fifteen
          standard corruptions of ImageNet-C are there, over these alone. The mean over
          severities is `<set>/<corruption>/top1`, that over the same corruptions
          `<set>/severity<k>/top1`, that over a family of corruptions (`FAMILIES`) of
          which two or more are there `<set>/<family>/top1`, and that over all, where it
          is another one, `<set>/all/top1`. Beyond five classes there is a `top5` beside
          each `top1`, except by severity. Where some classes have no image, as 81 of
          100 in ImageNet-R, predictions may be any class all the same; beside that,
          `<set>/top1_present` is of the highest score among the classes that have one.
        """
        self.check()
        numbers: dict[str, float] = {}
        for name, part in {CLEAN: self.classifier.test, **self.sets}.items():
            if isinstance(part, Corrupted | CorruptedCopy):
                shares, present = self._cells(encode, name, part)
                numbers |= _of_cells(name, part, "top1", shares[0])
                if len(present) > FEW:
                    numbers |= _of_cells(name, part, "top5", shares[2])
                rows = counted(part.names)
                among_present = float(shares[1, rows].mean())
            else:
                scores, labels = undistorted(self.classifier, encode, part)
                present = np.bincount(labels, minlength=scores.shape[1]) > 0
                right = _right(scores, labels, present) / len(labels)
                numbers[f"{name}/top1"], among_present, top5 = map(float, right)
                if len(present) > FEW:
                    numbers[f"{name}/top5"] = top5
            if not present.all():
                numbers[f"{name}/top1_present"] = among_present
        return numbers

    def findings(self, encode: Encode) -> dict[str, Finding]:
        """The accuracy for every corruption and severity of each corrupted set."""
        found: dict[str, Finding] = {}
        for name, part in self.sets.items():
            if isinstance(part, Corrupted | CorruptedCopy):
                shares, _ = self._cells(encode, name, part)
                columns = tuple(f"severity {k}" for k in part.severities)
                method = (
                    f"accuracy in percent on {name!r}, {part.protocol}; beside each "
                    "row its mean"
                )
                found[f"{name} by severity"] = Grid(
                    shares[0], part.names, columns, method
                )
        return found

    def _cells(
        self, encode: Encode, name: str, part: Corrupted | CorruptedCopy
    ) -> tuple[Float[np.ndarray, "3 r c"], Bool[np.ndarray, " k"]]:
        """Shares of right answers, as `_right` counts them; the classes present."""
        key = (self.classifier, part)
        return once(encode, key, lambda: self._measure(encode, name, part))

    def _measure(
        self, encode: Encode, name: str, part: Corrupted | CorruptedCopy
    ) -> tuple[Float[np.ndarray, "3 r c"], Bool[np.ndarray, " k"]]:
        classifier = self.classifier
        every = np.concatenate([labels_of(source) for source in part.sources])
        present = np.bincount(every, minlength=len(part.class_names)) > 0
        right = np.zeros((3, len(part.names), len(part.severities)))
        seen = np.zeros(right.shape[1:])
        # A source that is corrupted here is seen once for each cell.
        total = len(every) * (seen.size // len(part.sources))
        how = classifier.preprocess, classifier.batch_size
        with progress(total, name) as bar:
            for cell, images, labels in part.batches(*how):
                of = f"of {name!r}, {part.names[cell[0]]} {part.severities[cell[1]]}"
                scores = score(classifier, encode, images, len(labels), of)
                right[:, *cell] += _right(scores, labels, present)
                seen[cell] += len(labels)
                bar.update(len(labels))
        return right / seen, present


def _right(
    scores: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, " n"],
    present: Bool[np.ndarray, " k"],
) -> Int[np.ndarray, " 3"]:
    """How many are right of all classes, of those present, and among the best five."""
    among = np.where(present, scores, -np.inf)
    best = [(x.argmax(axis=1) == labels).sum() for x in (scores, among)]
    return np.array([*best, (metrics.ranks(scores, labels) < FEW).sum()])


def _of_cells(
    name: str,
    part: Corrupted | CorruptedCopy,
    kind: Literal["top1", "top5"],
    shares: Float[np.ndarray, "r c"],
) -> dict[str, float]:
    """The means over cells, severities, corruptions and families of these."""
    rows = shares[counted(part.names)]
    numbers = {f"{name}/{kind}": rows.mean()}
    if len(rows) < len(shares):
        numbers[f"{name}/all/{kind}"] = shares.mean()
    for corruption, of_row in zip(part.names, shares, strict=True):
        numbers[f"{name}/{corruption}/{kind}"] = of_row.mean()
    for family, members in FAMILIES.items():
        own = [place for place, each in enumerate(part.names) if each in members]
        if len(own) > 1:
            numbers[f"{name}/{family}/{kind}"] = shares[own].mean()
    if kind == "top1":
        for severity, of_column in zip(part.severities, rows.T, strict=True):
            numbers[f"{name}/severity{severity}/top1"] = of_column.mean()
    return {key: float(value) for key, value in numbers.items()}
