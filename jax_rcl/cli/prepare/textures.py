"""The textures of a folder of photographs: `jax-rcl prepare textures`."""

import argparse
import functools
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from jax_rcl.augment.quilting import Quilting
from jax_rcl.cli.prepare.synthesis import Job, Settings, by_program, by_quilting
from jax_rcl.cli.prepare.work import folders_in, whole
from jax_rcl.cli.shared import Command, Parser, positive
from jax_rcl.config.types import ConfigError
from jax_rcl.data.folders import class_folders, images_below
from jax_rcl.train.plan import refusals

QUILTING = "quilting"
"""Name of the tool that is part of jax_rcl; any other is a program."""

SETTINGS = "textures.json"
"""File in a folder of textures that says how they were made."""

NAMED = 20
"""Failures that are listed; the others are counted."""

DESCRIPTION = """\
Makes the texture of every photograph: <out>/<class>/<stem>.png.

The images are in class folders, or in train/ and val/ with class folders below them,
and so are the textures. --tool makes a texture of two squares of the photograph: one in
its middle and one at a random place, which depends on --seed and the names of its class
and file alone. Existing textures are kept: the same command again continues, or says
that there is nothing to do.
"""


def add_flags(parser: Parser) -> None:
    """Adds the flags of the command."""
    parser.flag("images", "folder of the photographs", required=True, metavar="DIR")
    parser.flag("out", "folder of the textures", required=True, metavar="DIR")
    parser.flag("size", "side of the textures in pixels", type=positive, default=224)
    about = "side of the squares that they are made of"
    parser.flag("patch", about, type=positive, default=96)
    about = f"{QUILTING}, on the device, or the path of the program texture-synthesis"
    parser.flag("tool", about, default=QUILTING)
    about = "threads that read and write, or programs at a time"
    parser.flag("workers", about, type=positive, default=os.cpu_count() or 1)
    parser.flag("seed", "of the draws", type=int, default=0)


def prepare(arguments: argparse.Namespace) -> int:
    """Makes the textures that are missing; gives 1 if some could not be made."""
    images, out = (Path(p).expanduser() for p in (arguments.images, arguments.out))
    settings = Settings(
        arguments.size, arguments.patch, arguments.seed, arguments.workers
    )
    make = synthesis(arguments.tool, settings)
    jobs = jobs_of(images, out)
    new = [job for job in jobs if not job.target.exists()]
    check_settings(out, arguments.tool, settings)
    for folder in {job.target.parent for job in new}:
        folder.mkdir(parents=True, exist_ok=True)
    failures = [reason for reason in make(new) if reason] if new else []
    kept, made = len(jobs) - len(new), len(new) - len(failures)
    done = f"{made:,} made, {kept:,} were there" if new else "nothing to do"
    print(f"{out}: textures of {len(jobs):,} photographs; {done}.", flush=True)
    if failures:
        head = f"textures that could not be made: {len(failures):,}"
        more = len(failures) - NAMED
        tail = [f"and {more:,} more"] if more > 0 else []
        print("\n  ".join([head, *failures[:NAMED], *tail]), file=sys.stderr)
    return 1 if failures else 0


def synthesis(tool: str, settings: Settings) -> Callable[[Sequence[Job]], list[str]]:
    """The function that makes textures of jobs and gives the reasons of failures."""
    if tool == QUILTING:
        try:
            quilting = Quilting(size=settings.size, patch=settings.patch)
        except ValueError as error:
            raise ConfigError(f"--size, --patch: {error}") from error
        return functools.partial(by_quilting, quilting, settings)
    program = shutil.which(os.path.expanduser(tool))
    if program is None:
        raise ConfigError(
            f"--tool {tool} is not a program; write {QUILTING}, or name the path of "
            f"texture-synthesis (https://github.com/EmbarkStudios/texture-synthesis)."
        )
    return functools.partial(by_program, program, settings)


def check_settings(out: Path, tool: str, settings: Settings) -> None:
    """Notes how the textures of a folder are made, or refuses other settings."""
    file, wanted = out / SETTINGS, {"tool": Path(tool).name, **settings._asdict()}
    del wanted["workers"]
    try:
        found = json.loads(file.read_text()) if file.exists() else wanted
    except ValueError as error:
        raise ConfigError(
            f"{file}, which says how textures were made, is damaged: {error}. Remove "
            f"it if they were made with the flags of this command, or choose another "
            f"--out."
        ) from error
    if found != wanted:
        flags = " ".join(f"--{name}={value}" for name, value in found.items())
        raise ConfigError(
            f"the textures of {out} were made with {flags}; complete them with these, "
            f"or choose another --out."
        )
    if not file.exists():
        out.mkdir(parents=True, exist_ok=True)
        with whole(file) as partial:
            partial.write_text(json.dumps(wanted) + "\n")


# What there is to do.


def jobs_of(images: Path, out: Path) -> list[Job]:
    """A job for every image, by folder and name."""
    if out.resolve().is_relative_to(images.resolve()):
        raise ConfigError(
            f"--out {out} lies inside --images {images}; choose a folder elsewhere."
        )
    jobs: dict[Path, Job] = {}
    for folder in class_folders_below(images):
        for path in map(Path, images_below(images / folder)[0]):
            place = out / path.parent.relative_to(images)
            job = Job(path, place / f"{path.stem}.png")
            other = jobs.setdefault(job.target, job)
            if other is not job:
                raise ConfigError(
                    f"{other.image} and {path.name} would share the texture "
                    f"{job.target}; rename one of them."
                )
    if not jobs:
        raise ConfigError(f"--images {images} has no images in its class folders.")
    return list(jobs.values())


def class_folders_below(images: Path) -> list[Path]:
    """The class folders, or those of train and of val, relative to `images`."""
    with refusals("photographs"):
        found = class_folders(images, "--images")
        parts = [name for name in ("train", "val") if name in found]
        if not any(folders_in(images / part) for part in parts):
            return [Path(name) for name in found]
        named = {part: class_folders(images / part, "--images") for part in parts}
    return [Path(part, name) for part, names in named.items() for name in names]


main = Command("prepare textures", DESCRIPTION, add_flags, prepare)
