"""Trains, resumes, evaluates and reports one experiment: `jax-rcl --config=…`."""

import argparse
from pathlib import Path

from ml_collections import ConfigDict

from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.cli.shared import Command, Parser
from jax_rcl.config.files import split_argument
from jax_rcl.config.types import ConfigError
from jax_rcl.config.workdir import CONFIG, stored_config
from jax_rcl.train.cost import describe
from jax_rcl.train.evaluation import evaluate
from jax_rcl.train.loop import train

DESCRIPTION = """\
Trains, resumes, evaluates and reports one experiment.

Every field of the config can be changed: --config.objective.temperature=0.2.
The same command again continues where the last call stopped, or says that it is done.
"""


def run(arguments: argparse.Namespace) -> None:
    """Trains, evaluates or checks what the arguments ask for."""
    config = read_config(arguments)
    try:
        parallel.start(arguments.coordinator, arguments.processes, arguments.process)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if arguments.mode == "check":
        print(describe(config))
    elif arguments.mode == "evaluate":
        evaluate(config, arguments.workdir)
    else:
        train(config, arguments.workdir)


def add_flags(parser: Parser) -> None:
    """Adds the flags of the command."""
    parser.epilog = (
        "Other commands: table, compare, bench, export, prepare; `jax-rcl help` says "
        "what they do."
    )
    parser.flag("config", "a file of configs/, file.py or file.py:options")
    parser.flag("workdir", "default: runs/<name of the config file>")
    about = "check compiles and counts; evaluate looks at the newest checkpoint"
    parser.flag("mode", about, choices=("train", "evaluate", "check"), default="train")
    group = parser.add_argument_group("several processes (a cluster is recognised)")
    group.add_argument("--coordinator", help="host:port of process 0")
    group.add_argument("--processes", type=int, help="how many there are")
    group.add_argument("--process", type=int, help="number of this one, from 0")


def read_config(arguments: argparse.Namespace) -> ConfigDict:
    """The config file with its overrides, or the config that the workdir holds."""
    if arguments.config:
        name = Path(split_argument(arguments.config)[0]).stem
        arguments.workdir = arguments.workdir or f"runs/{name}"
        return configs.load(arguments.config, arguments.overrides)
    if not arguments.workdir:
        raise ConfigError(f"give --config=<file>, or --workdir with a {CONFIG} in it.")
    config = stored_config(Path(arguments.workdir))
    for path, text in arguments.overrides:
        configs.override(config, path, text)
    return config


main = Command("", DESCRIPTION, add_flags, run)
