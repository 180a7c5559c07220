"""What the step is given: a data set laid out or streamed, batches call by call."""

import contextlib
import logging
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_rcl import parallel
from jax_rcl.core import Tree
from jax_rcl.data import stream
from jax_rcl.train import step as train_step
from jax_rcl.train.plan import refusals
from jax_rcl.train.run import Run
from jax_rcl.train.step import INDEX, TrainState

logger = logging.getLogger(__name__)


def laid_out(run: Run) -> Tree:
    """The data set in device memory, or {} where it is streamed.

    Raises:
      ConfigError: a record that cannot be read.
    """
    if not run.plan.resident:
        return {}
    with refusals("source"):
        rows = stream.load(run.experiment.source, progress="reading the data set")
    return parallel.spread(rows, run.mesh)


def jitted_step(run: Run) -> Any:
    """The step of this run, not compiled yet."""
    experiment = run.experiment
    update = train_step.make_update(
        experiment.objective,
        experiment.augment,
        run.plan.optimizer,
        total_steps=run.plan.total_steps,
    )
    return train_step.make_step(
        update, run.mesh, steps_per_call=experiment.steps_per_call
    )


def compiled_step(
    run: Run, state: TrainState, data: Tree
) -> tuple[Callable[..., Any], float]:
    """The compiled step, and the seconds that compiling took.

    Args:
      run: the run.
      state: of the shapes and on the devices that it will have.
      data: of `laid_out`.
    """
    began = time.monotonic()
    count = parallel.replicate(np.int32(1), run.mesh)
    lowered = jitted_step(run).lower(state, count, data, batch_shapes(run))
    compiled, seconds = lowered.compile(), time.monotonic() - began
    logger.info("compiled the step in %.1f s", seconds)
    return compiled, seconds


def batch_shapes(run: Run) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the stacked batches of one call."""
    lead = (run.experiment.steps_per_call, run.experiment.batch_size)
    record = run.plan.record
    if run.plan.resident:
        record = {INDEX: jax.ShapeDtypeStruct((), jnp.int32)}
    split = parallel.split_steps(run.mesh)
    return {
        key: jax.ShapeDtypeStruct((*lead, *x.shape), x.dtype, sharding=split)
        for key, x in record.items()
    }


class SourceError(RuntimeError):
    """A record of a streamed source that cannot be read; what was trained is saved."""


def calls(
    run: Run, start: int
) -> Generator[tuple[int, jax.Array, dict[str, jax.Array], float], None, None]:
    """What each call of the step is given, from step `start` to the last.

    Yields:
      How many updates; the same on the devices; their batches, stacked; and the seconds
      that were spent on getting them. A call never reaches over a step at which the run
      evaluates or saves.
    """
    step, most = start, run.experiment.steps_per_call
    counts = [parallel.replicate(np.int32(i + 1), run.mesh) for i in range(most)]
    with contextlib.closing(host_batches(run, start)) as batches:
        while step < run.plan.total_steps:
            count = 1
            while count < most and not pauses(run, step + count):
                count += 1
            began = time.monotonic()
            own = [read(batches, step + place) for place in range(count)]
            own += [own[-1]] * (most - count)
            stacked = {key: np.stack([batch[key] for batch in own]) for key in own[0]}
            placed = parallel.put_steps(stacked, run.mesh)
            yield count, counts[count - 1], placed, time.monotonic() - began
            step += count


def read(batches: Iterator[dict[str, np.ndarray]], step: int) -> dict[str, np.ndarray]:
    """The next batch.

    Raises:
      SourceError: the source failed; the message says at which step, and why.
    """
    try:
        return next(batches)
    except (ValueError, OSError) as error:
        text = str(error).split("\n--------------------\n")[0]  # JAX's own footnote
        raise SourceError(f"the batch of step {step} cannot be read: {text}") from error


def pauses(run: Run, step: int) -> bool:
    """Whether something other than training happens once `step` updates are made."""
    return run.saves(step) or bool(run.due_evaluators(step))


def host_batches(run: Run, start: int) -> Generator[dict[str, np.ndarray], None, None]:
    """This process's share of every batch from step `start` on.

    Closing it stops the threads that read ahead.
    """
    experiment, made = run.experiment, run.plan
    order = example_order(run)
    index, count = parallel.process_index(), parallel.process_count()
    if not made.resident:
        batches = stream.train_stream(
            experiment.source,
            order,
            start_step=start,
            stop_step=made.total_steps,
            process_index=index,
            process_count=count,
            threads=experiment.threads,
        )
        with contextlib.closing(batches):
            for batch in batches:
                check_batch(run, batch)
                yield batch
        return
    own = stream.share_of(experiment.batch_size, index, count)
    for step in range(start, made.total_steps):
        yield {INDEX: order.indices(step)[own].astype(np.int32)}


def check_batch(run: Run, batch: dict[str, np.ndarray]) -> None:
    """Raises ValueError for a label of a streamed batch that is no class of the source.

    A data set that is laid out was checked whole before the first compilation.
    """
    classes = len(run.experiment.source.class_names)
    if "label" not in batch or not classes:
        return
    wrong = batch["label"][(batch["label"] < 0) | (batch["label"] >= classes)]
    if len(wrong):
        raise ValueError(
            f"a record has label {wrong[0]}; labels must be in [0, {classes}), as "
            f"the source names {classes} classes. Correct the labels, or wrap the "
            "source in Relabel."
        )


def example_order(run: Run) -> stream.Order:
    """Which examples each step sees: a function of the seed and the step."""
    experiment = run.experiment
    return stream.Order(len(experiment.source), experiment.batch_size, experiment.seed)


def first_batch(run: Run, key: jax.Array) -> dict[str, np.ndarray]:
    """The first batch of the run as the objective sees it, on the host.

    Args:
      run: the run.
      key: of its `TrainState`.
    """
    source = run.experiment.source
    records = [source[int(index)] for index in example_order(run).indices(0)]
    batch = {key: np.stack([record[key] for record in records]) for key in records[0]}
    clock, _ = train_step.clocks(key, jnp.zeros((), jnp.int32), run.plan.total_steps)
    augment = jax.jit(parallel.over_shares(run.experiment.augment, run.mesh))
    clock = parallel.replicate(clock, run.mesh)
    return parallel.fetch(augment(clock, parallel.spread(batch, run.mesh)))
