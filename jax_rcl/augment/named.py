"""Operations by name and level, as lists of augmentations write them.

The names are the 34 that the configs of Thanos (https://arxiv.org/abs/2204.07596)
choose from. Those that have no settings, or one magnitude, are `Named`; the others are
operations of their own:

- CenterCrop, ColorJitter, GaussianBlur, RandomCrop, RandomResizedCrop, Resize and
  ResizeAndPad: the classes of the same name. Resize and RandomResizedCrop are bilinear
  with antialiasing, as PIL's.
- RandomGrayscale(p): `Maybe(Grayscale(), p)`. RandomHorizontalFlip(p): `Flip(p)`.
- ColorDistortion(s): `Maybe(ColorJitter(0.8 s, 0.8 s, 0.8 s, 0.2 s), 0.8)` and then
  `Maybe(Grayscale(), 0.2)`, in a `Chain`.
- ToTensor and Normalize: images are in [0, 1] everywhere, and their mean and deviation
  belong to `networks.heads.Normalized`. Reshape2D, which flattens: networks cut patches
  themselves. Identity: `Chain(())`.

`prob=p` of any of them is `Maybe(operation, p)`.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import jax

from jax_rcl.augment.affine import Rotate, Shear, Translate
from jax_rcl.augment.color import Grayscale, Solarize
from jax_rcl.augment.compose import Chain
from jax_rcl.augment.filters import Blur, Sharpness, Smooth
from jax_rcl.augment.geometry import Flip, VerticalFlip
from jax_rcl.augment.patches import Cutout
from jax_rcl.augment.resample import Image
from jax_rcl.augment.tone import (
    AutoContrast,
    Brightness,
    Contrast,
    Equalize,
    Invert,
    Posterize,
    Saturation,
)
from jax_rcl.core import Operation
from jax_rcl.ranges import Share, ranged

Name = Literal[
    "AutoContrast",
    "Blur",
    "Brightness",
    "Color",
    "Contrast",
    "Cutout",
    "Equalize",
    "Grayscale",
    "HorizontalFlip",
    "Invert",
    "Posterize",
    "Rotate",
    "Sharpness",
    "ShearX",
    "ShearY",
    "Smooth",
    "Solarize",
    "TranslateX",
    "TranslateY",
    "VerticalFlip",
]


def _solarize(threshold: float) -> Operation:
    """Inverts the levels 0 ... 255 from `threshold` on; 256 leaves the image."""
    first = math.ceil(threshold)
    # Halfway to the level below, so that no rounding of the images matters.
    return Solarize(max(first - 0.5, 0.0) / 255) if first < 256 else Chain(())


_FIXED: dict[str, Operation] = {
    "AutoContrast": AutoContrast(),
    "Blur": Blur(),
    "Equalize": Equalize(),
    "Grayscale": Grayscale(),
    "HorizontalFlip": Flip(1.0),
    "Invert": Invert(),
    "Smooth": Smooth(),
    "VerticalFlip": VerticalFlip(1.0),
}
_SCALED: dict[str, tuple[Callable[[Any], Operation], float, float]] = {
    "Brightness": (Brightness, 0.1, 1.9),  # factor
    "Color": (Saturation, 0.1, 1.9),  # factor of the saturation
    "Contrast": (Contrast, 0.1, 1.9),  # factor
    "Cutout": (lambda side: Cutout((side, side)), 0, 20),  # side in whole pixels
    "Posterize": (Posterize, 0, 4),  # whole bits
    "Rotate": (Rotate, 0.0, 30.0),  # degrees
    "Sharpness": (Sharpness, 0.1, 1.9),  # factor
    "ShearX": (lambda slope: Shear(slope, "x"), 0.0, 0.3),
    "ShearY": (lambda slope: Shear(slope, "y"), 0.0, 0.3),
    "Solarize": (_solarize, 0.0, 256.0),  # threshold on the levels 0 ... 255
    "TranslateX": (lambda pixels: Translate(pixels, "x"), 0.0, 10.0),
    "TranslateY": (lambda pixels: Translate(pixels, "y"), 0.0, 10.0),
}
RANGES = {name: (low, high) for name, (_, low, high) in _SCALED.items()}
"""Magnitude at level 0 and at level 1.

Level 0 is not always the weakest: it is nearly black, flat, gray or smooth for the four
factors, black for Posterize and the negative for Solarize.
"""


def magnitude(name: str, level: float) -> float | int:
    """The magnitude at a level in [0, 1], linear in `RANGES`; whole ones truncated."""
    low, high = RANGES[name]
    value = (1 - level) * low + level * high
    return int(value) if isinstance(low, int) else value


@dataclasses.dataclass(frozen=True)
@ranged
class Named:
    """The operation of this name, at a level of the range of its magnitude.

    Directions of Rotate, ShearX, ShearY, TranslateX and TranslateY are drawn for each
    image, and so is the place of Cutout; flips always flip. The level lies between the
    ends of `RANGES[name]`; it is 0 for what has no magnitude.
    """

    name: Name
    level: Share = 0.0

    def __post_init__(self) -> None:
        if self.level and self.name not in RANGES:
            raise ValueError(
                f"Named.level {self.level} must be 0: {self.name} has no magnitude."
            )

    def __call__(self, key: jax.Array, image: Image) -> Image:
        return self.operation(key, image)

    @property
    def operation(self) -> Operation:
        """The operation itself."""
        if self.name in RANGES:
            return _SCALED[self.name][0](magnitude(self.name, self.level))
        return _FIXED[self.name]
