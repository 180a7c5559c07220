"""Decoders: features to images."""

from typing import Literal

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float

from jax_rcl.networks.heads import conv, initializers
from jax_rcl.networks.norms import Compute, Norm, normalized, wide
from jax_rcl.ranges import Count, ranged

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}

START = 4
"""Side of the map that the linear layer makes."""


def enlargement(size: int) -> tuple[int, tuple[int, int, int, int]]:
    """Side of the first map and the factor of each stage, whose product is `size`.

    As many of the first three stages as possible double the side, the later ones
    first, while the first side is a whole number of at least 4: 32 is 4·2·2·2, 64 is
    8·2·2·2, 28 is 7·1·2·2.
    """
    if size < START or size % START:
        lower = max(START, size - size % START)
        raise ValueError(
            f"ResNetDecoder.size {size} must be a positive multiple of {START}, such "
            f"as 28, 32, 64, 96 or 224: stages double the side. Try {lower} or "
            f"{lower + START}."
        )
    side, doublings = size, 0
    while doublings < 3 and side % 2 == 0 and side // 2 >= START:
        side, doublings = side // 2, doublings + 1
    first, second, third = (2 if stage > 3 - doublings else 1 for stage in (1, 2, 3))
    return side, (first, second, third, 1)


def _enlarge(x: Float[Array, "b h w c"], factor: int) -> Float[Array, "b i j c"]:
    return x.repeat(factor, axis=1).repeat(factor, axis=2) if factor > 1 else x


class UpBlock(nn.Module):
    """Two 3x3 convolutions, the second after enlarging the map, and a shortcut.

    The basic block of a residual network (He et al. 2016) backwards. Pixels are
    repeated `factor` times in both directions.
    """

    width: int
    factor: int
    norm: Norm

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b i j d"]:
        y = conv(x, x.shape[-1], 3, name="conv1")
        y = nn.relu(normalized(y, self.norm, train=train, name="norm1"))
        y = conv(_enlarge(y, self.factor), self.width, 3, name="conv2")
        y = normalized(y, self.norm, train=train, name="norm2")
        if self.factor > 1 or x.shape[-1] != self.width:
            # Repeated pixels change neither a 1x1 convolution nor means and variances
            # but how many there are: enlarging last is the same, for a quarter of the
            # work.
            x = conv(x, self.width, 1, name="upsample_conv")
            own = {"train": train, "name": "upsample_norm"}
            x = normalized(x, self.norm, repeats=self.factor**2, **own)
        return nn.relu(_enlarge(x, self.factor) + y)


@ranged
class ResNetDecoder(nn.Module):
    """A residual network backwards: features [b, f] to images [b, h, w, c].

    The decoder of Perfectly Balanced (Chen et al. 2022): a linear layer makes a map of
    4x4 with 8·width channels, which is resized to the first side by repeating pixels;
    four stages of basic blocks enlarge it, to 4, 2, 1 and 1 times `width` channels; a
    3x3 convolution makes the image. Nothing bounds its output, so that the target may
    be normalised pixels. Convolutions have no bias; they and the linear layer start
    uniform in ±1/√fan-in, PyTorch's default.

    A decoder that sees the label needs nothing here: concatenate a one-hot label to the
    features.

    Attributes:
      size: side of the image, a multiple of 4; `enlargement` says how it is reached.
      depth: 18 has 2-2-2-2 blocks, 50 has 3-4-6-3; both have basic blocks, as the
        release.
      width: channels of the last two stages; 64 in the paper.
      norm: who shares the statistics of normalisation. With `sync` and `local`,
        `train=True` runs inside `parallel.data_parallel` only.
    """

    # Deviation: the release starts from size // 8, which makes 24x24 of 28; we start
    # from 7 and double twice. For multiples of 8 from 32 on, all is the same.

    size: int
    channels: Count = 3
    depth: Literal[18, 50] = 18
    width: Count = 64
    norm: Norm = "sync"
    compute: Compute = "float32"

    def __post_init__(self) -> None:
        enlargement(self.size)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, features: Float[Array, "b f"], *, train: bool
    ) -> Float[Array, "b h w c"]:
        side, factors = enlargement(self.size)
        x = nn.Dense(
            8 * self.width * START**2,
            dtype=self.compute,
            name="project",
            **initializers("uniform", features.shape[-1]),
        )(features.astype(self.compute))
        x = x.reshape(len(x), START, START, 8 * self.width)
        if side != START:
            # As PyTorch's nearest: pixel i of the new map is i·4 // side of the old.
            places = np.arange(side) * START // side
            x = x[:, places][:, :, places]
        widths = (4 * self.width, 2 * self.width, self.width, self.width)
        counts = BLOCKS[self.depth]
        stages = zip(widths, factors, counts, strict=True)
        for stage, (width, factor, count) in enumerate(stages, start=1):
            for place in range(1, count + 1):
                x = UpBlock(
                    width=width,
                    factor=factor if place == 1 else 1,
                    norm=self.norm,
                    name=f"stage{stage}_block{place}",
                )(x, train=train)
        return wide(conv(x, self.channels, 3, name="image"))
