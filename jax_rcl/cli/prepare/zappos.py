"""The attributes of UT-Zappos50K as a prior: `jax-rcl prepare zappos`."""

import argparse

from jax_rcl.cli.prepare.shared import add_folder, write_attributes
from jax_rcl.cli.shared import Command, Parser
from jax_rcl.data.published import zappos

DESCRIPTION = """\
Makes the prior of UT-Zappos50K: 126 binary attributes of every training image.

The file holds `prior` [35017, 126] float32 of zeros and ones, `labels` [35017], `names`
[35017] and `attributes` [126], what the columns mean: all of meta-data-bin.csv except
Category and SubCategory, which is the label. Rows are in the order of
Zappos(folder, "train"), for WithPrior around it.
"""


def add_flags(parser: Parser) -> None:
    """Adds the flags of the command."""
    about = "folder with ut-zap50k-data/ and ut-zap50k-images/, as they are unpacked"
    add_folder(parser, about)


def prepare(arguments: argparse.Namespace) -> None:
    """Writes the file."""
    write_attributes(
        arguments,
        zappos.Zappos,
        zappos.PUBLISHED,
        lambda train: (zappos.attributes(train), zappos.attribute_names(train)),
    )


main = Command("prepare zappos", DESCRIPTION, add_flags, prepare)
