"""Trains the runs of a results table and prints it: `jax-rcl table`."""

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

import jax_rcl
from jax_rcl import parallel
from jax_rcl.checkpoint import AnotherStructure, DamagedCheckpoint
from jax_rcl.cli.shared import configure_logging, report_error
from jax_rcl.config.types import ConfigError
from jax_rcl.report.figures import drawing
from jax_rcl.report.figures.comparison import Line, draw, markdown
from jax_rcl.results.table import Column, Row, Run, Table, load
from jax_rcl.results.trials import (
    FACTS,
    Trial,
    check_evaluators,
    check_numbers,
    lines,
    named,
    trials,
)
from jax_rcl.train.batches import SourceError
from jax_rcl.train.evaluation import commit
from jax_rcl.train.loop import Diverged, train
from jax_rcl.train.signals import Interrupted

__all__ = ["Column", "Row", "Run", "Table", "main"]  # the first four for table files

PROGRAMS = "programs"
"""Folder of a workdir that keeps compiled programs: those of all seeds are the same."""

WORTH_KEEPING = 0.2
"""Seconds of compilation from which on a program is kept."""

DESCRIPTION = """\
Trains those runs of a table that are not finished, and prints it as Markdown.

The same command again continues where the last call stopped. What is printed is also
in table.md of the workdir, with all numbers in table.json and a picture in table.png.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit status, as that of `jax_rcl.main`."""
    configure_logging()
    arguments = read_arguments(argv)
    workdir = Path(arguments.workdir)
    try:
        table = load(arguments.table)
        table = table.restricted(arguments.rows, arguments.seeds)
        planned = trials(table, workdir, arguments.table.partition(":")[0])
        if arguments.print and not workdir.is_dir():
            raise ConfigError(
                f"there is no folder {workdir}; without --print its runs are trained."
            )
        check(table, planned)
        if not arguments.print:
            check_plans(planned)
            train_all(table, planned, workdir)
        print(f"\n{write(table, planned, workdir)}", flush=True)
    except ConfigError as error:
        return report_error(error, 2)
    except (Diverged, SourceError, DamagedCheckpoint, AnotherStructure) as error:
        return report_error(error, 1)
    except Interrupted as stop:
        return report_error(stop, 128 + stop.number)
    return 0


def read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags; rows and seeds are None where the table decides."""
    parser = argparse.ArgumentParser(
        prog="jax-rcl table",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )

    def texts(text: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in text.split(","))

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in texts(text))

    parser.add_argument("--table", required=True, help="file.py or file.py:options")
    parser.add_argument("--workdir", help="default: runs/<name of the table file>")
    parser.add_argument("--rows", type=texts, help="only these rows: ce,supcon")
    parser.add_argument("--seeds", type=numbers, help="instead of the table's: 0,1,2")
    parser.add_argument(
        "--print", action="store_true", help="train nothing; print what is there"
    )
    arguments = parser.parse_args(argv)
    if not arguments.workdir:
        arguments.workdir = f"runs/{Path(arguments.table.partition(':')[0]).stem}"
    return arguments


# Before anything is trained.


def check(table: Table, planned: Iterable[Trial]) -> None:
    """Looks for errors in what is there and in the configs that can be loaded.

    A config may read the workdirs of the runs that it mentions, so it can be loaded
    when they are finished, and not before.

    Raises:
      ConfigError: with the name of the run, or of the row and the column.
    """
    for trial in planned:
        if trial.finished():
            check_numbers(table, trial)
        if trial.ready():
            config_of(table, trial)


def config_of(table: Table, trial: Trial) -> ConfigDict:
    """The config, if its evaluators are those that the table asks for.

    Raises:
      ConfigError: they are not, or what `Trial.load` raises.
    """
    config = trial.load()
    check_evaluators(table, trial, config)
    return config


def check_plans(planned: Iterable[Trial]) -> None:
    """Plans what can start now, of each run the first seed; the others differ in it.

    Raises:
      ConfigError: what cannot work, with the name of the run.
    """
    seen = set()
    for trial in planned:
        if trial.name not in seen and trial.ready() and not trial.finished():
            seen.add(trial.name)
            trial.plan()


# Training.


def train_all(table: Table, planned: Sequence[Trial], workdir: Path) -> None:
    """Trains what is not finished, in order, and writes the table after each run.

    Raises:
      ConfigError: a run that could not be checked earlier cannot work.
      Diverged: what else `train.train` raises, too; the run continues from there.
    """
    keep_programs(workdir / PROGRAMS)
    for place, trial in enumerate(planned, start=1):
        if trial.finished():
            continue
        left = time_left(planned)
        print(f"\nrun {place} of {len(planned)}: {trial}{left}", flush=True)
        config, began = config_of(table, trial), time.monotonic()
        try:
            with named(trial):
                train(config, trial.workdir)
        finally:
            write_facts(trial, time.monotonic() - began)
        check_numbers(table, trial)
        write(table, planned, workdir)


def keep_programs(folder: Path) -> None:
    """Turns on JAX's cache on disk, unless someone has: a step is compiled once."""
    if not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", WORTH_KEEPING)


def time_left(planned: Iterable[Trial]) -> str:
    """How long the rest will take, in brackets; empty while no run is finished.

    A run takes as long as its other seeds did, or else as all runs did on average.
    """
    spent = {trial: trial.facts().get("seconds", 0.0) for trial in planned}
    done = [trial for trial, seconds in spent.items() if seconds and trial.finished()]
    if not done:
        return ""
    left = 0.0
    for trial, seconds in spent.items():
        alike = [other for other in done if other.name == trial.name] or done
        expected = statistics.mean(spent[other] for other in alike)
        left += 0.0 if trial.finished() else max(0.0, expected - seconds)
    return f" (about {in_words(left)} left)"


def in_words(seconds: float) -> str:
    """Minutes, from two hours on with hours."""
    minutes = max(1, round(seconds / 60))
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours >= 2 else f"{minutes} min"


def write_facts(trial: Trial, seconds: float) -> None:
    """Says beside the results where they are from; adds up the time of all sittings."""
    if not trial.workdir.is_dir():  # refused before it began
        return
    facts = {
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
        "device": f"{parallel.make_mesh().size} × {parallel.device_name()}",
        "seconds": trial.facts().get("seconds", 0.0) + seconds,
        "versions": f"jax_rcl {jax_rcl.__version__}, jax {jax.__version__}",
    }
    (trial.workdir / FACTS).write_text(json.dumps(facts, indent=2) + "\n")


# The table.


def write(table: Table, planned: Sequence[Trial], workdir: Path) -> str:
    """Writes table.md, table.json and table.png; gives the Markdown."""
    rows = lines(table, planned)
    seeds = ", ".join(map(str, table.seeds))
    meaning = (
        f"Mean ± sample standard deviation over the seeds {seeds}."
        if len(table.seeds) > 1
        else f"One seed, {seeds}."
    )
    below = " ".join(filter(None, (meaning, table.note, provenance(planned))))
    text = f"**{table.title}**\n\n{markdown(table.columns, rows)}\n\n{below}"
    (workdir / "table.md").write_text(text + "\n", encoding="utf-8")
    record = json.dumps(as_record(table, rows, planned))
    # JSON has no NaN and no infinity; null stands for both.
    record = json.dumps(json.loads(record, parse_constant=lambda _: None), indent=2)
    (workdir / "table.json").write_text(record + "\n")
    (workdir / "table.png").write_bytes(drawing.to_png(draw(table.columns, rows)))
    return text


def provenance(planned: Iterable[Trial]) -> str:
    """One sentence on where the finished runs are from; empty while there is none."""
    found = [trial.facts() for trial in planned if trial.finished()]
    if not found:
        return ""

    def of(name: str) -> str:
        return ", ".join(sorted({str(facts.get(name, "unknown")) for facts in found}))

    spent = in_words(math.fsum(facts.get("seconds", 0.0) for facts in found))
    return (
        f"Trained on {of('device')} in {spent}; commit {of('commit')}, "
        f"{of('versions')}, {of('date')}."
    )


def as_record(
    table: Table, rows: Sequence[Line], planned: Iterable[Trial]
) -> dict[str, Any]:
    """The table, and all numbers of all runs, as plain values."""
    cells = [
        {
            "row": row.name,
            "column": column,
            "run": run,
            "number": number,
            "mean": line.cells[column].mean,
            "deviation": line.cells[column].deviation,
            "paper": line.cells[column].paper,
        }
        for row, line in zip(table.rows, rows, strict=True)
        for column, (run, number) in row.cells.items()
    ]
    runs = [
        {
            "run": trial.name,
            "seed": trial.seed,
            "workdir": str(trial.workdir),
            "finished": trial.finished(),
            "numbers": trial.results(),
            **trial.facts(),
        }
        for trial in planned
    ]
    units = {column.name: column.unit for column in table.columns}
    head = {"title": table.title, "note": table.note, "seeds": list(table.seeds)}
    return {**head, "units": units, "cells": cells, "runs": runs}
