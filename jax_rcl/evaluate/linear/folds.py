"""Linear classifiers of parts of the rows, judged on the rows that are left out."""

import logging
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Integer
from sklearn.model_selection import StratifiedKFold

from jax_rcl.evaluate import metrics


class Solutions(NamedTuple):
    """A linear classifier for every part of the rows and every candidate.

    Attributes:
      weights: W of each [p, s, f, k].
      bias: b of each [p, s, k].
      converged: whether each was done when its fit ended [p, s].
    """

    weights: Float[np.ndarray, "p s f k"]
    bias: Float[np.ndarray, "p s k"]
    converged: Bool[np.ndarray, "p s"]


def held_out(
    labels: Integer[np.ndarray, " m"], rows: Bool[np.ndarray, " m"], folds: int
) -> Bool[np.ndarray, "p m"]:
    """Which of some rows each fold holds out: stratified, in the order of the rows.

    The folds are those of scikit-learn's StratifiedKFold without shuffling, which is
    what its GridSearchCV takes for a classifier. A class with fewer rows than folds is
    judged by some of them only, which a warning says.

    Args:
      labels: of all rows.
      rows: those that are shared out over the folds.
      folds: how many; 0 for none.

    Raises:
      ValueError: if the rows show fewer than two classes, or no class has one for each
        fold.
    """
    present, counts = np.unique(labels[rows], return_counts=True)
    if len(present) < 2:
        raise ValueError(
            f"the {int(rows.sum())} images to fit on show only the classes "
            f"{present.tolist()}; a classifier tells at least two apart."
        )
    held = np.zeros((folds, len(labels)), bool)
    if not folds:
        return held
    if counts.max() < folds:
        raise ValueError(
            f"no class has an image for each of the {folds} folds; the largest has "
            f"{counts.max()}. Use fewer folds, or a single candidate."
        )
    rare = int((counts < folds).sum())
    if rare:
        logging.getLogger(__name__).warning(
            "%d of %d classes have fewer images than the %d folds, the smallest %d; "
            "some folds judge without them.",
            *(rare, len(present), folds, counts.min()),
        )
    places = np.flatnonzero(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # which says the same
        splits = StratifiedKFold(folds).split(labels[rows], labels[rows])
        for fold, (_, own) in enumerate(splits):
            held[fold, places[own]] = True
    return held


def judged(
    x: Float[Array, "m f"],
    labels: Integer[np.ndarray, " m"],
    held: Bool[np.ndarray, "n m"],
    found: Solutions,
) -> Float[np.ndarray, "n s"]:
    """Balanced accuracy of every candidate on the rows that each fold holds out.

    Args:
      x: features on the device.
      labels: their classes.
      held: the rows of each fold.
      found: classifiers; part i is what fold i leaves, and there may be more parts.
    """
    scores = np.zeros((len(held), found.weights.shape[1]))
    if not len(held):
        return scores
    parts = found.weights[: len(held)], found.bias[: len(held)]
    predicted = jax.device_get(_predicted(x, *parts))
    for fold, place in np.ndindex(scores.shape):
        rows = held[fold]
        own = predicted[fold, place, rows]
        scores[fold, place] = metrics.balanced_accuracy(own, labels[rows])
    return scores


@jax.jit
def _predicted(
    x: Float[Array, "m f"],
    weights: Float[Array, "p s f k"],
    bias: Float[Array, "p s k"],
) -> Int[Array, "p s m"]:
    def one(classifier: tuple[Array, Array]) -> Array:
        scores = jnp.matmul(x, classifier[0], precision="highest")
        return (scores + classifier[1][None]).argmax(axis=1)

    # One after the other: the scores of all at once may not fit into memory.
    return lax.map(lambda part: lax.map(one, part), (weights, bias))
