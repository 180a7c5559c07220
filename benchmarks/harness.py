"""What the benchmarks share: sizes as flags, a clock, a table and one form of JSON.

A benchmark is a module with a `main` that makes rows, dictionaries of what was
measured, and passes them to `report`, or to `report_ratios` where they are times of
several things. The JSON of all of them has the same keys: `benchmark`, `device`,
`date`, `versions`, `settings` and `rows`.
"""

import argparse
import datetime
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

import jax_rcl
from jax_rcl import parallel

Row = dict[str, Any]
"""What was measured of one thing, by name; seconds are `seconds`."""


class Size(NamedTuple):
    """A flag that takes a whole number.

    Attributes:
      default: without the flag.
      help: what it is the number of.
      least: the smallest that makes sense.
    """

    default: int
    help: str
    least: int = 1


def make_parser(
    name: str, description: str | None, sizes: Mapping[str, Size]
) -> argparse.ArgumentParser:
    """The parser of `python -m benchmarks.<name>`, with `--json`."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for flag, size in sizes.items():
        parser.add_argument(
            f"--{flag}",
            type=int,
            default=size.default,
            help=f"{size.help} (%(default)s)",
        )
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    return parser


def parse(
    parser: argparse.ArgumentParser,
    sizes: Mapping[str, Size],
    argv: Sequence[str] | None,
) -> argparse.Namespace:
    """The flags; ends the program where a size is too small."""
    arguments = parser.parse_args(argv)
    for flag, size in sizes.items():
        value = getattr(arguments, flag)
        if value < size.least:
            parser.error(f"--{flag} {value} must be at least {size.least}.")
    return arguments


def median_seconds(run: Callable[[], object], repetitions: int) -> float:
    """Median time of `run`, until its result is there, after one run to warm up."""
    jax.block_until_ready(run())
    times = []
    for _ in range(repetitions):
        began = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def ratios(seconds: Mapping[str, float]) -> list[Row]:
    """Rows of times by name, each with its ratio to the first."""
    first = next(iter(seconds.values()))
    return [
        {"name": name, "seconds": each, "ratio": each / first}
        for name, each in seconds.items()
    ]


def milliseconds(seconds: float | None) -> str:
    """Four digits; a dash for what was not measured."""
    return "–" if seconds is None else f"{1000 * seconds:.4g}"


def markdown(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table for a person to read."""
    lines = [columns, ["---"] * len(columns), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(
    name: str,
    settings: Mapping[str, Any],
    rows: Sequence[Row],
    text: str,
    path: Path | None,
) -> None:
    """Prints where and when, the settings and `text`; writes all numbers as JSON.

    Args:
      name: of the benchmark.
      settings: flags that the numbers depend on.
      rows: what was measured.
      text: the same for a person to read.
      path: of the JSON; None writes none.
    """
    record = {
        "benchmark": name,
        "device": parallel.device_name(),
        "date": datetime.date.today().isoformat(),
        "versions": f"jax_rcl {jax_rcl.__version__}, jax {jax.__version__}",
        "settings": dict(settings),
        "rows": list(rows),
    }
    said = ", ".join(f"{key} {value}" for key, value in settings.items())
    head = f"{name}: {record['device']}, {record['date']}, {record['versions']}"
    print(f"{head}\n{said}\n\n{text}", flush=True)
    if path is not None:
        path.write_text(json.dumps(record, indent=2) + "\n")


def report_ratios(
    name: str,
    arguments: argparse.Namespace,
    sizes: Mapping[str, Size],
    rows: Sequence[Row],
    columns: Sequence[str],
    digits: int,
) -> None:
    """Reports rows of `ratios`, which have so many digits behind the point."""
    settings = {flag: getattr(arguments, flag) for flag in sizes}
    cells = [
        [row["name"], milliseconds(row["seconds"]), f"{row['ratio']:.{digits}f}"]
        for row in rows
    ]
    report(name, settings, rows, markdown(columns, cells), arguments.json)
