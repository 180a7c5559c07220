"""The distortions that students of inverse problems are trained and tested on, by name.

Ravula et al. 2021 (https://arxiv.org/abs/2110.07439) and the configs of its authors,
for images of 224 pixels.
"""

from collections.abc import Mapping

from jax_rcl.augment.compose import OneOf
from jax_rcl.augment.distortions.levels import Leveled
from jax_rcl.augment.distortions.mixtures import mixture
from jax_rcl.augment.distortions.pixelwise import (
    GaussianNoise,
    Identity,
    RandomMask,
    SquareMask,
)
from jax_rcl.augment.filters import GaussianBlur
from jax_rcl.core import Operation

CONDITIONS: Mapping[str, Operation] = {
    "none": Identity(),
    **{f"mask{p}": RandomMask((p / 100, p / 100)) for p in (50, 75, 90)},
    "masks": RandomMask((0.5, 0.95)),
    **{f"noise{p}": GaussianNoise((p / 100, p / 100)) for p in (10, 30, 50)},
    "noises": GaussianNoise((0.1, 0.3)),
    "blur21": GaussianBlur(21, (5.0, 5.0)),
    "blur37": GaussianBlur(37, (9.0, 9.0)),
    "square50": SquareMask((50, 50), "random"),
    "square100": SquareMask((100, 100), "random"),
    **{f"mixture{mode}": mixture(mode) for mode in (1, 2, 3, 4)},
    "all": OneOf(
        (
            Identity(),
            RandomMask((0.25, 0.95)),
            GaussianNoise((0.05, 0.5)),
            GaussianBlur(37, (1.0, 9.0)),
            SquareMask((50, 150), "random"),
        )
    ),
}
"""What a word in a config stands for.

A number is the level in percent, or the size of the kernel; `masks` and `noises` draw
the level for each image, as the authors' range-trained students; `mixture1` to
`mixture4` are their `multi`; `none` distils a teacher into its copy. `all` is not the
paper's: one student for every distortion at every level, the clean image among them.
"""

Levels = tuple[float | tuple[float, ...], ...]

SWEEPS: Mapping[str, tuple[Leveled, Levels]] = {
    "mask": (
        RandomMask((0.5, 0.95)),
        (0.5, 0.75, 0.8, 0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.99),
    ),
    "noise": (
        GaussianNoise((0.1, 0.3)),
        (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5),
    ),
    "blur": (GaussianBlur(37, (5.0, 9.0)), ((21, 5.0), (37, 9.0))),
    "square": (SquareMask((50, 100), "random"), (50, 100)),
}
"""Distortion and levels of a sweep, by the kind of distortion."""


def sweeps_of(condition: str) -> tuple[str, ...]:
    """The kinds of sweeps of a condition; of mixtures, `all` and `none` every kind."""
    kinds = tuple(kind for kind in SWEEPS if condition.startswith(kind))
    return kinds or tuple(SWEEPS)
