"""Class folders in a second place: links to them, or copies of their images."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm.contrib.concurrent import thread_map

from jax_rcl.cli.prepare.work import whole
from jax_rcl.config.types import ConfigError
from jax_rcl.data.folders import images_below
from jax_rcl.data.records import THREADS


class Part(NamedTuple):
    """Class folders side by side in `source`, and their path below another folder."""

    name: str
    source: Path


def link_classes(
    parts: Sequence[Part], out: Path, classes: Sequence[str]
) -> tuple[int, int]:
    """Links class folders; gives how many links were made and how many were there.

    Links are relative, so that both trees can be moved or mounted together.
    """
    wanted = {
        out / part.name / name: part.source / name for part in parts for name in classes
    }
    new = [link for link, source in wanted.items() if not is_link(link, source)]
    for link in new:
        link.parent.mkdir(parents=True, exist_ok=True)
        target = os.path.relpath(wanted[link].resolve(), link.parent.resolve())
        link.symlink_to(target, target_is_directory=True)
    return len(new), len(wanted) - len(new)


def is_link(link: Path, source: Path) -> bool:
    """Whether the link exists already; raises ConfigError if something else does."""
    if not os.path.lexists(link):
        return False
    if link.is_symlink() and link.resolve() == source.resolve():
        return True
    what = f"a link to {os.readlink(link)}" if link.is_symlink() else "not a link"
    raise ConfigError(
        f"{link} is {what}, where a link to {source} should be. Delete it, choose "
        f"another --out, or write --mode=copy to complete copies."
    )


def copy_classes(
    parts: Sequence[Part], out: Path, classes: Sequence[str]
) -> tuple[int, int]:
    """Copies image files; gives how many were copied and how many were there."""
    for folder in (out / part.name / name for part in parts for name in classes):
        check_folder(folder)
    wanted = {
        out / part.name / Path(path).relative_to(part.source): Path(path)
        for part in parts
        for name in classes
        for path in images_below(part.source / name)[0]
    }
    new = [file for file, source in wanted.items() if not is_copy(file, source)]
    for folder in {file.parent for file in new}:
        folder.mkdir(parents=True, exist_ok=True)

    def copy(file: Path) -> None:
        with whole(file) as partial:
            shutil.copyfile(wanted[file], partial)

    options = {"desc": "copying", "unit": "file", "delay": 1}
    thread_map(copy, new, max_workers=THREADS, **options)
    return len(new), len(wanted) - len(new)


def check_folder(folder: Path) -> None:
    """Raises ConfigError for a link, into whose target copies would go, or a file."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        what = f"a link to {os.readlink(folder)}" if folder.is_symlink() else "a file"
        raise ConfigError(
            f"{folder} is {what}, where a folder of copies should be. Delete it, "
            f"choose another --out, or write --mode=link."
        )


def is_copy(file: Path, source: Path) -> bool:
    """Whether the copy exists already; raises ConfigError if its size differs."""
    if not os.path.lexists(file):
        return False
    found, wanted = file.stat().st_size if file.is_file() else -1, source.stat().st_size
    if found == wanted:
        return True
    raise ConfigError(
        f"{file} exists but is not a copy of {source}: {found:,} bytes, expected "
        f"{wanted:,}. Delete it, or choose another --out."
    )
