"""The tiny config with the smallest encoder, and devices to train it on."""

from pathlib import Path

import flax.linen as nn
import jax

from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.augment.geometry import Flip
from jax_rcl.config.nodes import node
from jax_rcl.config.overrides import override

TINY = str(Path(__file__).parents[1] / "tiny.py")


class Pixels(nn.Module):
    """The smallest encoder that takes images of one size only."""

    width: int = 8

    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(self.width, name="dense")(images.reshape(len(images), -1))


def tiny(arg="", **fields):
    """The tiny config with other parts, or texts of other values by path."""
    made = configs.load(f"{TINY}:{arg}")
    with made.unlocked():
        made.augment.operation = node(Flip)
        made.objective.encoder = node(Pixels)
        for name, value in fields.items():
            if not isinstance(value, str):
                made[name] = value
    for name, value in fields.items():
        if isinstance(value, str):
            override(made, name, value)
    return made


def mesh(devices=1):
    return parallel.make_mesh(jax.devices()[:devices])
