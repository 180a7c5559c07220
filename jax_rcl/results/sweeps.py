"""What finished runs have found in their level sweeps, side by side."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jax_rcl import config as configs
from jax_rcl.augment.distortions.levels import Level
from jax_rcl.config.nodes import CLASS
from jax_rcl.config.types import ConfigError, unknown
from jax_rcl.config.workdir import stored_config
from jax_rcl.evaluate.shifts.level_numbers import CLEAN, level_name
from jax_rcl.evaluate.shifts.level_sweep import LevelSweep
from jax_rcl.results.trials import RESULTS


@dataclasses.dataclass(frozen=True)
class Swept:
    """What one run knows of one of its sweeps.

    Attributes:
      run: the workdir.
      config: of the sweep.
      protocol: what the numbers mean.
      shares: by `clean` and the names of levels.
      deviations: over the repeats of the sweep, by the names of levels.
    """

    run: Path
    config: Any
    protocol: str
    shares: Mapping[str, float]
    deviations: Mapping[str, float]

    @property
    def distortion(self) -> str:
        """What is swept over, in words."""
        return configs.build(self.config.distortion, "distortion").name

    @property
    def levels(self) -> dict[str, Level]:
        """The levels by their names."""
        return {level_name(level): level for level in self.config.levels}


Sweeps = Mapping[str, Mapping[str, list[Swept]]]
"""By the name of the evaluator and the name of the runs, which may be several seeds."""


def named(runs: Sequence[str], names: str | None) -> dict[str, list[Path]]:
    """Workdirs by what they are called.

    Raises:
      ConfigError: not as many names as runs, a run that is there twice, or two folders
        of one name where no names are given.
    """
    workdirs = [Path(run) for run in runs]
    every = [workdir.resolve() for workdir in workdirs]
    for workdir in every:
        if every.count(workdir) > 1:
            raise ConfigError(f"{workdir} is there twice; a run counts once.")
    own = [workdir.name for workdir in every]
    given = own if names is None else [name.strip() for name in names.split(",")]
    if len(given) != len(workdirs) or not all(given):
        raise ConfigError(
            f"--names={names} must give a name to each of the {len(workdirs)} runs, in "
            f"their order; equal names are averaged."
        )
    for name in own if names is None else ():
        if own.count(name) > 1:
            raise ConfigError(
                f"{own.count(name)} folders are called {name!r}; name the runs by "
                f"--names, equally if they are to be averaged."
            )
    found: dict[str, list[Path]] = {}
    for name, workdir in zip(given, workdirs, strict=True):
        found.setdefault(name, []).append(workdir)
    return found


def read(runs: Mapping[str, Sequence[Path]], number: str) -> Sweeps:
    """All sweeps of all runs.

    Raises:
      ConfigError: a run that is not there, not finished or without a sweep, a number
        that it has not, or sweeps of one name that are of different things.
    """
    sweeps: dict[str, dict[str, list[Swept]]] = {}
    for name, workdirs in runs.items():
        for workdir in workdirs:
            for sweep, own in sweeps_of(workdir, number).items():
                sweeps.setdefault(sweep, {}).setdefault(name, []).append(own)
    for sweep, lines in sweeps.items():
        first, *others = (own for several in lines.values() for own in several)
        for other in others:
            pair = subject(first.config), subject(other.config)
            told = configs.differences(*pair, sweep)
            if told:
                raise ConfigError(
                    f"{first.run} and {other.run} sweep over different things under "
                    f"one name ({told[0]}); what is compared has the same distortion "
                    "and the same images."
                )
    return sweeps


def sweeps_of(workdir: Path, number: str) -> dict[str, Swept]:
    """The sweeps of one run, by the names of its evaluators.

    Raises:
      ConfigError: there is no such run, it is not finished, has no sweep, or a sweep
        has found no such number.
    """
    if not workdir.is_dir():
        raise ConfigError(f"there is no folder {workdir}.")
    wanted = f"{LevelSweep.__module__}:{LevelSweep.__qualname__}"
    config: Any = stored_config(workdir)
    every = config.evaluators
    found = {name: every[name] for name in every if every[name][CLASS] == wanted}
    if not found:
        raise ConfigError(
            f"{workdir} has no LevelSweep evaluator; its evaluators are "
            f"{', '.join(every) or 'none'}."
        )
    record = results_of(workdir)
    return {
        name: one_sweep(workdir, name, config, record, number)
        for name, config in found.items()
    }


def one_sweep(
    workdir: Path, name: str, config: Any, record: Mapping[str, Any], number: str
) -> Swept:
    """What the evaluator `name` has found.

    Raises:
      ConfigError: it has no such number.
    """
    results: Mapping[str, float] = record["results"]
    start = f"{name}/"
    own = {
        key.removeprefix(start): float(value)
        for key, value in results.items()
        if key.startswith(start)
    }
    places = [CLEAN, *map(level_name, config.levels)]
    missing = [place for place in places if f"{place}/{number}" not in own]
    if missing:
        kinds = {key.rpartition("/")[2] for key in own if key.startswith(f"{CLEAN}/")}
        where = f"{workdir / RESULTS} has for {name}, {missing[0]} no number"
        raise ConfigError(unknown(where, number, sorted(kinds)))
    stds = {place: f"{place}/{number}_std" for place in places}
    return Swept(
        run=workdir,
        config=config,
        protocol=record["protocols"].get(name, ""),
        shares={place: own[f"{place}/{number}"] for place in places},
        deviations={place: own[key] for place, key in stds.items() if key in own},
    )


def results_of(workdir: Path) -> dict[str, Any]:
    """The file of results.

    Raises:
      ConfigError: there is none, since the run is not finished, or it is damaged.
    """
    path = workdir / RESULTS
    if not path.exists():
        raise ConfigError(f"{workdir} is not finished: there is no {path}.")
    try:
        found = json.loads(path.read_text())
        return {"results": found["results"], "protocols": found["protocols"]}
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path} is damaged: {error!r}") from error


def subject(config: Any) -> dict[str, Any]:
    """What a sweep is over: the distortion, and the images."""
    source = config.source or config.classifier.test
    return {"distortion": config.distortion, "source": source}
