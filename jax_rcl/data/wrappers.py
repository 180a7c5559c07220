"""Sources made of other sources: a share of the records, other labels."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Int32, Int64

from jax_rcl.core import Source
from jax_rcl.data.records import Record, balanced_share, labels_of


@dataclasses.dataclass(frozen=True)
class Subset:
    """A random share of every class of a source, drawn once by `seed`.

    A class of c examples gives round(fraction · c) of them, but at least one; they keep
    their order. Larger fractions contain what smaller ones of the same seed contain.

    Attributes:
      source: with labels.
      fraction: in (0, 1].
      seed: from 0.
    """

    source: Source
    fraction: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(
                f"Subset.fraction is {self.fraction}; it must lie in (0, 1], such as "
                f"0.1 for a tenth of every class."
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """What each label means."""
        return self.source.class_names

    @functools.cached_property
    def indices(self) -> Int64[np.ndarray, " s"]:
        """Which records of the source these are."""
        return balanced_share(labels_of(self.source), self.fraction, self.seed)

    @property
    def all_labels(self) -> Int32[np.ndarray, " s"]:
        """The labels of all records."""
        return labels_of(self.source)[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Record:
        return self.source[int(self.indices[index])]


@dataclasses.dataclass(frozen=True)
class Relabel:
    """A source under other labels, such as coarse ones: label y becomes mapping[y].

    Attributes:
      source: with labels in [0, len(mapping)).
      mapping: the new label of each old one.
      class_names: what each new label means.
    """

    source: Source
    mapping: tuple[int, ...]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        k = len(self.class_names)
        for old, new in enumerate(self.mapping):
            if not 0 <= new < k:
                raise ValueError(
                    f"Relabel.mapping turns label {old} into {new}; new labels must be "
                    f"in [0, {k}), as there are {k} class_names."
                )

    @property
    def all_labels(self) -> Int32[np.ndarray, " m"]:
        """The new labels of all records."""
        labels = labels_of(self.source)
        outside = np.flatnonzero((labels < 0) | (labels >= len(self.mapping)))
        if len(outside):
            self._refuse(int(outside[0]), int(labels[outside[0]]))
        return np.array(self.mapping, np.int32)[labels]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Record:
        record = self.source[index]
        label = int(record["label"])
        if not 0 <= label < len(self.mapping):
            self._refuse(index, label)
        return {**record, "label": np.int32(self.mapping[label])}

    def _refuse(self, index: int, label: int) -> None:
        raise ValueError(
            f"record {index} of {self.source!r} has label {label}, but Relabel.mapping "
            f"has entries for 0 to {len(self.mapping) - 1} only; add what is missing."
        )
