"""Normalisation of activations, by who shares the statistics."""

import math
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jax_rcl import parallel

Norm = Literal["sync", "local", "group"]
"""`sync`: statistics of the global batch; `local`: of one device's share; `group`: of
groups of channels of one example."""

Compute = Literal["float32", "bfloat16"]
"""The type of products, convolutions and activations. Parameters, statistics,
normalisation, softmax and what a network returns are float32 in any case."""


class LocalBatchNorm(nn.Module):
    """Batch normalisation by part of the batch, as without SyncBN in PyTorch.

    Every device normalises with statistics of its own share, or, with `ghost_batch`, of
    that many consecutive rows of it (Hoffer et al. 2017,
    https://arxiv.org/abs/1705.08741): then 8 devices of 64 rows and one of 512 do the
    same. The running statistics, which evaluation uses, are averaged over all parts,
    because what leaves a step must be the same on all devices. PyTorch keeps those of
    process 0.
    """

    ghost_batch: int | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *places c"], *, use_running_average: bool
    ) -> Float[Array, "b *places c"]:
        width = x.shape[-1:]
        scale = self.param("scale", self.scale_init, width)
        bias = self.param("bias", nn.initializers.zeros, width)
        old_mean = self.variable("batch_stats", "mean", jnp.zeros, width)
        old_var = self.variable("batch_stats", "var", jnp.ones, width)
        # [parts, rows, places, channels]: statistics are shared within a part.
        rows = len(x) if use_running_average else self._rows(len(x))
        parts = x.reshape(-1, rows, math.prod(x.shape[1:-1]), *width)
        if use_running_average:
            mean, var = (x.value.reshape(1, 1, 1, -1) for x in (old_mean, old_var))
        else:
            mean = parts.mean((1, 2), keepdims=True)
            var = jnp.square(parts - mean).mean((1, 2), keepdims=True)
            for old, batch in ((old_mean, mean), (old_var, var)):
                if not self.is_initializing():
                    new = parallel.device_average(batch.mean((0, 1, 2)))
                    old.value = self.momentum * old.value + (1 - self.momentum) * new
        y = (parts - mean) * lax.rsqrt(var + self.epsilon)
        y = y * scale.reshape(1, 1, 1, -1) + bias.reshape(1, 1, 1, -1)
        return y.reshape(x.shape)

    def _rows(self, rows: int) -> int:
        """How many of the rows on a device share statistics."""
        if self.ghost_batch is None:
            return rows
        if rows % self.ghost_batch:
            raise ValueError(
                f"ghost_batch {self.ghost_batch} must divide the {rows} rows that one "
                f"device normalises; make it {math.gcd(rows, self.ghost_batch)}, or "
                "change the batch size."
            )
        return self.ghost_batch


def check_ghost_batch(norm: Norm, ghost_batch: int | None) -> None:
    """Raises ValueError for a ghost batch that nothing uses."""
    if ghost_batch is not None and norm != "local":
        raise ValueError(
            f'ghost_batch {ghost_batch} is for norm="local"; norm is {norm!r}.'
        )


def normalized(
    x: Float[Array, "b *places c"],
    norm: Norm,
    *,
    train: bool,
    name: str,
    ghost_batch: int | None = None,
    scale_init: nn.initializers.Initializer = nn.initializers.ones,
) -> Float[Array, "b *places c"]:
    """Normalises in float32 and returns the type of `x`; call it in a compact method.

    Batch statistics are (1 - 0.1) old + 0.1 new per step, with epsilon 1e-5, as
    PyTorch's default. Group normalisation (Wu and He 2018) takes 32 groups, or for
    channels that 32 does not divide the largest power of two that does.

    `sync` and `local` with `train=True`, which uses and keeps the statistics of this
    batch, must run inside `parallel.data_parallel`. With `local`, `ghost_batch` rows
    share statistics; None for a device's share.
    """
    if train and norm != "group":
        _check_values(x, norm, ghost_batch)
    # Deviation: the running variance averages the biased batch variance, PyTorch's the
    # unbiased one, larger by n / (n - 1) with n = values per channel of the batch.
    full = x.astype(jnp.float32)
    if norm == "group":
        groups = math.gcd(32, x.shape[-1])
        layer = nn.GroupNorm(groups, epsilon=1e-5, scale_init=scale_init, name=name)
        return layer(full).astype(x.dtype)
    if norm == "local":
        layer = LocalBatchNorm(ghost_batch, scale_init=scale_init, name=name)
        return layer(full, use_running_average=not train).astype(x.dtype)
    layer = nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        # The fast form, E[x²] - E[x]², loses the digits that decide whether training on
        # one device and on eight gives the same parameters.
        use_fast_variance=False,
        axis_name=parallel.DATA,
        scale_init=scale_init,
        name=name,
    )
    return layer(full).astype(x.dtype)


def _check_values(x: Array, norm: Norm, ghost_batch: int | None) -> None:
    """Raises ValueError if a channel is normalised by one value, which makes it 0."""
    rows = ghost_batch or len(x)
    if norm == "sync":
        try:
            rows = parallel.global_count(len(x))
        except NameError:  # outside of data_parallel; what normalises says so itself
            return
    if rows * math.prod(x.shape[1:-1]) == 1:
        raise ValueError(
            f"batch normalisation (norm={norm!r}) of one value a channel makes 0 of "
            f"it, whatever the image is: statistics are shared by {rows} example, "
            f"whose map is 1 x 1. Write a larger batch"
            f"{'' if norm == 'sync' else ' for each part (ghost_batch)'}, larger "
            f'images, or norm="group".'
        )
