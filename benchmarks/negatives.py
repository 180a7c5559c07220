"""Measures what non-semantic negatives cost: `python -m benchmarks.negatives`.

Times mosaics, textures and, for comparison, the forward pass of a ResNet in inference
mode, of the same batch on the same device, each compiled and in float32.
"""

import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from benchmarks.harness import (
    Row,
    Size,
    make_parser,
    median_seconds,
    parse,
    ratios,
    report_ratios,
)
from jax_rcl.augment.negatives import PatchMosaic
from jax_rcl.augment.quilting import Quilting
from jax_rcl.networks.resnet import BLOCKS, ResNet

SIZES = {
    "size": Size(224, "pixels, side of an image"),
    "batch": Size(256, "images"),
    "patch": Size(96, "pixels, side of the squares that are quilted"),
    "repetitions": Size(3, "timed runs of each"),
}


def measure(
    mosaic: PatchMosaic,
    quilting: Quilting,
    network: ResNet,
    *,
    batch: int,
    repetitions: int,
) -> list[Row]:
    """Times the three on random images as large as the textures."""
    key = jax.random.key(0)
    keys = jax.random.split(key, batch)
    images = jax.random.uniform(key, (batch, quilting.size, quilting.size, 3))
    initialize = jax.jit(network.init, static_argnames="train")
    variables = initialize(key, images[:1], train=False)
    forward = jax.jit(lambda variables, x: network.apply(variables, x, train=False))
    mosaics, textures = jax.jit(jax.vmap(mosaic)), jax.jit(jax.vmap(quilting))
    low, high = mosaic.side
    runs = {
        f"ResNet-{network.depth}": lambda: forward(variables, images),
        f"mosaics {low}-{high}": lambda: mosaics(keys, images),
        f"quilting {quilting.patch}": lambda: textures(keys, images),
    }
    return ratios(
        {name: median_seconds(run, repetitions) for name, run in runs.items()}
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and reports; gives the exit status."""
    parser = make_parser("negatives", __doc__, SIZES)
    parser.add_argument("--depth", type=int, default=50, choices=sorted(BLOCKS))
    parser.add_argument(
        "--side",
        type=int,
        nargs=2,
        default=(16, 72),
        metavar=("LOW", "HIGH"),
        help="pixels, sides of a mosaic's patches",
    )
    arguments = parse(parser, SIZES, argv)
    try:
        mosaic = PatchMosaic(tuple(arguments.side))
        quilting = Quilting(arguments.size, patch=arguments.patch)
        image = jnp.zeros((arguments.size, arguments.size, 3))
        for operation in (mosaic, quilting):
            jax.eval_shape(operation, jax.random.key(0), image)
    except ValueError as error:
        parser.error(str(error))
    rows = measure(
        mosaic,
        quilting,
        ResNet(arguments.depth),
        batch=arguments.batch,
        repetitions=arguments.repetitions,
    )
    columns = ("what", "ms", "of the forward pass")
    report_ratios("negatives", arguments, SIZES, rows, columns, digits=4)
    return 0


if __name__ == "__main__":
    sys.exit(main())
