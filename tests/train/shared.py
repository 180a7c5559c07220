"""The tiny config with other parts, and devices to train it on."""

from pathlib import Path

import jax

from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.config.overrides import override

TINY = str(Path(__file__).parents[1] / "tiny.py")


def tiny(arg="", **fields):
    """The tiny config with other parts, or texts of other values by path."""
    made = configs.load(f"{TINY}:{arg}")
    with made.unlocked():
        for name, value in fields.items():
            if not isinstance(value, str):
                made[name] = value
    for name, value in fields.items():
        if isinstance(value, str):
            override(made, name, value)
    return made


def mesh(devices=1):
    return parallel.make_mesh(jax.devices()[:devices])
