"""Any source of a config as records of fixed size: `jax-rcl prepare pack`."""

import argparse
import errno
import functools
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tqdm
from jaxtyping import Shaped

from jax_rcl import config as configs
from jax_rcl.cli.prepare.shared import add_part, part_of, source_at
from jax_rcl.cli.shared import Command, Parser
from jax_rcl.config.nodes import rename_class
from jax_rcl.config.types import ConfigError
from jax_rcl.core import Source
from jax_rcl.data.packed import FORMAT, RECORDS, Packed
from jax_rcl.data.records import empty_rows, group_names_of, nbytes
from jax_rcl.data.stream import load
from jax_rcl.train.plan import is_drawn, refusals

in_bytes = functools.partial(tqdm.tqdm.format_sizeof, suffix="B")  # 19.1GB

CHUNK = 64
"""Records that a thread reads in a row."""

DESCRIPTION = """\
Decodes a source of a config once and writes its records, all of one size, to a folder
that `data.packed.Packed` reads without decoding: one .npy file of each key, and
records.json with shapes, class names and sha256.

Every field of the config can be changed: --config.source.size=256. A folder that
already holds the records is left alone. --verify compares a folder with its sha256.
"""


def add_flags(parser: Parser) -> None:
    """Adds the flags of the command."""
    parser.flag("config", "file.py or file.py:options")
    add_part(parser)
    parser.flag("out", "folder to make", metavar="DIR")
    parser.flag("verify", "folder to check", metavar="DIR")


def run(arguments: argparse.Namespace) -> int:
    """Packs or verifies; gives the exit status, 1 where --verify found damage."""
    if arguments.verify:
        if arguments.config or arguments.out or arguments.overrides:
            raise ConfigError("--verify goes without other flags.")
        return verify(arguments.verify)
    if not (arguments.config and arguments.out):
        raise ConfigError("--config and --out are needed, or --verify.")
    prepare(arguments)
    return 0


def prepare(arguments: argparse.Namespace) -> None:
    """Packs one source, unless its records are there."""
    config = configs.load(arguments.config, arguments.overrides)
    source = source_at(config, arguments.part)
    if is_drawn(source):
        raise ConfigError(
            f"--part={arguments.part}: records of {type(source).__name__} are drawn "
            f"anew at every step; pack what it cuts, --part={arguments.part}.source, "
            f"photographs in frames of one shape (Framed; the option longest=500)."
        )
    settings = json.loads(configs.to_json(part_of(config, arguments.part)))
    out = Path(arguments.out).expanduser()
    if out.exists() and (out.is_file() or any(out.iterdir())):
        packed = open_finished(out, settings)
        print(f"{out}: {len(packed):,} records; nothing to do.")
        return
    try:
        if not len(source):
            raise ValueError(f"{source!r} has no records.")
        described = write(source, out, settings)
    except (ValueError, FileNotFoundError) as error:  # others are of the disk
        raise ConfigError(f"{arguments.part}: {error}") from error
    size = sum(array["bytes"] for array in described["arrays"].values())
    keys = ", ".join(described["arrays"])
    print(f"{out}: {described['count']:,} records of {keys}; {in_bytes(size)}.")


def open_finished(out: Path, settings: dict[str, Any]) -> Packed:
    """The records that a folder holds; refuses those of another source."""
    packed = Packed(str(out))
    try:
        found, count = packed.description["source"], len(packed)
        found = json.loads(json.dumps(found), object_hook=rename_class)
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"--out {out} does not hold this source: {error} Or choose another --out."
        ) from error
    if found == settings and count:
        return packed
    differs = configs.differences(found, settings, "source")
    raise ConfigError(
        f"--out {out} holds records of another source ({'; '.join(differs[:3])}). "
        f"Choose another --out, or delete it."
    )


def write(source: Source, out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Writes all records, names the folder `out`, and gives its description."""
    partial = out.with_name(f".{out.name}.partial")
    if partial.exists():  # left by a call that was killed
        shutil.rmtree(partial)
    count = len(source)
    partial.mkdir(parents=True)
    try:
        check_room(partial, nbytes(source))
        rows: dict[str, Shaped[np.ndarray, "m ..."]] = {
            key: np.lib.format.open_memmap(
                partial / f"{key}.npy", "w+", like.dtype, (count, *like.shape[1:])
            )
            for key, like in empty_rows(source[0], 0).items()
        }
        load(source, progress="packing", into=rows, chunk=CHUNK)
        for array in rows.values():
            if isinstance(array, np.memmap):
                array.flush()
        described = {
            "format": FORMAT,
            "count": count,
            "arrays": {k: describe(partial / f"{k}.npy", x) for k, x in rows.items()},
            "class_names": list(source.class_names),
            "group_names": list(group_names_of(source)),
            "source": settings,
        }
        text = json.dumps(described, indent=2) + "\n"
        (partial / RECORDS).write_text(text, "utf-8")
        os.replace(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return described


def check_room(folder: Path, size: int) -> None:
    """Raises OSError if the disk has too little room.

    A mapped file that outgrows the disk would kill the program without a message.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(
            errno.ENOSPC,
            f"the records take {in_bytes(size)}, but the disk of {folder.parent} has "
            f"room for {in_bytes(free)}; choose another --out",
        )


def describe(path: Path, rows: Shaped[np.ndarray, "m ..."]) -> dict[str, Any]:
    """What `records.json` says about the file of one key."""
    return {
        "file": path.name,
        "shape": list(rows.shape),
        "dtype": rows.dtype.name,
        "bytes": path.stat().st_size,
        "sha256": digest(path),
    }


def digest(path: Path) -> str:
    """The sha256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(folder: str) -> int:
    """Compares all files of a folder with what was written; gives the exit status."""
    packed = Packed(folder)
    with refusals("--verify"):
        count, arrays = len(packed), packed.description["arrays"]
    root = Path(folder).expanduser()
    wrong = [
        array["file"]
        for array in arrays.values()
        if digest(root / array["file"]) != array["sha256"]
    ]
    if wrong:
        print(
            f"{folder}: {', '.join(wrong)} changed since the records were written. "
            f"Pack them again, or copy the whole folder again.",
            file=sys.stderr,
        )
        return 1
    print(f"{folder}: {count:,} records, {len(arrays)} file(s), all as written.")
    return 0


main = Command("prepare pack", DESCRIPTION, add_flags, run)
