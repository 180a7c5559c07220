"""The attributes of CUB-200-2011 as a prior: `jax-rcl prepare cub`."""

import argparse

import numpy as np
from jaxtyping import Float32

from jax_rcl.cli.prepare.shared import add_folder, write_attributes
from jax_rcl.cli.shared import Command, Parser
from jax_rcl.data.published import cub

DESCRIPTION = """\
Makes the prior of CUB-200-2011: the 312 attributes of every training image.

The file holds `prior` [5994, 312] float32 of zeros and ones, `labels` [5994], `names`
[5994] and `attributes` [312], what the columns mean. Rows are in the order of
Cub200(folder, "train"), for WithPrior around it.
"""


def add_flags(parser: Parser) -> None:
    """Adds the flags of the command."""
    add_folder(parser, "CUB_200_2011, as it is unpacked")
    about = (
        "attributes that the annotator was less sure of become 0; 2 is guessing, 3 "
        "probably, 4 definitely, and 1 keeps all as they are"
    )
    levels = cub.CERTAINTIES
    parser.flag("least_certainty", about, type=int, choices=levels, default=1)


def prepare(arguments: argparse.Namespace) -> None:
    """Writes the file."""

    def read(train: cub.Cub200) -> tuple[Float32[np.ndarray, "m p"], tuple[str, ...]]:
        prior = cub.attributes(train, arguments.least_certainty)
        names = cub.attribute_names(train)
        if (k := len(train.class_names)) != cub.CLASSES:
            print(f"warning: there are {k} classes, published are {cub.CLASSES}.")
        if names[0] == "1":
            print("warning: there is no attributes.txt; attributes are numbered.")
        return prior, names

    write_attributes(arguments, cub.Cub200, cub.PUBLISHED, read)


main = Command("prepare cub", DESCRIPTION, add_flags, prepare)
