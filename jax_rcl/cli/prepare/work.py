"""Files that are written whole or not at all, and work in threads."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


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


def in_threads(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    threads: int,
    title: str,
) -> list[Result]:
    """The function of every item, in order, under a progress bar.

    What the function raises ends the work and is raised here.
    """
    with (
        tqdm.tqdm(total=len(items), desc=title, unit="file", delay=1) as bar,
        ThreadPoolExecutor(threads) as pool,
    ):

        def counted(item: Item) -> Result:
            result = function(item)
            bar.update()
            return result

        try:
            return list(pool.map(counted, items))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
