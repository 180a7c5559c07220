"""The config in a workdir, and which of its fields may change there."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jax_rcl.config.nodes import (
    CLASS,
    Node,
    completed,
    differences,
    from_json,
    resolved,
    to_json,
)
from jax_rcl.config.types import ConfigError, class_at

CONFIG = "config.json"
"""File of a workdir that holds its config."""


def stored_config(workdir: Path) -> Node:
    """The config of a workdir's run; ConfigError if there is none, or it is damaged."""
    path = workdir / CONFIG
    if not path.exists():
        raise ConfigError(f"{workdir} holds no run: there is no {path}.")
    try:
        config = from_json(path.read_text())
    except ValueError as error:
        raise ConfigError(f"{path} is not a config: {error}") from error
    if not isinstance(config, ConfigDict) or "objective" not in config:
        raise ConfigError(f"{path} is not the config of an experiment.")
    return completed(config)


def store_config(workdir: Path, config: ConfigDict) -> None:
    """Writes the config of a workdir's run, all of it or nothing."""
    path = workdir / CONFIG
    temporary = path.with_suffix(".tmp")
    temporary.write_text(to_json(config) + "\n")
    os.replace(temporary, path)


MAY_CHANGE = "MAY_CHANGE"
"""Attribute of a class that names the fields that no number depends on."""

PLACES = "PLACES"
"""Attribute of a class that names the fields that say where its data lie: they may be
in another place if they are the same."""


def binding_differences(
    old: ConfigDict,
    new: ConfigDict,
    *,
    but: Collection[str] = (),
    free: Collection[str] = (MAY_CHANGE,),
) -> list[str]:
    """`differences` without the fields `but` of the whole, and those that are `free`.

    Classes name the latter, under these names of attributes. What is the `same` as
    another place is compared as what it stands for.
    """
    pair = []
    for config in map(resolved, (old, new)):
        kept = {key: config[key] for key in config.keys() if key not in but}
        pair.append(without(kept, *free))
    return differences(*pair)


def without(value: Any, *free: str) -> Any:
    """A config without the fields that classes name in these attributes."""
    if isinstance(value, tuple | list):
        return [without(item, *free) for item in value]
    if not isinstance(value, ConfigDict | dict):
        return value
    omitted: set[str] = set()
    if CLASS in value:
        cls = class_at(str(value[CLASS]), "config")
        omitted.update(*(getattr(cls, name, ()) for name in free))
    return {k: without(value[k], *free) for k in value.keys() if k not in omitted}
