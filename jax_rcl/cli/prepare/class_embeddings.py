"""Embeddings of names of classes: `jax-rcl prepare class_embeddings`."""

import argparse
from pathlib import Path
from typing import get_args

import numpy as np

from jax_rcl.cli.prepare.shared import add_out, free_file, save_arrays
from jax_rcl.cli.shared import Command, Parser
from jax_rcl.config.types import ConfigError
from jax_rcl.data.published.imagenet import IMAGENET_100
from jax_rcl.evaluate.class_embeddings import Activation, Checksum, FromText, called
from jax_rcl.train.plan import refusals

LISTS = {"imagenet100": IMAGENET_100}
"""Lists of classes with known names, by what --names calls them."""

DESCRIPTION = """\
Encodes the names of classes by CLIP's text tower, once, and writes the embeddings to a
file that `evaluate.zero_shot.FromFile` reads without the weights or the tokenizer:
`embedding` [k, d] float32 of unit length, `names` [k], what the source calls each
class, and for people to read `called` [k] and `templates`. Needs the extra `zeroshot`.
"""


def add_flags(parser: Parser) -> None:
    """Adds the flags of the command."""
    about = "weights with both towers"
    parser.flag("clip", about, required=True, metavar="FILE")
    about = (
        f"{', '.join(LISTS)}, or a text file with one class name of the source a line, "
        f"followed by a tab and what to call the class unless that is the name with "
        f"spaces for underscores"
    )
    parser.flag("names", about, required=True, metavar="LIST|FILE")
    about = "text with {} where the name goes, such as A photo of {}; may be repeated"
    parser.flag("template", about, action="append")
    about = "of the text tower; OpenAI's have quick gelu"
    kinds = get_args(Activation)
    parser.flag("activation", about, choices=kinds, default="quick gelu")
    about = "of its attention, for widths that no published tower has"
    parser.flag("heads", about, type=int)
    about = "any does not compare files of published names with their digests"
    parser.flag("checksum", about, choices=get_args(Checksum), default="known")
    add_out(parser)


def prepare(arguments: argparse.Namespace) -> None:
    """Writes the file."""
    out = free_file(arguments)
    classes, names = read_names(arguments.names)
    templates = tuple(arguments.template or ("A photo of {}",))
    with refusals("--template"):
        rule = FromText(
            arguments.clip,
            templates,
            names,
            arguments.activation,
            arguments.checksum,
            arguments.heads,
        )
    with refusals("class embeddings"):
        embedding = rule(classes)
    arrays = {
        "embedding": embedding,
        "names": np.array(classes, dtype=str),
        "called": np.array(names, dtype=str),
        "templates": np.array(templates, dtype=str),
    }
    save_arrays(out, arrays)
    k, d = embedding.shape
    print(
        f"{out}: embeddings [{k}, {d}] of {k} classes by {rule}, such as "
        f"{templates[0].replace('{}', names[0])!r} for {classes[0]!r}."
    )


def read_names(given: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes of a list or a file, and what each is called."""
    if given in LISTS:
        return LISTS[given], called(LISTS[given])
    path = Path(given).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"--names={given} is neither {' nor '.join(LISTS)} nor a file."
        )
    lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    pairs = [line.partition("\t")[::2] for line in lines if line]
    classes = tuple(name.strip() for name, _ in pairs)
    if len(set(classes)) < len(classes) or not classes:
        twice = sorted(name for name in classes if classes.count(name) > 1)
        problem = f"names {twice[0]!r} twice" if twice else "names no classes"
        raise ConfigError(f"--names={given} {problem}; write one class on each line.")
    with refusals("--names"):
        usual = called(tuple(name for name, other in pairs if not other.strip()))
    rest = iter(usual)
    return classes, tuple(other.strip() or next(rest) for _, other in pairs)


main = Command("prepare class_embeddings", DESCRIPTION, add_flags, prepare)
