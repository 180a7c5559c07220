"""Normalisation of activations, by who shares the statistics."""

import math
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_rcl import parallel

Norm = Literal["sync", "local", "group"]
"""`sync`: statistics of the global batch; `local`: of one device's share; `group`: of
groups of channels of one example."""


class LocalBatchNorm(nn.BatchNorm):
    """Batch normalisation by each device's own share, as without SyncBN in PyTorch.

    Every device normalises with its own statistics. The running ones, which evaluation
    uses, are averaged over devices: a device's own could not leave the step, where
    everything must be the same on all of them. PyTorch keeps those of process 0.
    """

    @nn.compact
    def __call__(
        self,
        x: Any,
        use_running_average: bool | None = None,
        *,
        mask: Any = None,
    ) -> Any:
        y = super().__call__(x, use_running_average, mask=mask)
        inference = nn.merge_param(
            "use_running_average", self.use_running_average, use_running_average
        )
        if not inference and not self.is_initializing():
            for name in ("mean", "var"):
                value = self.get_variable("batch_stats", name)
                average = parallel.device_average(value)
                self.put_variable("batch_stats", name, average)
        return y


def normalized(
    x: Float[Array, "b *places c"],
    norm: Norm,
    *,
    train: bool,
    name: str,
    scale_init: nn.initializers.Initializer = nn.initializers.ones,
) -> Float[Array, "b *places c"]:
    """Normalises in float32 and returns the type of `x`; call it in a compact method.

    Batch statistics are (1 - 0.1) old + 0.1 new per step, with epsilon 1e-5, as
    PyTorch's default. Group normalisation (Wu and He 2018) takes 32 groups, or for
    channels that 32 does not divide the largest power of two that does.

    Args:
      x: activations, channels last.
      norm: who shares statistics. `sync` and `local` with `train=True` must run inside
        `parallel.data_parallel`.
      train: whether to use, and keep, the statistics of this batch.
      name: of the submodule, in the parameters and in `batch_stats`.
      scale_init: of the learned scale.
    """
    # Deviation: the running variance averages the biased batch variance, PyTorch's the
    # unbiased one, larger by n / (n - 1) with n = values per channel of the batch.
    full = x.astype(jnp.float32)
    if norm == "group":
        groups = math.gcd(32, x.shape[-1])
        layer = nn.GroupNorm(groups, epsilon=1e-5, scale_init=scale_init, name=name)
        return layer(full).astype(x.dtype)
    kind, axis = (
        (nn.BatchNorm, parallel.DATA) if norm == "sync" else (LocalBatchNorm, None)
    )
    layer = kind(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        # The fast form, E[x²] - E[x]², loses the digits that decide whether training on
        # one device and on eight gives the same parameters.
        use_fast_variance=False,
        axis_name=axis,
        scale_init=scale_init,
        name=name,
    )
    return layer(full).astype(x.dtype)
