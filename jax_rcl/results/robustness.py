"""Accuracies of runs on shifted test sets: what is evaluated, and tables of it."""

import dataclasses
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jax_rcl import config as configs
from jax_rcl.augment.corruptions.table import FAMILIES
from jax_rcl.checkpoint import Which, saved_steps
from jax_rcl.config.nodes import rename_class
from jax_rcl.config.types import ConfigError
from jax_rcl.config.workdir import stored_config
from jax_rcl.evaluate.shifts.robustness import Robustness, counted
from jax_rcl.ranges import ranged
from jax_rcl.report.tables import Cell, Column, Line, Rows
from jax_rcl.results.runs import RESULTS, Runs, evaluators_of, numbers_of, read_json

EVALUATED = "robustness.json"
"""File of a workdir with what its Robustness evaluators found, and with what."""


@dataclasses.dataclass(frozen=True, eq=False)
@ranged
class Evaluation:
    """A trained run, and what is to be evaluated of it.

    Attributes:
      method: the name it is compared under.
      config: its own, with the Robustness evaluators to run and no others.
      step: of the checkpoint; None where there is none.
    """

    method: str
    workdir: Path
    config: ConfigDict
    which: Which
    step: int | None

    @property
    def question(self) -> dict[str, Any]:
        """What the numbers depend on, as it stands in the record."""
        own = json.loads(configs.to_json(self.config))["evaluators"]
        return {"which": self.which, "step": self.step, "evaluators": own}

    def record(self) -> dict[str, Any] | None:
        """What is stored in the workdir; None if it answers another question.

        Without a checkpoint, the step of what is stored does not matter.
        """
        try:
            text = (self.workdir / EVALUATED).read_text()
            found = json.loads(text, object_hook=rename_class)
        except (OSError, ValueError):  # a damaged file is evaluated once more
            return self.own_results()
        question = self.question
        if self.step is None:
            question["step"] = found.get("step")
        same = {key: found.get(key) for key in question} == question
        return found if same else self.own_results()

    def own_results(self) -> dict[str, Any] | None:
        """What the run found itself when it ended, if that answers the question."""
        try:
            found = read_json(self.workdir / RESULTS)
        except ConfigError:  # damaged
            return None
        config = configs.resolved(stored_config(self.workdir))
        stored = json.loads(configs.to_json(config))["evaluators"]
        question = {**self.question, "step": found.get("step")}
        own = {name: stored.get(name) for name in question["evaluators"]}
        if question["evaluators"] != own or self.which != "newest":
            return None
        if self.step not in (None, question["step"]):
            return None
        results = {name: numbers_of(name, found.get("results", {})) for name in own}
        protocols = {name: found.get("protocols", {}).get(name, "") for name in own}
        record = {**question, "protocols": protocols, "results": results}
        return record if all(results.values()) else None

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Stores what was found, all of it or nothing."""
        path = self.workdir / EVALUATED
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(record, indent=2) + "\n")
        temporary.replace(path)


def evaluations(
    runs: Runs,
    evaluators: Mapping[str, Any] | None,
    overrides: Sequence[tuple[str, str]],
    which: Which,
) -> list[Evaluation]:
    """What there is to evaluate: the same of each run, in order.

    `evaluators` are run instead of each run's own, in which `overrides` change fields.
    """
    found = []
    for method, workdirs in runs.items():
        for workdir in workdirs:
            config = stored_config(workdir)
            for path, text in overrides:
                configs.override(config, path, text)
            kept = evaluators or evaluators_of(config, Robustness)
            with config.unlocked():
                config.evaluators = ConfigDict(dict(kept), type_safe=False).lock()
                config.best = None  # it may be chosen by an evaluator that is not run
            step = newest_step(workdir, which)
            found.append(Evaluation(method, workdir, config, which, step))
    first = found[0]
    for other in found:
        lines = configs.differences(first.config.evaluators, other.config.evaluators)
        if lines:
            raise ConfigError(
                f"{first.workdir} and {other.workdir} have different Robustness "
                f"evaluators ({lines[0]}); choose those of one config by --config."
            )
    return found


def newest_step(workdir: Path, which: Which) -> int | None:
    """The step of the checkpoint that is evaluated; None where there is none."""
    return max(saved_steps(workdir, which), default=None)


Accuracies = Mapping[tuple[str, ...], float]
"""What one run reaches, as shares of the images.

By the name of a test set, that of clean images first; and of a corrupted one by its
name and a corruption, a mean over severities, or a family of `FAMILIES`, `all` or
`severity<k>`, means over corruptions.
"""

Methods = Mapping[str, Sequence[Accuracies]]
"""The runs of each method, all on the same sets."""


def accuracies(results: Mapping[str, Mapping[str, float]]) -> Accuracies:
    """The numbers of one run, by set; of several evaluators with their names."""
    found = {}
    for evaluator, numbers in results.items():
        label = f"{evaluator}: " if len(results) > 1 else ""
        for key, value in numbers.items():
            part, *inner, kind = key.split("/")
            if not kind.startswith("top1"):
                continue
            if kind == "top1_present" and not inner:
                part = f"{part}, classes present"
            found[label + part, *inner] = value
    return found


def sets_of(run: Accuracies) -> list[str]:
    """Names of the test sets."""
    return [key[0] for key in run if len(key) == 1]


def corruptions_of(run: Accuracies) -> dict[str, list[str]]:
    """Names of the corruptions of each corrupted set."""
    found: dict[str, list[str]] = {}
    for part, *inner in run:
        if inner and not is_mean(inner[0]):
            found.setdefault(part, []).append(inner[0])
    return found


def is_mean(name: str) -> bool:
    """Whether a number of a corrupted set is of several corruptions."""
    return name in {*FAMILIES, "all"} or name.startswith("severity")


def counted_of(run: Accuracies, part: str) -> list[str]:
    """The corruptions of a set that means over them are over."""
    names = corruptions_of(run)[part]
    return [names[place] for place in counted(names)]


@dataclasses.dataclass(frozen=True)
class Difference(Cell):
    """A cell whose mean has a sign, unless it is shown as zero."""

    def text(self, digits: int) -> str:
        """Signed mean ± deviation."""
        text = super().text(digits)
        mean = round(self.mean or 0.0, digits)
        if mean > 0:
            return f"+{text}"
        return text if mean else text.removeprefix("-")


def tables(methods: Methods, baseline: str | None) -> dict[str, Rows]:
    """Every table there is to print, by title."""
    found = {"Top-1 accuracy": overall(methods)}
    if baseline is not None:
        title = f"Difference from the mean of {baseline}"
        found[title] = against(methods, baseline)
    for name in corruptions_of(_first(methods)):
        found[f"Top-1 accuracy on {name}"] = by_corruption(methods, name)
    return found


def diagrams(methods: Methods) -> dict[str, Rows]:
    """What is drawn, by title: the test sets, and corruptions and their mean."""
    first = _first(methods)
    rows = {name: (name,) for name in sets_of(first)}
    found = {"test sets": _by_method(methods, rows)}
    for name, own in corruptions_of(first).items():
        columns, lines = by_corruption(methods, name)
        found[name] = columns, lines[: len(own) + 1]
    return found


def overall(methods: Methods) -> Rows:
    """A row for each method, a column for each test set."""
    names = sets_of(_first(methods))
    lines = [
        Line(method, {name: _cell(run[name,] for run in runs) for name in names})
        for method, runs in methods.items()
    ]
    return [Column(name, name, digits=2) for name in names], lines


def by_corruption(methods: Methods, part: str) -> Rows:
    """A column for each method; rows for corruptions, their mean, and other means."""
    first = _first(methods)
    names = corruptions_of(first)[part]
    rows: dict[str, tuple[str, ...]] = {x.replace("_", " "): (part, x) for x in names}
    rows[f"mean of {len(counted_of(first, part))}"] = (part,)
    for key in first:
        if key[0] == part and len(key) > 1 and is_mean(key[1]):
            rows[key[1].replace("severity", "severity ")] = key
    return _by_method(methods, rows)


def against(methods: Methods, baseline: str) -> Rows:
    """How much each method gains on the mean of the baseline's runs.

    Differences of accuracy in points for every set, and `relative_error` in percent for
    every corrupted one.
    """
    base, first = methods[baseline], _first(methods)
    levels = {
        name: statistics.fmean(run[name,] for run in base) for name in sets_of(first)
    }
    errors = {f"{name}, error": name for name in corruptions_of(first)}
    columns = [Column(name, name, "points", 2) for name in levels]
    columns += [
        Column(key, f"{name}: relative mean corruption error")
        for key, name in errors.items()
    ]
    lines = []
    for method, runs in methods.items():
        cells: dict[str, Cell] = {}
        for name, level in levels.items():
            gains = tuple(100 * (run[name,] - level) for run in runs)
            cells[name] = Difference(gains, len(gains))
        for key, name in errors.items():
            cells[key] = _cell(relative_error(run, base, name) for run in runs)
        lines.append(Line(method, cells))
    return columns, lines


def relative_error(run: Accuracies, baseline: Sequence[Accuracies], part: str) -> float:
    """The mean corruption error on a set, scaled so that the baseline's mean run has 1.

    mean_c (Σ_s error_{c,s} / Σ_s error of the baseline_{c,s}) over corruptions c and
    severities s, Hendrycks and Dietterich 2019, section 4.1
    (https://arxiv.org/abs/1903.12261), with the baseline's runs, whose errors are
    averaged first, instead of AlexNet. It is infinite or NaN where they make no error.
    """
    ratios = []
    for name in counted_of(run, part):
        known = 1 - statistics.fmean(other[part, name] for other in baseline)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios.append(np.float64(1 - run[part, name]) / known)
    return float(np.mean(ratios))


def _by_method(methods: Methods, rows: Mapping[str, tuple[str, ...]]) -> Rows:
    """A column for each method, a row for each number."""
    lines = [
        Line(row, {name: _cell(x[key] for x in runs) for name, runs in methods.items()})
        for row, key in rows.items()
    ]
    return [Column(method, method) for method in methods], lines


def _first(methods: Methods) -> Accuracies:
    return next(iter(methods.values()))[0]


def _cell(shares: Iterable[float]) -> Cell:
    values = tuple(100 * share for share in shares)
    return Cell(values, len(values))
