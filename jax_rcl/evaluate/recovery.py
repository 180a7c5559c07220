"""Recovers unlabelled subgroups of classes by clustering embeddings."""

import dataclasses
import functools
import importlib
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int32
from sklearn.metrics import precision_recall_fscore_support
from threadpoolctl import threadpool_limits

from jax_rcl.artifacts import Finding
from jax_rcl.core import Encode, Source
from jax_rcl.data.records import group_names_of, labels_of
from jax_rcl.evaluate import metrics
from jax_rcl.evaluate.features import LayerEvaluator, features, once
from jax_rcl.evaluate.findings import confusion, principal_axes
from jax_rcl.evaluate.geometry_numbers import draw_rows, k_means, unit
from jax_rcl.evaluate.groups import group_ids
from jax_rcl.ranges import Count, ranged


@dataclasses.dataclass(frozen=True)
@ranged
class Clustering:
    """k-means on unit features of which few dimensions are kept.

    Attributes:
      components: how many dimensions are kept; None clusters the unit features
        themselves.
      restarts: k-means is run so often, and the tightest clusters are taken.
      most: components and clusters are fitted on so many rows at most, drawn by `seed`;
        then every row goes to the nearest centre.
      seed: of the rows drawn, of UMAP and of k-means.
      reduction: what is kept: principal components, or the coordinates of UMAP (McInnes
        et al. 2018, https://arxiv.org/abs/1802.03426) with its own defaults, which
        needs the extra `umap`.
    """

    # Deviation: sub-group recovery was published with UMAP to two dimensions. Principal
    # components need no package and no choice of a neighbourhood, and do not tear
    # clusters apart; `components=None` omits the reduction.
    components: Count | None = 2
    restarts: Count = 10
    most: Count = 10_000
    seed: int = 0
    reduction: Literal["principal components", "umap"] = "principal components"

    def __post_init__(self) -> None:
        if self.reduction == "umap":
            if self.components is None:
                raise ValueError(
                    "Clustering.reduction 'umap' does nothing with components=None, "
                    "which keeps all dimensions; write components=2."
                )
            umap_class()

    @property
    def method(self) -> str:
        """What it does, for a line of protocol."""
        reduced = ""
        if self.components is not None:
            kept = "dimensions by UMAP" if self.reduction == "umap" else self.reduction
            reduced = f" reduced to {self.components} {kept}"
        return f"k-means (best of {self.restarts}) of unit features{reduced}"

    def clusters(
        self, x: Float[np.ndarray, "m f"], count: int
    ) -> Int32[np.ndarray, " m"]:
        """The cluster of each row, in [0, count)."""
        if count > min(len(x), self.most):
            raise ValueError(
                f"{count} clusters cannot be found in {len(x)} images, of which "
                f"{min(len(x), self.most)} are fitted on (Clustering.most "
                f"{self.most}). Ask for fewer clusters."
            )
        z = unit(x)
        (rows,) = draw_rows(np.zeros(len(z), int), self.most, seed=self.seed)
        if self.reduction == "umap":
            reducer = umap_class()(
                n_components=self.components, random_state=self.seed
            ).fit(z[rows])
            z = np.asarray(reducer.transform(z), np.float32)
        elif self.components is not None:
            _, axes, _ = principal_axes(z[rows], self.components)
            z = z @ axes
        fitted = k_means(z[rows], count, starts=self.restarts, seed=self.seed)
        with threadpool_limits(1):
            return np.asarray(fitted.predict(z), np.int32)

    def within(
        self,
        x: Float[np.ndarray, "m f"],
        labels: Int32[np.ndarray, " m"],
        class_names: tuple[str, ...],
        counts: tuple[int, ...],
    ) -> Int32[np.ndarray, " m"]:
        """The cluster of each row inside its class, as `inferred_groups` numbers it."""
        groups, first = np.zeros(len(labels), np.int32), 0
        for label, count in enumerate(counts):
            rows = np.flatnonzero(labels == label)
            if len(rows) and count < 1:
                raise ValueError(
                    f"clusters {counts} gives the class {class_names[label]!r} {count} "
                    f"groups, but it has {len(rows)} images; write 1 or more."
                )
            if len(rows):
                groups[rows] = first + self.clusters(x[rows], count)
            first += count
        return groups


def umap_class() -> Any:
    """UMAP of the package umap-learn; ImportError if it is not installed."""
    try:
        return importlib.import_module("umap").UMAP
    except ImportError as error:
        raise ImportError(
            "Clustering.reduction 'umap' needs umap-learn: pip install "
            "'jax_rcl[umap]'; or reduce to principal components, the default."
        ) from error


PLANE = Clustering()
"""k-means on two principal components."""


@dataclasses.dataclass(frozen=True)
class GroupRecovery(LayerEvaluator):
    """How well clusters of features within each class agree with its groups.

    Every class is split into as many clusters as it has groups. Clusters are matched to
    groups one to one, so that as many images as possible are in the cluster of their
    group (optimal assignment). Classes of a single group say nothing and are omitted.

    Attributes:
      source: images with labels and groups; the authors of the protocol take the
        training images, without augmentation.
    """

    source: Source
    _: dataclasses.KW_ONLY
    clustering: Clustering = PLANE

    @property
    def protocol(self) -> str:
        return (
            f"{self.clustering.method}, {self.layer!r} of {len(self.source)} images, "
            f"within each of {len(self.source.class_names)} classes, matched to "
            f"{len(group_names_of(self.source))} groups by optimal assignment"
        )

    def check(self) -> None:
        """Reads labels and groups, which must divide the classes."""
        self._divided()

    def run(self, encode: Encode) -> dict[str, float]:
        """Means over groups of `f1`, `precision` and `recall`, then those of each.

        With `<number>/<group>` for every group of a class that has several; precision
        is the share of a group's cluster that belongs to the group, recall the share of
        the group in its cluster, and f1 their harmonic mean; all are 0 for a group
        whose cluster has none of its images.
        """
        truth, found, names = self._recovered(encode)
        how: dict[str, Any] = {"labels": np.arange(len(names)), "zero_division": 0}
        scores: Any = precision_recall_fscore_support(truth, found, **how)
        by_name = {"f1": scores[2], "precision": scores[0], "recall": scores[1]}
        means = {name: float(np.mean(values)) for name, values in by_name.items()}
        return means | {
            f"{name}/{group}": float(value)
            for name, values in by_name.items()
            for group, value in zip(names, values, strict=True)
        }

    def findings(self, encode: Encode) -> dict[str, Finding]:
        """Which groups (rows) are found in whose cluster (columns)."""
        return {"recovered": confusion(*self._recovered(encode))}

    def _recovered(
        self, encode: Encode
    ) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """The group of each image, that of its cluster, and what these numbers mean."""
        labels, groups, counts = self._divided()
        infer = functools.partial(
            *(inferred_groups, encode, self.source),
            clusters=tuple(counts.tolist()),
            clustering=self.clustering,
            layer=self.layer,
            preprocess=self.preprocess,
            batch_size=self.batch_size,
        )
        clusters = once(encode, self, infer)
        found = groups.copy()
        for label in np.flatnonzero(counts > 1):
            rows = labels == label
            found[rows] = metrics.match_clusters(groups[rows], clusters[rows])
        rows = counts[labels] > 1
        present, truth = np.unique(groups[rows], return_inverse=True)
        names = tuple(group_names_of(self.source)[int(g)] for g in present)
        return truth, np.searchsorted(present, found[rows]), names

    def _divided(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Label and group of each image, and how many groups each class has."""
        labels, groups = labels_of(self.source), group_ids(self.source)
        pairs = np.unique(np.stack([labels, groups], axis=1), axis=0)
        shared = np.flatnonzero(np.bincount(pairs[:, 1]) > 1)
        if len(shared):
            raise ValueError(
                f"the group {group_names_of(self.source)[int(shared[0])]!r} of "
                f"{self.source} occurs in several classes; groups that can be found "
                f"within classes divide them. Make one of each class and attribute."
            )
        counts = np.bincount(pairs[:, 0], minlength=len(self.source.class_names))
        if counts.max() < 2:
            raise ValueError(
                f"no class of {self.source} has more than one group; there is nothing "
                f"to recover. Use a source whose groups divide its classes."
            )
        return labels, groups, counts


def inferred_groups(
    encode: Encode,
    source: Source,
    *,
    clusters: tuple[int, ...],
    clustering: Clustering = PLANE,
    **settings: Any,
) -> Int32[np.ndarray, " m"]:
    """Groups that an encoder sees within each class, for images without group labels.

    They may replace the true groups in training that protects the worst of them. The
    class of label i is split into clusters[i] groups, 0 only for a class without
    images; those of class 0 are numbered from 0 to clusters[0] - 1, then come those of
    class 1, up to sum(clusters) - 1. The settings are those of `features`, such as
    `layer`, `preprocess` and `batch_size`.
    """
    if len(clusters) != len(source.class_names):
        raise ValueError(
            f"clusters {clusters} must be one number for each of the "
            f"{len(source.class_names)} classes of {source}."
        )
    x, labels = features(encode, source, **settings)
    return clustering.within(x, labels, source.class_names, clusters)
