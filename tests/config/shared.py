"""Classes and nodes for tests of configs."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from jax_rcl.augment.compose import Views
from jax_rcl.augment.geometry import Flip
from jax_rcl.config.experiment import Experiment
from jax_rcl.config.nodes import node
from jax_rcl.data.sources import Synthetic
from jax_rcl.networks.heads import Mlp
from jax_rcl.networks.resnet import ResNet
from jax_rcl.objectives.supcon import SupCon
from jax_rcl.optim.optimizers import Sgd


@dataclasses.dataclass(frozen=True)
class Part:
    size: int = 3

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"size must be at least 1; got {self.size}.")


@dataclasses.dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    rate: float = 0.1
    mode: Literal["fast", "slow"] = "fast"
    name: str = "whole"
    limit: int | None = None
    deep: bool = False
    widths: tuple[int, ...] = (1, 2)
    table: Mapping[str, str] = dataclasses.field(default_factory=dict)
    extra: Part = Part(7)


def whole():
    return node(Whole, (node(Part, 4), node(Part)), table={"a/b": "c"})


def supcon(**fields):
    encoder = node(ResNet, depth=10, width=4, stem="small")
    return node(SupCon, encoder, node(Mlp, (8, 8)), **fields)


def experiment(**fields):
    source, augment = node(Synthetic), node(Views, node(Flip))
    return node(Experiment, supcon(), source, augment, node(Sgd, 0.1), **fields)
