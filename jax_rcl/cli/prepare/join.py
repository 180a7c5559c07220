"""Features of other programs in the order of a source: `jax-rcl prepare join`."""

import argparse
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float32, Int64

from jax_rcl.cli.prepare.features import named_source
from jax_rcl.cli.prepare.shared import add_out, add_source, free_file, write_prior
from jax_rcl.cli.shared import Command, Parser
from jax_rcl.config.types import ConfigError
from jax_rcl.data.folders import image_suffixes, in_short
from jax_rcl.data.prior_files import check_finite, matrix, read_arrays, texts
from jax_rcl.data.records import names_of
from jax_rcl.train.plan import refusals

Key = tuple[str, ...]
"""The last parts of a path, without the suffix of an image file."""

DESCRIPTION = """\
Puts features that another program computed in the order of a source of a config, and
writes them as a file that `data.prior.WithPrior` reads, with labels and names.

FILE.npz holds `prior` or `features` [n, p] and `names` [n] of the images, such as
n01440764_10026.JPEG or CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg.
Each record of the source gets the row whose name ends like its own: base names are
enough where they are unique, otherwise as many folders are compared as it takes.
Suffixes of images do not count. Rows without a record are omitted.
"""


def add_flags(parser: Parser) -> None:
    """Adds the flags of the command."""
    about = "rows and their names"
    parser.flag("features", about, required=True, metavar="FILE.npz")
    add_source(parser)
    about = "whether another folder is an error where file names alone are unique"
    kinds = ("compared", "ignored")
    parser.flag("folders", about, choices=kinds, default="compared")
    add_out(parser)


def prepare(arguments: argparse.Namespace) -> None:
    """Writes the rows of one source."""
    out = free_file(arguments)
    source = named_source(arguments)
    path = Path(arguments.features).expanduser()
    with refusals("--features"):
        rows, found = read_features(path)
    with refusals(arguments.part):
        own = names_of(source)
    if not own:
        raise ConfigError(
            f"{source!r} has no `names` to join by; sources of files and Emoji have. "
            f"Put the rows in its order yourself, for WithPrior(source, file)."
        )
    places, depth = match(found, own, path)
    if arguments.folders == "compared":
        compare_folders([found[place] for place in places], own, depth)
    rows = rows[places]
    with refusals("--features"):
        check_finite(rows, own, path)
    write_prior(out, source, rows)
    first = "/".join(key_of(own[0], depth))
    print(
        f"{len(own):,} of {len(found):,} rows, by the last {depth} part(s) of their "
        f"names, such as {first!r}."
    )


def read_features(path: Path) -> tuple[Float32[np.ndarray, "n p"], tuple[str, ...]]:
    """The rows of a file and their names."""
    arrays = read_arrays(path, ("prior", "features", "names"))
    keys = [key for key in ("prior", "features") if key in arrays]
    if len(keys) != 1 or "names" not in arrays:
        raise ValueError(
            f"{path} has {' and '.join(map(repr, arrays)) or 'none of the arrays'}; "
            f"write it with names and one of prior and features: numpy.savez(file, "
            f"features=rows, names=names)."
        )
    rows = matrix(arrays[keys[0]], keys[0], path)
    names = texts(arrays["names"], path)
    if len(rows) != len(names) or not names:
        raise ValueError(
            f"{path} has {len(rows)} rows of {keys[0]} and {len(names)} names; there "
            f"must be rows, and a name for each."
        )
    return rows, names


def match(
    found: Sequence[str], own: Sequence[str], path: Path
) -> tuple[Int64[np.ndarray, " m"], int]:
    """Which row belongs to each record, and by how many last parts of the names.

    As few parts are compared as distinguish all records and the rows for them.
    """
    depth, twice, doubled, keys, theirs = 0, ["any"], [], [], []
    deepest = max(len(key_of(name)) for name in own)
    while (twice or doubled) and depth < deepest:
        depth += 1
        keys, theirs = ([key_of(name, depth) for name in x] for x in (own, found))
        twice, doubled = repeated(keys, own), repeated(theirs, found, set(keys))
    if twice:
        raise ConfigError(
            f"names of the source are there more than once: "
            f"{in_short(twice, len(own), 'records')}. Which row belongs to which of "
            f"them is unknown; give a source of records with different names."
        )
    if doubled:
        raise ConfigError(
            f"{path} has more than one row for a record: "
            f"{in_short(doubled, len(found), 'names')}. Keep one of each."
        )
    place_of = {key: place for place, key in enumerate(theirs)}
    missing = [n for n, key in zip(own, keys, strict=True) if key not in place_of]
    if missing:
        raise ConfigError(
            f"{path} has no row for {in_short(missing, len(own), 'records')}. The last "
            f"{depth} part(s) of the names were compared; names in the file look like "
            f"{found[0]!r}. Compute features of these, too, or correct the names."
        )
    return np.array([place_of[key] for key in keys], np.int64), depth


def key_of(name: str, depth: int = 0) -> Key:
    """The last `depth` parts of a name, all for 0, without the suffix of an image."""
    *parts, last = PurePosixPath(name.replace("\\", "/").strip("/")).parts or ("",)
    if last.lower().endswith(image_suffixes()):
        last = last.rpartition(".")[0]
    return (*parts, last)[-depth:]


def repeated(
    keys: Sequence[Key], names: Sequence[str], asked: set[Key] | None = None
) -> list[str]:
    """Names whose key an earlier name has, of the keys that are asked for."""
    seen: set[Key] = set()
    found = []
    for key, name in zip(keys, names, strict=True):
        if key in seen and (asked is None or key in asked):
            found.append(name)
        seen.add(key)
    return found


def compare_folders(found: Sequence[str], own: Sequence[str], depth: int) -> None:
    """Raises ConfigError where folders differ that were not needed, if both have them.

    The files may be others, such as of another split.
    """
    differ = []
    for theirs, ours in zip(found, own, strict=True):
        above = [key_of(name)[:-depth] for name in (theirs, ours)]
        shared = min(map(len, above))
        if shared and above[0][-shared:] != above[1][-shared:]:
            differ.append((theirs, ours))
    if differ:
        raise ConfigError(
            f"{len(differ):,} of {len(own):,} rows are of a file in another folder, "
            f"first {differ[0][0]} in the features and {differ[0][1]} in the source. "
            f"If they are the same images, write --folders=ignored."
        )


main = Command("prepare join", DESCRIPTION, add_flags, prepare)
