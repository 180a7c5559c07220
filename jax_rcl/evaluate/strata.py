"""Embeddings under labels of two levels: classes, and what they consist of."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int64, Integer


@dataclasses.dataclass(frozen=True, eq=False)
class Strata:
    """Unit embeddings under labels of two levels; only labels that occur are counted.

    Attributes:
      z: unit vectors [n, d]; zero vectors stay zero.
      subclasses: fine labels that occur [s]; those of one class stand together.
      classes: coarse labels that occur [k], rising.
      parents: for each subclass [s] the place of its class in `classes`.
      subclass_of: for each image [n] the place of its subclass in `subclasses`.
      class_of: for each image [n] the place of its class in `classes`.
      subclass_means: μ_s [s, d].
      class_means: μ_c [k, d].
    """

    z: Float[np.ndarray, "n d"]
    subclasses: Integer[np.ndarray, " s"]
    classes: Integer[np.ndarray, " k"]
    parents: Integer[np.ndarray, " s"]
    subclass_of: Integer[np.ndarray, " n"]
    class_of: Integer[np.ndarray, " n"]
    subclass_means: Float[np.ndarray, "s d"]
    class_means: Float[np.ndarray, "k d"]

    @property
    def subclass_sizes(self) -> Int64[np.ndarray, " s"]:
        """Images of each subclass."""
        return np.bincount(self.subclass_of, minlength=len(self.subclasses))

    @property
    def class_sizes(self) -> Int64[np.ndarray, " k"]:
        """Images of each class."""
        return np.bincount(self.class_of, minlength=len(self.classes))

    @property
    def subclass_spreads(self) -> Float[np.ndarray, " s"]:
        """Mean ‖z - μ_s‖² of each subclass."""
        return _spreads(self.z, self.subclass_of, self.subclass_means)

    @property
    def class_spreads(self) -> Float[np.ndarray, " k"]:
        """Mean ‖z - μ_c‖² of each class."""
        return _spreads(self.z, self.class_of, self.class_means)


def strata(
    features: Float[np.ndarray, "n d"],
    labels: Integer[np.ndarray, " n"],
    coarse: tuple[int, ...],
) -> Strata:
    """Embeddings sorted by their fine labels and by `coarse[label]`, means taken."""
    z = unit(features)
    present, places = np.unique(labels, return_inverse=True)
    coarse_of = np.array(coarse)[present]
    classes, parents = np.unique(coarse_of, return_inverse=True)
    order = np.argsort(parents, kind="stable")
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order))
    subclass_of, parents = rank[places], parents[order]
    class_of = parents[subclass_of]
    return Strata(
        z=z,
        subclasses=present[order],
        classes=classes,
        parents=parents,
        subclass_of=subclass_of,
        class_of=class_of,
        subclass_means=_means(z, subclass_of),
        class_means=_means(z, class_of),
    )


def unit(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows of length 1 in float64; zero rows stay zero."""
    wide = features.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.maximum(lengths, np.finfo(np.float32).tiny)


def drawn(
    groups: Integer[np.ndarray, " n"], most: int, *, seed: int
) -> list[Int64[np.ndarray, "_"]]:
    """Rows of each group, rising; of a larger group `most` of them, drawn by `seed`."""
    random = np.random.default_rng(seed)
    found = []
    for group in range(int(groups.max()) + 1):
        rows = np.flatnonzero(groups == group)
        if len(rows) > most:
            rows = np.sort(random.permutation(rows)[:most])
        found.append(rows)
    return found


def _means(
    z: Float[np.ndarray, "n d"], groups: Integer[np.ndarray, " n"]
) -> Float[np.ndarray, "g d"]:
    """The mean of each group; every group has a row."""
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups)
    starts = np.cumsum(sizes) - sizes
    return np.add.reduceat(z[order], starts, axis=0) / sizes[:, None]


def _spreads(
    z: Float[np.ndarray, "n d"],
    groups: Integer[np.ndarray, " n"],
    means: Float[np.ndarray, "g d"],
) -> Float[np.ndarray, " g"]:
    """Mean squared distance from the mean of each group."""
    squares = ((z - means[groups]) ** 2).sum(axis=1)
    return np.bincount(groups, squares, len(means)) / np.bincount(groups)
