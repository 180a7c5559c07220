"""Photographs of any shape as records of one: in frames with margins, or as squares."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jax_rcl.core import Source
from jax_rcl.data import host_ops
from jax_rcl.data.folders import Photograph, Resize
from jax_rcl.data.records import Record
from jax_rcl.data.wrappers import AllOf
from jax_rcl.ranges import Count, ranged

EXTENT = "extent"
"""Key of a record in a frame: height and width of the photograph in its upper left."""


@dataclasses.dataclass(frozen=True)
@ranged
class Framed(AllOf):
    """Photographs in frames of one shape, to be laid out in memory or packed.

    `image` [longest, longest, c] has the photograph in its upper left and black around
    it, `extent` int32 [2] its height and width. One whose longer side is above
    `longest` is made smaller, bilinearly with antialiasing, its proportions kept.
    `RandomCrops` and `Squares` around this see the photographs alone.

    Attributes:
      source: of whole photographs, such as `ImageFolder(folder, size=None)`.
      longest: pixels; of ImageNet most photographs have 500.
    """

    source: Source
    longest: Count

    def __getitem__(self, index: int) -> Record:
        record = self.source[index]
        photograph = self._fitted(record["image"])
        height, width, channels = photograph.shape
        frame = np.zeros((self.longest, self.longest, channels), np.uint8)
        frame[:height, :width] = photograph
        extent = np.array([height, width], np.int32)
        return {**record, "image": frame, EXTENT: extent}

    def _fitted(self, photograph: Any) -> UInt8[np.ndarray, "h w c"]:
        height, width, channels = photograph.shape
        longer = max(height, width)
        if longer <= self.longest:
            return np.asarray(photograph)
        sides = (max(round(s * self.longest / longer), 1) for s in (width, height))
        # A JPEG may come at a fraction of its size, twice the wanted one at least.
        image = as_pil(photograph, longer // (2 * self.longest))
        image = image.resize(tuple(sides), Image.Resampling.BILINEAR)
        return np.asarray(image).reshape(image.height, image.width, channels)


@dataclasses.dataclass(frozen=True)
@ranged
class Squares(AllOf):
    """Photographs of any shape as squares of `size`, as evaluators see them.

    Attributes:
      source: of whole photographs, in frames or not.
      resize: how they become squares, see `folders.Resize`.
    """

    source: Source
    size: Count
    resize: Resize = "as torchvision"

    def __getitem__(self, index: int) -> Record:
        record = whole(self.source[index])
        channels = record["image"].shape[-1]
        image, square = as_pil(record["image"]), host_ops.shorter_side
        if self.resize == "bicubic":
            square = host_ops.center_square
        pixels = np.asarray(square(image, self.size))
        return {**record, "image": pixels.reshape(self.size, self.size, channels)}


def whole(record: Record) -> Record:
    """A record with its photograph alone, without the margins of a frame."""
    if EXTENT not in record:
        return record
    height, width = record[EXTENT]
    kept = {key: value for key, value in record.items() if key != EXTENT}
    return {**kept, "image": record["image"][:height, :width]}


def as_pil(photograph: Any, spare: int = 1) -> Image.Image:
    """An image of PIL; a JPEG smaller by up to the factor `spare`, 2, 4 or 8."""
    if isinstance(photograph, Photograph):
        return photograph.decode(max(f for f in (1, 2, 4, 8) if f <= max(spare, 1)))
    # PIL has no gray images with an axis of one channel.
    gray = photograph.shape[-1] == 1
    return Image.fromarray(photograph[..., 0] if gray else photograph)
