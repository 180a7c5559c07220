"""What an evaluator found that a picture says better than a number."""

import numpy as np
from jaxtyping import Float, Integer
from sklearn.manifold import TSNE
from sklearn.metrics import confusion_matrix
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from jax_rcl.artifacts import Confusion, Embedding

MOST_POINTS = 2000
"""A map of more images than this takes minutes and shows no more."""

FEWEST_POINTS = 30
"""Below, neighbourhoods are too small for t-SNE; two principal components serve."""

_COMPONENTS = 50  # what t-SNE's authors reduce to first: noise goes, so does most time


def confusion(
    labels: Integer[np.ndarray, " n"],
    predicted: Integer[np.ndarray, " n"],
    class_names: tuple[str, ...],
) -> Confusion:
    """Counts every pair of a true and a predicted class, those without rows too."""
    every = np.arange(len(class_names))
    matrix = confusion_matrix(labels, predicted, labels=every)
    return Confusion(matrix, class_names)


def embedding(
    features: Float[np.ndarray, "n f"],
    labels: Integer[np.ndarray, " n"],
    class_names: tuple[str, ...],
    *,
    seed: int = 0,
    most: int = MOST_POINTS,
) -> Embedding:
    """Maps unit features to the plane by t-SNE (van der Maaten and Hinton 2008).

    Euclidean distance of unit vectors orders pairs as their cosine does, which is what
    contrastive losses shape. The map starts from the first two principal components, so
    it keeps the large arrangement where it can and is the same for the same seed.

    `seed` decides the rows drawn, at most `most`, and t-SNE's random numbers. With
    fewer than `FEWEST_POINTS` rows, or when all features are equal, the points are the
    first two principal components instead.
    """
    total = len(features)
    rows = np.random.default_rng(seed).permutation(total)[:most]
    rows.sort()
    unit = np.asarray(normalize(features[rows]))
    centre, axes, _ = principal_axes(unit, _COMPONENTS)
    components = (unit - centre).astype(np.float64) @ axes
    points, method = components[:, :2], "principal components"
    spread = points[:, 0].std()
    if len(rows) >= FEWEST_POINTS and spread > 1e-6:
        # t-SNE wants to start small: its own "pca" start has this scale too.
        start = (points / spread * 1e-4).astype(np.float32)
        perplexity = min(30.0, (len(rows) - 1) / 3)
        tsne = TSNE(2, perplexity=perplexity, init=start, random_state=seed)
        # One thread: sums in a fixed order, and no waiting for cores that others use,
        # which can take a hundred times as long as the work itself.
        with threadpool_limits(1):
            points, method = tsne.fit_transform(components.astype(np.float32)), "t-SNE"
    method = f"{method} of unit features, {len(rows)} of {total} images"
    return Embedding(points.astype(np.float32), labels[rows], class_names, method)


def principal_axes(
    x: Float[np.ndarray, "m f"], count: int
) -> tuple[Float[np.ndarray, " f"], Float[np.ndarray, "f c"], float]:
    """The mean, at most `count` main axes, and the share of the variance along them.

    Axes are columns, never fewer than two: of a single feature the second is zero.
    """
    centre = x.mean(axis=0)
    centred = (x - centre).astype(np.float64)
    values, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :count]
    # An axis is known up to its sign; the largest entry positive makes it one.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    share = values[-count:].sum() / values.sum() if values.sum() > 0 else 1.0
    return centre, np.pad(axes, ((0, 0), (0, max(0, 2 - axes.shape[1])))), float(share)
