"""Trains, resumes, evaluates and reports one experiment: `jax-rcl --config=…`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.cli.shared import exit_status, make_parser, read_overrides
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


def main(argv: Sequence[str]) -> int:
    """Runs the command; gives the exit status, see `shared.exit_status`."""
    return exit_status(lambda: run(argv))


def run(argv: Sequence[str]) -> None:
    """Trains, evaluates or checks what the arguments ask for."""
    arguments, overrides = read_arguments(argv)
    config = read_config(arguments, overrides)
    start_processes(arguments)
    if arguments.mode == "check":
        print(describe(config))
    elif arguments.mode == "evaluate":
        evaluate(config, arguments.workdir)
    else:
        train(config, arguments.workdir)


def start_processes(arguments: argparse.Namespace) -> None:
    """Joins the other processes of the run, if there are any."""
    try:
        parallel.start(arguments.coordinator, arguments.processes, arguments.process)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def read_arguments(
    argv: Sequence[str],
) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """The flags, and the overrides `--config.<path>=<value>` in order."""
    parser = make_parser("", DESCRIPTION)
    parser.epilog = "Other commands: jax-rcl help."
    parser.add_argument(
        "--config", help="a file of configs/, file.py or file.py:options"
    )
    parser.add_argument("--workdir", help="default: runs/<name of the config file>")
    parser.add_argument(
        "--mode", choices=("train", "evaluate", "check"), default="train"
    )
    group = parser.add_argument_group("several processes (a cluster is recognised)")
    group.add_argument("--coordinator", help="host:port of process 0")
    group.add_argument("--processes", type=int, help="how many there are")
    group.add_argument("--process", type=int, help="number of this one, from 0")
    arguments, rest = parser.parse_known_args(argv)
    flags = [f"--{name}" for name in vars(arguments)]
    return arguments, read_overrides(rest, flags)


def read_config(
    arguments: argparse.Namespace, overrides: list[tuple[str, str]]
) -> ConfigDict:
    """The config file with its overrides, or the config that the workdir holds."""
    if arguments.config:
        name = Path(arguments.config.partition(":")[0]).stem
        arguments.workdir = arguments.workdir or f"runs/{name}"
        return configs.load(arguments.config, overrides)
    if not arguments.workdir:
        raise ConfigError(f"give --config=<file>, or --workdir with a {CONFIG} in it.")
    config = stored_config(Path(arguments.workdir))
    for path, text in overrides:
        configs.override(config, path, text)
    return config
