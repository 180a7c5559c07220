"""The attributes of UT-Zappos50K as a prior: `jax-rcl prepare zappos`."""

import argparse
from collections.abc import Sequence

from jax_rcl.cli.prepare.cub import parser_of, warn, write
from jax_rcl.cli.prepare.features import free_file
from jax_rcl.cli.shared import exit_status
from jax_rcl.config.types import ConfigError
from jax_rcl.data.published import zappos
from jax_rcl.data.sources import SPLITS

DESCRIPTION = """\
Makes the prior of UT-Zappos50K: 126 binary attributes of every training image.

The file holds `prior` [35017, 126] float32 of zeros and ones, `labels` [35017], `names`
[35017] and `attributes` [126], what the columns mean: all of meta-data-bin.csv but
Category and SubCategory, which is the label. Rows are in the order of
Zappos(folder, "train"), for WithPrior around it.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit status, see `work.status_of`."""
    arguments = read_arguments(argv)
    return exit_status(lambda: prepare(arguments))


def read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    folder = "folder with ut-zap50k-data/ and ut-zap50k-images/, as they are unpacked"
    return parser_of("zappos", DESCRIPTION, folder).parse_args(argv)


def prepare(arguments: argparse.Namespace) -> int:
    """Writes the file.

    Raises:
      ConfigError: the folder is not what it should be, or the file is there.
    """
    out, folder = free_file(arguments), arguments.folder
    sources = {split: zappos.Zappos(folder, split) for split in SPLITS}
    train = sources["train"]
    try:
        prior = zappos.attributes(train)
        attributes = zappos.attribute_names(train)
        warn(sources, zappos.PUBLISHED)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(f"--folder: {error}") from error
    write(out, prior, train, attributes)
    return 0
