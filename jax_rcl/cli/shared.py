"""What the subcommands share: flags, overrides, errors, and files of comparisons."""

import argparse
import dataclasses
import difflib
import errno
import json
import logging
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
from matplotlib.figure import Figure

from jax_rcl.checkpoint import AnotherStructure, DamagedCheckpoint, NotSaved, Which
from jax_rcl.config.types import ConfigError
from jax_rcl.parallel import Elsewhere
from jax_rcl.report import console, log
from jax_rcl.report.figures import drawing
from jax_rcl.train.batches import SourceError
from jax_rcl.train.evaluation import EvaluatorFailed
from jax_rcl.train.loop import Diverged
from jax_rcl.train.owner import WorkdirGone, WorkdirInUse
from jax_rcl.train.signals import Interrupted

KEYBOARD_INTERRUPT = 130
"""Exit status after Ctrl-C, as shells have it."""

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
"""What is wrong with a disk that takes no more,"""

REFUSALS = (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)
"""and with a path on the command line."""

WORDS = (
    AnotherStructure,
    DamagedCheckpoint,
    log.DamagedLog,
    Diverged,
    Elsewhere,
    EvaluatorFailed,
    NotSaved,
    SourceError,
    WorkdirGone,
    WorkdirInUse,
)
"""Errors whose message says all."""

PROGRAMS = "programs"
"""Folder of compiled programs, beside the runs that share them."""

WORTH_KEEPING = 0.2
"""Seconds of compilation from which on a program is kept."""


@dataclasses.dataclass(frozen=True)
class Command:
    """A subcommand; calling it with arguments gives the exit status.

    Attributes:
      name: behind `jax-rcl`, empty for the default.
      description: shown by --help as it is written.
      add_flags: to a parser. With `--config`, fields of the config can be changed;
        `run` finds them in `overrides`, pairs of path and value.
    """

    name: str
    description: str
    add_flags: Callable[["Parser"], object]
    run: Callable[[argparse.Namespace], int | None]

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        return exit_status(lambda: self.run(self.parse(argv)))

    def parse(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """The flags; raises ConfigError for what is none."""
        parser = Parser(
            prog=f"jax-rcl {self.name}".strip(),
            description=self.description,
            formatter_class=_Help,
            allow_abbrev=False,
        )
        self.add_flags(parser)
        given, overrides = take_overrides(sys.argv[1:] if argv is None else argv)
        arguments, unknown = parser.parse_known_args(given)
        about = "--help shows what there is."
        if "config" in arguments:
            arguments.overrides = overrides
            about = f"fields are changed by {FIELD}<path>=<value>, {about}"
        elif overrides:
            unknown = [f"{FIELD}{path}={text}" for path, text in overrides]
        if unknown:
            flags = [f"--{name}" for name in vars(arguments)]
            near = difflib.get_close_matches(unknown[0].partition("=")[0], flags, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(f"unknown argument {unknown[0]}; {about}{hint}")
        return arguments


class Parser(argparse.ArgumentParser):
    """A parser of flags alone, whose errors are those of the rest."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; --help shows what there is.")

    def flag(self, name: str, about: str = "", **settings: Any) -> None:
        """Adds `--<name>`; settings are those of `add_argument`."""
        self.add_argument(f"--{name}", help=about, **settings)


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help that ends with the default of a flag, where it has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        given = action.default not in (None, [], argparse.SUPPRESS)
        known = " (default: %(default)s)" if given and action.nargs != 0 else ""
        return f"{action.help or ''}{known}".strip()


FIELD = "--config."
"""What a field of the config is changed by begins with."""


def take_overrides(arguments: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """What are no overrides, and pairs of path and value of those.

    `--config.<path> <value>` is understood as well.
    """
    others, overrides, waiting = [], [], list(arguments)
    while waiting:
        argument = waiting.pop(0)
        name, equals, value = argument.partition("=")
        if not name.startswith(FIELD):
            others.append(argument)
            continue
        if not equals:
            if not waiting or waiting[0].startswith("--"):
                raise ConfigError(f"{name} needs a value: {name}=…")
            value = waiting.pop(0)
        overrides.append((name.removeprefix(FIELD), value))
    return others, overrides


def positive(text: str) -> int:
    """A flag's number of things, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} must be a whole number from 1 on")
    return int(text)


def checkpoint(text: str) -> Which:
    """A flag's checkpoint of a run: `newest`, `best`, or the number of its step."""
    if text.isdecimal():
        return int(text)
    if text not in ("newest", "best"):
        raise argparse.ArgumentTypeError(f"{text} must be newest, best or a step")
    return text  # pyright: ignore[reportReturnType] one of the two


def exit_status(work: Callable[[], int | None]) -> int:
    """Runs a command; an error that a user can act on is shown without a traceback.

    Returns:
      What `work` returns, 0 for None; 2 if what was asked for cannot be done; 1 if the
      numbers went wrong, or the system refused something on the way; 130 and 143 if
      Ctrl-C and SIGTERM stopped it.
    """
    console.take_any_text()
    configure_logging()
    try:
        return work() or 0
    except ConfigError as error:
        return report_error(error, 2)
    except WORDS as error:
        return report_error(error, 1)
    except OSError as error:
        # Others may be mistakes of this program, which need their traceback.
        if error.errno not in FULL and not isinstance(error, REFUSALS):
            raise
        return report_error(error, 1, place_of(error))
    except Interrupted as stop:
        return report_error(stop, 128 + stop.number)
    except KeyboardInterrupt:
        print("\nstopped; the same command continues.", file=sys.stderr, flush=True)
        return KEYBOARD_INTERRUPT


def place_of(error: BaseException) -> str:
    """Where in this library an error arose, which says what was being done."""
    root = Path(__file__).parents[1]
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(root)]
    file = Path(own[-1].filename).relative_to(root.parent)
    return f" (in {own[-1].name}, {file}:{own[-1].lineno})"


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
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = hide_what_is_raised_as_well


def hide_what_is_raised_as_well(unraisable: Any) -> None:
    """Writes that are still under way when another one fails end in a closed loop."""
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


def report_error(error: Exception, status: int, where: str = "") -> int:
    """Prints an error in its own words; returns the status."""
    print(f"\n{type(error).__name__}: {error}{where}", file=sys.stderr, flush=True)
    return status


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
    written = (text + "\n").encode("utf-8", "backslashreplace")
    (folder / f"{name}.md").write_bytes(written)
    # JSON has no NaN and no infinity; null stands for both.
    plain = json.loads(json.dumps(record), parse_constant=lambda _: None)
    (folder / f"{name}.json").write_text(json.dumps(plain, indent=2) + "\n")
    (folder / f"{name}.png").write_bytes(drawing.to_png(picture))
