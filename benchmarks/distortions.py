"""Measures what distortions cost: `python -m benchmarks.distortions`.

Times each distortion, and the random crop and flip that come before it, of the same
batch on the same device, each compiled and by itself.
"""

import sys
from collections.abc import Sequence

import jax

from benchmarks.harness import (
    Row,
    Size,
    make_parser,
    median_seconds,
    parse,
    ratios,
    report_ratios,
)
from jax_rcl.augment import (
    Chain,
    Fixed,
    Flip,
    GaussianBlur,
    GaussianNoise,
    RandomMask,
    RandomResizedCrop,
    SquareMask,
    mixture,
)
from jax_rcl.core import Operation

SIZES = {
    "size": Size(224, "pixels, side of an image", 12),
    "batch": Size(64, "images"),
    "repetitions": Size(5, "timed runs of each"),
}


def distortions(size: int) -> dict[str, Operation]:
    """What is measured, by name, first the view that all are compared with.

    Kernels are as large as in the paper, or fit.
    """
    largest = 2 * size - 1
    return {
        "crop and flip": Chain((RandomResizedCrop(size), Flip())),
        "random mask": RandomMask((0.5, 0.95)),
        "fixed random mask": Fixed(RandomMask((0.5, 0.5))),
        "square mask": SquareMask((size // 4, size // 2), "random"),
        "Gaussian noise": GaussianNoise((0.1, 0.3)),
        "Gaussian blur": GaussianBlur(min(37, largest), (9.0, 9.0)),
        **{f"mixture {number}": mixture(number) for number in (1, 2, 3, 4)},
    }


def measure(size: int, batch: int, *, repetitions: int) -> list[Row]:
    """Times all on random images."""
    key = jax.random.key(0)
    keys = jax.random.split(key, batch)
    images = jax.random.uniform(key, (batch, size, size, 3))
    seconds = {}
    for name, operation in distortions(size).items():
        compiled = jax.jit(jax.vmap(operation))
        seconds[name] = median_seconds(
            lambda run=compiled: run(keys, images), repetitions
        )
    return ratios(seconds)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and reports; gives the exit status."""
    arguments = parse(make_parser("distortions", __doc__, SIZES), SIZES, argv)
    rows = measure(arguments.size, arguments.batch, repetitions=arguments.repetitions)
    columns = ("operation", "ms", "ratio")
    report_ratios("distortions", arguments, SIZES, rows, columns, digits=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
