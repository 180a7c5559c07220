"""Measures what distortions cost: `python -m benchmarks.distortions`.

Times each distortion, and the random crop and flip that come before it, of the same
batch on the same device, each compiled and by itself.
"""

import argparse
import dataclasses
import datetime
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

from benchmarks.losses import median_seconds
from jax_rcl import parallel
from jax_rcl.augment.compose import Chain
from jax_rcl.augment.distortions.mixtures import Fixed, mixture
from jax_rcl.augment.distortions.pixelwise import GaussianNoise, RandomMask, SquareMask
from jax_rcl.augment.filters import GaussianBlur
from jax_rcl.augment.geometry import Flip, RandomResizedCrop
from jax_rcl.core import Operation

VIEW = "crop and flip"
"""What the distortions are compared with."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one run of the benchmark found.

    Attributes:
      device: what the device is.
      date: year-month-day.
      size: height and width of an image.
      batch: number of images.
      repetitions: of each measurement.
      seconds: median time of the whole batch by name, `VIEW` first.
    """

    device: str
    date: str
    size: int
    batch: int
    repetitions: int
    seconds: Mapping[str, float]


def distortions(size: int) -> dict[str, Operation]:
    """What is measured, by name; kernels are as large as in the paper, or fit."""
    largest = 2 * size - 1
    return {
        VIEW: Chain((RandomResizedCrop(size), Flip())),
        "random mask": RandomMask((0.5, 0.95)),
        "fixed random mask": Fixed(RandomMask((0.5, 0.5))),
        "square mask": SquareMask((size // 4, size // 2), "random"),
        "Gaussian noise": GaussianNoise((0.1, 0.3)),
        "Gaussian blur": GaussianBlur(min(37, largest), (9.0, 9.0)),
        **{f"mixture {number}": mixture(number) for number in (1, 2, 3, 4)},
    }


def measure(size: int, batch: int, *, repetitions: int = 5) -> Measurement:
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
    return Measurement(
        device=parallel.device_name(),
        date=datetime.date.today().isoformat(),
        size=size,
        batch=batch,
        repetitions=repetitions,
        seconds=seconds,
    )


def table(found: Measurement) -> str:
    """The measurement for a person to read, as Markdown."""
    view = found.seconds[VIEW]
    lines = [
        f"{found.batch} images of {found.size} pixels; {found.device}, {found.date}.",
        "",
        "| operation | ms | ratio |",
        "| --- | --- | --- |",
    ]
    for name, seconds in found.seconds.items():
        lines.append(f"| {name} | {1000 * seconds:.1f} | {seconds / view:.2f} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table, and writes the numbers as JSON where asked."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.distortions", allow_abbrev=False
    )
    add = parser.add_argument
    add("--size", type=int, default=224, help="side of the images, at least 12")
    add("--batch", type=int, default=64, help="images")
    add("--repetitions", type=int, default=5, help="of each operation")
    add("--json", type=Path, help="file to write the numbers to")
    arguments = parser.parse_args(argv)
    for name, least in (("size", 12), ("batch", 1), ("repetitions", 1)):
        if getattr(arguments, name) < least:
            parser.error(
                f"--{name} {getattr(arguments, name)} must be at least {least}."
            )
    found = measure(arguments.size, arguments.batch, repetitions=arguments.repetitions)
    print(table(found), flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(dataclasses.asdict(found)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
