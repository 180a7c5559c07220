"""Numbers for a classifier: its scores against the true labels."""

import numpy as np
from jaxtyping import Float, Int, Integer
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import recall_score, roc_auc_score
from sklearn.metrics.cluster import contingency_matrix


def classification(
    scores: Float[np.ndarray, "n k"], labels: Integer[np.ndarray, " n"]
) -> dict[str, float]:
    """Every number that these scores allow, by the names that all evaluators use.

    Of scores, the higher the likelier, and labels in [0, k): `balanced` and `shares`,
    fractions in [0, 1].
    """
    classes = scores.shape[1]
    if not len(labels) or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"scores for {classes} classes need one label or more, in "
            f"[0, {classes - 1}]; got {len(labels)}: {np.unique(labels)[:10]}."
        )
    found = shares(outcome(scores, labels), labels, classes)
    balanced = balanced_accuracy(scores.argmax(axis=1), labels)
    return {"top1": found.pop("top1"), "balanced": balanced, **found}


def outcome(
    scores: Float[np.ndarray, "n k"], labels: Integer[np.ndarray, " n"]
) -> Float[np.ndarray, "n 2"]:
    """What `shares` needs: the rank of each image's class, and class 1 less class 0."""
    return np.stack([ranks(scores, labels), scores[:, -1] - scores[:, 0]], 1)


def shares(
    outcomes: Float[np.ndarray, "m 2"], labels: Integer[np.ndarray, " m"], classes: int
) -> dict[str, float]:
    """`top1`; `top5` with more than five classes; `auroc` with exactly two."""
    places, above = outcomes.T
    found = {"top1": float((places < 1).mean())}
    if classes > 5:
        found["top5"] = float((places < 5).mean())
    if classes == 2:
        found["auroc"] = auroc(above, labels)
    return found


def ranks(
    scores: Float[np.ndarray, "n k"], labels: Integer[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """Place of the true class in the order of the scores, 0 for the first.

    Of equal scores the class with the lower number comes first, as in `argmax`, so that
    `top1` is the diagonal of the confusion matrix. (scikit-learn's top_k_accuracy_score
    breaks ties the other way, and its accuracy_score this way.)
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    before = np.arange(scores.shape[1])[None, :] < labels[:, None]
    return ((scores > own) | ((scores == own) & before)).sum(axis=1)


def balanced_accuracy(
    predicted: Integer[np.ndarray, " n"], labels: Integer[np.ndarray, " n"]
) -> float:
    """Mean over the classes that occur in `labels` of the fraction found of each."""
    present = np.unique(labels)
    return float(recall_score(labels, predicted, labels=present, average="macro"))


def auroc(scores: Float[np.ndarray, " n"], labels: Integer[np.ndarray, " n"]) -> float:
    """Chance that a row of class 1 scores above one of class 0; equal counts half."""
    present = np.unique(labels)
    if not np.array_equal(present, [0, 1]):
        raise ValueError(
            f"the area under the ROC curve compares class 0 with class 1; the labels "
            f"show {present.tolist()}. Evaluate on a test set with just these two."
        )
    return float(roc_auc_score(labels, scores))


def match_clusters(
    groups: Integer[np.ndarray, " m"], clusters: Integer[np.ndarray, " m"]
) -> Integer[np.ndarray, " m"]:
    """The group that the cluster of each row stands for.

    One to one, so that as many rows as possible are of the group that their cluster
    stands for (optimal assignment, Kuhn 1955). There may not be more clusters.
    """
    present = np.unique(groups)
    found, own = np.unique(clusters, return_inverse=True)
    if len(found) > len(present):
        raise ValueError(
            f"{len(found)} clusters cannot stand for {len(present)} groups one to one; "
            f"find as many clusters as there are groups."
        )
    counts = np.asarray(contingency_matrix(groups, clusters))
    rows, columns = linear_sum_assignment(counts, maximize=True)
    stands_for = np.empty_like(present, shape=len(found))
    stands_for[columns] = present[rows]
    return stands_for[own]
