"""Any source of a config as records of fixed size: `jax-rcl prepare pack`."""

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tqdm
from jaxtyping import Shaped
from ml_collections import ConfigDict

from jax_rcl import config as configs
from jax_rcl.cli.shared import exit_status, read_overrides
from jax_rcl.config.types import ConfigError, is_a, unknown
from jax_rcl.core import Source
from jax_rcl.data.packed import FORMAT, RECORDS, Packed
from jax_rcl.data.records import THREADS, empty_rows, fill, group_names_of, nbytes

CHUNK = 64
"""Records that a thread reads in a row."""

DESCRIPTION = """\
Decodes a source of a config once and writes its records, all of one size, to a folder
that `data.packed.Packed` reads without decoding: one .npy file of each key, and
records.json with shapes, class names and sha256.

Every field of the config can be changed: --config.source.size=256. A folder that holds
the records already is left as it is. --verify reads a folder and compares its sha256.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit status, see `work.status_of`.

    1 also says that --verify found damage.
    """
    arguments, rest = read_arguments(argv)
    if arguments.verify:
        return exit_status(lambda: verify(arguments.verify))
    return exit_status(lambda: prepare(arguments, rest))


def read_arguments(
    argv: Sequence[str] | None,
) -> tuple[argparse.Namespace, list[str]]:
    """The flags, and what is left for overrides."""
    parser = argparse.ArgumentParser(
        prog="jax-rcl prepare pack",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", help="file.py or file.py:options")
    parser.add_argument(
        "--part",
        default="source",
        help="path of the source in the config, such as evaluators.probe.test (source)",
    )
    parser.add_argument("--out", help="folder to make")
    parser.add_argument("--verify", metavar="DIR", help="a folder that was made")
    arguments, rest = parser.parse_known_args(argv)
    if arguments.verify:
        if arguments.config or arguments.out or rest:
            parser.error("--verify goes without other flags")
    elif not (arguments.config and arguments.out):
        parser.error("--config and --out are needed, or --verify")
    return arguments, rest


def prepare(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Packs one source, unless its records are there.

    Raises:
      ConfigError: the config, the part or the source cannot work, or `out` holds
        something else.
    """
    config = configs.load(arguments.config, read_overrides(rest))
    node = part_of(config, arguments.part)
    source = configs.build(node, arguments.part)
    if not is_a(source, Source):
        raise ConfigError(
            f"--part={arguments.part} is {type(source).__name__}, not a source of "
            f"records such as `source` or `evaluators.probe.test`."
        )
    out = Path(arguments.out).expanduser()
    said = json.loads(configs.to_json(node))
    if out.exists() and (out.is_file() or any(out.iterdir())):
        packed = finished(out, said)
        print(f"{out}: {len(packed):,} records; nothing to do.")
        return 0
    try:
        if not len(source):
            raise ValueError(f"{source!r} has no records.")
        described = write(source, out, said)
    except (ValueError, FileNotFoundError) as error:
        raise ConfigError(f"{arguments.part}: {error}") from error
    size = sum(array["bytes"] for array in described["arrays"].values())
    keys = ", ".join(described["arrays"])
    print(f"{out}: {described['count']:,} records of {keys}; {in_bytes(size)}.")
    return 0


def part_of(config: ConfigDict, path: str) -> ConfigDict:
    """The node at a path such as `evaluators.probe.test` or `source.source`.

    Raises:
      ConfigError: there is none.
    """
    holder: Any = config
    for name in re.findall(r"[^.\[\]]+", path):
        if isinstance(holder, tuple) and name.isdecimal() and int(name) < len(holder):
            holder = holder[int(name)]
        elif isinstance(holder, ConfigDict) and name in holder:
            holder = holder[name]
        else:
            names = list(holder.keys()) if isinstance(holder, ConfigDict) else []
            known = [key for key in names if key != configs.CLASS]
            raise ConfigError(unknown(f"--part={path}: there is no", name, known))
    if not isinstance(holder, ConfigDict):
        raise ConfigError(f"--part={path} is {holder!r}, not a source of records.")
    return holder


def finished(out: Path, said: dict[str, Any]) -> Packed:
    """The records that a folder holds, if they are those of the source.

    Raises:
      ConfigError: they are of another source, damaged, or no records at all.
    """
    packed = Packed(str(out))
    try:
        found, count = packed.description["source"], len(packed)
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"--out {out} is no folder of this source: {error} Or choose another --out."
        ) from error
    if found == said and count:
        return packed
    differs = configs.differences(found, said, "source")
    raise ConfigError(
        f"--out {out} holds records of another source ({'; '.join(differs[:3])}). "
        f"Choose another --out, or delete it."
    )


def write(source: Source, out: Path, said: dict[str, Any]) -> dict[str, Any]:
    """Writes all records beside `out`, gives the folder its name, and what it says.

    Raises:
      ValueError: a record cannot be read, or is not like the first one.
      OSError: the disk has no room for the records.
    """
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
        fill_all(source, rows)
        described = {
            "format": FORMAT,
            "count": count,
            "arrays": {key: described_array(partial, key, rows[key]) for key in rows},
            "class_names": list(source.class_names),
            "group_names": list(group_names_of(source)),
            "source": said,
        }
        text = json.dumps(described, indent=2) + "\n"
        (partial / RECORDS).write_text(text, "utf-8")
        os.replace(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return described


def check_room(folder: Path, size: int) -> None:
    """Makes sure of the room before it is written to.

    A mapped file that the disk has no room for stops the program without a word.

    Raises:
      OSError: there is too little.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(
            f"the records take {in_bytes(size)}, but the disk of {folder.parent} has "
            f"room for {in_bytes(free)}. Choose another --out."
        )


def in_bytes(size: int) -> str:
    """`19.1GB`."""
    return tqdm.tqdm.format_sizeof(size, "B")


def fill_all(source: Source, rows: dict[str, Shaped[np.ndarray, "m ..."]]) -> None:
    """Reads all records into mapped files, with many threads."""
    count = len(source)

    def read(first: int) -> int:
        last = min(first + CHUNK, count)
        fill(source, np.arange(first, last), rows, first)
        return last - first

    bar = tqdm.tqdm(total=count, desc="packing", unit="record", delay=1)
    with bar, ThreadPoolExecutor(THREADS) as pool:
        try:
            for done in pool.map(read, range(0, count, CHUNK)):
                bar.update(done)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for array in rows.values():
        if isinstance(array, np.memmap):
            array.flush()


def described_array(
    folder: Path, key: str, rows: Shaped[np.ndarray, "m ..."]
) -> dict[str, Any]:
    """What `records.json` says about one key."""
    path = folder / f"{key}.npy"
    return {
        "file": path.name,
        "shape": list(rows.shape),
        "dtype": rows.dtype.name,
        "bytes": path.stat().st_size,
        "sha256": digest(path),
    }


def digest(path: Path) -> str:
    """The sha256 of a file, 64 hexadecimal digits."""
    found, size = hashlib.sha256(), path.stat().st_size
    with (
        path.open("rb") as file,
        tqdm.tqdm(
            total=size,
            desc=f"sha256 of {path.name}",
            unit="B",
            unit_scale=True,
            delay=1,
        ) as bar,
    ):
        while piece := file.read(1 << 22):
            found.update(piece)
            bar.update(len(piece))
    return found.hexdigest()


def verify(folder: str) -> int:
    """Compares all files of a folder with what was written; gives the exit status.

    Raises:
      ConfigError: it is no folder of records, or a file has another size.
    """
    packed = Packed(folder)
    try:
        count, said = len(packed), packed.description["arrays"]
    except (ValueError, OSError) as error:
        raise ConfigError(f"--verify: {error}") from error
    root = Path(folder).expanduser()
    wrong = [
        array["file"]
        for array in said.values()
        if digest(root / array["file"]) != array["sha256"]
    ]
    if wrong:
        print(
            f"{folder}: {', '.join(wrong)} changed since the records were written. "
            f"Pack them again, or copy the whole folder again.",
            file=sys.stderr,
        )
        return 1
    print(f"{folder}: {count:,} records, {len(said)} file(s), all as written.")
    return 0
