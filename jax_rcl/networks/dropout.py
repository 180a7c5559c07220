"""Dropout whose randomness belongs to the example, not to the device.

Each row draws its own mask, by its place in the global batch, so that one device and
eight train the same network. (flax's `Dropout` draws one mask for a share, and gives
every device the same one.) Randomness is the collection `dropout`, of which modules
that differ in their path get different keys. In training, call a network inside
`parallel.data_parallel` as `network.apply(variables, x, train=True, rngs={"dropout":
key})` with a key that is the same on all devices. Evaluation and initialisation draw
nothing and need no key.
"""

import dataclasses
from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_rcl import parallel
from jax_rcl.ranges import AtLeast, Within, ranged

Rate = Annotated[
    float, Within(0, 1, open="high", hint="the probability of being set to zero")
]
"""How much is dropped."""

Axis = Annotated[int, AtLeast(1, "as every example draws for itself")]
"""An axis other than that of the batch."""


@ranged
class Dropout(nn.Module):
    """Sets each number to 0 with probability `rate`, divides the others by 1 - rate.

    The expectation is the input (Srivastava et al. 2014, section 10, rescaled in
    training instead of in evaluation). A rate of 0 draws nothing.

    Attributes:
      shared: axes of the input, the batch's being 0, along which all is kept or
        dropped together.
    """

    rate: Rate
    shared: tuple[Axis, ...] = ()

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *shape"], *, train: bool
    ) -> Float[Array, "b *shape"]:
        if not train or self.rate == 0 or self.is_initializing():
            return x
        kept, shape = 1 - self.rate, self._mask_shape(x)
        keys = parallel.example_keys(self.make_rng("dropout"), len(x))
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, kept, shape))(keys)
        return jnp.where(keep, x / kept, jnp.zeros_like(x))

    def _mask_shape(self, x: Float[Array, "b *shape"]) -> list[int]:
        return [
            1 if axis in self.shared else x.shape[axis] for axis in range(1, x.ndim)
        ]


class StochasticDepth(Dropout):
    """Drops a residual branch, whole examples of it: x + StochasticDepth(rate)(f(x)).

    An example's branch is 0 with probability `rate` and divided by 1 - rate otherwise
    (Huang et al. 2016, rescaled in training instead of in evaluation).
    """

    def _mask_shape(self, x: Float[Array, "b *shape"]) -> list[int]:
        return [1] * (x.ndim - 1)


@dataclasses.dataclass(frozen=True)
@ranged
class DropRates:
    """What a transformer drops in training, as probabilities.

    Attributes:
      patches: numbers of the embedded patches, before class token and positions.
      attention: weights of the attention, after the softmax.
      units: numbers of the output of the attention, of the hidden layer of the
        perceptron, and of its output.
      depth: both branches of the last block, for a whole example; the rate grows
        linearly from 0 in the first block to this one (`StochasticDepth`).
      queries: queries, before the softmax: all scores of one are 0, in all heads, so
        that it looks at all tokens evenly; scores of the others are divided by
        1 - queries. The released code of Perfectly Balanced (Chen et al. 2022) does so
        at 0.1, as a side effect of two-dimensional dropout and its order of axes.
    """

    patches: Rate = 0.0
    attention: Rate = 0.0
    units: Rate = 0.0
    depth: Rate = 0.0
    queries: Rate = 0.0
