"""What the commands share: flags, sources of a config, files of priors."""

import argparse
import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tqdm
from jaxtyping import Float32
from ml_collections import ConfigDict

from jax_rcl import config as configs
from jax_rcl.cli.prepare.work import whole
from jax_rcl.cli.shared import Parser
from jax_rcl.config.types import ConfigError, is_a, unknown
from jax_rcl.core import Source
from jax_rcl.data.records import THREADS, labels_of, names_of
from jax_rcl.train.plan import refusals

# Flags.


def add_part(parser: Parser) -> None:
    """Adds the flag that names a source of a config."""
    about = "path of the source in the config, such as evaluators.probe.test"
    parser.flag("part", about, default="source")


def add_source(parser: Parser) -> None:
    """Adds the flags that name a source of a config, which has to be given."""
    parser.flag("config", "file.py or file.py:options", required=True)
    add_part(parser)


def add_out(parser: Parser, ending: str = ".npz") -> None:
    """Adds the flags about the file to write."""
    parser.flag("out", "file to write", required=True, metavar=f"FILE{ending}")
    parser.flag("overwrite", "replace the file if it exists", action="store_true")


def add_folder(parser: Parser, about: str) -> None:
    """Adds the flags of a command that writes published attributes."""
    parser.flag("folder", about, required=True, metavar="DIR")
    add_out(parser)


def free_file(arguments: argparse.Namespace, ending: str = ".npz") -> Path:
    """The file to write; refuses one that exists or has another ending."""
    out = Path(arguments.out).expanduser()
    if out.suffix != ending or out.is_dir():
        raise ConfigError(f"--out {out} must be a file, FILE{ending}.")
    if out.exists() and not arguments.overwrite:
        raise ConfigError(
            f"--out {out} exists already; write --overwrite, or choose another."
        )
    return out


# Sources of a config.


def part_of(config: ConfigDict, path: str) -> ConfigDict:
    """The node at a path such as `evaluators.probe.test` or `source.source`."""
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


# Any, as a check that this is a Source would look for data that need not be there.
def source_at(config: ConfigDict, path: str) -> Any:
    """The source at a path of a config."""
    source: Any = configs.build(part_of(config, path), path)
    if not is_a(source, Source):
        raise ConfigError(
            f"--part={path} is {type(source).__name__}, not a source of records such "
            f"as `source` or `evaluators.probe.test`."
        )
    return source


# Encoders of other libraries.


def imported(modules: Sequence[str], name: str, hint: str) -> list[Any]:
    """Modules that `name` needs; ConfigError with the hint if one is not installed."""
    try:
        return [importlib.import_module(module) for module in modules]
    except ImportError as error:
        raise ConfigError(f"{name} needs {error.name or error}: {hint}.") from error


def encode_all(
    image: Callable[[int], np.ndarray],
    count: int,
    encode: Callable[[np.ndarray], np.ndarray],
    batch_size: int,
) -> Float32[np.ndarray, "m p"]:
    """The features of `count` images, a finite vector each, in their order.

    Raises ConfigError for an image that the encoder has no finite vector for.
    """
    found = []
    with (
        ThreadPoolExecutor(THREADS) as pool,
        tqdm.tqdm(total=count, unit="image") as bar,
    ):
        for first in range(0, count, batch_size):
            places = range(first, min(first + batch_size, count))
            rows = np.asarray(encode(np.stack(list(pool.map(image, places)))))
            broken = np.flatnonzero(~np.isfinite(rows.reshape(len(rows), -1)).all(1))
            if rows.ndim != 2 or len(rows) != len(places) or len(broken):
                place = f", first record {first + broken[0]}" if len(broken) else ""
                raise ConfigError(
                    f"the encoder gives {list(rows.shape)} for {len(places)} images"
                    f"{', not finite' * bool(len(broken))}{place}; a prior is one "
                    f"finite vector for each."
                )
            found.append(rows.astype(np.float32))
            bar.update(len(rows))
    return np.concatenate(found)


# Files.


def save_arrays(out: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an .npz file, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole(out) as partial, partial.open("wb") as file:
        # Not compressed, so that it can be mapped.
        np.savez(file, allow_pickle=False, **arrays)


def write_prior(
    out: Path, source: Source, rows: Float32[np.ndarray, "m p"], **more: np.ndarray
) -> None:
    """Writes the prior of a source, with `more` arrays to be read, and says so."""
    arrays: dict[str, np.ndarray] = {"prior": rows}
    with refusals("source"):
        if "label" in source[0]:
            arrays["labels"] = labels_of(source)
        elif (targets := getattr(source, "all_targets", None)) is not None:
            arrays["labels"] = np.asarray(targets, np.float32)
        if names := names_of(source):
            arrays["names"] = np.array(names, dtype=str)
    arrays |= more
    save_arrays(out, arrays)
    shapes = ", ".join(f"{k} {list(x.shape)}" for k, x in arrays.items())
    size = tqdm.tqdm.format_sizeof(out.stat().st_size, "B")
    print(f"{out}: {shapes}; {size}.")


def write_attributes(
    arguments: argparse.Namespace,
    kind: Callable[[str, Any], Any],
    published: Mapping[str, int],
    read: Callable[[Any], tuple[Float32[np.ndarray, "m p"], tuple[str, ...]]],
) -> None:
    """Writes the attributes of the training images as their prior.

    `kind` makes a source of a folder and a split, `read` gives its attributes and what
    the columns mean. Other numbers of images than published are a warning.
    """
    out = free_file(arguments)
    splits = {split: kind(arguments.folder, split) for split in published}
    train = splits["train"]
    with refusals("--folder"):
        prior, names = read(train)
        for split, source in splits.items():
            if len(source) != published[split]:
                print(
                    f"warning: {split} has {len(source):,} images, published are "
                    f"{published[split]:,}."
                )
    write_prior(out, train, prior, attributes=np.array(names))
    m, p = prior.shape
    print(
        f"{out}: {p} attributes of {m:,} training images, {prior.mean():.1%} of them "
        f"ones."
    )
