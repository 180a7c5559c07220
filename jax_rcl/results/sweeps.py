"""What finished runs have found in their level sweeps, side by side."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jax_rcl import config as configs
from jax_rcl.augment.distortions.levels import Level
from jax_rcl.config.types import ConfigError, unknown
from jax_rcl.config.workdir import stored_config
from jax_rcl.evaluate.shifts.level_numbers import CLEAN, level_name, places_of
from jax_rcl.evaluate.shifts.level_sweep import LevelSweep
from jax_rcl.report.tables import Cell, Column, Line, Rows
from jax_rcl.results.runs import RESULTS, Runs, evaluators_of, numbers_of, read_json


@dataclasses.dataclass(frozen=True)
class SweepOfRun:
    """What one run knows of one of its sweeps.

    Attributes:
      shares: by `clean` and the names of levels.
      deviations: over the repeats of the sweep, by the names of levels.
    """

    workdir: Path
    config: Any
    protocol: str
    shares: Mapping[str, float]
    deviations: Mapping[str, float]

    @property
    def distortion(self) -> str:
        """What is swept over, in words."""
        return configs.build(self.config.distortion, "distortion").name

    @property
    def subject(self) -> dict[str, Any]:
        """What has to be the same in sweeps that are compared."""
        source = self.config.source or self.config.classifier.test
        return {"distortion": self.config.distortion, "source": source}


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One sweep of several runs, by what they are called; `name` is the evaluator's."""

    name: str
    methods: Mapping[str, Sequence[SweepOfRun]]

    @property
    def every(self) -> list[SweepOfRun]:
        """The sweeps of all runs."""
        return [run for runs in self.methods.values() for run in runs]

    @property
    def title(self) -> str:
        """The distortion and the name of the evaluator."""
        return f"{self.every[0].distortion} ({self.name})"

    @property
    def levels(self) -> dict[str, Level]:
        """The levels of all runs by name; single numbers in their order."""
        found = {level_name(x): x for run in self.every for x in run.config.levels}
        places = places_of(tuple(found.values()))
        if places is None:
            return found
        return dict(list(found.items())[place] for place in np.argsort(places))

    def cell(self, method: str, place: str) -> Cell | None:
        """Percent at a level, or of clean images; None where no run has it."""
        runs = self.methods[method]
        own = [run for run in runs if place in run.shares]
        if not own:
            return None
        values = tuple(100 * run.shares[place] for run in own)
        repeats = own[0].deviations.get(place)
        percent = None if repeats is None else 100 * repeats
        return Cell(values, len(runs), repeats=percent)

    def table(self) -> Rows:
        """A row for clean images and for each level, a column for each name."""
        lines = []
        for place in (CLEAN, *self.levels):
            cells = {name: self.cell(name, place) for name in self.methods}
            known = {name: cell for name, cell in cells.items() if cell is not None}
            lines.append(Line(place, known))
        return [Column(name, name) for name in self.methods], lines


def read_sweeps(runs: Runs, number: str) -> list[Sweep]:
    """All sweeps of all runs."""
    found: dict[str, dict[str, list[SweepOfRun]]] = {}
    for method, workdirs in runs.items():
        for workdir in workdirs:
            for name, own in sweeps_of(workdir, number).items():
                found.setdefault(name, {}).setdefault(method, []).append(own)
    sweeps = [Sweep(name, methods) for name, methods in found.items()]
    for sweep in sweeps:
        first, *others = sweep.every
        for other in others:
            lines = configs.differences(first.subject, other.subject, sweep.name)
            if lines:
                raise ConfigError(
                    f"{first.workdir} and {other.workdir} sweep over different things "
                    f"under one name ({lines[0]}); what is compared has the same "
                    "distortion and the same images."
                )
    return sweeps


def sweeps_of(workdir: Path, number: str) -> dict[str, SweepOfRun]:
    """The sweeps of one run, by the names of its evaluators."""
    path = workdir / RESULTS
    if not path.exists():
        raise ConfigError(f"{workdir} is not finished: there is no {path}.")
    record = read_json(path)
    if not {"results", "protocols"} <= record.keys():
        raise ConfigError(f"{path} is damaged: it holds no results and protocols.")
    sweeps = {}
    for name, config in evaluators_of(stored_config(workdir), LevelSweep).items():
        own = numbers_of(name, record["results"])
        places = [CLEAN, *map(level_name, config.levels)]
        for place in places:
            if f"{place}/{number}" not in own:
                kinds = sorted(numbers_of(CLEAN, own))
                where = f"{path} has for {name}, {place} no number"
                raise ConfigError(unknown(where, number, kinds))
        stds = {place: f"{place}/{number}_std" for place in places}
        sweeps[name] = SweepOfRun(
            workdir,
            config,
            record["protocols"].get(name, ""),
            {place: own[f"{place}/{number}"] for place in places},
            {place: own[key] for place, key in stds.items() if key in own},
        )
    return sweeps
