"""The config in a workdir."""

from pathlib import Path

from ml_collections import ConfigDict

from jax_rcl.config.nodes import Node, completed, from_json
from jax_rcl.config.types import ConfigError

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
