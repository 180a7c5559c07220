"""The attributes of CUB-200-2011 as a prior: `jax-rcl prepare cub`."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from jax_rcl.cli.prepare.features import add_out, free_file, write_prior
from jax_rcl.cli.shared import exit_status
from jax_rcl.config.types import ConfigError
from jax_rcl.core import Source
from jax_rcl.data.published import cub
from jax_rcl.data.sources import SPLITS

DESCRIPTION = """\
Makes the prior of CUB-200-2011: the 312 attributes of every training image.

The file holds `prior` [5994, 312] float32 of zeros and ones, `labels` [5994], `names`
[5994] and `attributes` [312], what the columns mean. Rows are in the order of
Cub200(folder, "train"), for WithPrior around it.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit status, see `work.status_of`."""
    arguments = read_arguments(argv)
    return exit_status(lambda: prepare(arguments))


def read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = parser_of("cub", DESCRIPTION, "CUB_200_2011, as it is unpacked")
    parser.add_argument(
        "--least_certainty",
        type=int,
        choices=cub.CERTAINTIES,
        default=1,
        help="attributes that the annotator was less sure of become 0: 2 guessing, 3 "
        "probably, 4 definitely; default 1, all of them as they are",
    )
    return parser.parse_args(argv)


def prepare(arguments: argparse.Namespace) -> int:
    """Writes the file.

    Raises:
      ConfigError: the folder is not what it should be, or the file is there.
    """
    out, folder = free_file(arguments), arguments.folder
    sources = {split: cub.Cub200(folder, split) for split in SPLITS}
    train = sources["train"]
    try:
        prior = cub.attributes(train, arguments.least_certainty)
        attributes = cub.attribute_names(train)
        warn(sources, cub.PUBLISHED)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(f"--folder: {error}") from error
    if (k := len(train.class_names)) != cub.CLASSES:
        print(f"warning: there are {k} classes, published are {cub.CLASSES}.")
    if attributes[0] == "1":
        print("warning: there is no attributes.txt; attributes are named by numbers.")
    write(out, prior, train, attributes)
    return 0


# What the commands for attributes share.


def parser_of(name: str, description: str, folder: str) -> argparse.ArgumentParser:
    """The flags --folder, --out and --overwrite of a command."""
    parser = argparse.ArgumentParser(
        prog=f"jax-rcl prepare {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--folder", required=True, help=folder)
    add_out(parser)
    return parser


def warn(sources: Mapping[str, Source], published: Mapping[str, int]) -> None:
    """Says where numbers of images are not the published ones."""
    for split, source in sources.items():
        if len(source) != published[split]:
            print(
                f"warning: {split} has {len(source):,} images, published are "
                f"{published[split]:,}."
            )


def write(
    out: Path,
    prior: Float32[np.ndarray, "m p"],
    source: Source,
    attributes: tuple[str, ...],
) -> None:
    """Writes the prior of a source with the names of its columns, and says so."""
    print(write_prior(out, source, prior, attributes=np.array(attributes)))
    m, p = prior.shape
    print(
        f"{out}: {p} attributes of {m:,} training images, {prior.mean():.1%} of them "
        f"ones."
    )
