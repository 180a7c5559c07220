"""Accuracies of runs on shifted test sets: what is evaluated, and tables of it."""

import dataclasses
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jax_rcl import config as configs
from jax_rcl.checkpoint import Checkpoints, Which, folder_of
from jax_rcl.config.nodes import rename_class
from jax_rcl.config.types import ConfigError
from jax_rcl.config.workdir import stored_config
from jax_rcl.evaluate.shifts.robustness import Robustness, counted
from jax_rcl.report.tables import Cell, Column, Line, Rows
from jax_rcl.results.runs import RESULTS, Runs, evaluators_of, read_json
from jax_rcl.train.run import has_checkpoint

EVALUATED = "robustness.json"
"""File of a workdir with what its Robustness evaluators found, and with what."""


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """A trained run, and what is to be evaluated of it.

    Attributes:
      method: the name it is compared under.
      workdir: of the run.
      config: its own, with the Robustness evaluators to run and no others.
      which: of its checkpoints.
      step: of that checkpoint; None where there is none.
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
        stored = json.loads(configs.to_json(stored_config(self.workdir)))["evaluators"]
        own = {name: stored.get(name) for name in self.config.evaluators}
        question = {**self.question, "step": found.get("step")}
        if question["evaluators"] != own or self.which != "newest":
            return None
        if self.step not in (None, question["step"]):
            return None
        results = {
            name: {
                key.removeprefix(f"{name}/"): value
                for key, value in found.get("results", {}).items()
                if key.startswith(f"{name}/")
            }
            for name in own
        }
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

    Args:
      runs: the workdirs.
      evaluators: to run instead of each run's own.
      overrides: of fields of each run's config.
      which: of the checkpoints.
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
    if not has_checkpoint(workdir, which):
        return None
    with Checkpoints(workdir / folder_of(which)) as checkpoints:
        return max(checkpoints.steps(), default=None)


@dataclasses.dataclass(frozen=True)
class Accuracies:
    """What one run reaches, as shares of the images.

    Attributes:
      sets: by the name of the test set, that of clean images first.
      corruptions: by corrupted set, for each corruption the mean over severities.
      severities: by corrupted set, for each severity the mean over corruptions.
      counted: by corrupted set, the corruptions that means over them are over.
    """

    sets: Mapping[str, float]
    corruptions: Mapping[str, Mapping[str, float]]
    severities: Mapping[str, Mapping[str, float]]
    counted: Mapping[str, tuple[str, ...]]


Methods = Mapping[str, Sequence[Accuracies]]
"""The runs of each method, all on the same sets."""


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
                present = ", classes present" if kind == "top1_present" else ""
                sets[name + present] = value
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
    for name in _first(methods).corruptions:
        found[f"Top-1 accuracy on {name}"] = by_corruption(methods, name)
    return found


def diagrams(methods: Methods) -> dict[str, Rows]:
    """What is drawn, by title: the test sets, and corruptions and their mean."""
    first = _first(methods)
    found = {"test sets": _by_method(methods, {n: _of_set(n) for n in first.sets})}
    for name, own in first.corruptions.items():
        columns, lines = by_corruption(methods, name)
        found[name] = columns, lines[: len(own) + 1]
    return found


def overall(methods: Methods) -> Rows:
    """A row for each method, a column for each test set."""
    names = list(_first(methods).sets)
    columns = [Column(name, name, digits=2) for name in names]
    lines = [
        Line(method, {name: _cell(runs, _of_set(name)) for name in names})
        for method, runs in methods.items()
    ]
    return columns, lines


def by_corruption(methods: Methods, part: str) -> Rows:
    """A column for each method; rows for corruptions, their mean, and severities.

    Args:
      methods: the runs.
      part: name of a corrupted set.
    """
    first = _first(methods)
    rows: dict[str, Callable[[Accuracies], float]] = {}
    for name in first.corruptions[part]:
        title = name.replace("_", " ")
        rows[title] = lambda run, name=name: run.corruptions[part][name]
    rows[f"mean of {len(first.counted[part])}"] = _of_set(part)
    for name in first.severities[part]:
        rows[f"severity {name}"] = lambda run, name=name: run.severities[part][name]
    return _by_method(methods, rows)


def against(methods: Methods, baseline: str) -> Rows:
    """How much each method gains on the mean of the baseline's runs.

    Differences of accuracy in points for every set, and `relative_error` in percent for
    every corrupted one.
    """
    base, first = methods[baseline], _first(methods)
    columns = [Column(name, name, "points", 2) for name in first.sets]
    levels = {
        name: statistics.fmean(run.sets[name] for run in base) for name in first.sets
    }
    errors = {f"{name}, error": name for name in first.corruptions}
    columns += [
        Column(key, f"{name}: relative mean corruption error")
        for key, name in errors.items()
    ]
    lines = []
    for method, runs in methods.items():
        cells: dict[str, Cell] = {}
        for name, level in levels.items():
            gains = tuple(100 * (run.sets[name] - level) for run in runs)
            cells[name] = Difference(gains, len(gains))
        for key, name in errors.items():
            cells[key] = _cell(runs, lambda r, n=name: relative_error(r, base, n))
        lines.append(Line(method, cells))
    return columns, lines


def relative_error(run: Accuracies, baseline: Sequence[Accuracies], part: str) -> float:
    """The mean corruption error, scaled so that the baseline's mean run has 1.

    mean_c (Σ_s error_{c,s} / Σ_s error of the baseline_{c,s}) over corruptions c and
    severities s, Hendrycks and Dietterich 2019, section 4.1
    (https://arxiv.org/abs/1903.12261), with the baseline instead of AlexNet. It is
    infinite or NaN where the baseline makes no error.

    Args:
      run: whose error.
      baseline: runs whose errors are averaged first.
      part: name of a corrupted set.
    """
    ratios = []
    for name in run.counted[part]:
        known = 1 - statistics.fmean(
            other.corruptions[part][name] for other in baseline
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios.append(np.float64(1 - run.corruptions[part][name]) / known)
    return float(np.mean(ratios))


def _by_method(
    methods: Methods, rows: Mapping[str, Callable[[Accuracies], float]]
) -> Rows:
    """A column for each method, a row for each number."""
    lines = [
        Line(row, {method: _cell(runs, of) for method, runs in methods.items()})
        for row, of in rows.items()
    ]
    return [Column(method, method) for method in methods], lines


def _of_set(name: str) -> Callable[[Accuracies], float]:
    return lambda run: run.sets[name]


def _first(methods: Methods) -> Accuracies:
    return next(iter(methods.values()))[0]


def _cell(runs: Sequence[Accuracies], of: Callable[[Accuracies], float]) -> Cell:
    values = tuple(100 * of(run) for run in runs)
    return Cell(values, len(values))
