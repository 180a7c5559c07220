"""The runs of a results table, one for each seed: where they are, what they found."""

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jax_rcl import config as configs
from jax_rcl.config.experiment import OF_BEST, Experiment
from jax_rcl.config.types import ConfigError, suggest, unknown
from jax_rcl.config.workdir import CONFIG, binding_differences, stored_config
from jax_rcl.report.tables import Cell, Line
from jax_rcl.results.runs import FACTS, RESULTS, read_json
from jax_rcl.results.table import BRACES, SEED, Run, Table
from jax_rcl.train import run as training


@dataclasses.dataclass(frozen=True)
class Trial:
    """One run of one seed.

    Attributes:
      config: `file.py:options`, with everything filled in.
      overrides: pairs of path and text.
      needs: workdirs of other runs that it mentions.
    """

    name: str
    seed: int
    workdir: Path
    config: str
    overrides: tuple[tuple[str, str], ...]
    needs: tuple[Path, ...]

    def __str__(self) -> str:
        return f"run {self.name}, seed {self.seed}"

    def ready(self) -> bool:
        """Whether all runs that it needs are finished."""
        return all((workdir / RESULTS).exists() for workdir in self.needs)

    def finished(self) -> bool:
        """Whether there are results."""
        return (self.workdir / RESULTS).exists()

    def results(self) -> dict[str, float]:
        """Numbers by name, `<evaluator>/<number>`; empty for a run not finished."""
        return read_json(self.workdir / RESULTS).get("results", {})

    def facts(self) -> dict[str, Any]:
        """What FACTS says; empty for runs that another command trained."""
        return read_json(self.workdir / FACTS)

    def plan(self) -> None:
        """Builds the experiment and plans it; nothing is compiled or written."""
        with name_in_errors(self):
            training.Run.prepare(self.load(), self.workdir)

    def load(self) -> ConfigDict:
        """The config: what the workdir holds already, if it is the same.

        Fields that change no number may differ; in a run that is not finished also
        those that training lets change.
        """
        config = configs.load(self.config, self.overrides)
        if not isinstance(config, ConfigDict) or "evaluators" not in config:
            raise ConfigError("get_config must return node(Experiment, ...).")
        if config.seed != self.seed:
            raise ConfigError(
                f"the config has the seed {config.seed}; write {{seed}} among its "
                "options, or overrides={'seed': '{seed}'}."
            )
        if not (self.workdir / CONFIG).exists():
            return config
        if not self.finished() and not training.has_checkpoint(self.workdir):
            return config  # nothing is bound to the one that is there
        stored = stored_config(self.workdir)
        free = frozenset() if self.finished() else Experiment.LATER
        pair = self._portable(stored), self._portable(config)
        lines = binding_differences(*pair, but=free)
        if lines:
            raise ConfigError(
                f"{self.workdir} holds the run of another config; these fields differ "
                "(there -> now):\n  "
                + "\n  ".join(lines)
                + "\nChoose another --workdir, or remove that folder to train it again."
            )
        with stored.unlocked():
            for name in Experiment.MAY_CHANGE | free:
                stored[name] = config[name]
        return stored

    def _portable(self, config: ConfigDict) -> ConfigDict:
        """The config with names instead of the workdirs of other runs.

        The table may have been trained from another directory, or on another machine.
        """
        text = configs.to_json(config)
        for workdir in self.needs:
            place = "/".join(workdir.parts[-2:])
            text = re.sub(rf'"[^"]*{re.escape(place)}"', f'"{place}"', text)
        return configs.from_json(text)


@contextlib.contextmanager
def name_in_errors(run: object) -> Iterator[None]:
    """Makes an error of a config say which run it is of."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{run}: {error}") from error


def trials(table: Table, workdir: Path, file: str) -> list[Trial]:
    """All runs of all seeds, in the order in which they are trained.

    Seed after seed, so that the first numbers of every row are there early. A run is in
    `<workdir>/<name>/seed<k>`; `file` is the one of the table.
    """
    found = []
    for seed in table.seeds:
        folders = {run.name: workdir / run.name / f"seed{seed}" for run in table.runs}
        names = {name: str(folder) for name, folder in folders.items()}
        names[SEED] = str(seed)
        for run in table.runs:
            overrides = [
                (path, _filled(value, names) if isinstance(value, str) else repr(value))
                for path, value in run.overrides.items()
            ]
            others = dict.fromkeys(name for name in run.mentions() if name != SEED)
            trial = Trial(
                run.name,
                seed,
                folders[run.name],
                _filled(_found(run, Path(file)), names),
                tuple(overrides),
                tuple(folders[name] for name in others),
            )
            found.append(trial)
    return found


def lines(table: Table, done: Iterable[Trial]) -> list[Line]:
    """The rows of the table, with the numbers of the trials that are finished."""
    done = [trial for trial in done if trial.finished()]
    for trial in done:
        check_numbers(table, trial)
    numbers = {trial: trial.results() for trial in done}
    columns = {column.name: column for column in table.columns}
    found = []
    for row in table.rows:
        cells = {}
        for name, (run, metric) in row.cells.items():
            own = (x[metric] for trial, x in numbers.items() if trial.name == run)
            shown = tuple(map(columns[name].convert, own))
            cells[name] = Cell(shown, len(table.seeds), row.paper.get(name))
        found.append(Line(row.title or row.name, cells))
    return found


def check_numbers(table: Table, trial: Trial) -> None:
    """Raises ConfigError for a cell whose number a finished run lacks."""
    numbers = trial.results()
    for place, metric in _cells_of(table, trial):
        if metric not in numbers:
            start = f"{place}: {trial} has no number"
            raise ConfigError(unknown(start, metric, numbers))


def check_evaluators(table: Table, trial: Trial, config: ConfigDict) -> None:
    """Raises ConfigError for a cell whose number no evaluator of a config makes."""
    known = config.to_dict()
    names = list(known["evaluators"])
    if known["best"] is not None:
        names += [f"{OF_BEST}{name}" for name in names]
    for place, metric in _cells_of(table, trial):
        if not any(metric.startswith(f"{name}/") for name in names):
            start = f"{place}: no evaluator of {trial} makes"
            raise ConfigError(unknown(start, metric, names))


def _cells_of(table: Table, trial: Trial) -> list[tuple[str, str]]:
    """Where the numbers of a run stand, and what they are called."""
    return [
        (f"row {row.name!r}, column {column!r}", metric)
        for row in table.rows
        for column, (run, metric) in row.cells.items()
        if run == trial.name
    ]


def _filled(text: str, names: Mapping[str, str]) -> str:
    return BRACES.sub(lambda match: names[match[1]], text)


def _found(run: Run, table_file: Path) -> str:
    """The config of a run with the path of its file."""
    file, colon, options = run.config.partition(":")
    folders = [Path(), *table_file.resolve().parents]
    for folder in folders:
        if (folder / file).is_file():
            return f"{folder / file}{colon}{options}"
    near = [str(path) for path in Path(file).parent.glob("*.py")]
    raise ConfigError(
        f"run {run.name!r}: there is no config file {file}, neither here nor in the "
        f"folders above {table_file}.{suggest(file, near)}"
    )
