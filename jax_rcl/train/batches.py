"""The input of the step: a data set laid out or streamed, batches call by call."""

import contextlib
import logging
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_rcl import parallel
from jax_rcl.augment.resample import cut_boxes
from jax_rcl.core import Batch, Tree
from jax_rcl.data import records, stream
from jax_rcl.data.frames import EXTENT
from jax_rcl.train import step as train_step
from jax_rcl.train.plan import is_drawn, laid_out, refusals
from jax_rcl.train.run import Run
from jax_rcl.train.step import INDEX, TrainState

logger = logging.getLogger(__name__)

BOXES = "boxes of "
"""Before the key of what is cut on the device: top, left, height, width, [n, v, 4]."""


def place_data(run: Run) -> Tree:
    """Places the data set in device memory; gives {} where it is streamed.

    A record that cannot be read raises ConfigError.
    """
    if not run.plan.resident:
        return {}
    with refusals("source"):
        rows = stream.load(laid_out(run.experiment), progress="reading the data set")
    return parallel.spread(rows, run.mesh)


def compile_step(
    run: Run, state: TrainState, data: Tree
) -> tuple[Callable[..., Any], float]:
    """Compiles the step for these shapes and devices; with the seconds that it took."""
    began, experiment = time.monotonic(), run.experiment
    update = train_step.make_update(
        experiment.objective,
        experiment.augment,
        run.plan.optimizer,
        total_steps=run.plan.total_steps,
    )
    step = train_step.make_step(
        update, run.mesh, steps_per_call=experiment.steps_per_call, cut=cut_of(run)
    )
    count = parallel.replicate(np.int32(1), run.mesh)
    compiled = step.lower(state, count, data, batch_shapes(run)).compile()
    seconds = time.monotonic() - began
    logger.info("compiled the step in %.1f s", seconds)
    return compiled, seconds


def batch_shapes(run: Run) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the stacked batches of one call."""
    lead = (run.experiment.steps_per_call, run.experiment.batch_size)
    record = run.plan.record
    if run.plan.resident:
        record = {INDEX: jax.ShapeDtypeStruct((), jnp.int32)}
        if is_drawn(run.experiment.source):
            record |= {
                f"{BOXES}{key}": jax.ShapeDtypeStruct((views, 4), jnp.int32)
                for key, views in cut_keys(run).items()
            }
    split = parallel.split_steps(run.mesh)
    return {
        key: jax.ShapeDtypeStruct((*lead, *x.shape), x.dtype, sharding=split)
        for key, x in record.items()
    }


def cut_keys(run: Run) -> dict[str, int]:
    """What a source that draws crops cuts of a record, and into how many."""
    record = run.plan.record
    views = {"image": len(record["image"])} if "image" in record else {}
    return views | ({"texture": 1} if "texture" in record else {})


def cut_of(run: Run) -> Callable[[Batch, Batch], Batch] | None:
    """What cuts boxes out of photographs that are laid out; None where nothing does."""
    source: Any = run.experiment.source
    if not (run.plan.resident and is_drawn(source)):
        return None

    def cut(rows: Batch, drawn: Batch) -> Batch:
        made = {key: x for key, x in rows.items() if key != EXTENT}
        for key in cut_keys(run):
            fields = {"size": source.size, "interpolation": source.interpolation}
            crops = cut_boxes(rows[key], drawn[f"{BOXES}{key}"], **fields)
            made[key] = crops if key == "image" else crops[:, 0]
        return made

    return cut


def sides_of(run: Run, data: Tree) -> dict[str, np.ndarray]:
    """Height and width of what is cut in each record of a data set laid out, [m, 2]."""
    if not is_drawn(run.experiment.source):
        return {}
    shapes = {key: data[key].shape for key in cut_keys(run)}
    sides = {k: np.tile(np.int32(s[1:3]), (s[0], 1)) for k, s in shapes.items()}
    if EXTENT in data:
        sides["image"] = parallel.fetch(data[EXTENT])
    return sides


class SourceError(RuntimeError):
    """A record of a source cannot be read; the state so far is saved."""


def feed_calls(
    run: Run, start: int, data: Tree
) -> Generator[tuple[int, jax.Array, dict[str, jax.Array], float], None, None]:
    """Yields the input of each call of the step, from step `start` to the last.

    `data` is that of `place_data`.

    Yields:
      How many updates it makes; the same number on the devices; their batches, stacked;
      and the seconds spent on getting these. A call ends at every step at which the run
      evaluates or saves.
    """
    step, most = start, run.experiment.steps_per_call
    counts = [parallel.replicate(np.int32(i + 1), run.mesh) for i in range(most)]
    with contextlib.closing(host_batches(run, start, data)) as batches:
        while step < run.plan.total_steps:
            count, last = 1, step + 1
            while count < most and not (run.saves(last) or run.due_evaluators(last)):
                count, last = count + 1, last + 1
            began = time.monotonic()
            each = [next_batch(batches, step + place) for place in range(count)]
            each += [each[-1]] * (most - count)  # one shape, whatever the count
            stacked = {key: np.stack([x[key] for x in each]) for key in each[0]}
            on_devices = parallel.put_steps(stacked, run.mesh)
            yield count, counts[count - 1], on_devices, time.monotonic() - began
            step += count


def next_batch(
    batches: Iterator[dict[str, np.ndarray]], step: int
) -> dict[str, np.ndarray]:
    """The next batch; an error of the source becomes a SourceError with the step."""
    with reading(step):
        return next(batches)


@contextlib.contextmanager
def reading(step: int) -> Iterator[None]:
    """Turns an error of the source into a SourceError with the step."""
    try:
        yield
    except (ValueError, OSError) as error:
        text = str(error).split("\n--------------------\n")[0]  # JAX's own footnote
        raise SourceError(f"the batch of step {step} cannot be read: {text}") from error


def host_batches(
    run: Run, start: int, data: Tree
) -> Generator[dict[str, np.ndarray], None, None]:
    """This process's share of every batch from step `start` on.

    Closing it stops the threads that read ahead.
    """
    experiment, last = run.experiment, run.plan.total_steps
    order = example_order(run)
    index, count = parallel.process_index(), parallel.process_count()
    if run.plan.resident:
        share = stream.share_of(experiment.batch_size, index, count)
        source: Any = experiment.source
        sides = sides_of(run, data)
        for step in range(start, last):
            chosen = order.indices(step)[share]
            batch = {INDEX: chosen.astype(np.int32)}
            if sides:
                rows = {key: x[chosen] for key, x in sides.items()}
                boxes = source.step_boxes(rows, order.seed, step, share.start)
                batch |= {f"{BOXES}{key}": x for key, x in boxes.items()}
            yield batch
        return
    batches = stream.train_stream(
        experiment.source,
        order,
        start_step=start,
        stop_step=last,
        process_index=index,
        process_count=count,
        threads=experiment.threads,
    )
    with contextlib.closing(batches):
        for batch in batches:
            # A data set that is laid out was checked before anything was compiled.
            if "label" in batch and experiment.source.class_names:
                k = len(experiment.source.class_names)
                records.check_codes(batch["label"], k, "a batch")
            yield batch


def example_order(run: Run) -> stream.Order:
    """Which examples each step sees: a function of the seed and the step."""
    experiment = run.experiment
    return stream.Order(len(experiment.source), experiment.batch_size, experiment.seed)


def first_batch(run: Run, key: jax.Array) -> dict[str, np.ndarray]:
    """The first batch as the objective sees it, on the host; `key` is the state's."""
    source, order = run.experiment.source, example_order(run)
    first = stream.train_stream(source, order, start_step=0, stop_step=1, threads=1)
    with contextlib.closing(first), reading(0):
        batch = next(first)
    clock, _ = train_step.clocks(key, jnp.zeros((), jnp.int32), run.plan.total_steps)
    augment = parallel.over_shares(run.experiment.augment, run.mesh)
    clock = parallel.replicate(clock, run.mesh)
    views = parallel.run_once(augment, clock, parallel.spread(batch, run.mesh))
    return parallel.fetch(views)
