"""Trained runs that are compared: where they are, and what is evaluated of each."""

import argparse
import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jax_rcl import config as configs
from jax_rcl.checkpoint import Checkpoints, Which, folder_of
from jax_rcl.config.nodes import CLASS
from jax_rcl.config.types import ConfigError, unknown
from jax_rcl.config.workdir import stored_config
from jax_rcl.evaluate.shifts.robustness import Robustness
from jax_rcl.train.run import has_checkpoint

RESULTS = "robustness.json"
"""File of a workdir with what was found of its run."""


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A run that is trained, and what is to be evaluated of it.

    Attributes:
      method: what it is a run of.
      workdir: where it is.
      config: its own, with the Robustness evaluators that are asked for, and no others.
      which: of its checkpoints.
      step: of that checkpoint.
    """

    method: str
    workdir: Path
    config: ConfigDict
    which: Which
    step: int

    @property
    def asked(self) -> dict[str, Any]:
        """What the numbers depend on, as in the file of results."""
        own = json.loads(configs.to_json(self.config))["evaluators"]
        return {"which": self.which, "step": self.step, "evaluators": own}

    def record(self) -> dict[str, Any] | None:
        """The file of results; None where it is of something else, or not there."""
        try:
            found = json.loads((self.workdir / RESULTS).read_text())
        except (OSError, ValueError):
            return None
        asked = self.asked
        return found if {key: found.get(key) for key in asked} == asked else None


def planned(
    arguments: argparse.Namespace, overrides: list[tuple[str, str]]
) -> list[Trained]:
    """All runs, in order; what there is to evaluate is the same of each.

    Raises:
      ConfigError: a run or an evaluator that is not there, something twice, or runs
        that are not evaluated alike.
    """
    given = None
    if arguments.config:
        given = evaluators_of(
            configs.load(arguments.config, overrides), arguments.config
        )
    methods = named_workdirs(arguments.runs)
    if arguments.baseline not in (None, *methods):
        raise ConfigError(
            unknown("--baseline: there are no --runs", arguments.baseline, methods)
        )
    found = []
    for method, workdirs in methods.items():
        for workdir in workdirs:
            config = own_config(workdir, given, [] if given else overrides)
            which = arguments.which
            step = newest_step(workdir, which)
            found.append(Trained(method, workdir, config, which, step))
    first = found[0]
    for other in found:
        lines = configs.differences(first.config.evaluators, other.config.evaluators)
        if lines:
            raise ConfigError(
                f"{first.workdir} and {other.workdir} have different Robustness "
                f"evaluators ({lines[0]}); give those of one config by --config."
            )
    return found


def named_workdirs(texts: Iterable[str]) -> dict[str, list[Path]]:
    """Workdirs by the name of their method.

    Raises:
      ConfigError: a text of another form, or a name or a folder that is there twice.
    """
    methods: dict[str, list[Path]] = {}
    for text in texts:
        name, _, listed = text.partition("=")
        workdirs = [Path(part.strip()) for part in listed.split(",") if part.strip()]
        if not name or not workdirs:
            raise ConfigError(
                f"--runs {text}: write NAME=workdir, or NAME=workdir,workdir."
            )
        if name in methods:
            raise ConfigError(f"two --runs are called {name!r}; write them as one.")
        methods[name] = workdirs
    every = [folder.resolve() for folders in methods.values() for folder in folders]
    for folder in every:
        if every.count(folder) > 1:
            raise ConfigError(f"--runs mention {folder} twice; a run counts once.")
    return methods


def own_config(
    workdir: Path,
    given: dict[str, ConfigDict] | None,
    overrides: list[tuple[str, str]],
) -> ConfigDict:
    """The config of a run with those of its evaluators that are run here.

    Args:
      workdir: of the run.
      given: evaluators in the place of its own.
      overrides: of fields of its config.

    Raises:
      ConfigError: there is no run, or it has no such evaluator.
    """
    if not workdir.is_dir():
        raise ConfigError(f"there is no folder {workdir}.")
    config = stored_config(workdir)
    for path, text in overrides:
        configs.override(config, path, text)
    kept = given or evaluators_of(config, str(workdir))
    with config.unlocked():
        config.evaluators = ConfigDict(kept, type_safe=False).lock()
        config.best = None  # it may be chosen by an evaluator that is not run
    return config


def evaluators_of(config: Any, where: str) -> dict[str, ConfigDict]:
    """The Robustness evaluators of a config.

    Raises:
      ConfigError: there is none.
    """
    wanted = f"{Robustness.__module__}:{Robustness.__qualname__}"
    every = config.evaluators if "evaluators" in config else {}
    found = {name: every[name] for name in every if every[name][CLASS] == wanted}
    if not found:
        raise ConfigError(
            f"{where} has no Robustness evaluator; give a config that has one by "
            "--config."
        )
    return found


def newest_step(workdir: Path, which: Which) -> int:
    """The step of the checkpoint that is evaluated.

    Raises:
      ConfigError: there is none.
    """
    steps = []
    if has_checkpoint(workdir, which):
        with Checkpoints(workdir / folder_of(which)) as checkpoints:
            steps = checkpoints.steps()
    if not steps:
        kind = "best checkpoint" if which == "best" else "checkpoint"
        raise ConfigError(f"{workdir} holds no {kind} yet.")
    return steps[-1]
