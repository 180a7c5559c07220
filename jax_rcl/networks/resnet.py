"""Residual networks in torchvision's arrangement, for images of any size and depth."""

import functools
from typing import Annotated, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jax_rcl.networks.heads import conv
from jax_rcl.networks.norms import Compute, Norm, check_ghost_batch, normalized, wide
from jax_rcl.ranges import Count, Within, ranged

BLOCKS = {
    10: (1, 1, 1, 1),
    14: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}

BOTTLENECK = frozenset({14, 50, 101, 152})
"""Depths whose blocks are 1x1, 3x3, 1x1 instead of 3x3, 3x3."""

HE_NORMAL = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""How convolutions start: normal with variance 2 / fan-out (He et al. 2015)."""


_conv = functools.partial(conv, initial=HE_NORMAL)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, the first strided, and a shortcut (He et al. 2016)."""

    width: int
    stride: int
    norm: Norm
    ghost_batch: int | None
    zero_init: bool
    sizes = (3, 3)
    expansion = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b i j d"]:
        settings = {"train": train, "ghost_batch": self.ghost_batch}
        norm = functools.partial(normalized, norm=self.norm, **settings)
        y, last = x, len(self.sizes)
        for place, size in enumerate(self.sizes[:-1], start=1):
            stride = self.stride if place == last - 1 else 1
            y = _conv(y, self.width, size, stride=stride, name=f"conv{place}")
            y = nn.relu(norm(y, name=f"norm{place}"))
        width = self.width * self.expansion
        y = _conv(y, width, self.sizes[-1], name=f"conv{last}")
        start = nn.initializers.zeros if self.zero_init else nn.initializers.ones
        y = norm(y, name=f"norm{last}", scale_init=start)
        if self.stride != 1 or x.shape[-1] != width:
            x = _conv(x, width, 1, stride=self.stride, name="downsample_conv")
            x = norm(x, name="downsample_norm")
        return nn.relu(x + y)


class BottleneckBlock(BasicBlock):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; the output is 4 times as wide.

    The stride is on the 3x3 convolution ("v1.5", as torchvision), where He et al. 2016
    have it on the first 1x1.
    """

    sizes = (1, 3, 1)
    expansion = 4


@ranged
class ResNet(nn.Module):
    """ResNet without its classifier: images to pooled features (He et al. 2016).

    Arrangement, padding and initialisation (He normal by fan-out, scales one, biases
    zero) are torchvision's, so that its weights import exactly
    (`weights/torchvision.py`). Depths 10 and 14 are one basic or bottleneck block per
    stage: with a narrow `width`, networks for small data and for a CPU.

    Attributes:
      width: channels of the stem; features are 8·width, or 32·width with bottlenecks.
      stem: `imagenet` is a 7x7 convolution of stride 2 and a max pool of stride 2;
        `small`, for images of about 32x32, one 3x3 convolution of stride 1.
      stem_padding: of the small stem: 1 keeps the size, 2 adds two pixels to it.
      stem_initial: how the small stem starts: as every convolution, or `uniform` in
        ±1/√fan-in, PyTorch's default. It has that in releases that replace the stem of
        torchvision after initialisation, as that of decoupled uniformity does.
      norm: see `norms.Norm`. With `sync` and `local`, `train=True` runs inside
        `parallel.data_parallel` only.
      ghost_batch: with norm="local", how many consecutive examples share statistics, as
        the share of one GPU does in releases without SyncBN. With None it is the share
        of a device, and the result depends on the number of devices.
      zero_init_residual: whether the last scale of each block starts at zero, which
        makes every block start as its shortcut (Goyal et al. 2017, section 5.1).
    """

    depth: Literal[10, 14, 18, 34, 50, 101, 152]
    width: Count = 64
    stem: Literal["imagenet", "small"] = "imagenet"
    stem_padding: Annotated[int, Within(1, 2, hint="of which 2 adds two pixels")] = 1
    stem_initial: Literal["he normal", "uniform"] = "he normal"
    norm: Norm = "sync"
    ghost_batch: Count | None = None
    zero_init_residual: bool = False
    compute: Compute = "float32"

    def __post_init__(self) -> None:
        for field, usual in (("stem_padding", 1), ("stem_initial", "he normal")):
            value = getattr(self, field)
            if self.stem == "imagenet" and value != usual:
                raise ValueError(
                    f"ResNet.{field} {value!r} is for the small stem; write "
                    f'stem="small" or {usual!r}.'
                )
        check_ghost_batch(self.norm, self.ghost_batch)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b f"]:
        """Features, the mean over places of the last map.

        In training, batch normalisation uses and updates this batch's statistics (the
        collection `batch_stats`, which `norm="group"` does not have). Images have any
        number of channels; normalise pixels with `heads.Normalized`.
        """
        x = images.astype(self.compute)
        if self.stem == "imagenet":
            x = _conv(x, self.width, 7, stride=2, name="stem")
        else:
            x = conv(
                x,
                self.width,
                3,
                padding=self.stem_padding,
                initial=HE_NORMAL if self.stem_initial == "he normal" else None,
                name="stem",
            )
        norm = {"norm": self.norm, "ghost_batch": self.ghost_batch}
        x = nn.relu(normalized(x, train=train, name="stem_norm", **norm))
        if self.stem == "imagenet":
            x = nn.pool(x, -jnp.inf, lax.max, (3, 3), (2, 2), ((1, 1), (1, 1)))

        kind = BottleneckBlock if self.depth in BOTTLENECK else BasicBlock
        for stage, count in enumerate(BLOCKS[self.depth], start=1):
            for place in range(1, count + 1):
                x = kind(
                    width=self.width * 2 ** (stage - 1),
                    stride=2 if stage > 1 and place == 1 else 1,
                    zero_init=self.zero_init_residual,
                    name=f"stage{stage}_block{place}",
                    **norm,
                )(x, train=train)
        return jnp.mean(wide(x), axis=(1, 2))
