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


def binding_differences(
    old: ConfigDict, new: ConfigDict, *, but: Collection[str] = ()
) -> list[str]:
    """`differences` without the fields that classes name in `MAY_CHANGE`.

    No number depends on those. The fields `but` of the whole are left out, too.
    """
    pair = []
    for config in (old, new):
        kept = {key: config[key] for key in config.keys() if key not in but}
        pair.append(_binding(kept))
    return differences(*pair)


def _binding(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_binding(item) for item in value]
    if not isinstance(value, ConfigDict | dict):
        return value
    free: Collection[str] = ()
    if CLASS in value:
        cls = class_at(str(value[CLASS]), "config")
        free = getattr(cls, "MAY_CHANGE", frozenset())
    return {key: _binding(value[key]) for key in value.keys() if key not in free}
