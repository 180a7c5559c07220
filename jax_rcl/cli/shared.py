"""What the subcommands share: parsers, overrides, errors, and files of comparisons."""

import argparse
import difflib
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from matplotlib.figure import Figure

from jax_rcl.checkpoint import AnotherStructure, DamagedCheckpoint
from jax_rcl.config.types import ConfigError
from jax_rcl.report.figures import drawing
from jax_rcl.train.batches import SourceError
from jax_rcl.train.loop import Diverged
from jax_rcl.train.signals import Interrupted

KEYBOARD_INTERRUPT = 130
"""Exit status after Ctrl-C, as shells have it."""

PROGRAMS = "programs"
"""Folder of compiled programs, beside the runs that share them."""

WORTH_KEEPING = 0.2
"""Seconds of compilation from which on a program is kept."""


def make_parser(command: str, description: str) -> argparse.ArgumentParser:
    """A parser of one subcommand; `description` is shown as it is written."""
    return argparse.ArgumentParser(
        prog=f"jax-rcl {command}".strip(),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def exit_status(work: Callable[[], int | None]) -> int:
    """Runs a command; an error is one line on stderr, without a traceback.

    Returns:
      What `work` returns, 0 for None; 2 if what was asked for cannot be done; 1 if the
      numbers went wrong, or the system refused something on the way; 130 and 143 if
      Ctrl-C and SIGTERM stopped it.
    """
    configure_logging()
    try:
        return work() or 0
    except ConfigError as error:
        return report_error(error, 2)
    except (Diverged, SourceError, DamagedCheckpoint, AnotherStructure) as error:
        return report_error(error, 1)
    except OSError as error:
        return report_error(error, 1)
    except Interrupted as stop:
        return report_error(stop, 128 + stop.number)
    except KeyboardInterrupt:
        print("\nstopped; the same command continues.", file=sys.stderr, flush=True)
        return KEYBOARD_INTERRUPT


def configure_logging() -> None:
    """Shows what the library logs; of the libraries below, only errors."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    logger = logging.getLogger("jax_rcl")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def report_error(error: Exception, status: int) -> int:
    """Prints an error in its own words; returns the status."""
    print(f"\n{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return status


def read_overrides(
    arguments: Sequence[str], flags: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """Pairs of path and value of `--config.<path>=<value>`, in order.

    `--config.<path> <value>` is understood as well.

    Args:
      arguments: what the parser of a command left.
      flags: of that command, to suggest one for a mistyped flag.
    """
    overrides, waiting = [], list(arguments)
    while waiting:
        argument = waiting.pop(0)
        name, equals, value = argument.partition("=")
        if not name.startswith("--config."):
            near = difflib.get_close_matches(name, flags, n=1)
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


def keep_programs(folder: Path) -> None:
    """Turns on JAX's cache on disk, unless someone has: a program is compiled once."""
    if not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", WORTH_KEEPING)


def write_comparison(
    folder: Path, name: str, text: str, record: Mapping[str, Any], picture: Figure
) -> None:
    """Writes <name>.md, <name>.json and <name>.png."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    # JSON has no NaN and no infinity; null stands for both.
    plain = json.loads(json.dumps(record), parse_constant=lambda _: None)
    (folder / f"{name}.json").write_text(json.dumps(plain, indent=2) + "\n")
    (folder / f"{name}.png").write_bytes(drawing.to_png(picture))
