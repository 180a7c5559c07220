"""A linear classifier trained by plain SGD, for many weight decays all at once.

The learning rate follows PyTorch's ReduceLROnPlateau. Ours is not
optax.contrib.reduce_on_plateau: that counts updates instead of epochs, whose number
differs between parts of the rows, drops the rate one epoch sooner for the same
patience, and knows no smallest change.
"""

import dataclasses
import functools
import math
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Integer

from jax_rcl.evaluate.linear.logistic import Solutions
from jax_rcl.ranges import Count, Positive, Within, ranged

PATIENCE, FACTOR, BETTER = 10, 0.1, 1e-4
"""The learning rate is multiplied by `FACTOR` after more than `PATIENCE` epochs in a
row without a loss that is lower than the lowest so far by the share `BETTER`; these are
the defaults of PyTorch's ReduceLROnPlateau."""

WINDOW, FEWEST, FLAT = 10, 20, 1e-4
"""Training ends after more than `FEWEST` epochs when none of the last `WINDOW` losses
is as far as `FLAT` from their mean."""


@dataclasses.dataclass(frozen=True)
@ranged
class PlainSgd:
    """Settings of the training; the defaults are those of Dufumier et al. 2023.

    https://arxiv.org/abs/2206.01646, the linear evaluation of the released code.

    Attributes:
      learning_rate: at the start; lower after each plateau of the loss.
      momentum: share of the last update that is kept.
      batch: rows in each update; the last of an epoch has what is left.
      epochs: passes over the rows, at most.
    """

    learning_rate: Positive = 0.1
    momentum: Annotated[float, Within(0, 1, open="high")] = 0.9
    batch: Count = 512
    epochs: Count = 300


def sgd_grid(
    x: Float[Array, "m f"],
    labels: Integer[np.ndarray, " m"],
    parts: Bool[np.ndarray, "p m"],
    *,
    classes: int,
    weight_decays: tuple[float, ...],
    settings: PlainSgd = PlainSgd(),
    seed: int = 0,
) -> Solutions:
    """Trains a classifier on every part of the rows with every weight decay.

    A velocity follows the gradient of the cross-entropy of W^T x + b, to which weight
    decay times W and b is added: v' = momentum v + gradient, W' = W - learning rate v'.
    The rule for the learning rate reads the mean over the batches of an epoch of their
    mean losses, and so does the one that ends the training.

    All are one program. The trainings of one part share the order of the rows, which is
    drawn again for every epoch, and the start, which is PyTorch's: uniform in
    ±1/sqrt(f). In a part with fewer rows than another an epoch ends with idle updates.

    Returns:
      The classifiers; converged where the losses became flat before the last epoch was
      over. Weights that are not finite are from a training that diverged.
    """
    keys = jax.random.split(jax.random.key(seed), len(parts))
    decays = np.array(weight_decays, np.float32)
    most = np.int32(math.ceil(parts.sum(axis=1).max() / settings.batch))
    data = x, labels.astype(np.int32), parts, keys, decays, most
    found = _train_all(*data, settings=settings, classes=classes)
    return Solutions(*jax.device_get(found))


def initial_parameters(
    key: Array, features: int, classes: int
) -> tuple[Float[Array, "f k"], Float[Array, " k"]]:
    """Weights and bias before the first update of a part."""
    bound = features**-0.5
    first, second = jax.random.split(jax.random.fold_in(key, 0))
    weights = jax.random.uniform(
        first, (features, classes), minval=-bound, maxval=bound
    )
    bias = jax.random.uniform(second, (classes,), minval=-bound, maxval=bound)
    return weights, bias


def epoch_order(
    key: Array, epoch: Int[Array, ""] | int, rows: Bool[Array, " m"]
) -> Int[Array, " m"]:
    """All rows, first those of the part, in the order of an epoch, from 0."""
    places = jax.random.uniform(jax.random.fold_in(key, epoch + 1), rows.shape)
    return jnp.argsort(jnp.where(rows, places, 2.0))


class _Training(NamedTuple):
    """Where the training with one weight decay stands; of all of them [s, ...]."""

    weights: tuple[Array, Array]  # [f, k] and [k]
    velocity: tuple[Array, Array]
    learning_rate: Array
    lowest: Array  # loss so far
    waited: Array  # epochs since then
    losses: Array  # the last ones [WINDOW]
    going: Array  # whether it goes on
    flat: Array  # whether it ended because the losses were flat


@functools.partial(jax.jit, static_argnames=("settings", "classes"))
def _train_all(
    x: Float[Array, "m f"],
    labels: Integer[Array, " m"],
    parts: Bool[Array, "p m"],
    keys: Array,
    decays: Float[Array, " s"],
    most: Integer[Array, ""],
    *,
    settings: PlainSgd,
    classes: int,
) -> tuple[Float[Array, "p s f k"], Float[Array, "p s k"], Bool[Array, "p s"]]:
    def train(rows: Array, key: Array) -> tuple[Array, Array, Array]:
        weights = initial_parameters(key, x.shape[1], classes)
        one = _Training(
            *(weights, jax.tree.map(jnp.zeros_like, weights)),
            *(jnp.float32(settings.learning_rate), jnp.float32(jnp.inf), jnp.int32(0)),
            *(jnp.zeros(WINDOW), jnp.array(True), jnp.array(False)),
        )
        start = jax.tree.map(
            lambda a: jnp.broadcast_to(a, (len(decays), *a.shape)), one
        )

        def unfinished(carry: tuple[Array, _Training]) -> Array:
            return (carry[0] < settings.epochs) & carry[1].going.any()

        def run_epoch(carry: tuple[Array, _Training]) -> tuple[Array, _Training]:
            epoch, training = carry
            batches = x, labels, epoch_order(key, epoch, rows), rows.sum(), most

            def run_one(before: _Training, decay: Array) -> _Training:
                moved, loss = _train_epoch(before, batches, decay, settings)
                after = _finish_epoch(moved, loss, epoch + 1)
                # What has ended stays as it is.
                return _choose(before.going, after, before)

            return epoch + 1, jax.vmap(run_one)(training, decays)

        _, training = lax.while_loop(unfinished, run_epoch, (jnp.int32(0), start))
        return *training.weights, training.flat

    return jax.vmap(train)(parts, keys)


def _choose(first: Bool[Array, ""], a: Any, b: Any) -> Any:
    return jax.tree.map(functools.partial(jnp.where, first), a, b)


def _train_epoch(
    training: _Training,
    batches: tuple[Array, Array, Array, Array, Array],
    decay: Float[Array, ""],
    settings: PlainSgd,
) -> tuple[_Training, Float[Array, ""]]:
    """One pass, and the mean of its batches' losses."""
    x, labels, order, count, most = batches
    updates = -(-count // settings.batch)  # of this part; the others are idle
    order = jnp.pad(order, (0, -len(order) % settings.batch))

    def loss(weights: tuple[Array, Array], rows: Array, mask: Array) -> Array:
        scores = jnp.matmul(x[rows], weights[0], precision="highest") + weights[1][None]
        entropy = optax.softmax_cross_entropy_with_integer_labels(scores, labels[rows])
        return (entropy * mask).sum() / jnp.maximum(mask.sum(), 1.0)

    def update(step: Array, carry: tuple[Any, Any, Array]) -> tuple[Any, Any, Array]:
        weights, velocity, total = carry
        first = step * settings.batch
        rows = lax.dynamic_slice_in_dim(order, first, settings.batch)
        mask = (first + jnp.arange(settings.batch) < count).astype(jnp.float32)
        value, gradient = jax.value_and_grad(loss)(weights, rows, mask)
        velocity = jax.tree.map(
            lambda v, g, w: settings.momentum * v + g + decay * w,
            *(velocity, gradient, weights),
        )
        weights = jax.tree.map(
            lambda w, v: w - training.learning_rate * v, weights, velocity
        )
        return _choose(step < updates, (weights, velocity, total + value), carry)

    start = training.weights, training.velocity, jnp.zeros(())
    weights, velocity, total = lax.fori_loop(0, most, update, start)
    moved = training._replace(weights=weights, velocity=velocity)
    return moved, total / updates.astype(jnp.float32)


def _finish_epoch(
    training: _Training, loss: Float[Array, ""], done: Int[Array, ""]
) -> _Training:
    """Lowers the learning rate or ends the training, after `done` epochs."""
    better = loss < training.lowest * (1 - BETTER)
    waited = jnp.where(better, 0, training.waited + 1)
    lower = FACTOR * training.learning_rate
    # PyTorch does not move by less than 1e-8.
    drop = (waited > PATIENCE) & (training.learning_rate - lower > 1e-8)
    losses = jnp.append(training.losses[1:], loss)
    flat = (done > FEWEST) & (jnp.abs(losses - losses.mean()).max() < FLAT)
    return training._replace(
        learning_rate=jnp.where(drop, lower, training.learning_rate),
        lowest=jnp.where(better, loss, training.lowest),
        waited=jnp.where(waited > PATIENCE, 0, waited),
        losses=losses,
        going=jnp.isfinite(loss) & ~flat,
        flat=flat,
    )
