"""Dropout whose randomness belongs to the example, not to the device.

Each row draws its own mask, by its place in the global batch, so that one device and
eight train the same network. (flax's `Dropout` draws one mask for a share, and gives
every device the same one.) Randomness is the collection `dropout`, of which modules
that differ in their path get different keys: in training call a network as
`network.apply(variables, x, train=True, rngs={"dropout": key})` with a key that is the
same on all devices, inside `parallel.data_parallel`. Evaluation and initialisation draw
nothing and need no key.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_rcl import parallel


def checked_rate(rate: float, name: str) -> None:
    """Raises ValueError, starting with `name`, for a rate that is not in [0, 1)."""
    if not 0 <= rate < 1:
        raise ValueError(
            f"{name} {rate} must be in [0, 1): it is the share that is set to zero."
        )


def _dropped(
    module: nn.Module,
    x: Float[Array, "b *shape"],
    rate: float,
    *,
    train: bool,
    shared: tuple[int, ...],
) -> Float[Array, "b *shape"]:
    # One number per row at least: the mask is constant along the axes `shared`.
    if not train or rate == 0 or module.is_initializing():
        return x
    shape = [1 if axis in shared else size for axis, size in enumerate(x.shape)][1:]
    keys = parallel.example_keys(module.make_rng("dropout"), len(x))
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, shape))(keys)
    return jnp.where(keep, x / (1 - rate), jnp.zeros_like(x))


class Dropout(nn.Module):
    """Sets each number to 0 with probability `rate`, divides the others by 1 - rate.

    The expectation is the input (Srivastava et al. 2014, section 10, rescaled in
    training instead of in evaluation).

    Attributes:
      rate: in [0, 1); 0 draws nothing.
      shared: axes of the input, the batch's being 0, along which all is kept or
        dropped together.

    Raises:
      ValueError: for a rate outside [0, 1), or the batch among the shared axes.
    """

    rate: float
    shared: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        checked_rate(self.rate, "Dropout.rate")
        if any(axis < 1 for axis in self.shared):
            raise ValueError(
                f"Dropout.shared {self.shared} must hold axes from 1 on: every example "
                f"draws for itself."
            )
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *shape"], *, train: bool
    ) -> Float[Array, "b *shape"]:
        return _dropped(self, x, self.rate, train=train, shared=self.shared)


class StochasticDepth(nn.Module):
    """Drops a residual branch, whole examples of it: x + StochasticDepth(rate)(f(x)).

    An example's branch is 0 with probability `rate` and divided by 1 - rate otherwise
    (Huang et al. 2016, rescaled in training instead of in evaluation).

    Attributes:
      rate: in [0, 1); 0 draws nothing.

    Raises:
      ValueError: for a rate outside [0, 1).
    """

    rate: float

    def __post_init__(self) -> None:
        checked_rate(self.rate, "StochasticDepth.rate")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *shape"], *, train: bool
    ) -> Float[Array, "b *shape"]:
        shared = tuple(range(1, x.ndim))
        return _dropped(self, x, self.rate, train=train, shared=shared)


@dataclasses.dataclass(frozen=True)
class DropRates:
    """What a transformer drops in training, each a probability in [0, 1).

    Attributes:
      patches: numbers of the embedded patches, before class token and positions.
      attention: weights of the attention, after the softmax.
      units: numbers of the output of the attention, of the hidden layer of the
        perceptron, and of its output.
      depth: both branches of the last block, for a whole example; the rate grows
        linearly from 0 in the first block to this one (`StochasticDepth`).
      queries: queries, before the softmax: all scores of one are 0, in all heads, so
        that it looks at all tokens evenly; scores of the others are divided by
        1 - queries. The released code of Perfectly Balanced (Chen et al. 2022) has it
        at 0.1, as what two-dimensional dropout does with its order of axes.

    Raises:
      ValueError: for a rate outside [0, 1).
    """

    patches: float = 0.0
    attention: float = 0.0
    units: float = 0.0
    depth: float = 0.0
    queries: float = 0.0

    def __post_init__(self) -> None:
        """Checks the rates."""
        for field in dataclasses.fields(self):
            checked_rate(getattr(self, field.name), f"DropRates.{field.name}")
