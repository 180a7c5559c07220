"""Trained runs that are laid side by side: their names, what they hold, its origin."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jax_rcl.config.nodes import CLASS, resolved
from jax_rcl.config.types import ConfigError

RESULTS = "results.json"
"""File of a workdir that only a finished run has."""

FACTS = "trained.json"
"""File of a workdir, of runs of a table: where, when, with what and how long it was
trained."""

Runs = Mapping[str, Sequence[Path]]
"""Workdirs by name; those of one name are averaged."""


def read_runs(texts: Iterable[str]) -> dict[str, list[Path]]:
    """Workdirs by name, from texts `NAME=dir,dir` or `dir,dir`.

    A folder without a name is called as itself, also one such as runs/rate=0.1. Equal
    names are averaged, but not those of folders that only happen to be called alike.
    """
    runs: dict[str, list[Path]] = {}
    unnamed: list[str] = []
    for text in texts:
        name, equals, listed = text.partition("=")
        if not equals or all(folder.is_dir() for folder in folders(text)):
            name, equals, listed = "", "", text
        workdirs = folders(listed)
        one = workdirs == [Path(listed)]
        blank = not one and len(workdirs) != listed.count(",") + 1
        if blank or bool(equals) != bool(name.strip()):
            raise ConfigError(f"--runs {text}: write NAME=dir, NAME=dir,dir, or a dir.")
        if "/" in name and not workdirs[0].is_dir():
            raise ConfigError(
                f"--runs {text}: there is no folder {folders(text)[0]}; nor, with the "
                f"name {name!r}, a folder {workdirs[0]}."
            )
        for workdir in workdirs:
            own = name.strip() or workdir.resolve().name
            unnamed += [] if equals else [own]
            runs.setdefault(own, []).append(workdir)
    every = [workdir.resolve() for workdirs in runs.values() for workdir in workdirs]
    for workdir in every:
        if every.count(workdir) > 1:
            raise ConfigError(f"--runs: {workdir} is there twice; a run counts once.")
    for name in unnamed:
        if len(runs[name]) > 1:
            raise ConfigError(
                f"--runs: {len(runs[name])} folders are called {name!r}; write "
                f"--runs NAME=dir,dir to average them, or different names."
            )
    return runs


def folders(listed: str) -> list[Path]:
    """The paths of a text `dir,dir`; one of them if a folder is called so."""
    if listed.strip() and Path(listed).is_dir():
        return [Path(listed)]
    return [Path(part.strip()) for part in listed.split(",") if part.strip()]


def evaluators_of(config: Any, kind: type) -> dict[str, Any]:
    """The nodes of a config's evaluators that are of this class, by their names."""
    wanted = f"{kind.__module__}:{kind.__qualname__}"
    config = resolved(config)
    every = config.evaluators if "evaluators" in config else {}
    return {name: every[name] for name in every if every[name][CLASS] == wanted}


def numbers_of(name: str, results: Mapping[str, float]) -> dict[str, float]:
    """The numbers of one evaluator, without its name in front."""
    start = f"{name}/"
    return {k[len(start) :]: x for k, x in results.items() if k.startswith(start)}


def read_json(path: Path) -> dict[str, Any]:
    """An object of a file; empty if there is no file."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"{path} is damaged: {error}") from error
    return found if isinstance(found, dict) else {}


def origin(done: str, records: Iterable[Mapping[str, Any]]) -> str:
    """One sentence on where numbers are from; empty without a record.

    It starts with `done`, such as "Trained"; records are of `provenance`.
    """
    found = list(records)
    if not found:
        return ""

    def of(name: str) -> str:
        return ", ".join(sorted({str(each.get(name, "unknown")) for each in found}))

    spent = in_words(math.fsum(each.get("seconds", 0.0) for each in found))
    return (
        f"{done} on {of('device')} in {spent}; commit {of('commit')}, "
        f"{of('versions')}, {of('date')}."
    )


def in_words(seconds: float) -> str:
    """Minutes, from two hours on with hours."""
    minutes = max(1, round(seconds / 60))
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours >= 2 else f"{minutes} min"
