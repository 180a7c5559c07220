"""Logistic regression by scikit-learn's saga, which ends after so many passes."""

import itertools
import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Bool, Float, Integer

from jax_rcl.evaluate.linear.logistic import Solutions


def saga_grid(
    x: Float[np.ndarray, "m f"],
    labels: Integer[np.ndarray, " m"],
    parts: Bool[np.ndarray, "p m"],
    *,
    classes: int,
    strengths: tuple[float, ...],
    passes: int,
    seed: int = 0,
) -> Solutions:
    """Fits a classifier on every part of the rows with every strength, on the host.

    The strength is C of scikit-learn's `LogisticRegression(solver="saga",
    max_iter=passes)` (Defazio et al. 2014, https://arxiv.org/abs/1407.0202). A weak
    penalty is not solved in few passes: what is then found depends on `passes` and, a
    little, on `seed`, which orders the rows.

    Returns:
      The classifiers; converged where the solver ended before its last pass. Classes
      without a row in a part have the bias minus infinity.
    """
    # Imported here because it takes a second.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    def fit(rows: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray, bool]:
        model = LogisticRegression(
            C=strength, solver="saga", max_iter=passes, random_state=seed
        )
        model.fit(x[rows], labels[rows])
        weights = np.zeros((x.shape[1], classes), np.float32)
        bias = np.full(classes, -np.inf, np.float32)
        seen = np.asarray(model.classes_)
        if len(seen) == 2:  # there is one row, of the second against the first
            bias[seen[0]], seen = 0.0, seen[1:]
        weights[:, seen], bias[seen] = model.coef_.T, model.intercept_
        return weights, bias, bool(np.max(model.n_iter_) < passes)

    pairs = list(itertools.product(parts, strengths))
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore", ConvergenceWarning)  # `converged` says it
        found = list(pool.map(lambda pair: fit(*pair), pairs))
    shape = len(parts), len(strengths)
    weights, bias, done = (np.stack(arrays) for arrays in zip(*found, strict=True))
    return Solutions(
        weights.reshape(*shape, *weights.shape[1:]),
        bias.reshape(*shape, classes),
        done.reshape(shape),
    )
