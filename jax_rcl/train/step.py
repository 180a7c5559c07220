"""The one update that every method shares."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from jax_rcl import parallel
from jax_rcl.core import Augment, Batch, Clock, Leaf, Objective, Tree, Variables

INDEX = "index"
"""Key of a batch that holds only rows of a data set laid out by `parallel.spread`."""

PLATEAU = "plateau"
"""Metric of an optimizer that lowers its learning rate when the loss stops falling."""


@flax.struct.dataclass
class TrainState:
    """All that one step hands to the next; the same on every device.

    Attributes:
      step: number of updates made.
      key: of the run; it never changes, steps fold their number into it.
    """

    step: Leaf
    key: Leaf
    variables: Variables
    opt_state: Tree


def create(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    seed: int,
    batch: Batch,
) -> TrainState:
    """A fresh state; `batch` is an augmented one, of which only shapes matter."""
    # The seed is an argument: runs that differ in nothing else share the program.
    init = functools.partial(initial_state, objective, optimizer, batch)
    return parallel.run_once(init, jax.random.key(seed))


def initial_state(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    batch: Batch,
    key: jax.Array,
) -> TrainState:
    """`create` as a pure function of the seed's key, to trace."""
    init_key, key = jax.random.split(key)
    variables = objective.init(init_key, batch)
    opt_state = optimizer.init(variables.params)
    return TrainState(jnp.zeros((), jnp.int32), key, variables, opt_state)


def clocks(key: jax.Array, step: jax.Array, total_steps: int) -> tuple[Clock, Clock]:
    """The clocks of one step, for the augmentation and for the loss.

    Functions of (key, step) alone: nothing random is carried from step to step, so that
    a stopped run continues as if it had not been stopped.
    """
    augment_key, loss_key = jax.random.split(jax.random.fold_in(key, step))
    progress = step.astype(jnp.float32) / max(total_steps, 1)
    return Clock(augment_key, step, progress), Clock(loss_key, step, progress)


def make_update(
    objective: Objective,
    augment: Augment,
    optimizer: optax.GradientTransformation,
    *,
    total_steps: int,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """Returns `update(state, batch) -> (state, metrics)`: the whole of training.

    It runs inside `parallel.data_parallel` on one device's share of the batch. What
    differs between methods is in `objective`. The optimizer gets the loss as `value`.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def update(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
        variables = state.variables
        augment_clock, loss_clock = clocks(state.key, state.step, total_steps)
        batch = augment(augment_clock, batch)

        def mean_loss(params: Tree) -> tuple[jax.Array, Any]:
            moved = dataclasses.replace(variables, params=params)
            outcome = objective.loss(moved, batch, loss_clock)
            return parallel.mean(outcome.value), outcome

        grad = jax.value_and_grad(mean_loss, has_aux=True)
        (loss, outcome), grads = grad(variables.params)
        updates, opt_state = optimizer.update(
            grads, state.opt_state, variables.params, value=loss
        )
        params = optax.apply_updates(variables.params, updates)

        metrics = parallel.mean(dict(outcome.metrics))
        metrics |= {"loss": loss, "grad_norm": optax.tree.norm(grads)}
        metrics |= plateau(state.opt_state)
        variables = dataclasses.replace(variables, params=params, memory=outcome.memory)
        return TrainState(state.step + 1, state.key, variables, opt_state), metrics

    return update


def plateau(opt_state: Tree) -> dict[str, jax.Array]:
    """`PLATEAU`: the factor of the next learning rate; empty if it is never lowered."""

    def is_plateau(node: Any) -> bool:
        return isinstance(node, optax.contrib.ReduceLROnPlateauState)

    nodes = jax.tree.leaves(opt_state, is_leaf=is_plateau)
    scales = [node.scale for node in nodes if is_plateau(node)]
    return {PLATEAU: scales[0]} if scales else {}


def make_step(
    update: Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]],
    mesh: Mesh,
    *,
    steps_per_call: int = 1,
    cut: Callable[[Batch, Batch], Batch] | None = None,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """Returns the jitted `step(state, count, data, batches) -> (state, metrics)`.

    Its arguments: `state` (donated); `count`, int32, how many of the batches to use, 1
    to steps_per_call; `data`, a data set laid out by `parallel.spread`, or {};
    `batches`, stacked, [steps_per_call, n, ...], either the examples themselves or
    their `INDEX` into `data`, of which, with what else the batch holds,
    `cut(rows, batch)` may make the examples. Metrics come back stacked,
    [steps_per_call]; entries from `count` on are zero.

    The loop's length is data: one program serves any number of steps, so that where a
    run is logged, saved or stopped changes neither its numbers nor what is compiled.
    """

    def one(state: TrainState, data: Tree, batch: Batch) -> tuple[TrainState, Tree]:
        if INDEX in batch:
            rows = parallel.take(data, batch[INDEX])
            batch = rows if cut is None else cut(rows, batch)
        return update(state, batch)

    def step(
        state: TrainState, count: jax.Array, data: Tree, batches: Batch
    ) -> tuple[TrainState, Tree]:
        def batch_at(place: Any) -> Batch:
            return {name: x[place] for name, x in batches.items()}

        if steps_per_call == 1:
            state, metrics = one(state, data, batch_at(0))
            return state, {name: x[None] for name, x in metrics.items()}

        def body(place: jax.Array, carry: tuple[TrainState, Tree]) -> Any:
            state, logged = carry
            state, metrics = one(state, data, batch_at(place))
            return state, {n: x.at[place].set(metrics[n]) for n, x in logged.items()}

        shapes = jax.eval_shape(one, state, data, batch_at(0))[1]
        zeros = {n: jnp.zeros((steps_per_call,), x.dtype) for n, x in shapes.items()}
        return lax.fori_loop(0, count, body, (state, zeros))

    sharded = parallel.data_parallel(step, mesh, whole=2, axes=(0, 1))
    return jax.jit(sharded, donate_argnums=0)
