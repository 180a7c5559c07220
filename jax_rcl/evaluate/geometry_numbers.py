"""Numbers that say how embeddings of classes, and of their subclasses, lie.

z_i are unit vectors, c(i) the class and s(i) the subclass of image i, μ_c and μ_s the
means of all embeddings of a class and of a subclass. Everything is float64 numpy, and
finite where classes have collapsed. A number that is not defined is omitted.
"""

import dataclasses
import warnings
from typing import Any

import numpy as np
from jaxtyping import Float, Int64, Integer
from scipy.spatial.distance import pdist
from scipy.stats import entropy
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

MOST_OF_CLASS = 2000
"""Images of one class that are compared pair by pair or clustered, at most."""

NOTHING = 1e-12
"""Squared distances of unit vectors up to this are the rounding of float32 features."""

_STARTS = 4  # of k-means; the best of them counts


@dataclasses.dataclass(frozen=True, eq=False)
class Strata:
    """Unit embeddings under labels of two levels; only labels that occur are counted.

    Attributes:
      z: unit vectors [n, d]; zero vectors stay zero.
      subclasses: fine labels that occur; those of one class stand together.
      classes: coarse labels that occur, rising.
      parents: for each subclass the place of its class in `classes`.
      subclass_of: for each image the place of its subclass in `subclasses`.
      class_of: for each image the place of its class in `classes`.
      subclass_means: μ_s.
      class_means: μ_c.
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
        return np.bincount(self.subclass_of)

    @property
    def class_sizes(self) -> Int64[np.ndarray, " k"]:
        return np.bincount(self.class_of)

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
    return np.asarray(normalize(features.astype(np.float64)))


def draw_rows(
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


def cosines(of: Strata) -> dict[str, float]:
    """Mean cosine of two images of the same class, and of two of different classes.

    `within_class_cosine` (Q1) is the mean of ⟨z, z'⟩ over ordered pairs of different
    images of one class, 1 when classes collapse; `between_class_cosine` the same for
    pairs of different classes, -1 / (k - 1) for a simplex around the origin.
    """
    sizes, squares = of.class_sizes, float((of.z**2).sum())
    sums = of.class_means * sizes[:, None]
    same = float((sums**2).sum())
    pairs = float((sizes * (sizes - 1)).sum())
    others = float(len(of.z)) ** 2 - float((sizes**2).sum())
    numbers = {}
    if pairs:
        numbers["within_class_cosine"] = (same - squares) / pairs
    if others:
        total = float((sums.sum(axis=0) ** 2).sum())
        numbers["between_class_cosine"] = (total - same) / others
    return numbers


def spreads(of: Strata) -> dict[str, float]:
    """How far embeddings lie from the means of their classes, and what explains it.

    `within_class_spread` (Q2): mean over images of ‖z - μ_c‖², which is 1 - ‖μ_c‖²
    averaged; 0 when classes collapse. `within_over_total` (Q6): tr Σ_W / tr Σ_T, the
    share of that in the mean squared distance from the mean of all; 0 when classes
    collapse, and 0 where nothing varies at all. `collapse_ratio` (Q6): tr(Σ_W Σ_B⁺) /
    k, NC1 of Papyan, Han and Donoho 2020 (https://arxiv.org/abs/2008.08186), with Σ_B
    the covariance of the class means, each counted once; 0 when classes collapse.
    `subclass_share` (Q7): mean ‖μ_s - μ_c‖² over mean ‖z - μ_c‖²; 1 when each subclass
    is a point of its own, about 0 when the spread has nothing to do with subclasses,
    not defined without spread.
    """
    n = len(of.z)
    within = float(of.class_spreads @ of.class_sizes) / n
    centre = of.class_sizes @ of.class_means / n
    between = float(((of.class_means - centre) ** 2).sum(axis=1) @ of.class_sizes) / n
    total = within + between
    numbers = {
        "within_class_spread": within,
        "within_over_total": within / total if total > NOTHING else 0.0,
    }
    centred = of.class_means - of.class_means.mean(axis=0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    kept = (values > 1e-7 * values[0]) & (values**2 > NOTHING)
    if kept.any():
        along = (of.z - of.class_means[of.class_of]) @ axes[kept].T
        # The eigenvalues of Σ_B are values² / k; its k and that of NC1 cancel.
        ratio = ((along**2).mean(axis=0) / values[kept] ** 2).sum()
        numbers["collapse_ratio"] = float(ratio)
    if within > NOTHING:
        away = ((of.subclass_means - of.class_means[of.parents]) ** 2).sum(axis=1)
        numbers["subclass_share"] = float(away @ of.subclass_sizes) / n / within
    return numbers


def simplex(of: Strata) -> dict[str, float]:
    """How far the class means are from the corners of a regular simplex (Q5).

    With μ̄ the mean of the k class means, of every pair of classes
    |cos(μ_c - μ̄, μ_c' - μ̄) + 1 / (k - 1)|: `simplex_deviation` is the mean,
    `simplex_deviation_max` the largest; `class_radius_variation` is the standard
    deviation of ‖μ_c - μ̄‖ over its mean. All are 0 for a simplex; where the class means
    coincide, cosines count as 0. Not given below three classes: two means are opposite
    each other around their middle whatever they are.
    """
    k = len(of.classes)
    if k < 3:
        return {}
    centred = of.class_means - of.class_means.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=1)
    some = lengths**2 > NOTHING
    directions = (
        np.where(some[:, None], centred, 0) / np.where(some, lengths, 1)[:, None]
    )
    pairs = (directions @ directions.T)[np.triu_indices(k, 1)]
    deviations = np.abs(pairs + 1 / (k - 1))
    varies = lengths.std() / lengths.mean() if some.any() else 0.0
    return {
        "simplex_deviation": float(deviations.mean()),
        "simplex_deviation_max": float(deviations.max()),
        "class_radius_variation": float(varies),
    }


def distances(of: Strata) -> dict[str, float]:
    """Distances of subclass means (Q8), and whether large subclasses are tighter.

    `subclass_distance_within` and `subclass_distance_between`: mean ‖μ_s - μ_s'‖ over
    pairs of subclasses of the same and of different classes; the first is 0 when
    classes collapse. `size_spread_correlation`: Pearson's correlation, over subclasses,
    of the number of images with mean ‖z - μ_s‖²; not defined where all are equal in one
    of the two.
    """
    first, second = np.triu_indices(len(of.subclasses), 1)
    apart = pdist(of.subclass_means)  # in the same order
    same = of.parents[first] == of.parents[second]
    numbers = {}
    if same.any():
        numbers["subclass_distance_within"] = float(apart[same].mean())
    if not same.all():
        numbers["subclass_distance_between"] = float(apart[~same].mean())
    sizes, spread = of.subclass_sizes, of.subclass_spreads
    if np.ptp(sizes) and np.ptp(spread) > NOTHING:
        numbers["size_spread_correlation"] = float(np.corrcoef(sizes, spread)[0, 1])
    return numbers


def uniformity(of: Strata, *, seed: int) -> dict[str, float]:
    """`class_uniformity` (Q3): log of the mean of exp(-2 ‖z - z'‖²) within classes.

    Over ordered pairs of different images of one class; 0 when classes collapse, -8 at
    least. Of a class of more than `MOST_OF_CLASS` images so many are drawn by `seed`,
    and their pairs stand for all pairs of the class.
    """
    total = pairs = 0.0
    for size, rows in zip(
        of.class_sizes, draw_rows(of.class_of, MOST_OF_CLASS, seed=seed), strict=True
    ):
        if size < 2:
            continue
        z = of.z[rows]
        squares = (z**2).sum(axis=1)
        square = np.maximum(squares[:, None] + squares - 2 * (z @ z.T), 0)
        potential = np.exp(-2 * square).sum() - len(z)  # Less each with itself.
        total += potential / (len(z) * (len(z) - 1)) * size * (size - 1)
        pairs += size * (size - 1)
    return {"class_uniformity": float(np.log(total / pairs))} if pairs else {}


def nearest_subclass(of: Strata, train: Strata | None = None) -> dict[str, float]:
    """`nearest_subclass_accuracy` (Q9): how often the nearest μ_s is an image's own.

    The means are those of `train`; without it, of all other images (an image is left
    out of the mean of its own subclass, so that the only one of a subclass is missed).
    Chance within a class when classes collapse.
    """
    known = of if train is None else train
    means = known.subclass_means
    square = (means**2).sum(axis=1) - 2 * of.z @ means.T
    if train is None:
        # Without z_i itself the mean is n/(n - 1) times as far away from it.
        sizes, rows = of.subclass_sizes[of.subclass_of], np.arange(len(of.z))
        own = square[rows, of.subclass_of] + (of.z**2).sum(axis=1)
        factor = np.where(sizes > 1, sizes / np.maximum(sizes - 1, 1), np.inf)
        away = np.maximum(own, np.finfo(float).tiny) * factor**2
        square[rows, of.subclass_of] = away - (of.z**2).sum(axis=1)
    found = known.subclasses[square.argmin(axis=1)]
    right = found == of.subclasses[of.subclass_of]
    return {"nearest_subclass_accuracy": float(right.mean())}


def clusters(of: Strata, *, seed: int) -> dict[str, float]:
    """Whether k-means finds the subclasses of each class again (Q9).

    Within each class of two subclasses or more, k-means with as many clusters, the best
    of four starts by `seed`, on at most `MOST_OF_CLASS` images drawn by `seed`.
    `cluster_purity`: share of images whose subclass is the most frequent one of their
    cluster; `cluster_nmi` normalised mutual information (by the mean of the entropies);
    `cluster_ari` adjusted Rand index. Means over classes, weighted by their images. 1
    for subclasses that are apart; with collapsed classes the share of the largest
    subclass, 0 and 0.
    """
    scores, weights = [], []
    for rows in draw_rows(of.class_of, MOST_OF_CLASS, seed=seed):
        _, truth = np.unique(of.subclass_of[rows], return_inverse=True)
        count = int(truth.max()) + 1
        if count < 2:
            continue
        found = k_means(of.z[rows], count, starts=_STARTS, seed=seed)
        scores.append(agreement(np.asarray(found.labels_), truth))
        weights.append(len(rows))
    return {
        f"cluster_{name}": float(np.average([x[name] for x in scores], weights=weights))
        for name in (scores[0] if scores else ())
    }


def agreement(
    found: Integer[np.ndarray, " n"], truth: Integer[np.ndarray, " n"]
) -> dict[str, float]:
    """`purity`, `nmi` and `ari` of clusters; see `clusters`."""
    most_frequent = np.asarray(contingency_matrix(truth, found)).max(axis=0)
    return {
        "purity": float(most_frequent.sum() / len(found)),
        "nmi": float(normalized_mutual_info_score(truth, found)),
        "ari": float(adjusted_rand_score(truth, found)),
    }


def k_means(
    x: Float[np.ndarray, "n d"], count: int, *, starts: int, seed: int
) -> KMeans:
    """The tightest of several clusterings; some are empty where few rows differ."""
    settings: dict[str, Any] = {"n_init": starts, "random_state": seed}
    # One thread: sums in a fixed order, and no waiting for cores that others use.
    with threadpool_limits(1), warnings.catch_warnings():
        # Fewer distinct points than clusters is what collapse looks like.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(count, **settings).fit(x)


def spectra(of: Strata) -> tuple[Float[np.ndarray, "_"], ...]:
    """For each class the singular values of (z - μ_c) / √n_c, falling (Q12).

    n_c images in d dimensions have min(n_c - 1, d) of them; their squares sum to the
    spread of the class, mean ‖z - μ_c‖². They are exact to 1e-8 of the largest.
    """
    found = []
    for place, mean in enumerate(of.class_means):
        centred = of.z[of.class_of == place] - mean
        n, d = centred.shape
        gram = centred.T @ centred if d < n else centred @ centred.T
        values = np.linalg.eigvalsh(gram / n)[::-1][: min(n - 1, d)]
        found.append(np.sqrt(np.maximum(values, 0)))
    return tuple(found)


def effective_rank(values: Float[np.ndarray, "_"]) -> float:
    """exp(-Σ p_j log p_j) with p_j = σ_j² / Σ σ², over how many directions spread goes.

    Between 1 and the number of values, which it reaches when all are equal; 1 for a
    class that has collapsed. Roy and Vetterli 2007 take p_j = σ_j / Σ σ instead; with
    squares p_j is a share of the variance.
    """
    squares = values**2
    return float(np.exp(entropy(squares))) if squares.sum() > NOTHING else 1.0


def ranks(of: Strata) -> dict[str, float]:
    """Means over classes of what `spectra` says (Q12).

    `effective_rank`: 1 when classes collapse. `largest_singular_value`: 0 then.
    """
    values = spectra(of)
    largest = [each.max(initial=0.0) for each in values]
    return {
        "effective_rank": float(np.mean([effective_rank(each) for each in values])),
        "largest_singular_value": float(np.mean(largest)),
    }


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
