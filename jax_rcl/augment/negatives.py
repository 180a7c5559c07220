"""Negatives made of the image itself, its meaning removed: mosaics and textures.

Ge et al. 2021 (https://arxiv.org/abs/2110.14189): a contrastive method that must tell
an image from its own patches in disorder, or from a texture with its local statistics,
cannot rely on what these keep. The views are the same with and without such negatives,
and nothing here depends on the number of devices.
"""

import dataclasses
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jax_rcl import parallel
from jax_rcl.augment.compose import Views, unit_range
from jax_rcl.augment.resample import Image, Whole
from jax_rcl.core import Batch, Clock, Operation
from jax_rcl.ranges import AtLeast, Rising, ranged

MIRRORED, UPSIDE_DOWN, TRANSPOSED = 1, 2, 4
"""What an orientation, a number from 0 to 7, is the sum of; see `patch_mosaic`."""


def cells(length: int, side: int) -> int:
    """Cells of a mosaic along an axis, one more than fit: 15 of side 16 on 224."""
    return length // side + 1


def patch_mosaic(
    image: Image,
    side: Whole,
    tops: Int[Array, "i j"],
    lefts: Int[Array, "i j"],
    orientations: Int[Array, "i j"] | None = None,
) -> Image:
    """Tiles an image with square patches of itself.

    Pixel (y, x) is pixel (tops[r, s] + y mod side, lefts[r, s] + x mod side) of the
    image, with r = floor(y / side) and s = floor(x / side); the last cells are cut off
    at the edge. Everything but the shapes is data: one program serves all sides and
    places.

    Args:
      image: any floating image.
      side: of a patch, in pixels, at least 1.
      tops: first row of the patch in each cell, from 0 to h - side.
      lefts: first column of it, from 0 to w - side.
      orientations: how it is turned, from 0 to 7: 4 (transposed first) + 2 (then upside
        down) + 1 (then mirrored, left and right exchanged). None: all as they are.
    """
    h, w, c = image.shape
    rows, columns = jnp.arange(h), jnp.arange(w)
    cell = (rows // side)[:, None], (columns // side)[None, :]
    down, across = (rows % side)[:, None], (columns % side)[None, :]
    # Places are counted along the pixels in one row after the other, so that each pixel
    # takes one lookup of its cell and one of a pixel with all its channels.
    start = tops * w + lefts
    if orientations is None:
        place = start[cell] + w * down + across
    else:
        # In a turned patch, too, a step down or across is a constant number of places.
        transposed = orientations & TRANSPOSED != 0
        a_row, a_column = jnp.where(transposed, 1, w), jnp.where(transposed, w, 1)
        upside_down = orientations & UPSIDE_DOWN != 0
        start = start + jnp.where(upside_down, (side - 1) * a_row, 0)
        a_row = jnp.where(upside_down, -a_row, a_row)
        mirrored = orientations & MIRRORED != 0
        start = start + jnp.where(mirrored, (side - 1) * a_column, 0)
        a_column = jnp.where(mirrored, -a_column, a_column)
        place = start[cell] + a_row[cell] * down + a_column[cell] * across
    return jnp.take(image.reshape(h * w, c), place, axis=0, mode="clip")


@dataclasses.dataclass(frozen=True)
@ranged
class PatchMosaic:
    """An image's own patches in disorder: local statistics stay, shapes are lost.

    Ge et al. 2021, patch-based negatives. The side is drawn for each image, the place
    of the patch for each cell, so that patches may overlap and repeat.

    Attributes:
      side: bounds of a patch's side in pixels, both included and all equally likely;
        (16, 72) in the paper, for 224 pixels.
      offsets: "all": patches from anywhere, all places equally likely. "released": the
        paper's release never draws the last place along either axis, so that the last
        row and the last column of the image do not occur.
      symmetries: of each patch, independently. "none", as in the paper; "flips":
        mirrored and upside down, each with probability 1/2; "flips and turns": one of
        the eight symmetries of the square, all equally likely.
    """

    side: Annotated[tuple[int, int], Rising(AtLeast(1), "numbers of pixels", (16, 72))]
    offsets: Literal["all", "released"] = "all"
    symmetries: Literal["none", "flips", "flips and turns"] = "none"

    def __call__(self, key: jax.Array, image: Image) -> Image:
        return patch_mosaic(image, *self.draw(key, *image.shape[:2]))

    def draw(
        self, key: jax.Array, height: int, width: int
    ) -> tuple[
        Int[Array, ""], Int[Array, "i j"], Int[Array, "i j"], Int[Array, "i j"] | None
    ]:
        """Draws side, tops, lefts and orientations for an image of this shape."""
        omitted = 1 if self.offsets == "released" else 0
        largest = min(height, width) - omitted
        if self.side[1] > largest:
            reason = ', one less than the image with offsets="released"'
            raise ValueError(
                f"PatchMosaic.side {self.side} must fit into the image of {height} x "
                f"{width}: the upper bound may be {largest} at most"
                f"{reason if omitted else ''}."
            )
        side_key, top_key, left_key, orientation_key = jax.random.split(key, 4)
        low, high = self.side
        # As many cells as the smallest patches need; larger ones use the upper left.
        grid = cells(height, low), cells(width, low)
        side = jax.random.randint(side_key, (), low, high + 1)
        room = 1 - omitted - side
        tops = jax.random.randint(top_key, grid, 0, height + room)
        lefts = jax.random.randint(left_key, grid, 0, width + room)
        if self.symmetries == "none":
            return side, tops, lefts, None
        count = TRANSPOSED if self.symmetries == "flips" else 2 * TRANSPOSED
        return side, tops, lefts, jax.random.randint(orientation_key, grid, 0, count)


@dataclasses.dataclass(frozen=True)
@ranged
class Negatives:
    """Views, and negatives made of the first: adds `views` and `negatives`.

    `negatives` [b, m, h, w, c], `count` for each image, are made of `views[:, 0]`, the
    query, with separate draws, by an operation that keeps its shape; the views are the
    same as without negatives.
    """

    views: Views
    operation: Operation
    count: Annotated[int, AtLeast(1, "for none, write the Views alone")] = 1

    def __call__(self, clock: Clock, batch: Batch) -> Batch:
        batch = self.views(clock, batch)
        queries = batch["views"][:, 0]
        keys = parallel.example_keys(clock.key, len(queries))
        return {**batch, "negatives": jax.vmap(self.of_one)(keys, queries)}

    def of_one(self, key: jax.Array, query: Image) -> Float[Array, "m h w c"]:
        """All negatives of one query; `key` is that of its example."""
        keys = jax.random.split(spare_key(self.views, key), self.count)
        negatives = jax.vmap(self.operation, (0, None))(keys, query)
        if negatives.shape[1:] != query.shape:
            raise ValueError(
                f"Negatives.operation {self.operation} turns {query.shape} into "
                f"{negatives.shape[1:]}; a negative must have the shape of its query. "
                f"Put crops and resizes into the operation of the views."
            )
        return negatives


@dataclasses.dataclass(frozen=True)
class TextureNegatives:
    """Views, and for each image its texture: adds `views` and `negatives`.

    Ge et al. 2021, texture-based negatives: `negatives` [b, 1, h, w, c] is the texture
    of the example, augmented with the key of view 0, the query: a crop of the same
    scale and aspect, the same colours, the same flip.

    Attributes:
      views: adds `views` [b, v, h, w, c].
      texture: makes the texture of the raw image, such as `Quilting(224)`; None takes
        it from the batch, where `data.textures.WithTexture` puts it.
    """

    views: Views
    texture: Operation | None = None

    def __call__(self, clock: Clock, batch: Batch) -> Batch:
        augmented = self.views(clock, batch)
        keys = parallel.example_keys(clock.key, len(batch["image"]))
        negatives = jax.vmap(self.of_one)(keys, self.textures(keys, batch))
        shape, expected = negatives.shape[1:], augmented["views"].shape[2:]
        if shape != expected:
            raise ValueError(
                f"TextureNegatives.views.operation {self.views.operation} turns images "
                f"into {expected}, but textures into {shape}; both must be of one "
                f"shape. Begin it with a RandomResizedCrop or a Resize, and see that "
                f"textures have as many channels as images."
            )
        return {**augmented, "negatives": negatives[:, None]}

    def textures(self, keys: jax.Array, batch: Batch) -> Float[Array, "b ..."]:
        """Raw textures in [0, 1], read or made; `keys` are those of the examples."""
        if self.texture is None:
            if "texture" not in batch:
                raise ValueError(
                    f"TextureNegatives.texture None reads 'texture', but the batch has "
                    f"{', '.join(sorted(batch))}. Wrap the source in WithTexture, or "
                    f"give an operation that makes textures, such as Quilting(224)."
                )
            return unit_range(batch["texture"])
        if batch["image"].ndim == 5:
            raise ValueError(
                f"TextureNegatives.texture {self.texture} makes textures of whole "
                f"images, and the source cuts crops out of them. Read textures from "
                f"files by WithTexture, or cut on the device: without RandomCrops, the "
                f"views beginning with a RandomResizedCrop."
            )
        spare_keys = jax.vmap(lambda key: spare_key(self.views, key))(keys)
        return jax.vmap(self.texture)(spare_keys, unit_range(batch["image"]))

    def of_one(self, key: jax.Array, texture: Image) -> Float[Array, "..."]:
        """The negative of one texture; `key` is that of its example."""
        return self.views.operation(self.views.keys(key)[0], texture)


def spare_key(views: Views, key: jax.Array) -> jax.Array:
    """A key of an example that none of its views uses."""
    # Derived from the example's key and not from the step's: `fold_in` of the step's
    # with any number would be the key of the example in that place. And `fold_in` with
    # a number below `count` would be the key of that view.
    return jax.random.fold_in(key, views.count)
