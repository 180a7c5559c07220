"""Results of reading files, kept as long as the files stay what they are."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
Result = TypeVar("Result")

MISSING = (0, 0, 0)
"""The version of a file that is not there."""


def version_of(path: str | Path) -> tuple[int, int, int]:
    """What changes when a file is written again: its time, size and number."""
    try:
        found = os.stat(path)
    except OSError:
        return MISSING
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def read_once(*names: str) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """Keeps what a function has read, by its arguments, until one of its files changes.

    Its files are the paths among its positional arguments, of folders those directly
    in them, or those called `names` below the first of these. Equal sources (the
    training set, and the same again in a probe) so share what is read, and a file that
    is written again is read again.
    """

    def wrap(function: Callable[P, Result]) -> Callable[P, Result]:
        kept: dict[tuple, tuple[tuple, Result]] = {}

        @functools.wraps(function)
        def read(*args: P.args, **kwargs: P.kwargs) -> Result:
            key = (args, tuple(sorted(kwargs.items())))
            files = [each for each in args if isinstance(each, Path)]
            files = [files[0] / name for name in names] if names else files
            versions = tuple(map(_versions, files))
            if key not in kept or kept[key][0] != versions:
                found = function(*args, **kwargs)
                if (MISSING,) in versions:  # it may have been downloaded
                    versions = tuple(map(_versions, files))
                kept[key] = versions, found
            return kept[key][1]

        return read

    return wrap


def _versions(path: Path) -> tuple[tuple[int, int, int], ...]:
    """The version of a file, or of a folder and of what is directly in it."""
    inside = sorted(path.iterdir()) if path.is_dir() else ()
    return tuple(map(version_of, (path, *inside)))
