"""What an evaluator found that a picture says better than a number."""

import numpy as np
from jaxtyping import Float, Integer
from sklearn.manifold import TSNE
from sklearn.metrics import confusion_matrix
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

    Args:
      features: one row per image.
      labels: their classes.
      class_names: what the labels stand for.
      seed: decides the rows drawn and t-SNE's random numbers.
      most: rows that are shown; of more, so many are drawn.

    Returns:
      The map. With fewer than `FEWEST_POINTS` rows, or when all features are equal, its
      points are the first two principal components instead.
    """
    total = len(features)
    rows = np.random.default_rng(seed).permutation(total)[:most]
    rows.sort()
    lengths = np.linalg.norm(features[rows], axis=1, keepdims=True)
    unit = features[rows] / np.maximum(lengths, np.finfo(np.float32).tiny)
    components = _principal_components(unit, _COMPONENTS)
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


def _principal_components(
    x: Float[np.ndarray, "m f"], count: int
) -> Float[np.ndarray, "m c"]:
    """Centred rows along at most `count` main axes; never fewer than two columns."""
    centred = (x - x.mean(axis=0)).astype(np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :count]
    # An axis is known up to its sign; the largest entry positive makes it one.
    largest = np.abs(axes).argmax(axis=0)
    components = centred @ (axes * np.sign(axes[largest, np.arange(axes.shape[1])]))
    return np.pad(components, ((0, 0), (0, max(0, 2 - components.shape[1]))))
