"""Normalisation of activations, by who shares the statistics."""

import math
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jax_rcl import parallel

Norm = Literal["sync", "local", "group"]
"""`sync`: statistics of the global batch; `local`: of one device's share; `group`: of
groups of channels of one example."""

Compute = Literal["float32", "bfloat16", "float64"]
"""The type of products, convolutions and activations. Parameters, statistics,
normalisation, softmax and what a network returns are float32 in any case, or with
`float64`, which needs `jax_enable_x64`, as wide."""


def wide_type(x: Float[Array, "..."]) -> Any:
    """float32, or the type of the array if that is wider."""
    return jnp.float64 if x.dtype == jnp.float64 else jnp.float32


def wide(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The array in float32, or as wide as it is."""
    return x.astype(wide_type(x))


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy 2015) by those who share the statistics.

    With `sync` all examples of the global batch do. With `local`, as without SyncBN in
    PyTorch, those of one device do, or, with `ghost_batch`, that many consecutive rows
    of it (Hoffer et al. 2017, https://arxiv.org/abs/1705.08741): then 8 devices of 64
    rows and one of 512 do the same.

    The running statistics, which evaluation uses, are PyTorch's: the variance that
    enters them is the unbiased one, n / (n - 1) times that of the n values that shared
    it (of one value, 0). With `local` they are averaged over all parts, because what
    leaves a step must be the same on all devices; PyTorch keeps those of process 0.
    With `repeats` each value stands for so many equal ones, which changes n alone.
    """

    norm: Literal["sync", "local"] = "sync"
    ghost_batch: int | None = None
    repeats: int = 1
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
            mean = self._shared(parts)
            # The fast form, E[x²] - E[x]², loses the digits that decide whether
            # training on one device and on eight gives the same parameters.
            var = self._shared(jnp.square(parts - mean))
            if not self.is_initializing():
                shares = lax.axis_size(parallel.DATA) if self._sync else 1
                n = self.repeats * shares * rows * parts.shape[2]
                unbiased = var * (n / max(n - 1, 1))
                for old, batch in ((old_mean, mean), (old_var, unbiased)):
                    new = batch.mean((0, 1, 2))
                    new = new if self._sync else parallel.device_average(new)
                    old.value = self.momentum * old.value + (1 - self.momentum) * new
        y = (parts - mean) * lax.rsqrt(var + self.epsilon)
        y = y * scale.reshape(1, 1, 1, -1) + bias.reshape(1, 1, 1, -1)
        return y.reshape(x.shape)

    @property
    def _sync(self) -> bool:
        return self.norm == "sync"

    def _shared(self, parts: Float[Array, "p r s c"]) -> Float[Array, "p 1 1 c"]:
        """The mean of those that share the statistics."""
        own = parts.mean((1, 2), keepdims=True)
        together = self._sync and not self.is_initializing()
        return parallel.device_average(own) if together else own

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
    repeats: int = 1,
    scale_init: nn.initializers.Initializer = nn.initializers.ones,
) -> Float[Array, "b *places c"]:
    """Normalises in float32 and returns the type of `x`; call it in a compact method.

    Batch statistics are (1 - 0.1) old + 0.1 new per step, the variance unbiased, with
    epsilon 1e-5, as PyTorch's default. Group normalisation (Wu and He 2018) takes 32
    groups, or for channels that 32 does not divide the largest power of two that does.

    `sync` and `local` with `train=True`, which uses and keeps the statistics of this
    batch, must run inside `parallel.data_parallel`. With `local`, `ghost_batch` rows
    share statistics; None for a device's share. `repeats` is that of `BatchNorm`.
    """
    if train and norm != "group":
        _check_values(x, norm, ghost_batch)
    full = wide(x)
    if norm == "group":
        groups = math.gcd(32, x.shape[-1])
        layer = nn.GroupNorm(groups, epsilon=1e-5, scale_init=scale_init, name=name)
        return layer(full).astype(x.dtype)
    layer = BatchNorm(norm, ghost_batch, repeats, scale_init=scale_init, name=name)
    return layer(full, use_running_average=not train).astype(x.dtype)


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
