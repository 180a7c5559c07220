"""Inpainting by Deep Decoder, a network that is fitted to each image."""

import dataclasses
import functools
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

    def network(self, shape: tuple[int, int, int]) -> Generator:
        """The network for images of a shape [h, w, c]."""
        height, width, channels = shape
        return Generator((height, width), channels, self.width, self.doublings)

    def start(
        self, shape: tuple[int, int, int]
    ) -> tuple[Tree, Float32[Array, "i j f"]]:
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
        shape = image.shape[0], image.shape[1], image.shape[2]
        network, (first, z) = self.network(shape), self.start(shape)
        optimizer, mask = optax.adam(self.learning_rate), known.astype(jnp.float32)

        def generate(params: Tree, x: jax.Array) -> Any:
            return network.apply({"params": params}, x)

        def loss(params: Tree, x: jax.Array) -> jax.Array:
            return jnp.square(mask * (generate(params, x) - image)).mean()

        def step(carry: Tree, place: jax.Array) -> tuple[Tree, jax.Array]:
            params, state, kept, best = carry
            value, grads = jax.value_and_grad(loss)(params, self.input_at(z, place))
            with jax.numpy_dtype_promotion("standard"):  # optax mixes types freely
                updates, state = optimizer.update(grads, state)
            params = optax.apply_updates(params, updates)
            # As released: the loss is that before the update, the network that after.
            better = best > IMPROVEMENT * value
            kept = jax.tree.map(functools.partial(jnp.where, better), params, kept)
            return (params, state, kept, jnp.where(better, value, best)), value

        carry = first, optimizer.init(first), first, jnp.float32(jnp.inf)
        (_, _, kept, _), losses = jax.lax.scan(step, carry, jnp.arange(self.steps))
        return generate(kept, z), losses

    def __call__(
        self,
        images: Float[np.ndarray, "n h w c"],
        known: Bool[np.ndarray, "n h w 1"] | None = None,
    ) -> Float32[np.ndarray, "n h w c"]:
        """Inpaints every image by itself.

        What unknown pixels hold does not matter; `known` is True where a pixel is to be
        trusted, the mask that made the images.
        """
        if known is None:
            raise ValueError(
                "DeepDecoder fills in what a mask hides and needs to know the mask: "
                "give `known`, or use a distortion that has one, such as RandomMask."
            )
        # What becomes of known pixels is decided below; it needs no program of its own.
        fit = dataclasses.replace(self, known_pixels="fitted")
        images, mesh = images.astype(np.float32), parallel.make_mesh()
        restored = np.empty_like(images)
        for begin in range(0, len(images), self.batch_size):
            end = min(begin + self.batch_size, len(images))
            rows = np.minimum(np.arange(begin, begin + self.batch_size), end - 1)
            batch = parallel.spread((images[rows], known[rows]), mesh)
            fitted = parallel.fetch(_fit(fit, *batch))
            restored[begin:end] = fitted[: end - begin]
        if self.known_pixels == "kept":
            return np.where(known, images, restored)
        return restored

    def _keys(self) -> jax.Array:
        """Keys of the first parameters, of z and of the noise."""
        return jax.random.split(jax.random.key(self.seed), 3)


@functools.partial(jax.jit, static_argnums=0)
def _fit(
    decoder: DeepDecoder,
    images: Float32[Array, "n h w c"],
    known: Bool[Array, "n h w 1"],
) -> Float32[Array, "n h w c"]:
    return jax.vmap(decoder.fit)(images, known)[0]
