"""The corruptions of ImageNet-C and CIFAR-10-C by name, with their severity as data.

Hendrycks and Dietterich 2019 (https://arxiv.org/abs/1903.12261): 15 ways in which a
picture goes wrong and 4 more for choosing hyperparameters, each in five severities.
The severity indexes a table of parameters on the device, so that one compiled program
serves all five; strengths are those of the scripts that made the two sets. Results are
floats: the public sets are such pictures truncated to 8 bits and, for ImageNet-C,
stored as JPEG of quality 85, which is not imitated.
"""

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from jax_rcl.augment.corruptions import blurs, digital, noises, weather
from jax_rcl.augment.resample import Image, Whole

_ALL = noises.LEVELS | blurs.LEVELS | weather.LEVELS | digital.LEVELS

FUNCTIONS: Mapping[str, Callable[..., jax.Array]] = {x.__name__: x for x in _ALL}
"""Name to `function(key, image, level)`, with the parameters of one severity [p]."""

LEVELS: Mapping[str, Mapping[int, tuple[tuple[float, ...], ...]]] = {
    function.__name__: levels for function, levels in _ALL.items()
}
"""Name to the side that it is calibrated for to five rows of parameters."""

STANDARD = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
"""The corruptions that a model is judged by, in the order of the paper's tables."""

EXTRA = tuple(name for name in FUNCTIONS if name not in STANDARD)
"""All others, which means leave out; the paper has four, to choose hyperparameters."""

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "noise": STANDARD[:3],
    "blur": STANDARD[3:7],
    "weather": STANDARD[7:11],
    "digital": STANDARD[11:],
    "extra": EXTRA,
}
"""Kinds of corruptions, as the folders of ImageNet-C are sorted."""

SEVERITIES = (1, 2, 3, 4, 5)


@dataclasses.dataclass(frozen=True)
class Corruption:
    """One corruption, called with a severity: (key, image, severity) to an image.

    Images may have any height and width; a traced severity is limited to 1 to 5.

    Attributes:
      name: one of `STANDARD` or `EXTRA`.
      calibration: the side in pixels that the strengths are made for, 224 as in
        ImageNet-C or 32 as in CIFAR-10-C.
    """

    name: str
    calibration: Literal[224, 32] = 224

    def __post_init__(self) -> None:
        known = (*STANDARD, *EXTRA)
        if self.name not in known:
            near = difflib.get_close_matches(self.name, known, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise ValueError(
                f"Corruption.name '{self.name}' is not a corruption; there are: "
                f"{', '.join(known)}.{hint}"
            )

    def __call__(self, key: jax.Array, image: Image, severity: Whole) -> Image:
        return FUNCTIONS[self.name](key, image, self.level(severity))

    def __str__(self) -> str:
        """The name in plain words, for tables."""
        return self.name.replace("_", " ").replace("jpeg", "JPEG")

    def level(self, severity: Whole) -> Float[Array, " p"]:
        """The parameters of one severity, 1 to 5."""
        if not isinstance(severity, Tracer) and int(severity) not in SEVERITIES:
            raise ValueError(
                f"the severity {int(severity)} of {self.name} must be one of "
                f"{', '.join(map(str, SEVERITIES))}."
            )
        rows = jnp.asarray(LEVELS[self.name][self.calibration], jnp.float32)
        row = jnp.clip(jnp.asarray(severity, jnp.int32), 1, len(SEVERITIES)) - 1
        return rows[row]
