"""GLoRIA's features of radiographs as a prior: `jax-rcl prepare gloria`."""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image

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
from jax_rcl.data.frames import as_pil, whole

MODEL = "gloria_resnet18"
"""Which of the package's models the authors take: 512 numbers."""

SIDE = 224
"""Height and width of the images that the authors give it."""

MEAN, STD = np.float32(0.5024), np.float32(0.2898)
"""Of CheXpert's pixels in [0, 1]."""

DESCRIPTION = """\
Encodes the radiographs of a source by GLoRIA's image encoder (Huang et al. 2021), and
writes the features to a file that `data.prior.WithPrior` reads, with labels and names.

As the code of Dufumier et al. 2023 means it: whole radiographs, resized to 224 x 224
pixels whatever their proportions, normalised by 0.5024 and 0.2898, in three equal
channels; the 512 numbers of the ResNet-18 before the embedding of text. The encoder is
in inference mode, which their code forgot. Needs PyTorch and https://github.com/marshuang80/gloria.
"""


def add_flags(parser: Parser) -> None:
    """Adds the flags of the command."""
    add_source(parser)
    parser.flag("model", "name of GLoRIA's model", default=MODEL)
    parser.flag("device", "of PyTorch, such as cuda", default="cpu")
    parser.flag("batch_size", "images in a call", type=positive, default=128)
    add_out(parser)


def prepare(arguments: argparse.Namespace) -> None:
    """Writes the features of one source."""
    out = free_file(arguments)
    source = named_source(arguments)
    encode = encoder(arguments.model, arguments.device)

    def image(place: int) -> Float32[np.ndarray, "3 224 224"]:
        return normalised(whole(source[place])["image"])

    rows = encode_all(image, len(source), encode, arguments.batch_size)
    write_prior(out, source, rows)


def encoder(model: str, device: str) -> Callable[[np.ndarray], np.ndarray]:
    """Images [n, 3, h, w] to features [n, 512], in inference mode."""
    hint = "install https://github.com/marshuang80/gloria as its page says"
    torch, gloria = imported(("torch", "gloria"), "GLoRIA", hint)
    loaded: Any = gloria.load_gloria(model, device=device)
    loaded.eval()

    def encode(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            found = loaded.img_encoder(torch.from_numpy(images).to(device))
        return found.cpu().numpy()

    return encode


def normalised(radiograph: Any) -> Float32[np.ndarray, "3 224 224"]:
    """A radiograph [h, w, 1 or 3] as the encoder takes it; bilinear, antialiased."""
    square = as_pil(radiograph).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    pixels = np.asarray(square, np.float32).reshape(SIDE, SIDE, -1)
    x = np.broadcast_to((pixels / 255 - MEAN) / STD, (SIDE, SIDE, 3))
    return np.ascontiguousarray(x.transpose(2, 0, 1))


main = Command("prepare gloria", DESCRIPTION, add_flags, prepare)
