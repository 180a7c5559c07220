"""Lays trained runs side by side: `jax-rcl compare`."""

import argparse
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from jax_rcl import config as configs
from jax_rcl.artifacts import Curves, Grid
from jax_rcl.checkpoint import DamagedCheckpoint, Which
from jax_rcl.cli.shared import (
    PROGRAMS,
    exit_status,
    keep_programs,
    make_parser,
    read_overrides,
    write_comparison,
)
from jax_rcl.config.types import ConfigError, unknown
from jax_rcl.config.workdir import stored_config
from jax_rcl.evaluate.shifts.level_numbers import CLEAN, places_of
from jax_rcl.evaluate.shifts.level_sweep import LevelSweep
from jax_rcl.evaluate.shifts.robustness import Robustness
from jax_rcl.report.figures.comparison import draw_runs
from jax_rcl.report.tables import Rows, markdown
from jax_rcl.results import robustness
from jax_rcl.results.robustness import Evaluation, accuracies
from jax_rcl.results.runs import (
    FACTS,
    RESULTS,
    Runs,
    evaluators_of,
    in_words,
    origin,
    read_json,
    read_runs,
)
from jax_rcl.results.sweeps import Sweep, read_sweeps
from jax_rcl.train import run as training
from jax_rcl.train.evaluation import make_encoder, provenance, run_evaluators
from jax_rcl.train.state import restore_variables

DESCRIPTION = """\
Lays trained runs side by side, as tables and a picture of means and deviations.

If all runs have Robustness evaluators, those are run on what is new; if all have level
sweeps, those are read from the results of finished runs. What is printed is also in
compare.md of the folder --out, with all numbers in compare.json and a picture in
compare.png.
"""

Overrides = list[tuple[str, str]]


def main(argv: Sequence[str]) -> int:
    """Runs the command; gives the exit status, see `shared.exit_status`."""
    return exit_status(lambda: run(argv))


def run(argv: Sequence[str]) -> None:
    """Evaluates what is new, and writes and prints the tables."""
    arguments, overrides = read_arguments(argv)
    runs = read_runs(arguments.runs)
    if arguments.baseline not in (None, *runs):
        raise ConfigError(
            unknown("--baseline: there are no --runs", arguments.baseline, runs)
        )
    with_robustness, with_sweeps = kinds(runs, arguments, overrides)
    sweeps = read_sweeps(runs, arguments.number) if with_sweeps else []
    every = plan(runs, arguments, overrides) if with_robustness else []
    new = [each for each in every if arguments.again or not each.record()]
    if new:
        keep_programs(Path(arguments.out) / PROGRAMS)
        evaluate_all([(each, prepare(each)) for each in new])
    print(f"\n{write(runs, every, sweeps, arguments)}", flush=True)


def read_arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, Overrides]:
    """The flags, and the overrides `--config.<path>=<value>` in order."""
    parser = make_parser("compare", DESCRIPTION)
    parser.add_argument(
        "--runs",
        action="append",
        default=[],
        metavar="NAME=dir[,dir...]",
        help="a name and its runs, which are averaged; or a dir, by its own name",
    )
    parser.add_argument(
        "--config",
        help="file.py or file.py:options whose Robustness evaluators are run instead "
        "of those of each run",
    )
    parser.add_argument("--baseline", help="the name that others are compared with")
    parser.add_argument(
        "--which", choices=get_args(Which), default="newest", help="checkpoint"
    )
    parser.add_argument(
        "--number", default="top1", help="of sweeps: top1, top5 or auroc"
    )
    parser.add_argument("--again", action="store_true", help="evaluate all once more")
    parser.add_argument("--out", default="runs/compare", help="default: %(default)s")
    parser.add_argument("--names", help=argparse.SUPPRESS)
    arguments, rest = parser.parse_known_args(argv)
    flags = [f"--{name}" for name in vars(arguments) if name != "names"]
    folders, rest = take_folders(rest)
    arguments.runs += name_folders(folders, arguments.names)
    overrides = read_overrides(rest, flags)
    if not arguments.runs:
        raise ConfigError("give the runs: --runs NAME=dir,dir, once for each name.")
    return arguments, overrides


def take_folders(rest: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands by itself in a command line, and what else there is."""
    folders, others = [], []
    for before, text in zip(["", *rest], rest, strict=False):
        value = before.startswith("--config.") and "=" not in before
        (others if value or text.startswith("-") else folders).append(text)
    return folders, others


def name_folders(folders: Sequence[str], names: str | None) -> list[str]:
    """Runs as 0.1 named them, in the form of --runs; goes in 0.3."""
    if not folders and names is None:
        return []
    print("RUN and --names are --runs NAME=dir,dir now.", file=sys.stderr)
    if names is None:
        return list(folders)
    each = [name.strip() for name in names.split(",")]
    if len(each) != len(folders) or not all(each):
        raise ConfigError(
            f"--names={names} must give a name to each of the {len(folders)} runs, in "
            f"their order; write --runs NAME=dir,dir instead."
        )
    return [f"{name}={run}" for name, run in zip(each, folders, strict=True)]


def kinds(
    runs: Runs, arguments: argparse.Namespace, overrides: Overrides
) -> tuple[bool, bool]:
    """Whether Robustness evaluators are compared, and whether level sweeps are."""
    missing: dict[type, list[str]] = {Robustness: [], LevelSweep: []}
    swept = True
    for workdir in (workdir for workdirs in runs.values() for workdir in workdirs):
        if not workdir.is_dir():
            raise ConfigError(f"there is no folder {workdir}.")
        config = stored_config(workdir)
        for kind, without in missing.items():
            if not evaluators_of(config, kind):
                names = ", ".join(config.evaluators) or "no evaluators"
                without.append(f"{workdir} ({names})")
        swept = swept and has_swept(workdir, evaluators_of(config, LevelSweep))
    evaluates = bool(arguments.config) or not missing[Robustness]
    # Of runs that are still going, the Robustness evaluators alone can be compared.
    reads = not arguments.config and not missing[LevelSweep]
    reads = reads and (swept or not evaluates)
    if not evaluates and not reads:
        robust, sweep = missing[Robustness][0], missing[LevelSweep][0]
        raise ConfigError(
            f"there is nothing to compare: {robust} has no Robustness evaluator, and "
            f"{sweep} no LevelSweep evaluator; choose a config that has Robustness "
            "evaluators by --config."
        )
    asks = overrides or arguments.baseline or arguments.again
    if not evaluates and (asks or arguments.which != "newest"):
        raise ConfigError(
            "--baseline, --which, --again and --config.… are for Robustness "
            f"evaluators, and {missing[Robustness][0]} has none; level sweeps of "
            "finished runs stay as they are."
        )
    if arguments.number != "top1" and not reads:
        raise ConfigError(f"--number={arguments.number} is for level sweeps alone.")
    return evaluates, reads


def has_swept(workdir: Path, sweeps: Iterable[str]) -> bool:
    """Whether a run is finished, with numbers of these evaluators."""
    numbers = read_json(workdir / RESULTS).get("results", {})
    return all(any(key.startswith(f"{name}/") for key in numbers) for name in sweeps)


# Evaluation.


def plan(
    runs: Runs, arguments: argparse.Namespace, overrides: Overrides
) -> list[Evaluation]:
    """What there is to evaluate, new or not."""
    if not arguments.config:
        return robustness.evaluations(runs, None, overrides, arguments.which)
    config = configs.load(arguments.config, overrides)
    evaluators = evaluators_of(config, Robustness)
    if not evaluators:
        raise ConfigError(f"--config={arguments.config} has no Robustness evaluator.")
    return robustness.evaluations(runs, evaluators, [], arguments.which)


def prepare(evaluation: Evaluation) -> training.Run:
    """The run, checked; nothing is compiled."""
    try:
        return training.Run.prepare(evaluation.config, evaluation.workdir)
    except ConfigError as error:
        raise ConfigError(f"{evaluation.workdir}: {error}") from error


def evaluate_all(new: Sequence[tuple[Evaluation, training.Run]]) -> None:
    """Evaluates one run after the other, and stores what was found in its workdir."""
    began = time.monotonic()
    for place, (evaluation, prepared) in enumerate(new):
        left = ""
        if place:
            seconds = (time.monotonic() - began) / place * (len(new) - place)
            left = f" (about {in_words(seconds)} left)"
        which = f"run {place + 1} of {len(new)}: {evaluation.method}"
        print(f"\n{which}, {evaluation.workdir}{left}", flush=True)
        evaluation.write_record(evaluate(evaluation, prepared))


def evaluate(evaluation: Evaluation, run: training.Run) -> dict[str, Any]:
    """The record of a run: what was asked, what was found, and where.

    Raises:
      DamagedCheckpoint: the checkpoint cannot be read.
      RuntimeError: an evaluator failed.
    """
    began = time.monotonic()
    step, variables = restore_variables(run, evaluation.which)
    if step != evaluation.step:
        raise DamagedCheckpoint(
            f"step {evaluation.step} of {evaluation.workdir} cannot be read; remove it "
            f"to evaluate step {step}."
        )
    encode = make_encoder(run)(variables)
    results, grids = {}, {}
    for name, evaluator in run.experiment.evaluators.items():
        own = run_evaluators(run, encode, step, [name])
        results[name] = {key.removeprefix(f"{name}/"): x for key, x in own.items()}
        assert isinstance(evaluator, Robustness)
        grids[name] = {
            title: {
                "rows": found.row_names,
                "columns": found.column_names,
                "values": found.values.tolist(),
            }
            for title, found in evaluator.findings(encode).items()
            if isinstance(found, Grid)
        }
    return {
        **evaluation.question,
        "protocols": run.protocols(),
        "results": results,
        "grids": grids,
        **provenance(time.monotonic() - began, run.mesh),
    }


# The tables.


def write(
    runs: Runs,
    every: Sequence[Evaluation],
    sweeps: Sequence[Sweep],
    arguments: argparse.Namespace,
) -> str:
    """Writes compare.md, compare.json and compare.png; gives the Markdown."""
    records = {each.workdir: each.record() or {} for each in every}
    facts = {w: read_json(w / FACTS) for workdirs in runs.values() for w in workdirs}
    methods = {
        name: [accuracies(records[workdir]["results"]) for workdir in workdirs]
        for name, workdirs in runs.items()
        if records
    }
    tables = robustness.tables(methods, arguments.baseline) if methods else {}
    tables |= {f"{arguments.number} under {x.title}": x.table() for x in sweeps}
    parts = [f"**{title}**\n\n{markdown(*rows)}" for title, rows in tables.items()]
    parts += [about(runs, sweeps), origin("Evaluated", records.values())]
    parts += [origin("Trained", filter(None, facts.values()))]
    first = next(iter(records.values()), {"protocols": {}})
    lines = [f"* {name}: {text}" for name, text in first["protocols"].items()]
    lines += [
        f"* {sweep.name}, {name}: {own[0].protocol}"
        for sweep in sweeps
        for name, own in sweep.methods.items()
    ]
    text = "\n\n".join(filter(None, [*parts, "\n".join(lines)]))
    record = {
        "baseline": arguments.baseline,
        "cells": cells(tables),
        "runs": [
            {
                "method": name,
                "workdir": str(workdir),
                "trained": facts[workdir],
                "robustness": records.get(workdir),
            }
            for name, workdirs in runs.items()
            for workdir in workdirs
        ],
    }
    diagrams = robustness.diagrams(methods) if methods else {}
    picture = draw_runs(diagrams, {sweep.title: curves(sweep) for sweep in sweeps})
    write_comparison(Path(arguments.out), "compare", text, record, picture)
    return text


def about(runs: Runs, sweeps: Sequence[Sweep]) -> str:
    """What the numbers are of."""
    counts = ", ".join(f"{len(workdirs)} of {name}" for name, workdirs in runs.items())
    sentences = [f"Mean ± sample standard deviation over runs: {counts}."]
    if sweeps and any(len(workdirs) == 1 for workdirs in runs.values()):
        sentences.append(
            "Of a single run, ± is the deviation over the repeats of its sweep."
        )
    if sweeps:
        sentences.append("In the picture, clean images are dashed.")
    return " ".join(sentences)


def cells(tables: Mapping[str, Rows]) -> list[dict[str, Any]]:
    """Every cell of the tables, as plain values."""
    return [
        {
            "table": title,
            "row": line.title,
            "column": column.title,
            "unit": column.unit,
            **line.cells[column.name].record(),
        }
        for title, (columns, lines) in tables.items()
        for line in lines
        for column in columns
        if column.name in line.cells
    ]


def curves(sweep: Sweep) -> Curves:
    """A line over the levels for each name."""
    levels, names = sweep.levels, tuple(sweep.methods)

    def shares(places: Iterable[str], of: str) -> np.ndarray:
        """Shares [names, places]; NaN where there is none."""
        rows = [[sweep.cell(name, place) for place in places] for name in names]
        values = [[getattr(x, of) if x else None for x in row] for row in rows]
        return np.array(values, np.float64) / 100

    return Curves(
        places=places_of(tuple(levels.values())),
        level_names=tuple(levels),
        means=shares(levels, "mean"),
        deviations=shares(levels, "deviation"),
        references=shares([CLEAN], "mean")[:, 0],
        line_names=names,
        axis=f"level of {sweep.every[0].distortion}",
        method="",
    )
