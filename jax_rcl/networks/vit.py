"""Vision transformers: patches as tokens, for any patch that divides the image."""

import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Float32


def _layer_norm(x: Float[Array, "b n d"], *, name: str) -> Float[Array, "b n d"]:
    layer = nn.LayerNorm(epsilon=1e-6, name=name)
    return layer(x.astype(jnp.float32)).astype(x.dtype)


@jax.custom_jvp
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """X Φ(x), Φ the normal distribution function (Hendrycks and Gimpel 2016), exactly.

    `jax.nn.gelu` with a derivative that is written out: that of erfc cannot be taken
    inside a checked shard_map by JAX 0.12.
    """
    return 0.5 * x * lax.erfc(-x * 0.5**0.5)


@gelu.defjvp
def _(primals: tuple, tangents: tuple) -> tuple:
    (x,), (tangent,) = primals, tangents
    share = 0.5 * lax.erfc(-x * 0.5**0.5)
    density = jnp.exp(-0.5 * x * x) * (2 * math.pi) ** -0.5
    return x * share, tangent * (share + x * density)


class Attention(nn.Module):
    """Every token looks at every token: softmax(q kᵀ / √(d / heads)) v, then a product.

    The heads share the width evenly; the softmax is computed in float32.
    """

    heads: int

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        width = x.shape[-1]
        xavier = nn.initializers.xavier_uniform()
        query, key, value = (
            nn.DenseGeneral(
                (self.heads, width // self.heads),
                dtype=x.dtype,
                kernel_init=xavier,
                name=name,
            )(x)
            for name in ("query", "key", "value")
        )
        logits = jnp.einsum(
            "bqhe,bkhe->bhqk", query, key, preferred_element_type=jnp.float32
        )
        weights = jax.nn.softmax(logits / math.sqrt(width // self.heads), axis=-1)
        mixed = jnp.einsum("bhqk,bkhe->bqhe", weights.astype(x.dtype), value)
        return nn.DenseGeneral(
            width, axis=(-2, -1), dtype=x.dtype, kernel_init=xavier, name="out"
        )(mixed)


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), with GELU."""

    heads: int
    mlp_width: int

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        xavier = nn.initializers.xavier_uniform()
        y = _layer_norm(x, name="attention_norm")
        x = x + Attention(self.heads, name="attention")(y)
        y = _layer_norm(x, name="mlp_norm")
        y = nn.Dense(
            self.mlp_width, dtype=x.dtype, kernel_init=xavier, name="mlp_hidden"
        )(y)
        y = gelu(y)
        y = nn.Dense(x.shape[-1], dtype=x.dtype, kernel_init=xavier, name="mlp_out")(y)
        return x + y


class ViT(nn.Module):
    """Vision transformer without its classifier (Dosovitskiy et al. 2021).

    Blocks normalise first, positions are learned and added to the tokens, and a last
    layer normalisation closes the tower. There is no dropout and no batch statistic:
    `train` changes nothing, and the variables hold `params` only.

    Attributes:
      patch: side of a patch in pixels; height and width are multiples of it.
      width: of every token, and of the features.
      depth: number of blocks.
      heads: of attention; they divide the width.
      mlp_width: hidden units of each block's perceptron; None is 4·width.
      pool: `token` adds a class token and returns it; `mean` has none and returns the
        mean of the patches.
      compute: type of products and activations. Parameters, softmax, normalisation
        and the returned features are float32 in any case.

    Raises:
      ValueError: if `heads` does not divide `width` or a number is not positive; at the
        call, if `patch` does not divide the image.
    """

    patch: int
    width: int
    depth: int
    heads: int
    mlp_width: int | None = None
    pool: Literal["token", "mean"] = "token"
    compute: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        for name in ("patch", "width", "depth", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"ViT.{name} must be positive; got {getattr(self, name)}."
                )
        if self.width % self.heads:
            nearest = self.heads * max(1, round(self.width / self.heads))
            raise ValueError(
                f"ViT.width {self.width} must be a multiple of ViT.heads {self.heads}: "
                f"heads share it evenly. Try width {nearest}."
            )
        super().__post_init__()

    @nn.compact
    def tokens(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float32[Array, "b n d"]:
        """All tokens after the last normalisation.

        Patches go row by row; with `pool="token"` the class token is before them, so
        that n = h·w / patch² + 1.
        """
        del train  # Nothing here depends on it; every network takes it.
        b, h, w, _ = images.shape
        if h % self.patch or w % self.patch:
            raise ValueError(
                f"ViT.patch {self.patch} must divide the image; got {h}x{w} pixels. "
                f"Resize the image or choose another patch."
            )
        size = (self.patch, self.patch)
        x = nn.Conv(
            self.width,
            size,
            strides=size,
            padding="VALID",
            dtype=self.compute,
            name="patches",
        )(images.astype(self.compute))
        x = x.reshape(b, -1, self.width)
        if self.pool == "token":
            token = self.param("class_token", nn.initializers.zeros, (1, 1, self.width))
            token = jnp.broadcast_to(token.astype(x.dtype), (b, 1, self.width))
            x = jnp.concatenate([token, x], axis=1)
        positions = self.param(
            "positions", nn.initializers.normal(0.02), (1, x.shape[1], self.width)
        )
        x = x + positions.astype(x.dtype)
        mlp_width = 4 * self.width if self.mlp_width is None else self.mlp_width
        for place in range(1, self.depth + 1):
            x = TransformerBlock(self.heads, mlp_width, name=f"block{place}")(x)
        return _layer_norm(x.astype(jnp.float32), name="norm")

    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float32[Array, "b d"]:
        """Features: the class token, or the mean of the patches."""
        tokens = self.tokens(images, train=train)
        return tokens[:, 0] if self.pool == "token" else tokens.mean(axis=1)
