"""Mixtures of two examples of a batch: mixup, cutmix, mixup of patches.

Examples 2i and 2i + 1 of the global batch are partners: the order of the data is random
already, and as partners lie on one device, nothing is communicated.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jax_rcl import parallel
from jax_rcl.augment.patches import grid_of
from jax_rcl.core import Augment, Batch, Clock
from jax_rcl.ranges import Above, Count, Share, ranged

Alpha = Annotated[float, Above(0, "1 is uniform")]
"""Of Beta(alpha, alpha), from which shares of a mixture are drawn."""

Mixture = Callable[[jax.Array, int, int], jax.Array]
"""(key, h, w) to the weights in [0, 1] of an example's own pixels, [h, w, 1] or one."""


@dataclasses.dataclass(frozen=True)
@ranged
class Mixed:
    """Mixes the views of partners, and their labels in the same way.

    With own weights w, drawn by `mixture` once for a pair and all its views, x and its
    partner y become w x + (1 - w) y and w y + (1 - w) x. The mean of w over the pixels
    is an example's own share λ of the mixture.

    Attributes:
      inner: adds `views` [b, v, h, w, c] to a batch that has `label` [b].
      mixture: draws the weights: `Mixup`, `CutMix` or `PatchMixup`.
      same_class: with this probability, a pair is mixed only if both have the same
        label.
      labels: "drawn": the label becomes the partner's with probability 1 - λ, drawn for
        each example. "soft": adds `target` [b, k], λ for the own class and 1 - λ for
        the partner's; the label becomes the partner's where λ < 0.5.
      classes: k, for soft labels only.
    """

    inner: Augment
    mixture: Mixture
    same_class: Share = 0.0
    labels: Literal["drawn", "soft"] = "drawn"
    classes: int | None = None

    def __post_init__(self) -> None:
        if (self.labels == "soft") != (self.classes is not None):
            raise ValueError(
                f'Mixed.classes {self.classes} must be a number with labels="soft", '
                f'and None with labels="drawn"; got labels="{self.labels}".'
            )

    def __call__(self, clock: Clock, batch: Batch) -> Batch:
        """The augmented batch, mixed; runs inside `parallel.data_parallel`."""
        inner_key, mixing_key = jax.random.split(clock.key)
        batch = self.inner(Clock(inner_key, clock.step, clock.progress), batch)
        views, label = batch["views"], batch["label"]
        b, _, h, w, _ = views.shape
        if b % 2:
            raise ValueError(
                f"Mixed pairs neighbours, so each device needs an even number of "
                f"examples; got {b}. Make batch_size a multiple of 2 x devices."
            )
        keys = jax.vmap(jax.random.split)(parallel.example_keys(mixing_key, b))
        # The even example draws for both; each example draws its own label.
        same = label[::2] == label[1::2]
        draw_pair = functools.partial(self.draw_pair, height=h, width=w)
        weights, shares = jax.vmap(draw_pair)(keys[::2, 0], same)
        own = jnp.repeat(weights, 2, axis=0)[:, None]
        views = own * views + (1.0 - own) * exchange_partners(views)
        mixed = self.mix_labels(keys[:, 1], label, jnp.repeat(shares, 2))
        return {**batch, "views": views, **mixed}

    def draw_pair(
        self, key: jax.Array, same: Bool[Array, ""], height: int, width: int
    ) -> tuple[Float[Array, "#h #w 1"], Float[Array, ""]]:
        """Draws the weights of a pair and their mean λ; 1 if the pair is not mixed."""
        weights_key, choice_key = jax.random.split(key)
        weights = self.mixture(weights_key, height, width)
        mixes = same | ~jax.random.bernoulli(choice_key, self.same_class)
        return jnp.where(mixes, weights, 1.0), jnp.where(mixes, weights.mean(), 1.0)

    def mix_labels(
        self, keys: jax.Array, label: Int[Array, " b"], shares: Float[Array, " b"]
    ) -> dict[str, Array]:
        """What replaces `label`, and the `target` for soft labels."""
        other = exchange_partners(label)
        if self.classes is None:
            keeps = jax.vmap(jax.random.uniform)(keys) < shares
            return {"label": jnp.where(keeps, label, other)}
        own_part = jax.nn.one_hot(label, self.classes) * shares[:, None]
        other_part = jax.nn.one_hot(other, self.classes) * (1.0 - shares[:, None])
        larger = jnp.where(shares >= 0.5, label, other)
        return {"label": larger, "target": own_part + other_part}


def exchange_partners(x: Array) -> Array:
    """Exchanges rows 2i and 2i + 1 of an array [b, ...]."""
    return x.reshape(-1, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)


@dataclasses.dataclass(frozen=True)
@ranged
class Mixup:
    """All pixels are mixed alike, λ ~ Beta(alpha, alpha); uniform for alpha 1.

    Zhang et al. 2018, equation 2 (https://arxiv.org/abs/1710.09412).
    """

    alpha: Alpha = 1.0

    def __call__(
        self, key: jax.Array, height: int, width: int
    ) -> Float[Array, "1 1 1"]:
        return _beta(key, self.alpha, (1, 1, 1))


@dataclasses.dataclass(frozen=True)
@ranged
class CutMix:
    """A box of the image is the partner's, the rest is the example's own.

    Yun et al. 2019, section 3.1 (https://arxiv.org/abs/1905.04899): with
    λ ~ Beta(alpha, alpha) the box has √(1 - λ) of the height and of the width, rounded
    down, and its centre is a uniformly random pixel; what lies outside the image is
    lost, and shares are those of the pixels that remain.
    """

    alpha: Alpha = 1.0

    def __call__(
        self, key: jax.Array, height: int, width: int
    ) -> Float[Array, "{height} {width} 1"]:
        size_key, place_key = jax.random.split(key)
        edge = jnp.sqrt(1.0 - _beta(size_key, self.alpha))
        shape = jnp.array([height, width], jnp.int32)
        sides = jnp.floor(edge * shape.astype(jnp.float32)).astype(jnp.int32)
        start = jax.random.randint(place_key, (2,), 0, shape) - sides // 2

        def within(axis: int, length: int) -> Bool[Array, "{length}"]:
            place = jnp.arange(length) - start[axis]
            return (place >= 0) & (place < sides[axis])

        box = within(0, height)[:, None] & within(1, width)[None, :]
        return jnp.where(box, 0.0, 1.0)[..., None]


@dataclasses.dataclass(frozen=True)
@ranged
class PatchMixup:
    """Mixup of some patches of a grid, each with a λ of its own; the others stay.

    The side of a patch in pixels, `size`, divides both sides of the image.
    """

    size: Count
    probability: Share = 0.3
    alpha: Alpha = 1.0

    def __call__(
        self, key: jax.Array, height: int, width: int
    ) -> Float[Array, "{height} {width} 1"]:
        choice_key, share_key = jax.random.split(key)
        grid = grid_of(height, width, self.size)
        mixed = jax.random.bernoulli(choice_key, self.probability, grid)
        share = _beta(share_key, self.alpha, grid)
        weights = jnp.where(mixed, share, 1.0)
        weights = weights.repeat(self.size, axis=0).repeat(self.size, axis=1)
        return weights[..., None]


def _beta(key: jax.Array, alpha: float, shape: tuple[int, ...] = ()) -> Array:
    """Draws from Beta(alpha, alpha)."""
    # The general case is a loop that takes ten times as long to compile.
    if alpha == 1:
        return jax.random.uniform(key, shape)
    return jax.random.beta(key, alpha, alpha, shape)
