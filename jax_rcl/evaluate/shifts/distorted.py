"""Test images that are prepared and distorted on the devices, and stay there."""

import functools
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Float32, Int32, Num, UInt32

from jax_rcl import parallel
from jax_rcl.augment.compose import prepare
from jax_rcl.augment.distortions.levels import Leveled
from jax_rcl.core import Operation

Placed = dict[str, jax.Array]
"""A batch, rows split over the devices: `image` [n, h, w, c] as it is prepared, and
`place` [n], where in its source each image is. Rows beyond those asked for fill up."""


@runtime_checkable
class Masking(Leveled, Protocol):
    """A distortion that hides some pixels and leaves the others."""

    def known(
        self, key: jax.Array, image: jax.Array, level: jax.Array
    ) -> Bool[Array, "h w 1"]:
        """True where `at`, called with the same, leaves the pixel."""
        ...


prepare_images = jax.jit(prepare, static_argnums=0)
"""`augment.compose.prepare`, compiled: images [n, h, w, c] in [0, 1]."""


def place(
    preprocess: Operation | None, images: Num[np.ndarray, "n h w c"], first: int
) -> Placed:
    """A batch of a source, prepared on all devices.

    `first` is the place of the first image in the source. The rows are at least n, a
    multiple of the number of devices.
    """
    mesh = parallel.make_mesh()
    places = np.arange(first, first + len(images), dtype=np.int32)
    given = parallel.spread({"image": images, "place": places}, mesh)
    return given | {"image": _prepared(preprocess, mesh, given["image"])}


def distort(distortion: Operation, seed: int, batch: Placed) -> Float[Array, "n h w c"]:
    """Each image distorted by itself, a function of the seed and its place alone.

    Hence not of the batch size, nor of the number of devices.
    """
    words, mesh = np.array([seed], np.uint32), parallel.make_mesh()
    return _distorted(distortion, mesh, False, words, None, batch)[0]


def at_level(
    distortion: Leveled,
    words: UInt32[np.ndarray, " s"],
    level: Float32[np.ndarray, " p"],
    batch: Placed,
    *,
    masked: bool = False,
) -> tuple[Float[Array, "n h w c"], Bool[Array, "n h w 1"] | None]:
    """Each image distorted at a level of `checked`; one program for all of these.

    The words and the place of an image decide what it draws. If `masked`, with where
    each image is still visible, of a `Masking`.
    """
    mesh = parallel.make_mesh()
    return _distorted(distortion, mesh, masked, words, level, batch)


def first_of(
    images: Float[Array, "n h w c"] | Float[np.ndarray, "n h w c"], count: int
) -> Float32[np.ndarray, "m h w c"]:
    """The first `count` of some images, on the host."""
    if isinstance(images, np.ndarray):
        return images[:count]
    return parallel.fetch(_first(parallel.make_mesh(), count, images))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _first(mesh: Mesh, count: int, images: Float[Array, "n h w c"]) -> Array:
    sharding = parallel.replicated(mesh)
    return jax.lax.with_sharding_constraint(images[:count], sharding)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _prepared(
    preprocess: Operation | None, mesh: Mesh, images: Num[Array, "n h w c"]
) -> Float[Array, "n ..."]:
    own = functools.partial(prepare, preprocess)
    return parallel.over_shares(own, mesh, whole=0)(images)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _distorted(
    distortion: Any,
    mesh: Mesh,
    masked: bool,
    words: UInt32[Array, " s"],
    level: Float[Array, " p"] | None,
    batch: Placed,
) -> tuple[Float[Array, "n h w c"], Bool[Array, "n h w 1"] | None]:
    def share(words: Array, level: Array | None, batch: Placed) -> Any:
        def one(key: jax.Array, image: jax.Array) -> tuple[jax.Array, jax.Array | None]:
            if level is None:
                return distortion(key, image), None
            known = distortion.known(key, image, level) if masked else None
            return distortion.at(key, image, level), known

        return jax.vmap(one)(image_keys(words, batch["place"]), batch["image"])

    return parallel.over_shares(share, mesh, whole=2)(words, level, batch)


def image_keys(words: UInt32[Array, " s"], places: Int32[Array, " n"]) -> Array:
    """A random key for each image, of all words and its place."""
    key = jax.random.key(words[0])
    for word in words[1:]:
        key = jax.random.fold_in(key, word)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, places)
