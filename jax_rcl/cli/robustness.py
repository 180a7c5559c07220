"""Compares the robustness of trained runs: `jax-rcl robustness`."""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

import jax_rcl
from jax_rcl import parallel
from jax_rcl.artifacts import Grid
from jax_rcl.checkpoint import AnotherStructure, DamagedCheckpoint
from jax_rcl.cli.shared import configure_logging, read_overrides, report_error
from jax_rcl.cli.table import PROGRAMS, in_words, keep_programs
from jax_rcl.config.types import ConfigError
from jax_rcl.evaluate.shifts.robustness import Robustness, counted
from jax_rcl.report.figures import drawing
from jax_rcl.report.figures.comparison import markdown
from jax_rcl.report.figures.robustness import Accuracies, Methods, draw, tables
from jax_rcl.results.runs import RESULTS, Trained, planned
from jax_rcl.train.evaluation import commit, make_encoder, run_evaluators
from jax_rcl.train.run import Run
from jax_rcl.train.state import restore_variables

DESCRIPTION = """\
Runs the Robustness evaluators of trained runs, and prints what they found.

The same command again evaluates only what is new. What is printed is also in
robustness.md of the folder --out, with all numbers in robustness.json and a picture in
robustness.png.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit status, as that of `jax_rcl.main`."""
    configure_logging()
    try:
        arguments, overrides = read_arguments(argv)
        every = planned(arguments, overrides)
        waiting = [each for each in every if arguments.again or not each.record()]
        runs = [prepared(each) for each in waiting]
        out = Path(arguments.out)
        evaluate_all(waiting, runs, out)
        print(f"\n{write(every, arguments.baseline, out)}", flush=True)
    except ConfigError as error:
        return report_error(error, 2)
    except (DamagedCheckpoint, AnotherStructure) as error:
        return report_error(error, 1)
    return 0


def read_arguments(
    argv: Sequence[str] | None,
) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """The flags, and the overrides `--config.<path>=<value>` in order.

    Raises:
      ConfigError: anything else on the command line.
    """
    parser = argparse.ArgumentParser(
        prog="jax-rcl robustness",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--runs",
        action="append",
        required=True,
        metavar="NAME=workdir[,workdir...]",
        help="a method and its runs; once for each method",
    )
    parser.add_argument(
        "--config",
        help="file.py or file.py:options whose Robustness evaluators are run; default: "
        "those of each run's own config",
    )
    parser.add_argument("--baseline", help="the method that others are compared with")
    parser.add_argument("--which", choices=("newest", "best"), default="newest")
    parser.add_argument("--again", action="store_true", help="also what is not new")
    parser.add_argument("--out", default="runs/robustness", help="default: %(default)s")
    arguments, rest = parser.parse_known_args(argv)
    return arguments, read_overrides(rest)


# Evaluation.


def prepared(trained: Trained) -> Run:
    """The run, checked; nothing is compiled.

    Raises:
      ConfigError: what cannot work, with the workdir.
    """
    try:
        return Run.prepare(trained.config, trained.workdir)
    except ConfigError as error:
        raise ConfigError(f"{trained.workdir}: {error}") from error


def evaluate_all(every: Sequence[Trained], runs: Sequence[Run], out: Path) -> None:
    """Evaluates one run after the other, and writes what was found into its workdir."""
    keep_programs(out / PROGRAMS)
    began = time.monotonic()
    for place, (trained, run) in enumerate(zip(every, runs, strict=True)):
        left = ""
        if place:
            seconds = (time.monotonic() - began) / place * (len(every) - place)
            left = f" (about {in_words(seconds)} left)"
        print(
            f"\nrun {place + 1} of {len(every)}: {trained.method}, "
            f"{trained.workdir}{left}",
            flush=True,
        )
        record = evaluate(trained, run)
        path = trained.workdir / RESULTS
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(record, indent=2) + "\n")
        temporary.replace(path)


def evaluate(trained: Trained, run: Run) -> dict[str, Any]:
    """What the file of results holds.

    Raises:
      DamagedCheckpoint: the checkpoint cannot be read.
      RuntimeError: an evaluator failed.
    """
    began = time.monotonic()
    step, variables = restore_variables(run, trained.which)
    if step != trained.step:
        raise DamagedCheckpoint(
            f"step {trained.step} of {trained.workdir} cannot be read; remove it to "
            f"evaluate step {step}."
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
        **trained.asked,
        "protocols": run.protocols(),
        "results": results,
        "grids": grids,
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
        "device": f"{run.mesh.size} × {parallel.device_name()}",
        "seconds": time.monotonic() - began,
        "versions": f"jax_rcl {jax_rcl.__version__}, jax {jax.__version__}",
    }


def accuracies(results: Mapping[str, Mapping[str, float]]) -> Accuracies:
    """The numbers of one run, by set; of several evaluators with their names."""
    sets: dict[str, float] = {}
    corruptions: dict[str, dict[str, float]] = {}
    severities: dict[str, dict[str, float]] = {}
    for evaluator, numbers in results.items():
        label = f"{evaluator}: " if len(results) > 1 else ""
        for key, value in numbers.items():
            part, *inner, kind = key.split("/")
            name = label + part
            if not inner:
                told = ", classes present" if kind == "top1_present" else ""
                sets[name + told] = value
            elif inner[0].startswith("severity"):
                own = severities.setdefault(name, {})
                own[inner[0].removeprefix("severity")] = value
            else:
                corruptions.setdefault(name, {})[inner[0]] = value
    means = {
        name: tuple(list(own)[place] for place in counted(list(own)))
        for name, own in corruptions.items()
    }
    return Accuracies(sets, corruptions, severities, means)


# The tables.


def write(every: Sequence[Trained], baseline: str | None, out: Path) -> str:
    """Writes robustness.md, robustness.json and robustness.png; gives the Markdown."""
    records = {trained: trained.record() or {} for trained in every}
    methods: dict[str, list[Accuracies]] = {}
    for trained, record in records.items():
        own = accuracies(record["results"])
        methods.setdefault(trained.method, []).append(own)
    parts = [
        f"**{title}**\n\n{markdown(columns, lines)}"
        for title, (columns, lines) in tables(methods, baseline).items()
    ]
    text = "\n\n".join([*parts, meaning(methods, records)])
    out.mkdir(parents=True, exist_ok=True)
    (out / "robustness.md").write_text(text + "\n", encoding="utf-8")
    record = json.dumps(as_record(methods, records, baseline))
    # JSON has no NaN and no infinity; null stands for both.
    record = json.dumps(json.loads(record, parse_constant=lambda _: None), indent=2)
    (out / "robustness.json").write_text(record + "\n")
    (out / "robustness.png").write_bytes(drawing.to_png(draw(methods)))
    return text


def meaning(methods: Methods, records: Mapping[Trained, Mapping[str, Any]]) -> str:
    """What the numbers are of, and where they are from."""
    counts = ", ".join(f"{len(runs)} of {name}" for name, runs in methods.items())
    first = next(iter(records.values()))
    told = [f"* {name}: {text}" for name, text in first["protocols"].items()]

    def of(name: str) -> str:
        return ", ".join(sorted({str(record[name]) for record in records.values()}))

    return (
        f"Mean ± sample standard deviation over runs: {counts}. Evaluated on "
        f"{of('device')}; commit {of('commit')}, {of('versions')}, {of('date')}.\n\n"
        + "\n".join(told)
    )


def as_record(
    methods: Methods,
    records: Mapping[Trained, Mapping[str, Any]],
    baseline: str | None,
) -> dict[str, Any]:
    """The tables, and all numbers of all runs, as plain values."""
    cells = [
        {
            "table": title,
            "row": line.title,
            "column": column.title,
            "unit": column.unit,
            "mean": line.cells[column.name].mean,
            "deviation": line.cells[column.name].deviation,
            "values": line.cells[column.name].values,
        }
        for title, (columns, lines) in tables(methods, baseline).items()
        for line in lines
        for column in columns
    ]
    runs = [
        {"method": trained.method, "workdir": str(trained.workdir), **record}
        for trained, record in records.items()
    ]
    return {"baseline": baseline, "cells": cells, "runs": runs}
