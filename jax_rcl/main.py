"""The command line: `python -m jax_rcl.main --config=configs/quickstart.py`."""

import argparse
import difflib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.checkpoint import AnotherStructure, DamagedCheckpoint
from jax_rcl.config import ConfigError
from jax_rcl.cost import describe
from jax_rcl.feed import SourceError
from jax_rcl.interrupt import Interrupted
from jax_rcl.results import evaluate
from jax_rcl.run import CONFIG, stored_config
from jax_rcl.train import Diverged, train

FLAGS = (
    "--config",
    "--workdir",
    "--mode",
    "--coordinator",
    "--processes",
    "--process",
)
DESCRIPTION = """\
Trains, resumes, evaluates and reports one experiment.

Every field of the config can be changed: --config.objective.temperature=0.2.
The same command again continues where the last call stopped, or says that it is done.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit status, 0 when all was done.

    130 and 143 say that Ctrl-C and SIGTERM stopped a run, 2 that the config cannot
    work, 1 that the numbers went wrong.
    """
    speak()
    try:
        arguments, overrides = read_arguments(sys.argv[1:] if argv is None else argv)
        config = read_config(arguments, overrides)
        start_processes(arguments)
        if arguments.mode == "check":
            print(describe(config))
        elif arguments.mode == "evaluate":
            evaluate(config, arguments.workdir)
        else:
            train(config, arguments.workdir)
    except ConfigError as error:
        return complain(error, 2)
    except (Diverged, SourceError, DamagedCheckpoint, AnotherStructure) as error:
        return complain(error, 1)
    except Interrupted as stop:
        return complain(stop, 128 + stop.number)
    return 0


def start_processes(arguments: argparse.Namespace) -> None:
    """Joins the other processes of the run, if there are any.

    Raises:
      ConfigError: some of the three flags are given, but not all.
    """
    try:
        parallel.start(arguments.coordinator, arguments.processes, arguments.process)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def speak() -> None:
    """Shows what the library logs; of the libraries below, only errors."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    logger = logging.getLogger("jax_rcl")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def complain(error: Exception, status: int) -> int:
    """Says what went wrong in its own words, without a traceback; gives the status."""
    print(f"\n{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return status


def read_arguments(
    argv: Sequence[str],
) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """The flags, and the overrides `--config.<path>=<value>` in order.

    Raises:
      ConfigError: anything else on the command line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m jax_rcl.main",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
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
    return arguments, read_overrides(rest)


def read_overrides(rest: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of path and value; `--config.<path> <value>` is understood as well.

    Raises:
      ConfigError: an argument of another form, or without a value.
    """
    overrides, waiting = [], list(rest)
    while waiting:
        argument = waiting.pop(0)
        name, equals, value = argument.partition("=")
        if not name.startswith("--config."):
            near = difflib.get_close_matches(name, FLAGS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(
                f"unknown argument {argument}; fields of the config are changed by "
                f"--config.<path>=<value>, and --help shows the rest.{hint}"
            )
        if not equals:
            if not waiting or waiting[0].startswith("--"):
                raise ConfigError(f"{name} needs a value: {name}=…")
            value = waiting.pop(0)
        overrides.append((name.removeprefix("--config."), value))
    return overrides


def read_config(
    arguments: argparse.Namespace, overrides: list[tuple[str, str]]
) -> ConfigDict:
    """The config file with its overrides, or the config that the workdir holds.

    Raises:
      ConfigError: neither is given, or what reading them raises.
    """
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


if __name__ == "__main__":
    sys.exit(main())
