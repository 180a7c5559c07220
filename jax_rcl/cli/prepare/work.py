"""Files that are written whole or not at all, and names of folders."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def folders_in(folder: Path) -> frozenset[str]:
    """Names of the folders directly in a folder, without hidden ones."""
    with os.scandir(folder) as entries:
        return frozenset(e.name for e in entries if e.name[0] != "." and e.is_dir())


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends.

    So `path` holds the whole file or does not exist. What an interruption leaves under
    the temporary name, which is hidden and not an image's, the next attempt overwrites.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
