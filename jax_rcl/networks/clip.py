"""CLIP's image towers: a ResNet with attention pooling, and a vision transformer."""

from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_rcl.networks.clip_block import (
    EPSILON,
    HEAD_WIDTH,
    IMAGE_HEADS,
    Activation,
    AttentionPool,
    Block,
    Bottleneck,
    average_pool,
)
from jax_rcl.networks.heads import check_multiple, conv, initializers
from jax_rcl.networks.norms import Compute, check_ghost_batch, normalized, wide
from jax_rcl.networks.vit import layer_norm
from jax_rcl.ranges import Count, ranged

MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Means of red, green and blue in CLIP's training images, in [0, 1]."""

STD = (0.26862954, 0.26130258, 0.27577711)
"""Standard deviations, likewise: `Normalized(tower, clip.MEAN, clip.STD)`."""

REDUCTION = 32
"""Side of the image over that of the last map of `ClipResNet`."""


def _check_images(images: Array, size: int, owner: str) -> None:
    _, h, w, channels = images.shape
    if (h, w) != (size, size):
        raise ValueError(
            f"{owner} needs images of {size}x{size} pixels, for which it has "
            f"positions; got {h}x{w}. Crop or resize them to {size}, or build the "
            f"tower with another image_size, which published weights do not fit."
        )
    if channels != len(MEAN):
        raise ValueError(
            f"{owner} needs images of 3 channels, red, green and blue; got {channels}. "
            f"Repeat a gray one three times."
        )


@ranged
class ClipResNet(nn.Module):
    """CLIP's ResNet without a projector: images to vectors (Radford et al. 2021, 2.4).

    Differences from He et al. 2016: three 3x3 convolutions and an average pool for a
    stem; averaging instead of strides; attention as the last pool.
    Names are those that `weights/clip.py` fills. Images are 3 channels, normalised by
    `heads.Normalized(tower, MEAN, STD)`.

    Random initialisation is the release's: last scale of each block zero, attention
    pool normal with variance 1 / (32 width), convolutions uniform in ±1/√fan-in.

    Attributes:
      depths: blocks of each stage.
      width: channels of the stem; the last map has 32 times as many.
      image_size: side of the images that it has positions for, a multiple of 32.
      norm, ghost_batch: as for `ResNet`.
    """

    depths: tuple[Count, Count, Count, Count]
    width: Count = 64
    output: Count = 1024
    image_size: Count = 224
    norm: Literal["sync", "local"] = "sync"
    ghost_batch: Count | None = None
    compute: Compute = "float32"

    def __post_init__(self) -> None:
        check_multiple(self, "width", 2, "as the stem begins with half of it")
        reason = "by which the tower reduces it"
        check_multiple(self, "image_size", REDUCTION, reason)
        check_ghost_batch(self.norm, self.ghost_batch)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b d"]:
        """Vectors of images, neither rectified nor of length 1.

        With `train`, batch normalisation uses and updates the collection `batch_stats`.
        """
        _check_images(images, self.image_size, "ClipResNet")
        norm = {"norm": self.norm, "ghost_batch": self.ghost_batch}
        x = images.astype(self.compute)
        for place, width in enumerate((self.width // 2,) * 2 + (self.width,), start=1):
            stride = 2 if place == 1 else 1
            x = conv(x, width, 3, stride=stride, name=f"stem{place}")
            x = nn.relu(normalized(x, name=f"stem_norm{place}", train=train, **norm))
        x = average_pool(x, 2)
        for stage, count in enumerate(self.depths, start=1):
            for place in range(1, count + 1):
                x = Bottleneck(
                    width=self.width * 2 ** (stage - 1),
                    stride=2 if stage > 1 and place == 1 else 1,
                    name=f"stage{stage}_block{place}",
                    **norm,
                )(x, train=train)
        return wide(AttentionPool(self.output, name="pool")(x))


@ranged
class ClipViT(nn.Module):
    """CLIP's vision transformer: images to vectors (Radford et al. 2021, section 2.4).

    Differences from `networks/vit.py`: tokens are also normalised before the first
    block, patches have no bias, and a product follows the class token. Variables are
    `params` only; names are those that `weights/clip.py` fills. Images are 3 channels,
    normalised by `heads.Normalized(tower, MEAN, STD)`.

    Random initialisation is the release's: class token, positions and projection normal
    with variance 1 / width, the rest PyTorch's defaults.

    Attributes:
      patch: side of a patch in pixels.
      width: of every token.
      image_size: side of the images that it has positions for, a multiple of `patch`.
      heads: of attention; they divide the width. None is what published models of this
        width have (`IMAGE_HEADS`), width / 64 for any other. Arrays do not show it:
        with another number the same weights give other features, without an error.
    """

    patch: Count
    width: Count
    layers: Count
    output: Count
    image_size: Count = 224
    activation: Activation = "quick gelu"
    compute: Compute = "float32"
    heads: Count | None = None

    def __post_init__(self) -> None:
        if self.heads is not None:
            check_multiple(self, "width", self.heads, "as `heads` share it evenly")
        elif self.width not in IMAGE_HEADS:
            reason = "the width of a head unless `heads` says how many there are"
            check_multiple(self, "width", HEAD_WIDTH, reason)
        check_multiple(self, "image_size", self.patch, "the side of a patch")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b d"]:
        """Vectors of images, not of length 1."""
        del train  # Nothing here depends on it; every network takes it.
        _check_images(images, self.image_size, "ClipViT")
        side = (self.patch, self.patch)
        x = nn.Conv(
            self.width,
            side,
            strides=side,
            padding="VALID",
            use_bias=False,
            dtype=self.compute,
            kernel_init=initializers("uniform", self.patch**2 * 3)["kernel_init"],
            name="patches",
        )(images.astype(self.compute))
        x = x.reshape(len(x), -1, self.width)
        normal = nn.initializers.normal(self.width**-0.5)
        token = self.param("class_token", normal, (self.width,)).astype(x.dtype)
        token = jnp.broadcast_to(token[None, None], (len(x), 1, self.width))
        x = jnp.concatenate([token, x], axis=1)
        positions = self.param("positions", normal, x.shape[1:])
        x = layer_norm(
            x + positions[None].astype(x.dtype), name="norm_before", epsilon=EPSILON
        )
        heads = self.heads or IMAGE_HEADS.get(self.width, self.width // HEAD_WIDTH)
        kind = self.activation
        for place in range(1, self.layers + 1):
            x = Block(heads, kind, "image", self.layers, name=f"block{place}")(x)
        x = wide(x[:, :1])
        x = layer_norm(x, name="norm_after", epsilon=EPSILON)[:, 0]
        return x @ self.param("projection", normal, (self.width, self.output))


TOWERS: Mapping[str, Mapping[str, Any]] = {
    "RN50": {"depths": (3, 4, 6, 3), "width": 64, "output": 1024, "image_size": 224},
    "RN101": {"depths": (3, 4, 23, 3), "width": 64, "output": 512, "image_size": 224},
    "RN50x4": {"depths": (4, 6, 10, 6), "width": 80, "output": 640, "image_size": 288},
    "RN50x16": {"depths": (6, 8, 18, 8), "width": 96, "output": 768, "image_size": 384},
    **{
        name: {**sizes, "image_size": 224}
        for name, sizes in {
            "ViT-B/32": {"patch": 32, "width": 768, "layers": 12, "output": 512},
            "ViT-B/16": {"patch": 16, "width": 768, "layers": 12, "output": 512},
            "ViT-L/14": {"patch": 14, "width": 1024, "layers": 24, "output": 768},
        }.items()
    },
}
"""Fields of OpenAI's towers, by name: of `ClipResNet` for RN, of `ClipViT` for ViT."""


def fields(name: str) -> dict[str, Any]:
    """Fields of a published tower: `node(ClipResNet, **clip.fields("RN101"))`."""
    if name not in TOWERS:
        raise ValueError(
            f"there is no CLIP tower '{name}'; the towers are {', '.join(TOWERS)}. "
            f"Write the fields out for another shape."
        )
    return dict(TOWERS[name])
