"""Accuracy on each group inside classes, and on the worst."""

import dataclasses

import numpy as np
from jaxtyping import Int32

from jax_rcl.artifacts import Finding
from jax_rcl.core import Encode, Source, When
from jax_rcl.data.records import group_names_of, groups_of
from jax_rcl.evaluate.features import check_same
from jax_rcl.evaluate.findings import embedding
from jax_rcl.evaluate.head import HeadAccuracy
from jax_rcl.evaluate.linear.probe import LinearProbe


@dataclasses.dataclass(frozen=True)
class GroupAccuracy:
    """Accuracy of a classifier on each group of its test images, and on the worst one.

    Groups of the test set without images have no accuracy and are omitted.

    Attributes:
      classifier: whose accuracy: of a trained head, or of a linear probe. It says when
        it is measured, too.
      train: the images whose groups weigh the adjusted average, or None for none.
    """

    classifier: HeadAccuracy | LinearProbe
    train: Source | None = None

    @property
    def when(self) -> When:
        return self.classifier.when

    @property
    def needs(self) -> frozenset[str]:
        return self.classifier.needs

    @property
    def protocol(self) -> str:
        names = group_names_of(self.classifier.test)
        weights = ""
        if self.train is not None:
            weights = f", adjusted by their shares of {len(self.train)} training images"
        return f"{self.classifier.protocol}, in {len(names)} groups{weights}"

    def check(self) -> None:
        """Compares the groups of the sources, besides what the classifier checks."""
        self.classifier.check()
        test = self.classifier.test
        found = group_ids(test)
        if self.train is None:
            return
        names = group_names_of(test)
        check_same("groups", group_names_of(self.train), names, of=("train", "test"))
        missing = sorted({*group_ids(self.train).tolist()} - {*found.tolist()})
        if missing:
            raise ValueError(
                f"the group {names[missing[0]]!r} has training images, but none in "
                f"{test}: an average that weighs it is not known. Test on a source "
                f"that shows it, or omit GroupAccuracy.train."
            )

    def run(self, encode: Encode) -> dict[str, float]:
        """Accuracies by group; the groups are checked first.

        Returns:
          `top1` of all test images; `worst_group_top1`, the lowest of all groups;
          `gap_top1`, the first less the second; `top1/<group>` of every group; with
          `train`, `adjusted_top1`, the mean over groups weighed by their shares of the
          training images, which stands for the accuracy on images like those where a
          test set holds rare groups more often (Sagawa et al. 2020,
          https://arxiv.org/abs/1911.08731).
        """
        self.check()
        average, test = self.classifier.run(encode)["top1"], self.classifier.test
        scores, labels = self.classifier.scores(encode, test)
        right, groups = scores.argmax(axis=1) == labels, group_ids(test)
        names = group_names_of(test)
        accuracies = {
            int(g): float(right[groups == g].mean()) for g in np.unique(groups)
        }
        worst = min(accuracies.values())
        numbers = {
            "top1": average,
            "worst_group_top1": worst,
            "gap_top1": average - worst,
        }
        if self.train is not None:
            sizes = np.bincount(group_ids(self.train), minlength=len(names)).tolist()
            total = sum(sizes[g] * accuracy for g, accuracy in accuracies.items())
            numbers["adjusted_top1"] = total / len(self.train)
        return numbers | {f"top1/{names[g]}": x for g, x in accuracies.items()}

    def findings(self, encode: Encode) -> dict[str, Finding]:
        """A map of the test images with their groups, where the classifier has one."""
        classifier = self.classifier
        if not classifier.mapped:
            return {}
        test = classifier.test
        embedded, _ = classifier.features(encode, test, layer=classifier.embedded)
        groups, names = group_ids(test), group_names_of(test)
        return {"groups": embedding(embedded, groups, names, most=classifier.mapped)}


def group_ids(source: Source) -> Int32[np.ndarray, " m"]:
    """The group of every record, each one that the source names."""
    names = group_names_of(source)
    if not names:
        raise ValueError(
            f"{source} names no groups; use a source whose records hold 'group' and "
            f"whose `group_names` say what each means, such as Grouped."
        )
    groups = groups_of(source)
    wrong = np.flatnonzero((groups < 0) | (groups >= len(names)))
    if len(wrong):
        raise ValueError(
            f"record {wrong[0]} of {source} has group {groups[wrong[0]]}; groups must "
            f"be in [0, {len(names)}), as there are {len(names)} group_names."
        )
    return groups
