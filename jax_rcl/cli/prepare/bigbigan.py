"""BigBiGAN's features as a prior: `jax-rcl prepare bigbigan`."""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from jax_rcl.cli.prepare.features import named_source
from jax_rcl.cli.prepare.shared import (
    add_out,
    add_source,
    encode_all,
    free_file,
    imported,
    write_prior,
)
from jax_rcl.cli.shared import Command, Parser, positive
from jax_rcl.config.types import ConfigError
from jax_rcl.data.folders import read_image
from jax_rcl.data.wrappers import AllOf, Chosen

MODULE = "https://tfhub.dev/deepmind/bigbigan-resnet50/1"
"""The encoder of Donahue and Simonyan 2019 (https://arxiv.org/abs/1907.02544)."""

SIDE, OUTPUT = 256, "bn_crelu_feat"
"""Side of its images, and which of its outputs is the prior: 4,096 numbers."""

DESCRIPTION = """\
Encodes the image files of a source by BigBiGAN's encoder of TensorFlow Hub, and writes
the features to a file that `data.prior.WithPrior` reads, with labels and names.

As the code of Dufumier et al. 2023 does it: the whole photograph, not the central
square that is trained on, becomes 256 x 256 pixels (bilinear, without a filter) in
[-1, 1]; `bn_crelu_feat`, 4,096 numbers, is the prior. Needs TensorFlow and TensorFlow
Hub: pip install 'jax_rcl[bigbigan]'.
"""


def add_flags(parser: Parser) -> None:
    """Adds the flags of the command."""
    add_source(parser)
    parser.flag("module", "address or folder of the encoder", default=MODULE)
    parser.flag("batch_size", "images in a call", type=positive, default=64)
    add_out(parser)


def prepare(arguments: argparse.Namespace) -> None:
    """Writes the features of one source."""
    out = free_file(arguments)
    source = named_source(arguments)
    holder: Any = source
    # What is around all records of a source of files may change images, not files.
    while isinstance(holder, AllOf) and not isinstance(holder, Chosen):
        holder = holder.source
    files = getattr(holder, "files", None)
    if files is None:
        raise ConfigError(
            f"{source!r} has no image files; BigBiGAN sees whole photographs. Name a "
            f"source that has, such as an ImageFolder, by --part."
        )
    encode, remedy = encoder(arguments.module), getattr(holder, "remedy", "")

    def image(place: int) -> Float32[np.ndarray, "256 256 3"]:
        return whole_image(np.asarray(read_image(files[place][0], remedy)))

    rows = encode_all(image, len(files), encode, arguments.batch_size)
    write_prior(out, source, rows)


def encoder(module: str) -> Callable[[np.ndarray], np.ndarray]:
    """Images [n, 256, 256, 3] in [-1, 1] to features [n, 4096]."""
    hint = "pip install 'jax_rcl[bigbigan]'"
    tensorflow, hub = imported(("tensorflow", "tensorflow_hub"), "BigBiGAN", hint)
    signature: Any = hub.load(module).signatures["encode"]

    def encode(images: np.ndarray) -> np.ndarray:
        return np.asarray(signature(tensorflow.constant(images))[OUTPUT])

    return encode


def whole_image(
    pixels: UInt8[np.ndarray, "h w c"],
) -> Float32[np.ndarray, "256 256 c"]:
    """A photograph squeezed to 256 x 256 pixels, x / 127.5 - 1.

    Bilinear between the centres of pixels, as `tf.image.resize`: nothing is averaged
    where an image becomes smaller.
    """
    x = pixels.astype(np.float32)
    for axis in (0, 1):
        length = x.shape[axis]
        places = (np.arange(SIDE, dtype=np.float32) + 0.5) * (length / SIDE) - 0.5
        first = np.floor(places)
        share = (places - first).reshape((-1,) + (1,) * (2 - axis))
        lower, upper = (
            np.take(x, np.clip(first + step, 0, length - 1).astype(int), axis)
            for step in (0, 1)
        )
        x = lower + (upper - lower) * share.astype(np.float32)
    return x / np.float32(127.5) - 1


main = Command("prepare bigbigan", DESCRIPTION, add_flags, prepare)
