"""Inpainting by Deep Decoder, a network that is fitted to each image."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Float32, Int32

from jax_rcl import parallel
from jax_rcl.networks.deep_decoder import Generator
from jax_rcl.ranges import Count, NotNegative, Positive, ranged

Tree = Any
Images = Float32[Array, "n h w c"]
Known = Bool[Array, "n h w 1"]

SPAN = 50
"""Steps in a call of the program: between two, one learns how far it is."""

IMPROVEMENT = 1.005
"""A network is kept when the best loss so far is more than this times its loss."""


@dataclasses.dataclass(frozen=True)
@ranged
class DeepDecoder:
    """Fits an untrained network to the known pixels, and returns the image it makes.

    Heckel and Hand 2019 (https://arxiv.org/abs/1810.03982): for every image, Adam moves
    the parameters θ of a fresh `Generator` G along the gradient of

        mean (known · (G_θ(z + σ ε) - image))²

    over all h·w·c entries, unknown ones counting as zeros. z is uniform in (0, 0.1), ε
    normal and new in every step; σ falls (`noise_at`). The parameters after a step are
    kept if the loss before it was more than 0.5 % below that of all kept so far; the
    answer is what the last kept ones make of z. The defaults are those with which
    "Inverse Problems Leveraging Pre-trained Contrastive Representations" (2021,
    https://arxiv.org/abs/2110.07439) inpaints before it classifies.

    All images have the same seed: a result depends on the image, its mask and the seed,
    not on the other images or their order.

    Attributes:
      steps: of Adam; 5,000 at 224 pixels take a CPU more than an hour for an image.
      width: channels of every stage of the network.
      doublings: how often the network doubles its map; None chooses by the size, as
        `networks.deep_decoder.doublings_for`.
      noise: standard deviation of the input's noise, before it first falls.
      known_pixels: `fitted` answers with the network's image everywhere, as the
        release does; `kept` leaves the known pixels as they are.
      batch_size: images fitted at a time, on all devices together; a matter of memory
        and speed.
      seed: of the first parameters, z and ε.
    """

    # Deviation: the release masks an image by one mask and fits it by another, so that
    # half of the black pixels count as known; here both are the same.

    reads: ClassVar[Literal["images and mask"]] = "images and mask"

    steps: Count = 5000
    learning_rate: Positive = 0.0025
    width: int = 256
    doublings: int | None = None
    noise: NotNegative = 0.005
    known_pixels: Literal["fitted", "kept"] = "fitted"
    batch_size: Count = 8
    seed: int = 0

    def __post_init__(self) -> None:
        self.network((1, 1, 1))

    @property
    def protocol(self) -> str:
        kept = " where unknown" if self.known_pixels == "kept" else ""
        return (
            f"inpainted{kept} by Deep Decoder (width {self.width}, {self.steps:,} "
            f"steps, learning rate {self.learning_rate:g}, input noise {self.noise:g}, "
            f"seed {self.seed})"
        )

    @property
    def cost(self) -> str:
        """How long an image takes, in words."""
        return (
            f"{self.steps:,} steps each, {self.batch_size} images at a time; at 224 "
            f"pixels 5,000 take a CPU more than an hour for an image"
        )

    def network(self, shape: Sequence[int]) -> Generator:
        """The network for images of a shape [h, w, c]."""
        height, width, channels = shape
        return Generator((height, width), channels, self.width, self.doublings)

    def start(self, shape: Sequence[int]) -> tuple[Tree, Float32[Array, "i j f"]]:
        """The first parameters for images of this shape, and z."""
        network, keys = self.network(shape), self._keys()
        z = jax.random.uniform(keys[1], network.input_shape, maxval=0.1)
        return network.init(keys[0], z)["params"], z

    def noise_at(self, step: int | Int32[Array, ""]) -> Float[Array, ""]:
        """σ of a step, counted from 0: noise · 0.7^(1 + ⌊step / 500⌋).

        It falls already before the first step: 0.005 is 0.0035 at steps 0 to 499.
        """
        falls = jnp.asarray(1 + step // 500, jnp.float32)
        return self.noise * jnp.float32(0.7) ** falls

    def input_at(
        self, z: Float32[Array, "i j f"], step: int | Int32[Array, ""]
    ) -> Float32[Array, "i j f"]:
        """The network's input in a step: z with the noise of that step."""
        key = jax.random.fold_in(self._keys()[2], step)
        return z + self.noise_at(step) * jax.random.normal(key, z.shape)

    def fit(
        self, image: Float32[Array, "h w c"], known: Bool[Array, "h w 1"]
    ) -> tuple[Float32[Array, "h w c"], Float32[Array, " steps"]]:
        """What the kept network makes of z, in (0, 1), and the loss before each update.

        A pure function of arrays, for `jit` and `vmap`.
        """
        step = functools.partial(self.step, image, known)
        places = jnp.arange(self.steps)
        fitted, losses = jax.lax.scan(step, self.begin(image.shape), places)
        return self.answer(image.shape, fitted), losses

    def begin(self, shape: Sequence[int]) -> Tree:
        """Parameters, Adam's state, the kept parameters and their loss, at first."""
        first, _ = self.start(shape)
        state = optax.adam(self.learning_rate).init(first)
        return first, state, first, jnp.float32(jnp.inf)

    def step(
        self,
        image: Float32[Array, "h w c"],
        known: Bool[Array, "h w 1"],
        fitted: Tree,
        place: Int32[Array, ""],
    ) -> tuple[Tree, Float32[Array, ""]]:
        """One update of what `begin` gives, and the loss before it."""
        network, mask = self.network(image.shape), known.astype(jnp.float32)
        _, z = self.start(image.shape)

        def loss(params: Tree, x: jax.Array) -> jax.Array:
            made: Any = network.apply({"params": params}, x)
            return jnp.square(mask * (made - image)).mean()

        params, state, kept, best = fitted
        value, grads = jax.value_and_grad(loss)(params, self.input_at(z, place))
        with jax.numpy_dtype_promotion("standard"):  # optax mixes types freely
            updates, state = optax.adam(self.learning_rate).update(grads, state)
        params = optax.apply_updates(params, updates)
        # As released: the loss is that before the update, the network that after.
        better = best > IMPROVEMENT * value
        kept = jax.tree.map(functools.partial(jnp.where, better), params, kept)
        return (params, state, kept, jnp.where(better, value, best)), value

    def answer(self, shape: Sequence[int], fitted: Tree) -> Any:
        """What the kept network makes of z."""
        _, z = self.start(shape)
        return self.network(shape).apply({"params": fitted[2]}, z)

    def __call__(
        self,
        images: Float[np.ndarray, "n h w c"],
        known: Bool[np.ndarray, "n h w 1"] | None = None,
        done: Callable[[float], object] = lambda images: None,
    ) -> Float32[np.ndarray, "n h w c"]:
        """Inpaints every image by itself.

        What unknown pixels hold does not matter; `known` is True where a pixel is to be
        trusted, the mask that made the images. `done` is called every `SPAN` steps.
        """
        if known is None:
            raise ValueError(
                "DeepDecoder fills in what a mask hides and needs to know the mask: "
                "give `known`, or use a distortion that has one, such as RandomMask."
            )
        # What becomes of known pixels is decided below and needs no program of its own,
        # nor does how many steps there are.
        fit = dataclasses.replace(self, known_pixels="fitted", steps=1)
        images, mesh = images.astype(np.float32), parallel.make_mesh()
        restored = np.empty_like(images)
        for begin in range(0, len(images), self.batch_size):
            end = min(begin + self.batch_size, len(images))
            rows = np.minimum(np.arange(begin, begin + self.batch_size), end - 1)
            batch = parallel.spread((images[rows], known[rows]), mesh)
            where = fit, batch[0].sharding
            fitted = _begin(*where, *batch)
            for first in range(0, self.steps, SPAN):
                last = min(first + SPAN, self.steps)
                fitted = jax.block_until_ready(
                    _advance(*where, *batch, fitted, np.int32(first), np.int32(last))
                )
                done((end - begin) * (last - first) / self.steps)
            made = parallel.fetch(_answer(fit, *batch, fitted))
            restored[begin:end] = made[: end - begin]
        if self.known_pixels == "kept":
            return np.where(known, images, restored)
        return restored

    def _keys(self) -> jax.Array:
        """Keys of the first parameters, of z and of the noise."""
        return jax.random.split(jax.random.key(self.seed), 3)


# What goes from one call to the next lies as the images do, or the second call would
# be compiled once more.


@functools.partial(jax.jit, static_argnums=(0, 1))
def _begin(
    decoder: DeepDecoder, place: jax.sharding.Sharding, images: Images, known: Known
) -> Tree:
    fitted = jax.vmap(lambda image, _: decoder.begin(image.shape))(images, known)
    return jax.lax.with_sharding_constraint(fitted, place)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=4)
def _advance(
    decoder: DeepDecoder,
    place: jax.sharding.Sharding,
    images: Images,
    known: Known,
    fitted: Tree,
    first: Int32[Array, ""],
    last: Int32[Array, ""],
) -> Tree:
    """All images from one step to another, both data."""

    def one(image: jax.Array, known: jax.Array, fitted: Tree) -> Tree:
        def step(place: jax.Array, fitted: Tree) -> Tree:
            return decoder.step(image, known, fitted, place)[0]

        return jax.lax.fori_loop(first, last, step, fitted)

    moved = jax.vmap(one)(images, known, fitted)
    return jax.lax.with_sharding_constraint(moved, place)


@functools.partial(jax.jit, static_argnums=0)
def _answer(decoder: DeepDecoder, images: Images, known: Known, fitted: Tree) -> Images:
    def one(image: jax.Array, _: jax.Array, fitted: Tree) -> jax.Array:
        return decoder.answer(image.shape, fitted)

    return jax.vmap(one)(images, known, fitted)
