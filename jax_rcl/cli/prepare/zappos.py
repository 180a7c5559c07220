"""The attributes of UT-Zappos50K as a prior: `jax-rcl prepare zappos`."""

import argparse
from collections.abc import Sequence

from jax_rcl.cli.prepare.shared import make_attributes_parser, write_attributes
from jax_rcl.cli.shared import exit_status
from jax_rcl.data.published import zappos
from jax_rcl.data.sources import SPLITS

DESCRIPTION = """\
Makes the prior of UT-Zappos50K: 126 binary attributes of every training image.

The file holds `prior` [35017, 126] float32 of zeros and ones, `labels` [35017], `names`
[35017] and `attributes` [126], what the columns mean: all of meta-data-bin.csv except
Category and SubCategory, which is the label. Rows are in the order of
Zappos(folder, "train"), for WithPrior around it.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; gives the exit status."""
    arguments = read_arguments(argv)
    return exit_status(lambda: prepare(arguments))


def read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    folder = "folder with ut-zap50k-data/ and ut-zap50k-images/, as they are unpacked"
    return make_attributes_parser("zappos", DESCRIPTION, folder).parse_args(argv)


def prepare(arguments: argparse.Namespace) -> None:
    """Writes the file."""
    splits = {split: zappos.Zappos(arguments.folder, split) for split in SPLITS}
    write_attributes(
        arguments,
        splits,
        zappos.PUBLISHED,
        lambda train: (zappos.attributes(train), zappos.attribute_names(train)),
    )
