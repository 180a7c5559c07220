"""Texture synthesis on the device: a patchwork of blocks with inconspicuous seams."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jax_rcl.augment.resample import Image, Whole
from jax_rcl.ranges import AtLeast, Count, ranged

LEVELS = 255
"""Steps of brightness in which blocks are compared: those of an image on disk."""

LARGEST = 2**31 - 1
"""The largest 32-bit integer, as which differences are summed."""


def minimum_cut(costs: Int[Array, "i j"]) -> Int[Array, " i"]:
    """The cheapest way down through a table, one column for each row.

    The path moves by at most one column from row to row, and the sum of what it crosses
    is minimal (Efros and Freeman 2001, section 2.1). Of equally good columns it takes
    the left one. Sums of the costs, which are not negative, must fit into 32 bits.
    """

    def down(above: Array, row: Array) -> tuple[Array, Array]:
        total = row + neighbours(above).min(axis=0)
        return total, total

    def up(below: Array, total: Array) -> tuple[Array, Array]:
        column = below - 1 + jnp.argmin(neighbours(total)[:, below]).astype(jnp.int32)
        return column, column

    _, totals = lax.scan(down, costs[0], costs[1:])
    totals = jnp.concatenate([costs[:1], totals])
    last = jnp.argmin(totals[-1]).astype(jnp.int32)
    _, columns = lax.scan(up, last, totals[:-1], reverse=True)
    return jnp.append(columns, last)


def neighbours(row: Int[Array, " j"]) -> Int[Array, "3 j"]:
    """The left neighbour, the value itself and the right one, for each place."""
    padded = jnp.pad(row, 1, constant_values=LARGEST)
    return jnp.stack([padded[:-2], padded[1:-1], padded[2:]])


@dataclasses.dataclass(frozen=True)
@ranged
class Quilting:
    """A texture with the image's local statistics, quilted of blocks of two squares.

    Image quilting, Efros and Freeman 2001 (https://doi.org/10.1145/383259.383296).
    Blocks are laid row by row, each over the edges of those above and to the left. Of
    random blocks of the examples one is taken whose squared difference from what it
    covers is at most 1 + `tolerance` times the smallest, all alike; it is joined
    along the path of least squared difference, `minimum_cut`. Every pixel of the
    result is one of the examples. The paper tries all blocks, and overlaps a sixth of
    them; here `candidates` are tried, so that the cost does not depend on `patch`.

    The examples are two squares of the image, one in its middle and one at a random
    place, as in Ge et al. 2021 (https://arxiv.org/abs/2110.14189). Their textures were
    made beforehand by another algorithm, multiresolution stochastic texture synthesis
    by EmbarkStudios, which copies single pixels. Blocks are copied here, so that
    structure of their size stays whole.

    Attributes:
      patch: side of the example squares; the image must be as large.
      block: side of a block; None: a third of `patch`.
      overlap: how far a block lies over its neighbours; None: a quarter of `block`.
      candidates: random blocks among which each block is chosen.
      tolerance: how much worse than the best a block may fit and still be taken.
    """

    size: Count
    patch: int = 96
    block: int | None = None
    overlap: int | None = None
    candidates: Count = 256
    tolerance: Annotated[float, AtLeast(0, "0 takes only the best")] = 0.1

    def __post_init__(self) -> None:
        block, overlap = self.sides()
        if not 1 <= overlap < block <= self.patch:
            raise ValueError(
                f"Quilting.overlap {overlap}, block {block} and patch {self.patch} "
                f"must be 1 <= overlap < block <= patch; usual are a quarter of the "
                f"block and a third of the patch."
            )

    def sides(self) -> tuple[int, int]:
        """Sides of a block and of the overlap, in pixels."""
        block = self.patch // 3 if self.block is None else self.block
        return block, max(block // 4, 1) if self.overlap is None else self.overlap

    def __call__(self, key: jax.Array, image: Image) -> Float[Array, "s s c"]:
        h, w, c = image.shape
        if min(h, w) < self.patch:
            raise ValueError(
                f"Quilting.patch {self.patch} must fit into the image of {h} x {w}; "
                f"write patch={min(h, w)} or less, or put a Resize before it."
            )
        block, overlap = self.sides()
        if c * (block**2 - (block - overlap) ** 2) * LEVELS**2 > LARGEST:
            raise ValueError(
                f"Quilting.block {block} with overlap {overlap} compares more pixels "
                f"of {c} channels than 32 bits can sum up; choose smaller ones."
            )
        example_key, quilt_key = jax.random.split(key)
        squares = self.examples(example_key, image)
        levels = jnp.round(squares * LEVELS).astype(jnp.int32)
        return squares.reshape(-1, c)[self.quilt(quilt_key, levels)]

    def examples(self, key: jax.Array, image: Image) -> Float[Array, "2 p p c"]:
        """The square in the middle, and one at a uniformly random place."""
        h, w, c = image.shape
        room = jnp.array([h - self.patch, w - self.patch], jnp.int32)
        corners = jnp.stack([room // 2, jax.random.randint(key, (2,), 0, room + 1)])
        return jax.vmap(
            lambda corner: lax.dynamic_slice(
                image, (corner[0], corner[1], 0), (self.patch, self.patch, c)
            )
        )(corners)

    def quilt(self, key: jax.Array, levels: Int[Array, "2 p p c"]) -> Int[Array, "s s"]:
        """The pixels of the examples that make up the result, counted row by row."""
        # Blocks are compared in whole numbers, so that the order of a sum, which may
        # differ between an image alone and in a batch, does not change what is chosen.
        block, overlap = self.sides()
        step = block - overlap
        across = max(-(-(self.size - overlap) // step), 1)
        pixels = levels.reshape(-1, levels.shape[-1])
        first_key, block_key = jax.random.split(key)
        keys = jax.random.split(block_key, across**2)

        def lay(k: Whole, canvas: Int[Array, "l l"]) -> Int[Array, "l l"]:
            place = jnp.array([k // across, k % across], jnp.int32)
            corner, laid = place * step, place > 0
            covered = lax.dynamic_slice(canvas, corner, (block, block))
            chosen = self.choose(keys[k], pixels, covered, laid)
            joined = self.join(pixels, covered, chosen, laid)
            return lax.dynamic_update_slice(canvas, joined, corner)

        # Any pixel will do to begin with, since what was not laid is not compared; a
        # drawn one varies over devices, as the carry of the loop must.
        length = across * step + overlap
        canvas = jnp.full((length, length), self.draw(first_key)[0])
        canvas = lax.fori_loop(0, across**2, lay, canvas)
        return canvas[: self.size, : self.size]

    def draw(self, key: jax.Array) -> Int[Array, " m"]:
        """First pixels of uniformly random blocks of the examples."""
        block, _ = self.sides()
        which_key, corner_key = jax.random.split(key)
        which = jax.random.randint(which_key, (self.candidates,), 0, 2)
        corner = jax.random.randint(
            corner_key, (2, self.candidates), 0, self.patch - block + 1
        )
        return (which * self.patch + corner[0]) * self.patch + corner[1]

    def choose(
        self,
        key: jax.Array,
        pixels: Int[Array, "e c"],
        covered: Int[Array, "k k"],
        laid: Bool[Array, " 2"],
    ) -> Int[Array, ""]:
        """First pixel of a random block that fits what it covers.

        `laid` says whether there are blocks above, and to the left.
        """
        block, overlap = self.sides()
        place = np.arange(block)
        y, x = np.nonzero((place[:, None] < overlap) | (place[None, :] < overlap))
        counts = (laid[0] & (y < overlap)) | (laid[1] & (x < overlap))
        block_key, choice_key = jax.random.split(key)
        starts = self.draw(block_key)
        blocks = pixels[starts[:, None] + jnp.asarray(y * self.patch + x)[None, :]]
        square = jnp.square(blocks - pixels[covered[y, x]][None]).sum(axis=-1)
        errors = jnp.where(counts[None, :], square, 0).sum(axis=1).astype(jnp.float32)
        fits = errors <= (1.0 + self.tolerance) * errors.min()
        order = jax.random.uniform(choice_key, starts.shape)
        return starts[jnp.argmax(jnp.where(fits, order, -1.0))]

    def join(
        self,
        pixels: Int[Array, "e c"],
        covered: Int[Array, "k k"],
        chosen: Int[Array, ""],
        laid: Bool[Array, " 2"],
    ) -> Int[Array, "k k"]:
        """The block that begins at `chosen`, with what stays of what it covers.

        Arguments are as of `choose`. A pixel is of the new block if it lies beyond
        both cuts, that from left to right and that from top to bottom.
        """
        block, overlap = self.sides()
        place = jnp.arange(block)
        y, x = place[:, None], place[None, :]
        new = chosen + self.patch * y + x
        costs = jnp.square(pixels[new] - pixels[covered]).sum(axis=-1)
        costs = jnp.stack([costs[:overlap].T, costs[:, :overlap]])
        cuts = jax.vmap(minimum_cut)(costs)
        above, beside = (jnp.where(laid[i], cuts[i], 0) for i in (0, 1))
        return jnp.where((y >= above[None, :]) & (x >= beside[:, None]), new, covered)
