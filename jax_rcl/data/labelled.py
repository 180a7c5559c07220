"""A few labelled records: the same number of every class."""

import dataclasses
import fractions
import functools
import math

import numpy as np
from jaxtyping import Int64

from jax_rcl.core import Source
from jax_rcl.data.records import Fraction, Seed, check_labels, draw_of_each, labels_of
from jax_rcl.data.wrappers import Chosen
from jax_rcl.ranges import ranged


@dataclasses.dataclass(frozen=True)
@ranged
class FewLabels(Chosen):
    """The same number of records of every class, drawn once by `seed`.

    Of N records in k classes every class gives ceil(N · fraction / k): 127 where a
    tenth is left of 126,689 images in 100 classes, 13 at one percent (Ravula et al.
    2021, https://arxiv.org/abs/2110.07439). They are balanced even where the source is
    not; `Subset` takes a share of each class. Records keep their order, and larger
    fractions contain what smaller ones of the same seed contain.

    Attributes:
      source: with labels, and with names for its k classes.
      fraction: counted as the decimal number that is written.
    """

    source: Source
    fraction: Fraction
    seed: Seed = 0

    @functools.cached_property
    def indices(self) -> Int64[np.ndarray, " s"]:
        """Which records of the source these are, in ascending order."""
        check_labels(self.source)
        labels = labels_of(self.source)
        counts = np.bincount(labels, minlength=len(self.class_names))
        # As a float 0.07 is a little above seven hundredths; ceil would round it up.
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
                f"Subset, which takes a share of each class."
            )
        return draw_of_each(labels, lambda _: each, self.seed)
