"""Random crops of whole photographs, cut on the host, where files are decoded.

Photographs differ in size, and arrays on a device do not: what is cut there must be
laid into one frame before, as a square that loses the margins and enlarges the crops.
Here the box of every view is a function of (seed, step, place in the global batch,
view) and of the photograph's size, so that neither the number of processes or threads
nor an interruption changes what is cut.
"""

import dataclasses
import math
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int32, UInt8
from PIL import Image

from jax_rcl.core import Source
from jax_rcl.data.folders import Photograph
from jax_rcl.data.frames import as_pil, whole
from jax_rcl.data.records import Record, check_drawn_last
from jax_rcl.data.wrappers import AllOf
from jax_rcl.ranges import Areas, Aspects, Count, ranged

TRIES = 10
"""How often a box is drawn before the central one is taken."""

NUMBERS = 2 * TRIES + 2
"""Uniform numbers of a view: areas, aspect ratios, and a place along either axis."""

# The generator gives four words for each value of its counter.
_BLOCKS = -(-NUMBERS // 4)

DRAFT = 2
"""A JPEG is decoded at a half, a quarter or an eighth of its size where the smallest
crop then still has this many times the pixels of a view along each axis."""


def uniforms(
    seed: int, step: int, view: int, first: int, count: int
) -> Float64[np.ndarray, "count 22"]:
    """Numbers in [0, 1) for places `first`, `first` + 1, … of a step's global batch.

    Raw bits of the Philox generator, which never change, as in `records.permutation`;
    its second counter keeps them apart from those of the order.
    """
    counter = [_BLOCKS * first, 1 + view, step, 0]
    words = np.random.Philox(key=seed, counter=counter).random_raw(4 * _BLOCKS * count)
    words = words.reshape(count, 4 * _BLOCKS)[:, :NUMBERS]
    return (words >> np.uint64(11)) * 2.0**-53


def random_boxes(
    numbers: Float64[np.ndarray, "m 22"],
    heights: Int32[np.ndarray, " m"],
    widths: Int32[np.ndarray, " m"],
    *,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> Int32[np.ndarray, "m 4"]:
    """Top, left, height and width of the box that each row of `numbers` stands for.

    The distribution of torchvision's `RandomResizedCrop`: of ten boxes, areas uniform
    and logarithms of width / height uniform, the first that fits the image, at a
    uniformly random place; if none fits, the largest central box within `aspect`.
    """
    extent = np.stack([heights, widths], axis=1).astype(np.float64)
    share = area[0] + numbers[:, :TRIES] * (area[1] - area[0])
    pixels = extent.prod(axis=1, keepdims=True) * share
    low, high = math.log(aspect[0]), math.log(aspect[1])
    ratio = np.exp(low + numbers[:, TRIES : 2 * TRIES] * (high - low))
    sides = np.rint(np.sqrt(np.stack([pixels / ratio, pixels * ratio], axis=-1)))
    fits = np.all((sides > 0) & (sides <= extent[:, None]), axis=-1)
    chosen = sides[np.arange(len(sides)), fits.argmax(axis=1)]
    drawn = np.any(fits, axis=1)[:, None]
    # Of an image that is too narrow, or too wide, the largest part that is not.
    central = np.stack([extent[:, 1] / aspect[0], extent[:, 0] * aspect[1]], axis=1)
    central = np.minimum(extent, np.rint(central))
    chosen = np.where(drawn, chosen, np.maximum(central, 1))
    room = extent - chosen
    place = np.floor(numbers[:, 2 * TRIES :] * (room + 1))
    place = np.where(drawn, place, room // 2)
    return np.concatenate([place, chosen], axis=1).astype(np.int32)


@dataclasses.dataclass(frozen=True)
@ranged
class RandomCrops(AllOf):
    """Photographs, each record with `count` random crops of its own: `image` [v, s, s].

    Szegedy et al. 2015, section 6 (https://arxiv.org/abs/1409.4842), as torchvision's
    `RandomResizedCrop` cuts images of PIL: boxes by `random_boxes`, cut out and then
    resized with antialiasing, rounded to 8 bits. A view of `augment.Views(count=v)` is
    made of each, and of the one crop of count=1 an `augment.Pair`: their operations
    then begin after the crop. A `texture`, [s, s, c], is cut by the numbers of the
    first view (Ge et al. 2021).

    It goes around everything else: what is around it could not draw anew at each step.

    Attributes:
      source: of whole photographs, such as `ImageFolder(folder, size=None)`.
      area: bounds of the box's area, as a fraction of the photograph's.
      aspect: bounds of width / height of the box.
    """

    source: Source
    size: Count
    area: Areas = (0.08, 1.0)
    aspect: Aspects = (3 / 4, 4 / 3)
    count: Count = 2
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def __post_init__(self) -> None:
        check_drawn_last(self)

    def __getitem__(self, index: int) -> Record:
        """A record as it is drawn for seed 0 and step 0, to show what records are."""
        return self.draw_record(index, seed=0, step=0, place=index)

    def draw_record(self, index: int, *, seed: int, step: int, place: int) -> Record:
        """Record `index` where it stands at this place of this step's global batch."""
        record = whole(self.source[index])
        numbers = [uniforms(seed, step, v, place, 1) for v in range(self.count)]
        crops = self.cut(record["image"], np.concatenate(numbers))
        if "texture" not in record:
            return {**record, "image": crops}
        (texture,) = self.cut(record["texture"], numbers[0])
        return {**record, "image": crops, "texture": texture}

    @property
    def laid_out(self) -> Source | None:
        """What is laid out in device memory to be cut there; None if shapes differ."""
        whole_files = isinstance(self.source[0]["image"], Photograph)
        return None if whole_files else self.source

    def step_boxes(
        self,
        rows: dict[str, Int32[np.ndarray, "m 2"]],
        seed: int,
        step: int,
        first: int,
    ) -> dict[str, Int32[np.ndarray, "m _ 4"]]:
        """Boxes by key of a share of a step's batch, from its place `first` on.

        `rows` has height and width of each record's `image`, and perhaps `texture`.
        """
        count = len(rows["image"])
        numbers = [uniforms(seed, step, v, first, count) for v in range(self.count)]

        def boxes(key: str, views: int) -> Int32[np.ndarray, "m v 4"]:
            sides = rows[key].T
            return np.stack([self.boxes(x, *sides) for x in numbers[:views]], axis=1)

        return {key: boxes(key, self.count if key == "image" else 1) for key in rows}

    def boxes(
        self,
        numbers: Float64[np.ndarray, "m 22"],
        heights: Int32[np.ndarray, " m"],
        widths: Int32[np.ndarray, " m"],
    ) -> Int32[np.ndarray, "m 4"]:
        """`random_boxes` within these bounds."""
        bounds = {"area": self.area, "aspect": self.aspect}
        return random_boxes(numbers, heights, widths, **bounds)

    def cut(
        self, photograph: Any, numbers: Float64[np.ndarray, "v 22"]
    ) -> UInt8[np.ndarray, "v s s c"]:
        """Crops of an image, an array [h, w, c] or a `Photograph`, one for each row."""
        height, width, channels = photograph.shape
        each = np.ones(len(numbers), np.int32)
        boxes = self.boxes(numbers, height * each, width * each)
        spare = int(boxes[:, 2:].min()) // (DRAFT * self.size)
        image = as_pil(photograph, spare)
        scale = image.width / width, image.height / height
        crops = [self._resized(image, box, scale) for box in boxes.tolist()]
        return np.stack(crops).reshape(len(boxes), self.size, self.size, channels)

    def _resized(
        self, image: Image.Image, box: list[int], scale: tuple[float, float]
    ) -> UInt8[np.ndarray, "..."]:
        top, left, height, width = box
        kind = Image.Resampling[self.interpolation.upper()]
        shape, place = (self.size, self.size), (left, top, left + width, top + height)
        if scale == (1.0, 1.0):
            # Two steps: a resize of a box also weighs the pixels around it.
            return np.asarray(image.crop(place).resize(shape, kind))
        across, down = scale
        part = place[0] * across, place[1] * down, place[2] * across, place[3] * down
        return np.asarray(image.resize(shape, kind, box=part))
