"""Measures the corruptions of images: `python -m benchmarks.corruptions`.

How long each of the 19 takes per image on this device, and how far it agrees with the
package `imagecorruptions`, see `reference_corruptions`. Without the package, times and
this library's own statistics are all there is. Random corruptions draw different
numbers here and there, and are compared by what they do on average.
"""

import argparse
import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images
from tqdm import tqdm

from benchmarks import reference_corruptions
from benchmarks.harness import (
    Size,
    make_parser,
    markdown,
    median_seconds,
    milliseconds,
    parse,
    report,
)
from jax_rcl.augment.corruptions.table import EXTRA, SEVERITIES, STANDARD, Corruption

DETERMINISTIC = (
    "defocus_blur",
    "zoom_blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
    "gaussian_blur",
    "saturate",
)
"""Corruptions that draw nothing, hence can be compared pixel by pixel."""

SIZES = {
    "size": Size(224, "pixels, side of the pictures"),
    "batch": Size(16, "pictures"),
    "repetitions": Size(3, "timed runs of each corruption"),
}

COLUMNS = (
    "corruption",
    "ms",
    "change",
    "brightness",
    "detail",
    "mean difference",
    "largest",
)
"""Of the table: see `Row` and `Statistics`."""


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What a corruption does to pictures, for each of five severities.

    All are in levels, of which white has 255.

    Attributes:
      change: root mean square difference from the clean pictures.
      brightness: mean value.
      detail: root mean square of what varies faster than every four pixels.
    """

    change: tuple[float, ...]
    brightness: tuple[float, ...]
    detail: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Row:
    """What was found for one corruption.

    Attributes:
      name: of the corruption.
      seconds: per image on this device, mean over severities.
      here: statistics of this library's results.
      there: the same of the package's; None where there are none.
      difference: mean absolute difference of the results in levels for each severity;
        None for random corruptions and where there is nothing to compare with.
      largest: the largest difference for each severity.
      note: why there is nothing to compare with.
    """

    name: str
    seconds: float
    here: Statistics
    there: Statistics | None = None
    difference: tuple[float, ...] | None = None
    largest: tuple[float, ...] | None = None
    note: str = ""


def squares(size: int, batch: int) -> UInt8[np.ndarray, "n size size c"]:
    """Squares of the two photographs that scikit-learn has, evenly spread over them.

    Raises:
      ValueError: if they are not that large.
    """
    photographs = load_sample_images().images
    height, width = photographs[0].shape[:2]
    if size > min(height, width):
        raise ValueError(
            f"--size {size} must be at most {min(height, width)}, the shorter side of "
            f"scikit-learn's photographs, unless --images names a folder of others."
        )
    each = -(-batch // len(photographs))
    columns = min(each, max(round((each * width / height) ** 0.5), 1))
    rows = -(-each // columns)
    tops = np.linspace(0, height - size, rows).round().astype(int)
    lefts = np.linspace(0, width - size, columns).round().astype(int)
    places = [(top, left) for top in tops for left in lefts]
    cut = [
        photograph[top : top + size, left : left + size]
        for top, left in places
        for photograph in photographs
    ]
    return np.stack(cut[:batch])


def from_folder(
    folder: Path, size: int, batch: int
) -> UInt8[np.ndarray, "n size size c"]:
    """The largest squares in the middle of the first pictures of a folder, resized.

    Raises:
      ValueError: if there are none.
    """
    known = Image.registered_extensions()
    files = sorted(x for x in folder.rglob("*") if x.suffix.lower() in known)[:batch]
    if not files:
        raise ValueError(f"--images {folder} must be a folder that holds pictures.")
    pictures = []
    for file in files:
        with Image.open(file) as picture:
            fitted = ImageOps.fit(picture.convert("RGB"), (size, size))
        pictures.append(np.asarray(fitted))
    return np.stack(pictures)


def statistics_of(
    results: Float[np.ndarray, "s n h w c"], clean: UInt8[np.ndarray, "n h w c"]
) -> Statistics:
    """Statistics of results in levels."""
    difference = np.square(results - clean[None]).mean(axis=(1, 2, 3, 4))
    gray = results.mean(axis=4)
    spectrum = np.square(np.abs(np.fft.fft2(gray, norm="ortho")))
    rows, columns = (np.fft.fftfreq(side) for side in gray.shape[2:])
    fast = np.hypot(rows[:, None], columns[None, :]) > 0.25
    return Statistics(
        change=_numbers(np.sqrt(difference)),
        brightness=_numbers(results.mean(axis=(1, 2, 3, 4))),
        detail=_numbers(np.sqrt((spectrum * fast).mean(axis=(1, 2, 3)))),
    )


def _numbers(values: Float[np.ndarray, " s"]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def here(
    corruption: Corruption, clean: UInt8[np.ndarray, "n h w c"], repetitions: int
) -> tuple[Float[np.ndarray, "s n h w c"], float]:
    """Results of this library in levels, and seconds per image; compiled before."""
    images = jnp.asarray(clean.astype(np.float32) / 255)
    keys = jax.random.split(jax.random.key(0), len(SEVERITIES) * len(clean))
    keys = keys.reshape(len(SEVERITIES), len(clean))
    compiled = jax.jit(jax.vmap(corruption, (0, 0, None)))

    def run() -> list[jax.Array]:
        placed = zip(keys, SEVERITIES, strict=True)
        return [compiled(turn, images, jnp.int32(k)) for turn, k in placed]

    results = np.stack([np.asarray(result) for result in run()]) * 255
    seconds = median_seconds(run, repetitions)
    return results, seconds / (len(SEVERITIES) * len(clean))


def compare(
    corruption: Corruption,
    clean: UInt8[np.ndarray, "n h w c"],
    *,
    repetitions: int,
    reference: Callable[[str], Float[np.ndarray, "s n h w c"]],
) -> Row:
    """Measures one corruption; `reference` gives the package's results by name."""
    own, seconds = here(corruption, clean, repetitions)
    row = Row(corruption.name, seconds, statistics_of(own, clean))
    try:
        others = reference(corruption.name)
    except RuntimeError as error:
        return dataclasses.replace(row, note=str(error))
    row = dataclasses.replace(row, there=statistics_of(others, clean))
    if corruption.name not in DETERMINISTIC:
        return row
    apart = np.abs(own - others).reshape(len(SEVERITIES), -1)
    mean, largest = _numbers(apart.mean(axis=1)), _numbers(apart.max(axis=1))
    return dataclasses.replace(row, difference=mean, largest=largest)


def measure(
    clean: UInt8[np.ndarray, "n h w c"],
    names: Sequence[str],
    *,
    calibration: Literal[224, 32],
    repetitions: int,
    python: str,
) -> tuple[list[Row], str]:
    """Rows, and the version of the package or why there is nothing to compare with."""
    reference, why_not = "", ""
    try:
        reference = f"imagecorruptions {reference_corruptions.version(python)}"
    except RuntimeError as error:
        why_not = str(error)
    if not why_not and calibration != 224:
        why_not = "the package is made for 224 pixels only"

    def results(name: str) -> Float[np.ndarray, "s n h w c"]:
        if why_not:
            raise RuntimeError(why_not)
        return reference_corruptions.results(name, clean, python)

    rows = [
        compare(
            Corruption(name, calibration),
            clean,
            repetitions=repetitions,
            reference=results,
        )
        for name in tqdm(names, unit="corruption", disable=None)
    ]
    return rows, reference or why_not


def table(rows: Sequence[Row]) -> str:
    """The measurement for a person to read, as Markdown.

    Cells hold one number for each severity, in levels, first this library's.
    """

    def five(values: tuple[float, ...] | None, digits: int = 1) -> str:
        return " ".join(f"{x:.{digits}f}" for x in values) if values else "–"

    lines = []
    for row in rows:
        cells = [row.name, milliseconds(row.seconds)]
        for field in dataclasses.fields(Statistics):
            cell = five(getattr(row.here, field.name))
            other = getattr(row.there, field.name) if row.there else None
            cells.append(f"{cell} / {five(other) if other else row.note}")
        lines.append([*cells, five(row.difference, 3), five(row.largest)])
    return markdown(COLUMNS, lines)


def read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags, and the pictures as `clean`; ends the program where one is off."""
    parser = make_parser("corruptions", __doc__, SIZES)
    known = (*STANDARD, *EXTRA)
    add = parser.add_argument
    add("--images", type=Path, help="a folder of pictures; default: scikit-learn's two")
    add("--calibration", type=int, choices=(224, 32), default=224, help="strengths")
    add("--corruptions", nargs="+", choices=known, default=known, metavar="NAME")
    help_python = "an interpreter that has imagecorruptions; default: this one"
    add("--reference", default=sys.executable, metavar="PYTHON", help=help_python)
    arguments = parse(parser, SIZES, argv)
    cut = (
        functools.partial(from_folder, arguments.images)
        if arguments.images
        else squares
    )
    try:
        arguments.clean = cut(arguments.size, arguments.batch)
    except ValueError as error:
        parser.error(str(error))
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and reports; gives the exit status."""
    arguments = read_arguments(argv)
    rows, reference = measure(
        arguments.clean,
        arguments.corruptions,
        calibration=arguments.calibration,
        repetitions=arguments.repetitions,
        python=arguments.reference,
    )
    settings = {name: getattr(arguments, name) for name in SIZES}
    settings["calibration"] = arguments.calibration
    settings["pictures"] = str(arguments.images or "scikit-learn's china and flower")
    settings["reference"] = reference
    records = [dataclasses.asdict(row) for row in rows]
    report("corruptions", settings, records, table(rows), arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
