"""Vision transformers: patches as tokens, for any patch that divides the image."""

import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jax_rcl.networks.dropout import Dropout, DropRates, StochasticDepth
from jax_rcl.networks.heads import Initial, check_multiple, initializers
from jax_rcl.networks.norms import Compute, wide, wide_type
from jax_rcl.ranges import Count, ranged


def layer_norm(
    x: Float[Array, "b n d"], *, name: str, epsilon: float = 1e-6
) -> Float[Array, "b n d"]:
    """Normalises tokens in float32, returns the type of `x`; for compact methods."""
    layer = nn.LayerNorm(epsilon=epsilon, name=name)
    return layer(wide(x)).astype(x.dtype)


@jax.custom_jvp
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns x Φ(x), Φ the normal distribution function (Hendrycks and Gimpel 2016).

    `jax.nn.gelu` with its derivative written out, because JAX 0.12 cannot differentiate
    erfc inside a checked shard_map.
    """
    return 0.5 * x * lax.erfc(-x * 0.5**0.5)


@gelu.defjvp
def _(primals: tuple, tangents: tuple) -> tuple:
    (x,), (tangent,) = primals, tangents
    share = 0.5 * lax.erfc(-x * 0.5**0.5)
    density = jnp.exp(-0.5 * x * x) * (2 * math.pi) ** -0.5
    return x * share, tangent * (share + x * density)


def _clipped_normal(key: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
    """0.1 times the standard normal, clipped to ±0.1."""
    return 0.1 * jnp.clip(jax.random.normal(key, shape, dtype), min=-1, max=1)


def patch_tokens(
    images: Float[Array, "b h w c"],
    patch: int,
    width: int,
    *,
    owner: str,
    initial: Initial,
    compute: str,
) -> Float[Array, "b n d"]:
    """A linear map of every patch, row by row; for compact methods.

    Its kernel `patches/kernel` [patch, patch, c, width] is that of a convolution. With
    `initial="xavier"` it starts normal by fan-in (LeCun), with biases zero.
    """
    b, h, w, c = images.shape
    if h % patch or w % patch:
        raise ValueError(
            f"{owner}.patch {patch} must divide the image; got {h}x{w} pixels. "
            f"Resize the image or choose another patch."
        )
    x = nn.Conv(
        width,
        (patch, patch),
        strides=(patch, patch),
        padding="VALID",
        dtype=compute,
        name="patches",
        **({} if initial == "xavier" else initializers(initial, patch * patch * c)),
    )(images.astype(compute))
    return x.reshape(b, -1, width)


def perceptron(
    x: Float[Array, "b n d"],
    hidden: int,
    *,
    name: str,
    initial: Initial,
    rate: float,
    train: bool,
) -> Float[Array, "b n d"]:
    """Linear, GELU, dropout, linear and dropout of the last axis; for compact methods.

    The maps are the submodules `<name>_hidden` and `<name>_out`.
    """
    width = x.shape[-1]
    first, last = initializers(initial, width), initializers(initial, hidden)
    x = gelu(nn.Dense(hidden, dtype=x.dtype, name=f"{name}_hidden", **first)(x))
    x = Dropout(rate, name=f"{name}_hidden_dropout")(x, train=train)
    x = nn.Dense(width, dtype=x.dtype, name=f"{name}_out", **last)(x)
    return Dropout(rate, name=f"{name}_out_dropout")(x, train=train)


class Attention(nn.Module):
    """Every token looks at every token: softmax(q kᵀ / √(d / heads)) v, then a product.

    The heads share the width evenly; the softmax is computed in float32. With
    `form="plain"` no map has a bias, and there is no product at the end.
    """

    heads: int
    form: Literal["projected", "plain"] = "projected"
    initial: Initial = "xavier"
    drop: DropRates = DropRates()

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n d"], *, train: bool
    ) -> Float[Array, "b n d"]:
        width = x.shape[-1]
        start = initializers(self.initial, width)
        query, key, value = (
            nn.DenseGeneral(
                (self.heads, width // self.heads),
                use_bias=self.form == "projected",
                dtype=x.dtype,
                name=name,
                **start,
            )(x)
            for name in ("query", "key", "value")
        )
        logits = jnp.einsum(
            "bqhe,bkhe->bhqk", query, key, preferred_element_type=wide_type(query)
        )
        queries = Dropout(self.drop.queries, shared=(1, 3), name="query_dropout")
        logits = queries(logits / math.sqrt(width // self.heads), train=train)
        weights = jax.nn.softmax(logits, axis=-1)
        weights = Dropout(self.drop.attention, name="dropout")(weights, train=train)
        mixed = jnp.einsum("bhqk,bkhe->bqhe", weights.astype(x.dtype), value)
        if self.form == "plain":
            y = mixed.reshape(x.shape)
        else:
            y = nn.DenseGeneral(
                width, axis=(-2, -1), dtype=x.dtype, name="out", **start
            )(mixed)
        return Dropout(self.drop.units, name="out_dropout")(y, train=train)


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), with GELU."""

    heads: int
    mlp_width: int
    attention: Literal["projected", "plain"] = "projected"
    initial: Initial = "xavier"
    epsilon: float = 1e-6
    drop: DropRates = DropRates()
    depth_rate: float = 0.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n d"], *, train: bool
    ) -> Float[Array, "b n d"]:
        y = layer_norm(x, name="attention_norm", epsilon=self.epsilon)
        y = Attention(
            self.heads, self.attention, self.initial, self.drop, name="attention"
        )(y, train=train)
        x = x + StochasticDepth(self.depth_rate, name="attention_depth")(y, train=train)
        y = layer_norm(x, name="mlp_norm", epsilon=self.epsilon)
        drop = {"rate": self.drop.units, "train": train}
        y = perceptron(y, self.mlp_width, name="mlp", initial=self.initial, **drop)
        return x + StochasticDepth(self.depth_rate, name="mlp_depth")(y, train=train)


@ranged
class ViT(nn.Module):
    """Vision transformer without its classifier (Dosovitskiy et al. 2021).

    Blocks normalise first, positions are learned and added to the tokens, and a last
    layer normalisation closes the tower. Variables are `params` only. Training draws
    random numbers, from the collection `dropout`, if a rate of `drop` is positive; it
    then runs inside `parallel.data_parallel` only.

    The fields of `PERFECTLY_BALANCED` make it the encoder of Chen et al. 2022.

    Attributes:
      patch: side of a patch in pixels; height and width are multiples of it.
      width: of every token, and of the features.
      heads: of attention; they divide the width.
      mlp_width: hidden units of each block's perceptron; None is 4·width.
      pool: `token` adds a class token and returns it; `mean` has none and returns the
        mean of the patches.
      attention: `projected` has biases and a product after the heads; `plain` neither.
      initial: of the products. The class token starts at zero and positions as
        0.02 N(0, 1) with `xavier`; both as 0.1 N(0, 1), clipped to ±0.1, with
        `uniform`.
      patch_norm: what normalises patches right after their product.
    """

    patch: Count
    width: Count
    depth: Count
    heads: Count
    mlp_width: Count | None = None
    pool: Literal["token", "mean"] = "token"
    compute: Compute = "float32"
    attention: Literal["projected", "plain"] = "projected"
    initial: Initial = "xavier"
    patch_norm: Literal["none", "layer"] = "none"
    epsilon: float = 1e-6
    drop: DropRates = DropRates()

    def __post_init__(self) -> None:
        check_multiple(self, "width", self.heads, "as `heads` share it evenly")
        super().__post_init__()

    @nn.compact
    def tokens(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b n d"]:
        """All tokens after the last normalisation, patches row by row.

        With `pool="token"` the class token is before them: n = h·w / patch² + 1.
        """
        x = patch_tokens(
            images,
            self.patch,
            self.width,
            owner="ViT",
            initial=self.initial,
            compute=self.compute,
        )
        if self.patch_norm == "layer":
            x = layer_norm(x, name="patches_norm", epsilon=self.epsilon)
        x = Dropout(self.drop.patches, name="patches_dropout")(x, train=train)
        small = self.initial == "uniform"
        if self.pool == "token":
            start = _clipped_normal if small else nn.initializers.zeros
            token = self.param("class_token", start, (1, 1, self.width))
            token = jnp.broadcast_to(token.astype(x.dtype), (len(x), 1, self.width))
            x = jnp.concatenate([token, x], axis=1)
        start = _clipped_normal if small else nn.initializers.normal(0.02)
        positions = self.param("positions", start, (1, x.shape[1], self.width))
        x = x + positions.astype(x.dtype)
        for place in range(self.depth):
            x = TransformerBlock(
                self.heads,
                self.mlp_width or 4 * self.width,
                self.attention,
                self.initial,
                self.epsilon,
                self.drop,
                depth_rate=self.drop.depth * place / max(1, self.depth - 1),
                name=f"block{place + 1}",
            )(x, train=train)
        x = wide(x)
        return layer_norm(x, name="norm", epsilon=self.epsilon)

    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b d"]:
        """Features: the class token, or the mean of the patches."""
        tokens = self.tokens(images, train=train)
        return tokens[:, 0] if self.pool == "token" else tokens.mean(axis=1)


PERFECTLY_BALANCED = {
    "patch": 4,
    "width": 256,
    "depth": 7,
    "heads": 8,
    "mlp_width": 512,
    "attention": "plain",
    "initial": "uniform",
    "patch_norm": "layer",
    "epsilon": 1e-5,
}
"""Fields of `ViT` for the encoder of Chen et al. 2022, Perfectly Balanced.

Its rates are `DropRates(0.1, 0.05, 0.05, 0.05)`, with `queries=0.1` in the release.
"""
