"""Parts of CLIP's towers: blocks of transformers and ResNets, attention pooling."""

import functools
import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_rcl.networks.heads import conv, initializers
from jax_rcl.networks.norms import normalized, wide, wide_type
from jax_rcl.networks.vit import gelu, layer_norm

HEAD_WIDTH = 64
"""Width of every attention head in OpenAI's models, and in most others."""

IMAGE_HEADS = {
    **{width: width // HEAD_WIDTH for width in (256, 384, 512, 640, 768, 896, 1024)},
    **dict.fromkeys((1280, 1408, 1664, 1792), 16),  # ViT-H, -g, -bigG, -e
}
"""How many heads share the width of the vision transformers that are published."""

TEXT_HEADS = {width: width // HEAD_WIDTH for width in (256, 384, 512, 640, 768, 1024)}
TEXT_HEADS |= {1280: 20}
"""The same of text towers."""

EPSILON = 1e-5
"""Of CLIP's layer normalisations; 1e-6 is that of `networks/vit.py`."""

Activation = Literal["quick gelu", "gelu"]
"""`quick gelu` is z σ(1.702 z), OpenAI's; `gelu`, z Φ(z), is that of some models that
were trained later with its architecture."""

Tower = Literal["image", "text"]
"""What a block is part of: with `text`, a token looks at itself and those before it.

Products of `image` start as PyTorch's: query, key and value uniform in ±√(3 / 2d), d
the width, the others in ±1/√fan-in. Those of `text` start normal, with standard
deviation 1/√d for query, key and value, 1/√(2d) for the hidden layer and
1/√(2 d layers) for both maps that end a branch. Attention's biases are zero and the
perceptron's uniform in ±1/√fan-in with either.
"""


def quick_gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns x σ(1.702 x), σ the logistic function (Hendrycks and Gimpel 2016)."""
    return x * nn.sigmoid(1.702 * x)


def attend(
    query: Float[Array, "b t d"],
    key: Float[Array, "b s d"],
    value: Float[Array, "b s d"],
    *,
    heads: int,
    looks: Literal["everywhere", "back"] = "everywhere",
) -> Float[Array, "b t d"]:
    """Softmax(q kᵀ / √(d / heads)) v in each head, heads side by side.

    Head i has the i-th of `heads` equal parts of the width. The softmax is computed in
    float32. With `looks="back"` the t queries belong to the first t keys.
    """
    query, key, value = (
        x.reshape(*x.shape[:2], heads, -1) for x in (query, key, value)
    )
    scores = jnp.einsum(
        "bthe,bshe->bhts", query, key, preferred_element_type=wide_type(query)
    )
    scores = scores / math.sqrt(query.shape[-1])
    if looks == "back":
        seen = jnp.tri(*scores.shape[2:], dtype=bool)[None, None]
        scores = jnp.where(seen, scores, -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    mixed = jnp.einsum("bhts,bshe->bthe", weights, value)
    return mixed.reshape(*mixed.shape[:2], -1)


def _starts(tower: Tower, width: int, layers: int) -> dict[str, dict[str, Any]]:
    """Initialisers of the maps of one block: looking, mixing, hidden and out."""
    normal = nn.initializers.normal
    hidden, out = initializers("uniform", width), initializers("uniform", 4 * width)
    if tower == "image":
        # Xavier's bound for query, key and value as one map of d to 3 d.
        looking = nn.initializers.variance_scaling(0.5, "fan_in", "uniform")
        mixing = hidden["kernel_init"]
    else:
        looking, mixing = normal(width**-0.5), normal((2 * width * layers) ** -0.5)
        hidden |= {"kernel_init": normal((2 * width) ** -0.5)}
        out |= {"kernel_init": mixing}
    return {
        "looking": {"kernel_init": looking},
        "mixing": {"kernel_init": mixing},
        "hidden": hidden,
        "out": out,
    }


class Attention(nn.Module):
    """`attend` of linear maps of the tokens, and a last linear map."""

    heads: int
    tower: Tower
    layers: int

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        width = x.shape[-1]
        starts = _starts(self.tower, width, self.layers)
        query, key, value = (
            nn.Dense(width, dtype=x.dtype, name=name, **starts["looking"])(x)
            for name in ("query", "key", "value")
        )
        looks = "back" if self.tower == "text" else "everywhere"
        y = attend(query, key, value, heads=self.heads, looks=looks)
        return nn.Dense(width, dtype=x.dtype, name="out", **starts["mixing"])(y)


class Block(nn.Module):
    """x + attention(norm(x)), then x + out(activation(hidden(norm(x)))).

    The hidden layer is four times as wide. The start depends on the tower's `layers`.
    """

    heads: int
    activation: Activation
    tower: Tower
    layers: int

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        width = x.shape[-1]
        y = layer_norm(x, name="norm1", epsilon=EPSILON)
        x = x + Attention(self.heads, self.tower, self.layers, name="attention")(y)
        y = layer_norm(x, name="norm2", epsilon=EPSILON)
        activation = quick_gelu if self.activation == "quick gelu" else gelu
        starts = _starts(self.tower, width, self.layers)
        y = nn.Dense(4 * width, dtype=x.dtype, name="hidden", **starts["hidden"])(y)
        y = activation(y)
        return x + nn.Dense(width, dtype=x.dtype, name="out", **starts["out"])(y)


def average_pool(x: Float[Array, "b h w c"], stride: int) -> Float[Array, "b i j c"]:
    """Means of squares of `stride` x `stride` places, which fill the map."""
    b, h, w, c = x.shape
    # Not flax's `avg_pool`, which divides by an integer: an error with strict types.
    squares = x.reshape(b, h // stride, stride, w // stride, stride, c)
    return x if stride == 1 else squares.mean(axis=(2, 4))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; the output is 4 times as wide.

    Every convolution has stride 1. Both ways reduce the map by averaging, before their
    1x1 convolution ("antialiased", Radford et al. 2021, section 2.4).
    """

    width: int
    stride: int
    norm: Literal["sync", "local"]
    ghost_batch: int | None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b i j d"]:
        settings = {"train": train, "ghost_batch": self.ghost_batch}
        norm = functools.partial(normalized, norm=self.norm, **settings)
        y = nn.relu(norm(conv(x, self.width, 1, name="conv1"), name="norm1"))
        y = nn.relu(norm(conv(y, self.width, 3, name="conv2"), name="norm2"))
        width = 4 * self.width
        y = conv(average_pool(y, self.stride), width, 1, name="conv3")
        y = norm(y, name="norm3", scale_init=nn.initializers.zeros)
        if self.stride != 1 or x.shape[-1] != width:
            x = average_pool(x, self.stride)
            x = norm(conv(x, width, 1, name="downsample_conv"), name="downsample_norm")
        return nn.relu(x + y)


class AttentionPool(nn.Module):
    """A map to one vector of width `output`: attention of its mean to its places.

    Tokens are the mean and the places, row by row, plus learned positions; the heads of
    attention are 64 wide. Only the mean is a query: in the released code all tokens
    are, and all results but the mean's are dropped.
    """

    output: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b d"]:
        compute, (b, h, w, width) = x.dtype, x.shape
        normal = nn.initializers.normal(width**-0.5)
        uniform = initializers("uniform", width)["bias_init"]

        def linear(x: Array, size: int, name: str) -> Array:
            return nn.Dense(
                size, dtype=compute, kernel_init=normal, bias_init=uniform, name=name
            )(x)

        positions = self.param("positions", normal, (h * w + 1, width))
        x = wide(x.reshape(b, h * w, width))
        x = jnp.concatenate([x.mean(axis=1, keepdims=True), x], axis=1)
        x = (x + positions[None]).astype(compute)
        query = linear(x[:, :1], width, "query")
        key, value = (linear(x, width, name) for name in ("key", "value"))
        y = attend(query, key, value, heads=width // HEAD_WIDTH)
        return linear(y[:, 0], self.output, "out")
