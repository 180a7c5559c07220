"""What the commands share: files that are whole, work in threads."""

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
    """Names of the folders directly in a folder; hidden ones are left out."""
    with os.scandir(folder) as entries:
        return frozenset(e.name for e in entries if e.name[0] != "." and e.is_dir())


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which gets its name when the block is through.

    So `path` holds all of the file or does not exist. What an interruption leaves under
    the temporary name, hidden and no image by its suffix, the next attempt overwrites.
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
    unit: str = "file",
) -> list[Result]:
    """The function of every item, in order, under a bar that says how long it takes.

    What the function raises ends the work and comes out of here.
    """
    with (
        tqdm.tqdm(total=len(items), desc=title, unit=unit, delay=1) as bar,
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
