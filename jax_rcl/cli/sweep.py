"""Level sweeps of finished runs beside each other: `jax-rcl sweep`."""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jax_rcl.artifacts import Curves
from jax_rcl.augment.distortions.levels import Level
from jax_rcl.cli.shared import configure_logging, read_overrides, report_error
from jax_rcl.config.types import ConfigError
from jax_rcl.evaluate.shifts.level_numbers import CLEAN, places_of
from jax_rcl.report.figures import drawing, levels
from jax_rcl.report.figures.comparison import Cell, Column, Line, markdown
from jax_rcl.results.sweeps import Sweeps, Swept, named, read

DESCRIPTION = """\
Draws and tabulates what the LevelSweep evaluators of finished runs have found.

Nothing is evaluated. What is printed is also in sweep.md of the folder --out, and a
picture in sweep.png: a diagram for each sweep, a line for each name.
"""


@dataclasses.dataclass(frozen=True)
class Repeated(Cell):
    """A cell that of a single run says how far the repeats of its sweep deviate."""

    of_repeats: float | None = None

    @property
    def deviation(self) -> float | None:
        """Over runs; of a single one over its repeats."""
        return self.of_repeats if len(self.values) == 1 else super().deviation


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit status, as that of `jax_rcl.main`."""
    configure_logging()
    try:
        arguments = read_arguments(argv)
        sweeps = read(named(arguments.runs, arguments.names), arguments.number)
        print(write(sweeps, arguments.number, Path(arguments.out)), flush=True)
    except ConfigError as error:
        return report_error(error, 2)
    return 0


def read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The runs and the flags.

    Raises:
      ConfigError: anything else on the command line.
    """
    parser = argparse.ArgumentParser(
        prog="jax-rcl sweep",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="workdir of a run")
    parser.add_argument(
        "--names",
        metavar="NAME[,NAME...]",
        help="what each run is called, in order; runs of one name are averaged, such "
        "as several seeds (default: the names of the folders)",
    )
    parser.add_argument(
        "--number", default="top1", help="top1, top5 or auroc (default: %(default)s)"
    )
    parser.add_argument("--out", default="runs/sweep", help="default: %(default)s")
    arguments, rest = parser.parse_known_args(argv)
    for argument in rest:
        read_overrides([argument])
        raise ConfigError(f"{argument}: finished runs stay as they are; leave it out.")
    return arguments


def write(sweeps: Sweeps, number: str, out: Path) -> str:
    """Writes sweep.md and sweep.png; gives the Markdown."""
    parts = [
        f"**{number} under {title(sweep, lines)}**\n\n{table(lines)}"
        for sweep, lines in sweeps.items()
    ]
    text = "\n\n".join([*parts, meaning(sweeps)])
    pictures = {title(name, lines): curves(lines) for name, lines in sweeps.items()}
    out.mkdir(parents=True, exist_ok=True)
    (out / "sweep.md").write_text(text + "\n", encoding="utf-8")
    (out / "sweep.png").write_bytes(drawing.to_png(levels.draw(pictures)))
    return text


def title(sweep: str, lines: Mapping[str, Sequence[Swept]]) -> str:
    """The distortion and the name of the evaluator."""
    return f"{first(lines).distortion} ({sweep})"


def first(lines: Mapping[str, Sequence[Swept]]) -> Swept:
    """One of the sweeps that are compared."""
    return next(iter(lines.values()))[0]


def every_level(lines: Mapping[str, Sequence[Swept]]) -> dict[str, Level]:
    """The levels of all runs by name; single numbers in their order."""
    found: dict[str, Level] = {}
    for runs in lines.values():
        for run in runs:
            found |= run.levels
    places = places_of(tuple(found.values()))
    if places is None:
        return found
    return dict(list(found.items())[place] for place in np.argsort(places))


def cell(runs: Sequence[Swept], place: str) -> Repeated | None:
    """Percent at a level, or of clean images; None where no run has it."""
    own = [run for run in runs if place in run.shares]
    if not own:
        return None
    values = tuple(100 * run.shares[place] for run in own)
    repeats = own[0].deviations.get(place)
    of_repeats = None if repeats is None else 100 * repeats
    return Repeated(values, len(runs), of_repeats=of_repeats)


def table(lines: Mapping[str, Sequence[Swept]]) -> str:
    """A row for clean images and for each level, a column for each name."""
    rows = []
    for place in (CLEAN, *every_level(lines)):
        known = {name: cell(runs, place) for name, runs in lines.items()}
        rows.append(Line(place, {n: x for n, x in known.items() if x is not None}))
    return markdown([Column(name, name) for name in lines], rows)


def curves(lines: Mapping[str, Sequence[Swept]]) -> Curves:
    """A line for each name."""
    found, names = every_level(lines), tuple(lines)
    cells = [[cell(lines[name], level) for level in found] for name in names]
    clean = [cell(lines[name], CLEAN) for name in names]

    def shares(cells: Sequence[Repeated | None], of: str) -> list[float]:
        values = [getattr(each, of) if each else None for each in cells]
        return [np.nan if value is None else value / 100 for value in values]

    return Curves(
        places=places_of(tuple(found.values())),
        level_names=tuple(found),
        means=np.array([shares(row, "mean") for row in cells]),
        deviations=np.array([shares(row, "deviation") for row in cells]),
        references=np.array(shares(clean, "mean")),
        line_names=names,
        axis=f"level of {first(lines).distortion}",
        method="",
    )


def meaning(sweeps: Sweeps) -> str:
    """What the numbers are of."""
    counts: dict[str, int] = {}
    for lines in sweeps.values():
        counts |= {name: len(runs) for name, runs in lines.items()}
    several = ", ".join(f"{n} of {name}" for name, n in counts.items() if n > 1)
    told = []
    if several:
        told.append(f"Mean ± sample standard deviation over runs: {several}.")
    if 1 in counts.values():
        told.append("Of a single run, ± is the deviation over the sweep's repeats.")
    told.append("In the picture, clean images are dashed.")
    lines = [
        f"* {sweep}, {name}: {runs[0].protocol}"
        for sweep, lines in sweeps.items()
        for name, runs in lines.items()
    ]
    return "\n".join([" ".join(told), "", *lines])
