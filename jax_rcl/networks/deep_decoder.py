"""The generator of Deep Decoder: noise to one image, by an untrained network."""

import functools
from typing import Annotated

import flax.linen as nn
import jax
from jaxtyping import Array, Float, Float32

from jax_rcl.networks.heads import initializers
from jax_rcl.ranges import AtLeast, Count, ranged

MOST = 5
"""The most doublings of the side, as in the release: 224 is 7·2⁵."""


def doublings_for(size: tuple[int, int]) -> int:
    """The number of doublings from a first map to an image of this height and width.

    5 times, or as often as leaves the shorter side of the first map at least 2, as its
    normalisation needs more than one place: 224 is 7·2⁵, 64 is 2·2⁵, 32 is 2·2⁴, and 28
    is cut from 2·2⁴.
    """
    # Every doubling makes the network smoother. With a tenth of the pixels of 28x28
    # known, the squared error of the others is less than half from 2x2 of that from
    # 7x7, where the network can fit the known pixels without changing the rest.
    return max(0, min(MOST, (min(size) - 1).bit_length() - 1))


def _double(x: Float[Array, "i j c"]) -> Float[Array, "h w c"]:
    """Twice the side, linear between pixel centres at (i + 1/2) / side, edges repeated.

    PyTorch's bilinear upsampling without aligned corners.
    """
    height, width, channels = x.shape
    return jax.image.resize(x, (2 * height, 2 * width, channels), "linear")


ImageNorm = functools.partial(nn.InstanceNorm, epsilon=1e-5, use_fast_variance=False)
"""Batch normalisation for a batch of one image: each channel over its places.

(x - mean) / √(var + 10⁻⁵) · scale + bias, with the mean and the biased variance of this
map, [1, i, j, c], in every call; there are no running statistics.
"""


@ranged
class Generator(nn.Module):
    """The network of Deep Decoder (Heckel and Hand 2019): a noise map to one image.

    https://arxiv.org/abs/1810.03982. Each stage mixes the channels of every place by a
    1x1 convolution without bias, doubles the map bilinearly, rectifies and normalises;
    the last stage does not double. A 1x1 convolution without bias and a sigmoid make
    the image. No convolution sees a neighbouring pixel: smoothness comes from the
    doubling alone, which is why the network fits an image before it fits noise. It has
    no inference mode: the statistics are those of its one map.

    With width 256 and 3 channels, an image of 224x224 takes 5 doublings and 397,056
    parameters. Convolutions start uniform in ±1/√fan-in, PyTorch's default; scales are
    one and biases zero.

    Attributes:
      size: height and width of the image. The first map has ⌈size / 2^doublings⌉
        places, and what exceeds the size at the end is cut off.
      width: channels of the noise and of every stage.
      doublings: how often the side is doubled, one less than the number of stages; None
        for what `doublings_for` says of `size`.
    """

    size: tuple[Count, Count]
    channels: Count = 3
    width: Count = 256
    doublings: Annotated[int, AtLeast(0, "or None to choose by size")] | None = None

    @property
    def stages(self) -> int:
        """The number of stages: one for each doubling, and the last."""
        if self.doublings is None:
            return doublings_for(self.size) + 1
        return self.doublings + 1

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of the noise map, [i, j, width]."""
        factor = 2 ** (self.stages - 1)
        height, width = (-(-side // factor) for side in self.size)
        return height, width, self.width

    @nn.compact
    def __call__(self, noise: Float[Array, "i j f"]) -> Float32[Array, "h w c"]:
        x = noise
        for stage in range(1, self.stages + 1):
            x = self._mix(x, self.width, name=f"stage{stage}_conv")
            if stage < self.stages:
                # Doubling and a 1x1 convolution commute, so the product is made where
                # it is four times smaller.
                x = _double(x)
            x = ImageNorm(name=f"stage{stage}_norm")(nn.relu(x)[None])[0]
        x = self._mix(x, self.channels, name="image")
        height, width = self.size
        return nn.sigmoid(x)[:height, :width]

    def _mix(
        self, x: Float[Array, "i j c"], width: int, *, name: str
    ) -> Float[Array, "i j d"]:
        start = initializers("uniform", x.shape[-1])["kernel_init"]
        return nn.Dense(width, use_bias=False, kernel_init=start, name=name)(x)
