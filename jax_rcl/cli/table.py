"""Trains the runs of a results table and prints it: `jax-rcl table`."""

import argparse
import json
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jax_rcl.cli.shared import (
    PROGRAMS,
    Command,
    Parser,
    keep_programs,
    write_comparison,
)
from jax_rcl.config.files import split_argument
from jax_rcl.config.types import ConfigError
from jax_rcl.report.figures.comparison import draw_table
from jax_rcl.report.tables import Line, markdown
from jax_rcl.results.runs import FACTS, in_words, origin
from jax_rcl.results.table import Table, load
from jax_rcl.results.trials import (
    Trial,
    check_evaluators,
    check_numbers,
    lines,
    name_in_errors,
    trials,
)
from jax_rcl.train.evaluation import provenance
from jax_rcl.train.loop import train

DESCRIPTION = """\
Trains those runs of a table that are not finished, and prints it as Markdown.

The same command again continues where the last call stopped. What is printed is also
in table.md of the workdir, with all numbers in table.json and a picture in table.png.
"""


def run(arguments: argparse.Namespace) -> None:
    """Checks everything, trains what is missing, and prints the table."""
    file = split_argument(arguments.table)[0]
    workdir = Path(arguments.workdir or f"runs/{Path(file).stem}")
    table = load(arguments.table).restrict(arguments.rows, arguments.seeds)
    planned = trials(table, workdir, file)
    if arguments.print and not workdir.is_dir():
        raise ConfigError(
            f"there is no folder {workdir}; without --print its runs are trained."
        )
    check(table, planned)
    if not arguments.print:
        check_plans(planned)
        train_all(table, planned, workdir)
    print(f"\n{write(table, planned, workdir)}", flush=True)


def add_flags(parser: Parser) -> None:
    """Adds the flags of the command; without --rows and --seeds the table decides."""

    def texts(text: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in text.split(","))

    def numbers(text: str) -> tuple[int, ...]:
        if not all(part.isdecimal() for part in texts(text)):
            raise argparse.ArgumentTypeError(f"{text} must be whole numbers, as 0,1,2")
        return tuple(map(int, texts(text)))

    parser.flag("table", "file.py or file.py:options", required=True)
    parser.flag("workdir", "default: runs/<name of the table file>")
    parser.flag("rows", "only these rows: ce,supcon", type=texts)
    parser.flag("seeds", "instead of the table's: 0,1,2", type=numbers)
    parser.flag("print", "train nothing; print what is there", action="store_true")


# Before anything is trained.


def check(table: Table, planned: Iterable[Trial]) -> None:
    """Looks for errors in what is there and in the configs that can be loaded.

    A config may read the workdirs of the runs that it mentions, so it can be loaded
    when they are finished, and not before.
    """
    for trial in planned:
        if trial.finished():
            check_numbers(table, trial)
        if trial.ready():
            config_of(table, trial)


def config_of(table: Table, trial: Trial) -> ConfigDict:
    """The config, if its evaluators are those that the table asks for."""
    with name_in_errors(trial):
        config = trial.load()
    check_evaluators(table, trial, config)
    return config


def check_plans(planned: Iterable[Trial]) -> None:
    """Plans what can start now, of each run the first seed; the others differ in it."""
    seen = set()
    for trial in planned:
        if trial.name not in seen and trial.ready() and not trial.finished():
            seen.add(trial.name)
            trial.plan()


# Training.


def train_all(table: Table, planned: Sequence[Trial], workdir: Path) -> None:
    """Trains what is not finished, in order, and writes the table after each run."""
    keep_programs(workdir / PROGRAMS)
    for place, trial in enumerate(planned, start=1):
        if trial.finished():
            continue
        left = time_left(planned)
        which = f"{trial.name}, seed {trial.seed}{left}"
        print(f"\nrun {place} of {len(planned)}: {which}", flush=True)
        config, began = config_of(table, trial), time.monotonic()
        try:
            with name_in_errors(trial):
                train(config, trial.workdir)
        finally:
            write_facts(trial, time.monotonic() - began)
        check_numbers(table, trial)
        write(table, planned, workdir)


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


def write_facts(trial: Trial, seconds: float) -> None:
    """Stores where the results are from; the seconds of all sittings are added up."""
    if not trial.workdir.is_dir():  # refused before it began
        return
    facts = provenance(trial.facts().get("seconds", 0.0) + seconds)
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
    done = [trial.facts() for trial in planned if trial.finished()]
    below = " ".join(filter(None, (meaning, table.note, origin("Trained", done))))
    text = f"**{table.title}**\n\n{markdown(table.columns, rows)}\n\n{below}"
    record, picture = as_record(table, rows, planned), draw_table(table.columns, rows)
    write_comparison(workdir, "table", text, record, picture)
    return text


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
            "paper": line.cells[column].paper,
            **line.cells[column].record(),
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


main = Command("table", DESCRIPTION, add_flags, run)
