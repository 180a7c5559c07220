"""Measures a loss against loops over its anchors: `python -m benchmarks.losses`.

The loss is `class_conditional.spread` of two views, as Thanos uses it, with its
gradient. Two loops give the same numbers, one anchor at a time: one in JAX without
`jit`, differentiated automatically, which is how the paper's released code works in its
own framework; and one in NumPy with the gradient written by hand, which is about the
least that a loop in Python can cost.
"""

import argparse
import dataclasses
import datetime
import functools
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jax_rcl import parallel
from jax_rcl.losses import class_conditional
from jax_rcl.losses.pairwise import unit

TEMPERATURE = 0.5
CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one run of the benchmark found.

    Attributes:
      device: what the device is.
      date: year-month-day.
      batch: number of examples, each an anchor.
      width: of an embedding.
      repetitions: of the loss; a loop is repeated three times.
      seconds: of the loss with its gradient, compiled; median.
      loop_seconds: of the loop in JAX without compilation; median.
      numpy_seconds: of the loop in NumPy; median.
      loop_ratio: how many times longer the loop in JAX takes than the loss.
      numpy_ratio: how many times longer the loop in NumPy takes than the loss.
    """

    device: str
    date: str
    batch: int
    width: int
    repetitions: int
    seconds: float
    loop_seconds: float
    numpy_seconds: float
    loop_ratio: float
    numpy_ratio: float


def example(batch: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Random views [n, 2, d] and labels [n], the same every time."""
    random = np.random.default_rng(0)
    views = random.normal(size=(batch, 2, width)).astype(np.float32)
    return views, random.integers(0, CLASSES, batch).astype(np.int32)


def vectorised(views: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mean loss of the later view against the earlier, and its gradient."""
    ids = jnp.arange(len(labels))
    pair_loss = functools.partial(
        class_conditional.spread,
        row_examples=ids,
        column_examples=ids,
        row_labels=labels,
        column_labels=labels,
        temperature=TEMPERATURE,
    )

    def mean(views: jax.Array) -> jax.Array:
        return class_conditional.over_view_pairs(
            views, views, pair_loss, direction="one-way"
        ).mean()

    return jax.value_and_grad(mean)(views)


def looped(views: jax.Array, labels: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """The same, one anchor at a time, every operation on its own."""

    def mean(views: jax.Array) -> jax.Array:
        columns, rows = unit(views[:, 0]), unit(views[:, 1])
        total = jnp.zeros(())
        for i, row in enumerate(rows):
            logits = columns @ row / TEMPERATURE
            same = labels == labels[i]
            exponentials = jnp.exp(logits)
            negatives = jnp.sum(exponentials, where=~same)
            attract = jnp.mean(jnp.log(exponentials + negatives) - logits, where=same)
            repel = jnp.log(jnp.sum(exponentials, where=same)) - logits[i]
            total = total + (attract + repel) / 2
        return total / len(labels)

    return jax.value_and_grad(mean)(views)


def looped_by_hand(views: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """The same in NumPy, with the gradient of each anchor written out."""
    lengths = np.linalg.norm(views, axis=-1, keepdims=True)
    z = views / lengths
    columns, rows = z[:, 0], z[:, 1]
    total, slopes = 0.0, np.zeros_like(z)
    for i, row in enumerate(rows):
        logits = columns @ row / TEMPERATURE
        same = labels == labels[i]
        exponentials = np.exp(logits)
        positives = exponentials[same]
        denominators = positives + exponentials[~same].sum()
        attract = np.mean(np.log(denominators) - logits[same])
        total += (attract + np.log(positives.sum()) - logits[i]) / 2
        slope = np.empty_like(logits)
        slope[same] = (positives / denominators - 1) / len(positives)
        slope[same] += positives / positives.sum()
        slope[~same] = exponentials[~same] * np.mean(1 / denominators)
        slope[i] -= 1
        slope /= 2 * TEMPERATURE * len(labels)
        slopes[i, 1] = slope @ columns
        slopes[:, 0] += np.outer(slope, row)
    tangents = slopes - z * np.sum(z * slopes, axis=-1, keepdims=True)
    return float(total / len(labels)), tangents / lengths


def median_seconds(run: Callable[[], object], repetitions: int) -> float:
    """Median time of `run`, until its result is there; once more before, untimed."""
    jax.block_until_ready(run())
    times = []
    for _ in range(repetitions):
        began = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure(batch: int, width: int, *, repetitions: int = 30) -> Measurement:
    """Times the loss and the two loops on the same numbers."""
    views, labels = example(batch, width)
    placed, placed_labels = jnp.asarray(views), jnp.asarray(labels)
    compiled = jax.jit(vectorised)
    seconds = median_seconds(lambda: compiled(placed, placed_labels), repetitions)
    loop_seconds = median_seconds(lambda: looped(placed, labels), 3)
    numpy_seconds = median_seconds(lambda: looped_by_hand(views, labels), 3)
    return Measurement(
        device=parallel.device_name(),
        date=datetime.date.today().isoformat(),
        batch=batch,
        width=width,
        repetitions=repetitions,
        seconds=seconds,
        loop_seconds=loop_seconds,
        numpy_seconds=numpy_seconds,
        loop_ratio=loop_seconds / seconds,
        numpy_ratio=numpy_seconds / seconds,
    )


def table(found: Measurement) -> str:
    """The measurement for a person to read."""
    rows = {
        "device": found.device,
        "date": found.date,
        "batch": f"{found.batch} examples, {found.width} wide",
        "loss, gradient": f"{1000 * found.seconds:.2f} ms, compiled "
        f"(median of {found.repetitions})",
        "loop in JAX": f"{1000 * found.loop_seconds:.0f} ms, not compiled: "
        f"{found.loop_ratio:.1f} times as long",
        "loop in NumPy": f"{1000 * found.numpy_seconds:.1f} ms, gradient by hand: "
        f"{found.numpy_ratio:.1f} times as long",
    }
    return "\n".join(f"{name + ':':<18}{text}" for name, text in rows.items())


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table, and writes it as JSON where asked; gives the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.losses", allow_abbrev=False
    )
    parser.add_argument("--batch", type=int, default=512, help="examples")
    parser.add_argument("--width", type=int, default=256, help="of an embedding")
    parser.add_argument("--repetitions", type=int, default=30, help="of the loss")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    arguments = parser.parse_args(argv)
    for name in ("batch", "width", "repetitions"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} {getattr(arguments, name)} must be at least 1.")
    found = measure(arguments.batch, arguments.width, repetitions=arguments.repetitions)
    print(table(found), flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(dataclasses.asdict(found)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
