"""Lays trained runs side by side: `jax-rcl compare`."""

import argparse
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jax_rcl import config as configs
from jax_rcl.artifacts import Curves, Grid
from jax_rcl.checkpoint import DamagedCheckpoint
from jax_rcl.cli.shared import (
    PROGRAMS,
    Command,
    Parser,
    checkpoint,
    keep_programs,
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
    Runs,
    evaluators_of,
    in_words,
    numbers_of,
    origin,
    read_json,
    read_runs,
)
from jax_rcl.results.sweeps import Sweep, read_sweeps
from jax_rcl.results.trials import name_in_errors
from jax_rcl.train import run as training
from jax_rcl.train.evaluation import make_encoder, provenance, run_evaluators
from jax_rcl.train.state import restore_variables

DESCRIPTION = """\
Lays trained runs side by side, as tables and a picture of means and deviations.

If all runs have Robustness evaluators, those are run on what no results are stored of;
if all have level sweeps, those are read from the results of finished runs. What is
printed is also in compare.md of the folder --out, with all numbers in compare.json and
a picture in compare.png.
"""


def run(arguments: argparse.Namespace) -> None:
    """Evaluates what is new, and writes and prints the tables."""
    named = arguments.runs + name_folders(arguments.folders, arguments.names)
    if not named:
        raise ConfigError("give the runs: --runs NAME=dir,dir, once for each name.")
    runs = read_runs(named)
    if arguments.baseline not in (None, *runs):
        raise ConfigError(
            unknown("--baseline: there are no --runs", arguments.baseline, runs)
        )
    every, sweeps = what_is_there(runs, arguments)
    new = [each for each in every if arguments.again or not each.record()]
    if new:
        keep_programs(Path(arguments.out) / PROGRAMS)
        evaluate_all([(each, prepare(each)) for each in new])
    print(f"\n{write(runs, every, sweeps, arguments)}", flush=True)


def add_flags(parser: Parser) -> None:
    """Adds the flags of the command."""
    about = "a name and its runs, which are averaged; or a dir, by its own name"
    form = "NAME=dir[,dir...]"
    parser.flag("runs", about, action="append", default=[], metavar=form)
    about = (
        "compare Robustness evaluators alone, or level sweeps, for which nothing is "
        "evaluated; without it, what all runs have"
    )
    parser.flag("only", about, choices=("robustness", "sweeps"))
    about = (
        "file.py or file.py:options whose Robustness evaluators are run instead of "
        "those of each run"
    )
    parser.flag("config", about)
    parser.flag("baseline", "the name that others are compared with")
    about = "checkpoint: newest, best or a step"
    parser.flag("which", about, type=checkpoint, default="newest")
    parser.flag("number", "of sweeps: top1, top5 or auroc", default="top1")
    parser.flag("again", "evaluate all once more", action="store_true")
    parser.flag("out", "folder to write to", default="runs/compare")
    parser.add_argument("folders", nargs="*", help=argparse.SUPPRESS)
    parser.flag("names", argparse.SUPPRESS)


def name_folders(folders: Sequence[str], names: str | None) -> list[str]:
    """Runs as 0.1 named them, in the form of --runs; goes in 0.3."""
    if folders or names is not None:
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


def what_is_there(
    runs: Runs, arguments: argparse.Namespace
) -> tuple[list[Evaluation], list[Sweep]]:
    """What is compared: evaluations, new or not, and level sweeps.

    Where runs have both and only one of them can be had, the other is left out with a
    note, unless a flag asks for it.
    """
    evaluates, reads = kinds(runs, arguments)
    every = plan(runs, arguments) if evaluates else []
    for each in every:
        if each.step is None and (arguments.again or not each.record()):
            kind = "best checkpoint" if arguments.which == "best" else "checkpoint"
            text = f"{each.workdir} holds no {kind} yet."
            if not reads or asked_of_robustness(arguments):
                raise ConfigError(text)
            print(f"note: {text} Its level sweeps alone are compared.", file=sys.stderr)
            every = []
            break
    sweeps = []
    if reads:
        try:
            sweeps = read_sweeps(runs, arguments.number)
        except ConfigError as error:
            if not every or arguments.only or arguments.number != "top1":
                raise
            print(f"note: without level sweeps: {error}", file=sys.stderr)
    return every, sweeps


def asked_of_robustness(arguments: argparse.Namespace) -> bool:
    """Whether a flag makes sense for Robustness evaluators alone."""
    asks = arguments.config or arguments.overrides or arguments.baseline
    asks = asks or arguments.again or arguments.only == "robustness"
    return bool(asks) or arguments.which != "newest"


def kinds(runs: Runs, arguments: argparse.Namespace) -> tuple[bool, bool]:
    """Whether Robustness evaluators are compared, and whether level sweeps are."""
    missing: dict[type, list[str]] = {Robustness: [], LevelSweep: []}
    for workdir in (workdir for workdirs in runs.values() for workdir in workdirs):
        if not workdir.is_dir():
            raise ConfigError(f"there is no folder {workdir}.")
        config = stored_config(workdir)
        for kind, without in missing.items():
            if not evaluators_of(config, kind):
                names = ", ".join(config.evaluators) or "no evaluators"
                without.append(f"{workdir} ({names})")
    only = arguments.only
    evaluates = bool(arguments.config) or not missing[Robustness]
    evaluates = evaluates and only != "sweeps"
    reads = not missing[LevelSweep] and only != "robustness"
    reads = reads and (only == "sweeps" or not arguments.config)
    if not evaluates and not reads:
        lacking = [
            f"{workdirs[0]} has no {kind.__name__} evaluator"
            for kind, workdirs in missing.items()
            if workdirs
        ]
        raise ConfigError(
            f"there is nothing to compare: {', and '.join(lacking)}; choose a config "
            "that has Robustness evaluators by --config."
        )
    if not evaluates and asked_of_robustness(arguments):
        why = "--only=sweeps compares" if only else f"{missing[Robustness][0]} has"
        raise ConfigError(
            "--config, --baseline, --which, --again and --config.… are for Robustness "
            f"evaluators, and {why} none; level sweeps of finished runs stay as they "
            "are."
        )
    if arguments.number != "top1" and not reads:
        raise ConfigError(f"--number={arguments.number} is for level sweeps alone.")
    return evaluates, reads


# Evaluation.


def plan(runs: Runs, arguments: argparse.Namespace) -> list[Evaluation]:
    """What there is to evaluate, new or not."""
    if not arguments.config:
        return robustness.evaluations(runs, None, arguments.overrides, arguments.which)
    config = configs.load(arguments.config, arguments.overrides)
    evaluators = evaluators_of(config, Robustness)
    if not evaluators:
        raise ConfigError(f"--config={arguments.config} has no Robustness evaluator.")
    return robustness.evaluations(runs, evaluators, [], arguments.which)


def prepare(evaluation: Evaluation) -> training.Run:
    """The run, checked; nothing is compiled."""
    with name_in_errors(evaluation.workdir):
        return training.Run.prepare(evaluation.config, evaluation.workdir)


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
    """The record of a run: what was asked, what was found, and where."""
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
        results[name] = numbers_of(name, own)
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
    evaluated = [record for record in records.values() if "device" in record]
    parts += [about(runs, sweeps), origin("Evaluated", evaluated)]
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


main = Command("compare", DESCRIPTION, add_flags, run)
