"""How the strength of the regularisation of a linear classifier is chosen.

Every candidate is fitted on some of the training images, and scored on those that are
held out:

  `CrossValidated`, `PerTarget`   stratified folds (`split_folds`), balanced accuracy,
                                  of equals the first candidate
  `LinearProbe`                   one share of each class (`hold_out_share`), accuracy,
                                  of equals the strongest candidate

Then the best one is fitted on all training images.
"""

import logging
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Integer
from sklearn.model_selection import StratifiedKFold

from jax_rcl.evaluate.linear.logistic import Solutions

Score = Callable[[Integer[np.ndarray, " n"], Integer[np.ndarray, " n"]], float]
"""What predicted classes are worth, given the true ones."""

logger = logging.getLogger(__name__)


def check_two_classes(labels: Integer[np.ndarray, " n"]) -> None:
    """Raises ValueError unless the labels to fit on show at least two classes."""
    present = np.unique(labels)
    if len(present) < 2:
        raise ValueError(
            f"the {len(labels)} images to fit on show only the classes "
            f"{present.tolist()}; a classifier tells at least two apart."
        )


def split_folds(
    labels: Integer[np.ndarray, " m"], rows: Bool[np.ndarray, " m"], folds: int
) -> Bool[np.ndarray, "p m"]:
    """Which of some rows each fold holds out: stratified, in their order; 0 folds none.

    The folds are those of scikit-learn's StratifiedKFold without shuffling, which is
    what its GridSearchCV takes for a classifier. A class with fewer rows than folds is
    missing in some of them, which a warning says.

    Raises:
      ValueError: if the rows show fewer than two classes, or no class has one for each
        fold.
    """
    check_two_classes(labels[rows])
    held = np.zeros((folds, len(labels)), bool)
    if not folds:
        return held
    _, counts = np.unique(labels[rows], return_counts=True)
    if counts.max() < folds:
        raise ValueError(
            f"no class has an image for each of the {folds} folds; the largest has "
            f"{counts.max()}. Use fewer folds, or a single candidate."
        )
    rare = int((counts < folds).sum())
    if rare:
        logger.warning(
            "%d of %d classes have fewer images than the %d folds, the smallest %d; "
            "some folds score candidates without them.",
            *(rare, len(counts), folds, counts.min()),
        )
    places = np.flatnonzero(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # which says the same
        splits = StratifiedKFold(folds).split(labels[rows], labels[rows])
        for fold, (_, test) in enumerate(splits):
            held[fold, places[test]] = True
    return held


def hold_out_share(
    labels: Integer[np.ndarray, " m"], *, share: float, seed: int
) -> Bool[np.ndarray, " m"]:
    """Marks a share of each class: at least one row, never the only one of a class.

    Raises:
      ValueError: if each row is the only one of its class.
    """
    random = np.random.default_rng(seed)
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        held[rows[: min(max(1, round(share * len(rows))), len(rows) - 1)]] = True
    if not held.any():
        raise ValueError(
            f"none of {len(labels)} images can be held out, since each is the only one "
            f"of its class. Give LinearProbe a single strength."
        )
    return held


def validate(
    x: Float[Array, "m f"],
    labels: Integer[np.ndarray, " m"],
    held: Bool[np.ndarray, "n m"],
    found: Solutions,
    score: Score,
) -> Float[np.ndarray, "n s"]:
    """The score of every candidate on the rows that each fold holds out.

    Part i of the classifiers is what fold i leaves; there may be more parts.
    """
    scores = np.zeros((len(held), found.weights.shape[1]))
    if not len(held):
        return scores
    parts = found.weights[: len(held)], found.bias[: len(held)]
    predicted = jax.device_get(_predict(x, *parts))
    for fold, place in np.ndindex(scores.shape):
        rows = held[fold]
        scores[fold, place] = score(predicted[fold, place, rows], labels[rows])
    return scores


@jax.jit
def _predict(
    x: Float[Array, "m f"],
    weights: Float[Array, "p s f k"],
    bias: Float[Array, "p s k"],
) -> Int[Array, "p s m"]:
    def predict_one(classifier: tuple[Array, Array]) -> Array:
        scores = jnp.matmul(x, classifier[0], precision="highest")
        return (scores + classifier[1][None]).argmax(axis=1)

    # One after the other: the scores of all at once may not fit into memory.
    return lax.map(lambda part: lax.map(predict_one, part), (weights, bias))


def warn_at_edge(
    name: str,
    candidates: tuple[float, ...],
    means: Float[np.ndarray, " s"],
    best: int,
) -> None:
    """Warns when a candidate beyond the grid may be better than all that are in it."""
    rising = sorted(range(len(candidates)), key=lambda place: candidates[place])
    place = rising.index(best)
    inner = {0: 1, len(rising) - 1: len(rising) - 2}.get(place)
    if inner is None or len(rising) == 1 or candidates[best] == 0:
        return
    if means[best] > means[rising[inner]]:
        logger.warning(
            "the best of %s, %g, is at the edge of %s; a wider range may give a better "
            "classifier.",
            *(name, candidates[best], candidates),
        )


def warn_if_slow(
    name: str,
    candidates: tuple[float, ...],
    converged: Bool[np.ndarray, " s"],
    *,
    best: float,
    final: bool,
) -> None:
    """Warns of candidates that were scored before their fits had converged.

    `converged` says it of every fit of each candidate, `final` of that on everything
    with the one that was chosen, `best`.
    """
    slow = [c for c, done in zip(candidates, converged, strict=True) if not done]
    if slow:
        more = {"weight_decays": "sgd.epochs"}.get(name, "max_iterations")
        logger.warning(
            "fits with %s %s had not converged when they ended; the final one, with "
            "%g, %s. A larger %s gives them more time.",
            *(name, ", ".join(f"{candidate:g}" for candidate in slow), best),
            *("had" if final else "had not either", more),
        )
