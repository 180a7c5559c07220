"""Operations that move pixels: crops, resizes, frames, flips, quarter turns.

Images keep the range [0, 1] up to rounding.
"""

import dataclasses
import math
from typing import Annotated

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jax_rcl.augment.resample import Image, Interpolation, resize, resized_crop
from jax_rcl.ranges import (
    Areas,
    Aspects,
    AtLeast,
    Count,
    Share,
    ranged,
)

TRIES = 10
"""How often `RandomResizedCrop` tries to fit a box before it takes the central one."""


@dataclasses.dataclass(frozen=True)
@ranged
class RandomResizedCrop:
    """A random box of the image, resized to a square; the crop of Inception and SimCLR.

    Szegedy et al. 2015, section 6 (https://arxiv.org/abs/1409.4842), drawn as
    torchvision does: up to 10 times an area and a logarithm of the aspect ratio, both
    uniform, and the rounded box is taken if it fits, at a uniformly random place. If
    none fits, the largest central box whose aspect ratio is within bounds. It is
    resized by `resized_crop`.

    Attributes:
      area: bounds of the box's area, as a fraction of the image's.
      aspect: bounds of width / height of the box.
    """

    size: Count
    area: Areas = (0.08, 1.0)
    aspect: Aspects = (3 / 4, 4 / 3)
    antialias: bool = True
    interpolation: Interpolation = "bilinear"

    def __call__(self, key: jax.Array, image: Image) -> Float[Array, "s s c"]:
        return resized_crop(
            image,
            *self.box(key, *image.shape[:2]),
            size=self.size,
            antialias=self.antialias,
            interpolation=self.interpolation,
        )

    def box(
        self, key: jax.Array, height: int, width: int
    ) -> tuple[Int[Array, ""], Int[Array, ""], Int[Array, ""], Int[Array, ""]]:
        """Draws top, left, height and width of a box in an image of this shape."""
        size_key, place_key = jax.random.split(key)
        # All tries at once: a loop until one fits would run as long as the unluckiest
        # image of the batch, and ten uniform pairs cost no more than one.
        area, aspect = jax.random.uniform(size_key, (2, TRIES))
        area = height * width * (self.area[0] + area * (self.area[1] - self.area[0]))
        low, high = math.log(self.aspect[0]), math.log(self.aspect[1])
        aspect = jnp.exp(low + aspect * (high - low))
        sides = jnp.sqrt(jnp.stack([area / aspect, area * aspect]))
        sides = jnp.round(sides).astype(jnp.int32)
        whole = jnp.array([height, width], jnp.int32)
        fits = ((sides > 0) & (sides <= whole[:, None])).all(axis=0)
        central = jnp.array(self.central_sides(height, width), jnp.int32)
        chosen = jnp.where(fits.any(), sides[:, jnp.argmax(fits)], central)
        room = whole - chosen
        place = jax.random.randint(place_key, (2,), 0, room + 1)
        place = jnp.where(fits.any(), place, room // 2)
        return place[0], place[1], chosen[0], chosen[1]

    def central_sides(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the box that is taken when no drawn one fits."""
        low, high = self.aspect
        if width / height < low:
            return max(round(width / low), 1), width
        if width / height > high:
            return height, max(round(height * high), 1)
        return height, width


@dataclasses.dataclass(frozen=True)
@ranged
class RandomCrop:
    """A square at a random place of the image, `padding` black pixels around it.

    The augmentation of supervised training on CIFAR: `RandomCrop(32, padding=4)`,
    He et al. 2016, section 4.2 (https://arxiv.org/abs/1512.03385).
    """

    size: Count
    padding: Annotated[int, AtLeast(0)] = 0

    def __call__(self, key: jax.Array, image: Image) -> Float[Array, "s s c"]:
        top, left = self.place(key, *image.shape[:2])
        margin = (self.padding, self.padding)
        padded = jnp.pad(image, (margin, margin, (0, 0)))
        shape = (self.size, self.size, image.shape[2])
        return lax.dynamic_slice(padded, (top, left, 0), shape)

    def place(
        self, key: jax.Array, height: int, width: int
    ) -> tuple[Int[Array, ""], Int[Array, ""]]:
        """Draws top and left in the padded image, every place equally often."""
        room = [side + 2 * self.padding - self.size for side in (height, width)]
        if min(room) < 0:
            raise ValueError(
                f"RandomCrop.size {self.size} must fit into the image of {height} x "
                f"{width} with padding {self.padding}; use a larger padding or Resize."
            )
        place = jax.random.randint(key, (2,), 0, jnp.array(room, jnp.int32) + 1)
        return place[0], place[1]


@dataclasses.dataclass(frozen=True)
@ranged
class Flip:
    """Exchanges left and right with this probability."""

    probability: Share = 0.5

    def __call__(self, key: jax.Array, image: Image) -> Image:
        flip = jax.random.bernoulli(key, self.probability)
        return jnp.where(flip, image[:, ::-1], image)


@dataclasses.dataclass(frozen=True)
@ranged
class VerticalFlip:
    """Exchanges top and bottom with this probability."""

    probability: Share = 0.5

    def __call__(self, key: jax.Array, image: Image) -> Image:
        upside_down = jax.random.bernoulli(key, self.probability)
        return jnp.where(upside_down, image[::-1], image)


@dataclasses.dataclass(frozen=True)
class Rotate90:
    """Turns a square image by 0, 90, 180 or 270 degrees, all equally likely."""

    def __call__(self, key: jax.Array, image: Image) -> Image:
        h, w, _ = image.shape
        if h != w:
            raise ValueError(
                f"Rotate90 turns square images; got {h} x {w}. Put a crop before it."
            )
        # A quarter turn is a transposition and a flip: three selections make all four
        # cases, those of `numpy.rot90(image, turns)`.
        turns = jax.random.randint(key, (), 0, 4)
        image = jnp.where(turns % 2 == 1, image.swapaxes(0, 1), image)
        image = jnp.where((turns == 1) | (turns == 2), image[::-1], image)
        return jnp.where((turns == 2) | (turns == 3), image[:, ::-1], image)


@dataclasses.dataclass(frozen=True)
@ranged
class Resize:
    """Resizes to a square of `size`, whatever the image's proportions were."""

    size: Count
    antialias: bool = True

    def __call__(self, key: jax.Array, image: Image) -> Float[Array, "s s c"]:
        return resize(image, self.size, self.size, antialias=self.antialias)


@dataclasses.dataclass(frozen=True)
@ranged
class ResizeShorter:
    """Resizes the shorter side to `size` and keeps the proportions.

    The longer side is rounded down, as in torchvision's `Resize(size)`.
    """

    size: Count
    antialias: bool = True

    def __call__(self, key: jax.Array, image: Image) -> Float[Array, "i j c"]:
        h, w, _ = image.shape
        shorter = min(h, w)
        height, width = self.size * h // shorter, self.size * w // shorter
        return resize(image, height, width, antialias=self.antialias)


@dataclasses.dataclass(frozen=True)
@ranged
class ResizeAndPad:
    """Resizes as far as the frame allows, proportions kept, and centres it on black.

    As `PIL.ImageOps.pad`: the side that does not fill the frame is rounded, to even at
    halves, and so is the margin before it. Height and width are those of the frame.
    """

    height: Count
    width: Count
    antialias: bool = True

    def __call__(self, key: jax.Array, image: Image) -> Float[Array, "i j c"]:
        height, width = self.inner(image.shape[0], image.shape[1])
        top, left = (self.height - height) / 2, (self.width - width) / 2
        before = (round(top), round(left))
        after = (self.height - height - before[0], self.width - width - before[1])
        resized = resize(image, height, width, antialias=self.antialias)
        margins = ((before[0], after[0]), (before[1], after[1]), (0, 0))
        return jnp.pad(resized, margins)

    def inner(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns that an image of this shape takes in the frame."""
        if width * self.height > height * self.width:
            return max(round(height / width * self.width), 1), self.width
        return self.height, max(round(width / height * self.height), 1)


@dataclasses.dataclass(frozen=True)
@ranged
class CenterCrop:
    """The square of `size` in the middle; the image must be as large."""

    size: Count

    def __call__(self, key: jax.Array, image: Image) -> Float[Array, "s s c"]:
        h, w, _ = image.shape
        if min(h, w) < self.size:
            raise ValueError(
                f"CenterCrop.size {self.size} must fit into the image of {h} x {w}; "
                f"put ResizeShorter({self.size}) before it."
            )
        # Halves are rounded to even, as torchvision does.
        top, left = round((h - self.size) / 2), round((w - self.size) / 2)
        return image[top : top + self.size, left : left + self.size]
