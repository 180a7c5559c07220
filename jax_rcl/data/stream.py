"""Batches for training and evaluation, in an order that three numbers determine.

The order is a function of (number of examples, batch size, seed), not of the number of
processes, threads or devices, nor of where a run was interrupted. The position in the
data is the step.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grain
import numpy as np
import tqdm
from jaxtyping import Bool, Int64, Shaped

from jax_rcl.core import Source
from jax_rcl.data.records import (
    THREADS,
    Record,
    Seed,
    check_drawn_last,
    empty_rows,
    fill,
    permutation,
)
from jax_rcl.ranges import Count, ranged

Rows = dict[str, Shaped[np.ndarray, "_ ..."]]
"""Records stacked: `image` [n, h, w, c] and, where there are labels, `label` [n]."""


@dataclasses.dataclass(frozen=True)
@ranged
class Order:
    """Which of `count` examples each training step sees.

    Epoch e is a permutation of all examples that depends on (seed, e) alone, cut into
    global batches; what is left over, fewer than a batch, sits this epoch out.
    """

    count: int
    batch_size: Count
    seed: Seed = 0

    def __post_init__(self) -> None:
        if not self.steps_per_epoch:
            raise ValueError(
                f"a batch of {self.batch_size} cannot be filled from {self.count} "
                f"examples without repeating one. Write a batch size of at most "
                f"{self.count}, or take a larger source."
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch, count // batch_size."""
        return self.count // self.batch_size

    def indices(self, step: int) -> Int64[np.ndarray, " n"]:
        """The examples of the global batch of `step`, counted from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        first = place * self.batch_size
        permuted = _epoch(self.count, self.seed, epoch)
        return permuted[first : first + self.batch_size].copy()


# More than one, as threads that read ahead cross the end of an epoch one by one.
@functools.lru_cache(maxsize=4)
def _epoch(count: int, seed: int, epoch: int) -> Int64[np.ndarray, " m"]:
    return permutation(count, seed, epoch)


def train_stream(
    source: Source,
    order: Order,
    *,
    start_step: int,
    stop_step: int,
    process_index: int = 0,
    process_count: int = 1,
    threads: int = THREADS,
) -> grain.DatasetIterator:
    """One process's share of the batches of steps start_step, …, stop_step - 1.

    Process p of P reads places p·n/P to (p + 1)·n/P of each global batch, so that the
    shares put together are the same for any P that divides n. Starting at a step gives,
    bit for bit, what skipping to it gives. `threads` batches are read at once and
    ahead, and so kept in memory. Of a source with `draw_record`, such as `RandomCrops`,
    records are drawn by the order's seed, the step and the place in the global batch.

    Returns:
      An iterator of arrays [n/P, ...] by key, with a method `close` that stops its
      threads. What `source` raises is raised by `next` at the step it belongs to.
    """
    share = share_of(order.batch_size, process_index, process_count)
    check_drawn_last(source)
    draw: Any = getattr(source, "draw_record", None)

    def indices(step: int) -> np.ndarray:
        return order.indices(step)[share]

    def drawn(step: int, index: int, row: int) -> Record:
        return draw(index, seed=order.seed, step=step, place=share.start + row)

    read = None if draw is None else drawn
    return _batches(source, indices, range(start_step, stop_step), threads, read)


def eval_batches(
    source: Source, batch_size: int
) -> Iterator[tuple[Rows, Bool[np.ndarray, " b"]]]:
    """Every record once, in order, in batches of one shape.

    The last batch is padded by repeating the last record.

    Yields:
      Arrays [n, ...] by key, and which of their rows count.
    """
    count, steps = len(source), range(-(-len(source) // batch_size))

    def indices(step: int) -> np.ndarray:
        return np.minimum(step * batch_size + np.arange(batch_size), count - 1)

    with contextlib.closing(_batches(source, indices, steps, THREADS)) as batches:
        for step, rows in zip(steps, batches, strict=True):
            yield rows, step * batch_size + np.arange(batch_size) < count


def share_of(batch_size: int, process_index: int, process_count: int) -> slice:
    """The places of a global batch that process `process_index` reads."""
    share = batch_size // process_count
    return slice(process_index * share, (process_index + 1) * share)


def load(
    source: Source,
    *,
    progress: str | None = None,
    into: Rows | None = None,
    chunk: int = 256,
) -> Rows:
    """The whole source as arrays, [m, ...] by key, read by many threads.

    Row i is record i: `load(source)["image"][order.indices(step)]` are the images that
    `train_stream` gives for that step. `records.nbytes` says how much memory it takes.
    `into` are arrays to fill instead of new ones, such as mapped files; a thread reads
    `chunk` records in a row; `progress` is the title of a bar that shows after two
    seconds.
    """
    count = len(source)
    if hasattr(source, "draw_record"):
        raise ValueError(
            f"the records of {type(source).__name__} are drawn anew at every step; "
            f"read those of its `source`, or stream it."
        )
    rows = empty_rows(source[0], count) if into is None else into
    bar = tqdm.tqdm(total=count, desc=progress, disable=progress is None, delay=2)

    def read(first: int) -> int:
        last = min(first + chunk, count)
        fill(source, np.arange(first, last), rows, first)
        return last - first

    with bar, ThreadPoolExecutor(THREADS) as pool:
        try:
            for done in pool.map(read, range(0, count, chunk)):
                bar.update(done)
        except BaseException:
            # A million images need not be read before the error about one is shown.
            pool.shutdown(cancel_futures=True)
            raise
    return rows


def _batches(
    source: Source,
    indices: Callable[[int], np.ndarray],
    steps: range,
    threads: int,
    read: Callable[[int, int, int], Record] | None = None,
) -> grain.DatasetIterator:
    """Batches of the steps; a record is source[index], or read(step, index, row)."""
    first: Record = source[0]

    def batch(step: int) -> Rows:
        chosen = indices(step)
        rows = empty_rows(first, len(chosen))
        one = None if read is None else functools.partial(read, step)
        fill(source, chosen, rows, read=one)
        return rows

    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    dataset = grain.MapDataset.range(steps.start, steps.stop).map(batch)
    return iter(dataset.to_iter_dataset(options))
