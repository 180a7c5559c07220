"""Operations on a part of an image: a square cut out, patches of a grid."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jax_rcl.augment.compose import Maybe
from jax_rcl.augment.resample import Image, Whole
from jax_rcl.core import Operation
from jax_rcl.ranges import AtLeast, Count, Rising, Share, ranged


def cut_out(
    image: Image, top: Whole, left: Whole, side: Whole, color: Float[Array, " c"]
) -> Image:
    """Paints a square in one colour; any part of it outside the image is lost."""
    h, w, _ = image.shape
    rows, columns = jnp.arange(h), jnp.arange(w)
    inside = ((rows >= top) & (rows < top + side))[:, None]
    inside = inside & ((columns >= left) & (columns < left + side))[None, :]
    return jnp.where(inside[..., None], color[None, None, :], image)


@dataclasses.dataclass(frozen=True)
@ranged
class Cutout:
    """Paints a square at a random place in one colour.

    DeVries and Taylor 2017 (https://arxiv.org/abs/1708.04552): the centre is a
    uniformly random pixel of the image, so that part of the square may lie outside.

    Attributes:
      side: bounds of the side in pixels, both included, all equally likely.
      fill: red, green and blue; gray images get their mean. The default is the mean
        colour of CIFAR-10.
    """

    side: Annotated[tuple[int, int], Rising(AtLeast(0), "numbers of pixels", (0, 20))]
    fill: tuple[Share, Share, Share] = (125 / 255, 123 / 255, 114 / 255)

    def __call__(self, key: jax.Array, image: Image) -> Image:
        h, w, c = image.shape
        if c not in (1, 3):
            raise ValueError(
                f"Cutout.fill is red, green and blue, or their mean for gray; got an "
                f"image of {c} channels."
            )
        color = jnp.array(self.fill if c == 3 else [sum(self.fill) / 3])
        return cut_out(image, *self.square(key, h, w), color.astype(image.dtype))

    def square(
        self, key: jax.Array, height: int, width: int
    ) -> tuple[Int[Array, ""], Int[Array, ""], Int[Array, ""]]:
        """Draws top, left and side; top and left may be negative."""
        side_key, place_key = jax.random.split(key)
        side = jax.random.randint(side_key, (), self.side[0], self.side[1] + 1)
        shape = jnp.array([height, width], jnp.int32)
        top, left = jax.random.randint(place_key, (2,), 0, shape) - side // 2
        return top, left, side


def grid_of(height: int, width: int, size: int) -> tuple[int, int]:
    """Rows and columns of the grid of patches of `size` by `size` pixels."""
    if height % size or width % size:
        raise ValueError(
            f"patches of {size} x {size} pixels do not cover an image of {height} x "
            f"{width}; the size must divide both sides."
        )
    return height // size, width // size


@dataclasses.dataclass(frozen=True)
@ranged
class Patches:
    """An operation on some patches of an image, each with a key of its own.

    The image is a grid of squares; each, independently of the others, is changed with
    this probability, as if it were an image. `Patches(Invert(), 4)` inverts 3 of 10
    patches, `Patches(Cutout((8, 8)), 4)` paints them over: a square of twice the side
    covers its patch wherever its centre is. The operation keeps the shape, and `size`,
    the side of a patch in pixels, divides both sides of the image.
    """

    operation: Operation
    size: Count
    probability: Share = 0.3

    def __call__(self, key: jax.Array, image: Image) -> Image:
        h, w, c = image.shape
        rows, columns = grid_of(h, w, self.size)
        cut = image.reshape(rows, self.size, columns, self.size, c).swapaxes(1, 2)
        patches = cut.reshape(rows * columns, self.size, self.size, c)
        operation = Maybe(self.operation, self.probability)
        changed = jax.vmap(operation)(jax.random.split(key, len(patches)), patches)
        return changed.reshape(cut.shape).swapaxes(1, 2).reshape(h, w, c)
