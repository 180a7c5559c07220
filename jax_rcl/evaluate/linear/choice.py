"""How the strength of the regularisation of a linear classifier is chosen.

Every candidate is fitted on some of the training images, and scored on those that are
held out: folds (`split_folds`) or one share of each class (`hold_out_share`). Then the
best one is fitted on all training images.
"""

import logging
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Integer
from sklearn.model_selection import StratifiedKFold

from jax_rcl.evaluate.linear.logistic import Solutions


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
    missing in some of them, of which it warns.
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
    places = np.flatnonzero(rows)
    splits = StratifiedKFold(folds).split(labels[rows], labels[rows])
    for fold, (_, test) in enumerate(splits):
        held[fold, places[test]] = True
    return held


def hold_out_share(
    labels: Integer[np.ndarray, " m"], *, share: float, seed: int
) -> Bool[np.ndarray, " m"]:
    """Marks a share of each class: at least one row, never the only one of a class."""
    random = np.random.default_rng(seed)
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        held[rows[: min(max(1, round(share * len(rows))), len(rows) - 1)]] = True
    if not held.any():
        raise ValueError(
            f"none of {len(labels)} images can be held out, since each is the only one "
            f"of its class. Give LinearProbe a single strength: strengths=(1e-3,)."
        )
    return held


def validate(
    x: Float[Array, "m f"],
    labels: Integer[np.ndarray, " m"],
    held: Bool[np.ndarray, "n m"],
    found: Solutions,
    score: Callable[[np.ndarray, np.ndarray], float],
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


def warn_of_choice(
    name: str,
    candidates: tuple[float, ...],
    means: Float[np.ndarray, " s"],
    best: int,
    converged: Bool[np.ndarray, " s"],
) -> None:
    """Warns where a wider range, or more time, may give a better classifier.

    `name` is the setting with the candidates; `converged` holds for candidates of which
    every fit had converged when it ended.
    """
    order, logger = np.argsort(candidates), logging.getLogger(__name__)
    inner = {order[-1]: order[-2:][0], order[0]: order[:2][-1]}.get(best, best)
    if candidates[best] != 0 and means[best] > means[inner]:
        logger.warning(
            "the best of %s, %g, is at the edge of %s; a wider range may give a better "
            "classifier.",
            *(name, candidates[best], candidates),
        )
    if not converged.all():
        more = {"weight_decays": "sgd.epochs"}.get(name, "max_iterations")
        logger.warning(
            "fits with %s %s had not converged when they ended; %g was chosen. A "
            "larger %s gives them more time.",
            *(name, ", ".join(f"{x:g}" for x in np.array(candidates)[~converged])),
            *(candidates[best], more),
        )
