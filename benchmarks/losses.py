"""Measures a loss against loops over its anchors: `python -m benchmarks.losses`.

The loss is `class_conditional.spread` of two views, as Thanos uses it, with its
gradient. Two loops give the same numbers, one anchor at a time: one in JAX without
`jit`, differentiated automatically, which is how the paper's released code works in its
own framework; and one in NumPy with the gradient written by hand, which is about the
least that a loop in Python can cost.
"""

import functools
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import (
    Row,
    Size,
    make_parser,
    median_seconds,
    parse,
    ratios,
    report_ratios,
)
from jax_rcl.losses import class_conditional
from jax_rcl.losses.pairwise import unit

TEMPERATURE = 0.5
CLASSES = 10
SIZES = {
    "batch": Size(512, "examples, each an anchor"),
    "width": Size(256, "numbers in an embedding"),
    "repetitions": Size(30, "timed runs of the loss"),
}


def example(batch: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Random views [n, 2, d] and labels [n], the same every time."""
    random = np.random.default_rng(0)
    views = random.normal(size=(batch, 2, width)).astype(np.float32)
    return views, random.integers(0, CLASSES, batch).astype(np.int32)


def vectorized(views: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
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


def loop(views: jax.Array, labels: np.ndarray) -> tuple[jax.Array, jax.Array]:
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


def loop_by_hand(views: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
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


def measure(batch: int, width: int, *, repetitions: int) -> list[Row]:
    """Times the loss and the two loops on the same numbers; loops three times."""
    views, labels = example(batch, width)
    placed, placed_labels = jnp.asarray(views), jnp.asarray(labels)
    compiled = jax.jit(vectorized)
    runs = {
        "loss, compiled": (lambda: compiled(placed, placed_labels), repetitions),
        "loop in JAX, not compiled": (lambda: loop(placed, labels), 3),
        "loop in NumPy, gradient by hand": (lambda: loop_by_hand(views, labels), 3),
    }
    return ratios({name: median_seconds(*run) for name, run in runs.items()})


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and reports; gives the exit status."""
    arguments = parse(make_parser("losses", __doc__, SIZES), SIZES, argv)
    rows = measure(arguments.batch, arguments.width, repetitions=arguments.repetitions)
    columns = ("loss and gradient", "ms", "times as long")
    report_ratios("losses", arguments, SIZES, rows, columns, digits=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
