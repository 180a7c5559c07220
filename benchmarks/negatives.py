"""Measures what non-semantic negatives cost: `python -m benchmarks.negatives`.

Times mosaics, textures and, for comparison, the forward pass of a ResNet in inference
mode, of the same batch on the same device, each compiled and in float32.
"""

import argparse
import dataclasses
import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmarks.losses import median_seconds
from jax_rcl import parallel
from jax_rcl.augment.negatives import PatchMosaic
from jax_rcl.augment.quilting import Quilting
from jax_rcl.networks.resnet import BLOCKS, ResNet


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one run of the benchmark found; all times are of the whole batch.

    Attributes:
      device: what the device is.
      date: year-month-day.
      size: height and width of an image.
      batch: number of images.
      depth: of the ResNet.
      side: bounds of the side of a mosaic's patches.
      patch: side of the squares of which a texture is quilted.
      repetitions: of each measurement.
      mosaic_seconds: of one mosaic of each image; median.
      quilting_seconds: of one texture of each image; median.
      forward_seconds: of the ResNet; median.
      mosaic_ratio: mosaics' time as a fraction of the forward pass's.
      quilting_ratio: textures' time as a fraction of the forward pass's.
    """

    device: str
    date: str
    size: int
    batch: int
    depth: int
    side: tuple[int, int]
    patch: int
    repetitions: int
    mosaic_seconds: float
    quilting_seconds: float
    forward_seconds: float
    mosaic_ratio: float
    quilting_ratio: float


def measure(
    mosaic: PatchMosaic,
    quilting: Quilting,
    network: ResNet,
    *,
    batch: int,
    repetitions: int = 3,
) -> Measurement:
    """Times the three on random images as large as the textures."""
    size = quilting.size
    key = jax.random.key(0)
    keys = jax.random.split(key, batch)
    images = jax.random.uniform(key, (batch, size, size, 3))
    variables = jax.jit(network.init, static_argnames="train")(
        key, images[:1], train=False
    )
    forward = jax.jit(lambda variables, x: network.apply(variables, x, train=False))
    mosaics, textures = jax.jit(jax.vmap(mosaic)), jax.jit(jax.vmap(quilting))
    mosaic_seconds = median_seconds(lambda: mosaics(keys, images), repetitions)
    quilting_seconds = median_seconds(lambda: textures(keys, images), repetitions)
    forward_seconds = median_seconds(lambda: forward(variables, images), repetitions)
    return Measurement(
        device=parallel.device_name(),
        date=datetime.date.today().isoformat(),
        size=size,
        batch=batch,
        depth=network.depth,
        side=mosaic.side,
        patch=quilting.patch,
        repetitions=repetitions,
        mosaic_seconds=mosaic_seconds,
        quilting_seconds=quilting_seconds,
        forward_seconds=forward_seconds,
        mosaic_ratio=mosaic_seconds / forward_seconds,
        quilting_ratio=quilting_seconds / forward_seconds,
    )


def table(found: Measurement) -> str:
    """The measurement for a person to read."""
    low, high = found.side

    def share(seconds: float, ratio: float) -> str:
        return f"{1000 * seconds:.1f} ms, {ratio:.4f} of the forward pass"

    rows = {
        "device": found.device,
        "date": found.date,
        "batch": f"{found.batch} images of {found.size} x {found.size}",
        f"ResNet-{found.depth}": f"{1000 * found.forward_seconds:.1f} ms, forward pass "
        f"(medians of {found.repetitions})",
        f"mosaics {low}-{high}": share(found.mosaic_seconds, found.mosaic_ratio),
        f"quilting {found.patch}": share(found.quilting_seconds, found.quilting_ratio),
    }
    return "\n".join(f"{name + ':':<18}{text}" for name, text in rows.items())


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.negatives", allow_abbrev=False
    )
    parser.add_argument("--size", type=int, default=224, help="of an image, in pixels")
    parser.add_argument("--batch", type=int, default=256, help="images")
    parser.add_argument(
        "--depth", type=int, default=50, choices=sorted(BLOCKS), help="of the ResNet"
    )
    parser.add_argument(
        "--side",
        type=int,
        nargs=2,
        default=(16, 72),
        metavar=("LOW", "HIGH"),
        help="of a mosaic's patches",
    )
    parser.add_argument("--patch", type=int, default=96, help="of the quilting")
    parser.add_argument("--repetitions", type=int, default=3, help="of each")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table and the numbers as JSON; gives the exit status."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    for name in ("size", "batch", "repetitions"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} {getattr(arguments, name)} must be at least 1.")
    try:
        mosaic = PatchMosaic(tuple(arguments.side))
        quilting = Quilting(arguments.size, patch=arguments.patch)
        image = jnp.zeros((arguments.size, arguments.size, 3))
        for operation in (mosaic, quilting):
            jax.eval_shape(operation, jax.random.key(0), image)
    except ValueError as error:
        parser.error(str(error))
    found = measure(
        mosaic,
        quilting,
        ResNet(arguments.depth),
        batch=arguments.batch,
        repetitions=arguments.repetitions,
    )
    print(table(found), flush=True)
    numbers = json.dumps(dataclasses.asdict(found))
    print(numbers, flush=True)
    if arguments.json is not None:
        arguments.json.write_text(numbers + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
