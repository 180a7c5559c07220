"""From operations on one image to what the objective reads of a batch.

An operation is a frozen dataclass called with (key, image [h, w, c] in [0, 1]). Here,
and only here, images are cast to [0, 1], operations are mapped over the batch, and keys
are handed out to them: one for each place in the global batch, so that the augmented
batch does not depend on the number of devices. What mixes examples is in `mixup`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num

from jax_rcl import parallel
from jax_rcl.augment.distortions.levels import Curriculum, Strength, at_strength
from jax_rcl.augment.resample import Image
from jax_rcl.core import Batch, Clock, Operation
from jax_rcl.ranges import Count, NotNegative, Share, ranged


def unit_range(images: Num[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Images as float32 in [0, 1]: uint8 divided by 255, or floats in [0, 1]."""
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) / 255.0
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(
            f"images must be uint8 in [0, 255] or floats in [0, 1]; got {images.dtype}."
        )
    return images.astype(jnp.float32)


def prepare(
    operation: Operation | None,
    images: Num[Array, "n h w c"] | Num[np.ndarray, "n h w c"],
) -> Float[Array, "n ..."]:
    """Images of a test set as the network sees them: [0, 1], then `operation` on each.

    Every image gets the same key: the operation is a deterministic one, such as
    `Chain((ResizeShorter(256), CenterCrop(224)))`. None only casts.
    """
    scaled = unit_range(jnp.asarray(images))
    if operation is None:
        return scaled
    return jax.vmap(operation, (None, 0))(jax.random.key(0), scaled)


@dataclasses.dataclass(frozen=True)
@ranged
class Views:
    """Several random views of each image: adds `views` [b, v, h, w, c].

    The operation makes one view, and is called with a key of its own for each of the
    `count` views; a curriculum says how strong distortions in it are as training goes
    on. Where the source has cut images already, [b, v, h, w, c] as
    `data.RandomCrops(count=v)` does, it makes view i of crop i.
    """

    operation: Operation
    count: Count = 2
    curriculum: Curriculum | None = None

    def __call__(self, clock: Clock, batch: Batch) -> Batch:
        """The batch and its views; runs inside `parallel.data_parallel`."""
        return {**batch, "views": _for_each_example(self, clock, batch)}

    def of_one(
        self,
        key: jax.Array,
        image: Image | Float[Array, "v h w c"],
        strength: Strength | None = None,
    ) -> Float[Array, "v ..."]:
        """All views of one image or of its crops, distortions of this strength."""
        is_cut = image.ndim == 4
        if is_cut:
            check_crops(self, len(image), self.count)

        def one(key: jax.Array, image: Image) -> Float[Array, "..."]:
            return at_strength(self.operation, key, image, strength)

        return jax.vmap(one, (0, 0 if is_cut else None))(self.keys(key), image)

    def keys(self, key: jax.Array) -> Key[Array, " v"]:
        """What the operation is called with for each view of an image."""
        return jax.random.split(key, self.count)


@dataclasses.dataclass(frozen=True)
class Pair:
    """A random view of each image, seen twice: adds `clean` and `distorted`.

    The images may be cut already, one crop of each as by `data.RandomCrops(count=1)`.

    Attributes:
      shared: makes the clean image, [b, h, w, c].
      distortion: makes the distorted image out of the clean one.
      curriculum: how strong the distortion is as training goes on.
    """

    shared: Operation
    distortion: Operation
    curriculum: Curriculum | None = None

    def __call__(self, clock: Clock, batch: Batch) -> Batch:
        """The batch and its pairs; runs inside `parallel.data_parallel`."""
        clean, distorted = _for_each_example(self, clock, batch)
        return {**batch, "clean": clean, "distorted": distorted}

    def of_one(
        self,
        key: jax.Array,
        image: Image | Float[Array, "v h w c"],
        strength: Strength | None = None,
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """One image, or its crop, clean and distorted."""
        if image.ndim == 4:
            check_crops(self, len(image), 1)
            image = image[0]
        shared_key, distortion_key = jax.random.split(key)
        clean = self.shared(shared_key, image)
        return clean, at_strength(self.distortion, distortion_key, clean, strength)


def check_crops(augment: Views | Pair, found: int, wanted: int) -> None:
    """Raises ValueError unless the source cuts as many crops as there are views."""
    if found != wanted:
        name = type(augment).__name__
        raise ValueError(
            f"{name} needs {wanted} crop(s) of each image, and the source cuts "
            f"{found}; write RandomCrops.count {wanted}"
            f"{'' if name == 'Pair' else f', or Views.count {found}'}."
        )


def _for_each_example(augment: Views | Pair, clock: Clock, batch: Batch) -> Any:
    """What `of_one` makes of each image, with distortions as strong as is due."""
    images = unit_range(batch["image"])
    keys = parallel.example_keys(clock.key, len(images))
    curriculum = augment.curriculum
    strength = None if curriculum is None else curriculum(clock.progress)
    return jax.vmap(augment.of_one, (0, 0, None))(keys, images, strength)


class Composed:
    """Operations made of others: the strength of distortions is handed to them."""

    at_strength: Callable[..., jax.Array]

    def __call__(self, key: jax.Array, image: Image) -> Float[Array, "..."]:
        return self.at_strength(key, image, None)


@dataclasses.dataclass(frozen=True)
class Chain(Composed):
    """Operations one after the other, each with its own key."""

    operations: tuple[Operation, ...]

    def at_strength(
        self, key: jax.Array, image: Image, strength: Strength | None
    ) -> Float[Array, "..."]:
        for place, operation in enumerate(self.operations):
            image = at_strength(
                operation, jax.random.fold_in(key, place), image, strength
            )
        return image


@dataclasses.dataclass(frozen=True)
@ranged
class Maybe(Composed):
    """An operation with this probability, else nothing.

    Both outcomes are computed, hence of one shape: a batch holds images of either kind.
    """

    operation: Operation
    probability: Share

    def at_strength(
        self, key: jax.Array, image: Image, strength: Strength | None
    ) -> Image:
        choice_key, operation_key = jax.random.split(key)
        changed = at_strength(self.operation, operation_key, image, strength)
        if changed.shape != image.shape:
            raise ValueError(
                f"Maybe.operation {self.operation} turns {image.shape} into "
                f"{changed.shape}; what may be skipped must keep the shape. Put crops "
                f"and resizes outside Maybe."
            )
        return jnp.where(
            jax.random.bernoulli(choice_key, self.probability), changed, image
        )


@dataclasses.dataclass(frozen=True)
@ranged
class OneOf(Composed):
    """One of several operations, drawn for each image; all of them are computed.

    Attributes:
      operations: their results must have the same shape.
      weights: how often each is drawn, up to a common factor; None: equally often.
    """

    operations: tuple[Operation, ...]
    weights: tuple[NotNegative, ...] | None = None

    def __post_init__(self) -> None:
        if not self.operations:
            raise ValueError("OneOf.operations () must hold at least one operation.")
        weights, count = self.weights, len(self.operations)
        if weights is not None and (len(weights) != count or sum(weights) == 0):
            raise ValueError(
                f"OneOf.weights {weights} must be one for each of the {count} "
                f"operations, and must not all be 0; None draws them equally often."
            )

    def at_strength(
        self, key: jax.Array, image: Image, strength: Strength | None
    ) -> Float[Array, "..."]:
        choice_key, operation_key = jax.random.split(key)
        weights = self.weights or (1.0,) * len(self.operations)
        choice = jax.random.categorical(choice_key, jnp.log(jnp.array(weights)))
        results = [
            at_strength(operation, operation_key, image, strength)
            for operation in self.operations
        ]
        shapes = [result.shape for result in results]
        if len(set(shapes)) > 1:
            raise ValueError(
                f"OneOf.operations give images of different shapes, {shapes}; they "
                f"must agree. Put crops and resizes outside OneOf."
            )
        chosen = results[0]
        for place, result in enumerate(results[1:], start=1):
            chosen = jnp.where(choice == place, result, chosen)
        return chosen
