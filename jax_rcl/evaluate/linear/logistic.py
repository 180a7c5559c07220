"""Multinomial logistic regression with an L2 penalty, solved to a tolerance."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Integer


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
    """A linear classifier of features, and how it was found.

    Attributes:
      weights: W [f, k], of standardised features.
      bias: b [k].
      mean: of the features fitted on, [f].
      scale: their standard deviation, [f]; 1 where they do not vary.
      strength: of the regularisation.
      loss: the objective where the fit ended.
      converged: whether the gradient is within the tolerance there.
      iterations: how many it took.
    """

    weights: Float[np.ndarray, "f k"]
    bias: Float[np.ndarray, " k"]
    mean: Float[np.ndarray, " f"]
    scale: Float[np.ndarray, " f"]
    strength: float
    loss: float
    converged: bool
    iterations: int

    def scores(self, features: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n k"]:
        """Logarithms of the class probabilities, up to a constant in each row."""
        return (features - self.mean) / self.scale @ self.weights + self.bias

    def predict(self, features: Float[np.ndarray, "n f"]) -> Int[np.ndarray, " n"]:
        """The likeliest class of each row; of equals the first."""
        return self.scores(features).argmax(axis=1)


def logistic_regression(
    x: Float[np.ndarray, "m f"],
    labels: Integer[np.ndarray, " m"],
    *,
    rows: Bool[np.ndarray, " m"],
    classes: int,
    strengths: tuple[float, ...],
    tolerance: float = 1e-5,
    max_iterations: int = 500,
) -> list[Fitted]:
    """Fits a classifier on some of the rows, once for each strength.

    Minimises over W [f, k] and b [k], from zero,

      mean_i cross_entropy(W^T x_i + b, y_i) + strength / 2 ‖W‖²

    over standardised x. The problem is convex, and strictly so in W. The strengths are
    fitted one after the other, each from zero, so that a result does not depend on the
    other candidates; side by side under `vmap` they take four times as long on a CPU,
    since every one then waits for the longest line search of all.

    Args:
      x: features.
      labels: classes in [0, classes).
      rows: which to fit on. The others take part with weight zero, so that a fit on a
        part and one on all rows are one compiled program.
      classes: how many there are, those without rows included.
      strengths: of the regularisation.
      tolerance: converged when no entry of the gradient is larger in absolute value.
      max_iterations: of L-BFGS, for each strength.

    Raises:
      ValueError: if the rows show fewer than two classes.
    """
    present = np.unique(labels[rows])
    if len(present) < 2:
        raise ValueError(
            f"the {int(rows.sum())} images to fit on show only the classes "
            f"{present.tolist()}; a probe tells at least two apart."
        )
    mean = x[rows].mean(axis=0, dtype=np.float64)
    scale = x[rows].std(axis=0, dtype=np.float64)
    # What varies less than this is rounding, which must not be blown up to unit scale.
    scale = np.where(scale > 1e-6 * np.abs(mean), scale, 1.0)
    mean, scale = mean.astype(np.float32), scale.astype(np.float32)
    shares = rows.astype(np.float32) / np.float32(rows.sum())
    data = jax.device_put(((x - mean) / scale, labels, shares))
    fits = []
    for strength in strengths:
        limits = np.float32(tolerance), np.int32(max_iterations)
        solution = _solve(*data, np.float32(strength), *limits, classes=classes)
        (weights, bias), loss, slope, iterations = jax.device_get(solution)
        converged = bool(slope <= tolerance)
        end = (float(loss), converged, int(iterations))
        fits.append(Fitted(weights, bias, mean, scale, strength, *end))
    return fits


@functools.partial(jax.jit, static_argnames="classes")
def _solve(
    x: Float[Array, "m f"],
    labels: Integer[Array, " m"],
    shares: Float[Array, " m"],
    strength: Float[Array, ""],
    tolerance: Float[Array, ""],
    max_iterations: Int[Array, ""],
    *,
    classes: int,
) -> tuple[Any, Array, Array, Array]:
    """(W, b), the objective there, the largest entry of its gradient, iterations."""

    def objective(parameters: tuple[Array, Array]) -> Array:
        weights, bias = parameters
        # "highest": with reduced precision the gradient never gets below the tolerance.
        scores = jnp.matmul(x, weights, precision="highest") + bias[None, :]
        entropy = optax.softmax_cross_entropy_with_integer_labels(scores, labels)
        return shares @ entropy + strength / 2 * jnp.sum(weights**2)

    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(objective)

    def slope(state: optax.OptState) -> Array:
        gradient = optax.tree.get(state, "grad")
        return jnp.maximum(*(jnp.abs(leaf).max() for leaf in gradient))

    def unfinished(carry: tuple[Any, Any, Array]) -> Array:
        _, state, iterations = carry
        # Before the first iteration the state holds no gradient yet.
        going = (iterations == 0) | (slope(state) > tolerance)
        return going & (iterations < max_iterations)

    def iterate(carry: tuple[Any, Any, Array]) -> tuple[Any, Any, Array]:
        parameters, state, iterations = carry
        value, grad = value_and_grad(parameters, state=state)
        updates, state = solver.update(
            *(grad, state, parameters), value=value, grad=grad, value_fn=objective
        )
        return optax.apply_updates(parameters, updates), state, iterations + 1

    start = jnp.zeros((x.shape[1], classes)), jnp.zeros(classes)
    carry = start, solver.init(start), jnp.int32(0)
    parameters, state, iterations = lax.while_loop(unfinished, iterate, carry)
    return parameters, optax.tree.get(state, "value"), slope(state), iterations
