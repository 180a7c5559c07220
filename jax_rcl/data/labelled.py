"""A few labelled records: the same number of every class."""

import dataclasses
import fractions
import functools
import math

import numpy as np
from jaxtyping import Int64

from jax_rcl.core import Source
from jax_rcl.data.records import check_labels, labels_of, permutation
from jax_rcl.data.wrappers import Chosen


@dataclasses.dataclass(frozen=True)
class FewLabels(Chosen):
    """The same number of records of every class, drawn once by `seed`.

    Of N records in k classes every class gives ceil(N · fraction / k): 127 where a
    tenth is left of 126,689 images in 100 classes, 13 at one percent (Ravula et al.
    2021, https://arxiv.org/abs/2110.07439). So they are balanced where the source is
    not; `Subset` takes of each class its share. Records keep their order, and larger
    fractions contain what smaller ones of the same seed contain.

    Attributes:
      source: with labels, and with names for its k classes.
      fraction: in (0, 1], counted as the decimal number that is written.
      seed: from 0.
    """

    source: Source
    fraction: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(
                f"FewLabels.fraction is {self.fraction}; it must lie in (0, 1], such "
                f"as 0.1 for a tenth of the labels."
            )

    @functools.cached_property
    def indices(self) -> Int64[np.ndarray, " s"]:
        """Which records of the source these are, in ascending order.

        Raises:
          ValueError: naming the class that has the fewest records, if they are too few.
        """
        check_labels(self.source)
        labels = labels_of(self.source)
        counts = np.bincount(labels, minlength=len(self.class_names))
        # As a float 0.07 is a little more than seven hundredths, which ceil would show.
        wanted = fractions.Fraction(str(self.fraction)) * len(labels)
        each = math.ceil(wanted / len(counts))
        rarest = int(counts.argmin())
        if counts[rarest] < each:
            most = int(counts[rarest]) * len(counts) / len(labels)
            less = f"at most {math.floor(most * 1e4) / 1e4:g}, or " if most else ""
            raise ValueError(
                f"FewLabels.fraction {self.fraction} of {len(labels)} records in "
                f"{len(counts)} classes takes {each} of each, but "
                f"{self.class_names[rarest]!r} has {counts[rarest]}; write {less}"
                f"Subset, which takes of each class its share."
            )
        parts = []
        for label in range(len(counts)):
            members = np.flatnonzero(labels == label)
            order = permutation(len(members), self.seed, label)
            parts.append(members[order[:each]])
        return np.sort(np.concatenate(parts))
