"""What surrounds an encoder: linear maps, perceptrons, pixel statistics."""

import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jax_rcl.networks.norms import normalized
from jax_rcl.ranges import Count, Positive, ranged

Initial = Literal["xavier", "uniform"]
"""How products start: `xavier` has weights uniform in ±√(6 / (fan-in + fan-out)) and
biases zero; `uniform` has both uniform in ±1/√fan-in, as PyTorch's `Linear`."""


def initializers(initial: Initial, fan_in: int) -> dict[str, Any]:
    """Keyword arguments of a linear layer or convolution with `fan_in` inputs."""
    if initial == "xavier":
        return {"kernel_init": nn.initializers.xavier_uniform()}
    bound = 1 / math.sqrt(fan_in)

    def uniform(key: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, minval=-bound, maxval=bound)

    return {"kernel_init": uniform, "bias_init": uniform}


def check_multiple(network: nn.Module, field: str, unit: int, reason: str) -> None:
    """Raises ValueError unless a field of a network is a multiple of `unit`."""
    value = getattr(network, field)
    if value % unit:
        raise ValueError(
            f"{type(network).__name__}.{field} {value} must be a multiple of {unit}, "
            f"{reason}. Try {unit * max(1, round(value / unit))}."
        )


def _dense(
    x: Float[Array, "b f"], width: int, *, name: str, bias: bool = True
) -> Float[Array, "b d"]:
    # All four methods' released code has PyTorch's default here.
    start = initializers("uniform", x.shape[-1])
    return nn.Dense(width, use_bias=bias, name=name, **start)(x)


def conv(
    x: Float[Array, "b h w c"],
    width: int,
    size: int,
    *,
    name: str,
    stride: int = 1,
    padding: int | None = None,
    initial: nn.initializers.Initializer | None = None,
) -> Float[Array, "b i j d"]:
    """A convolution without bias that keeps the size if `padding` is None.

    It starts uniform in ±1/√fan-in, PyTorch's default, if `initial` is None.
    """
    uniform = initializers("uniform", size * size * x.shape[-1])["kernel_init"]
    y = nn.Conv(
        width,
        (size, size),
        strides=stride,
        # Not "SAME", which with stride 2 pads right and below only and so shifts every
        # map by half a pixel against imported weights.
        padding=size // 2 if padding is None else padding,
        use_bias=False,
        dtype=x.dtype,
        kernel_init=uniform if initial is None else initial,
        name=name,
    )(x)
    # For CPUs jaxlib 0.11.2 to 0.12.0.1 fuse a reduction with what precedes it, and get
    # NaN or noise if that holds two maxima of bfloat16 with one constant, as the ReLUs
    # before and after a convolution are. The barrier keeps the first of them out.
    rough = y.dtype == jnp.bfloat16 and jax.default_backend() == "cpu"
    return lax.optimization_barrier(y) if rough else y


@ranged
class Linear(nn.Module):
    """x ↦ x W + b.

    Attributes:
      initial: `uniform` has both start uniform in ±1/√f, as PyTorch's `Linear`; `small
        normal` has weights normal with standard deviation 0.01 and biases zero, the
        start of the linear evaluation of MoCo's released code.
    """

    features: Count
    initial: Literal["uniform", "small normal"] = "uniform"

    @nn.compact
    def __call__(self, x: Float[Array, "b f"], *, train: bool) -> Float[Array, "b d"]:
        del train  # Nothing here depends on it; every network takes it.
        if self.initial == "uniform":
            return _dense(x, self.features, name="out")
        small = nn.initializers.normal(0.01)
        return nn.Dense(self.features, kernel_init=small, name="out")(x)


@ranged
class Mlp(nn.Module):
    """Linear layers with ReLU between them, a projector or a predictor.

    Layers start as PyTorch's: weights and biases uniform in ±1/√fan-in.

    Attributes:
      widths: of the layers; the last is the output's.
      norm: batch normalisation of every hidden layer, before its ReLU; those layers
        then have no bias. `sync` shares statistics over devices, `local` does not, and
        either with `train=True` runs inside `parallel.data_parallel` only.
      first: `relu` rectifies the input, for an encoder that ends in a linear layer
        (decoupled uniformity).
    """

    widths: tuple[Count, ...]
    norm: Literal["none", "sync", "local"] = "none"
    first: Literal["linear", "relu"] = "linear"
    last_bias: bool = True

    def __post_init__(self) -> None:
        if not self.widths:
            raise ValueError(
                "Mlp.widths () must have at least one entry, the width of the output. "
                "Try (512, 128)."
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "b f"], *, train: bool) -> Float[Array, "b d"]:
        if self.first == "relu":
            x = nn.relu(x)
        for place, width in enumerate(self.widths[:-1], start=1):
            x = _dense(x, width, name=f"hidden{place}", bias=self.norm == "none")
            if self.norm != "none":
                x = normalized(x, self.norm, train=train, name=f"norm{place}")
            x = nn.relu(x)
        return _dense(x, self.widths[-1], name="out", bias=self.last_bias)


class Headed(nn.Module):
    """An encoder followed by a head that stays at evaluation: head(encoder(images)).

    Their variables are under `encoder` and `head`.
    """

    encoder: nn.Module
    head: nn.Module

    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b d"]:
        return self.head(self.encoder(images, train=train), train=train)


@ranged
class Normalized(nn.Module):
    """encoder((images - mean) / std): pixel statistics belong to the network.

    Everywhere else images are in [0, 1], so a teacher and a student with different
    statistics see the same distortion. The wrapper leaves no trace in the variables:
    names are those of the encoder alone, so checkpoints and imported weights fit with
    and without it.

    Attributes:
      mean, std: of each channel, or one number for all, in units of [0, 1].
      rounding: what the encoder sees of the result: all of it, or what "float16" holds,
        as students of the released code of Ravula et al. 2021 do.
    """

    encoder: nn.Module
    mean: tuple[float, ...]
    std: tuple[Positive, ...]
    rounding: Literal["none", "float16"] = "none"

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(
                f"Normalized.mean {self.mean} and Normalized.std {self.std} must have "
                f"one number per channel each."
            )
        super().__post_init__()

    def setup(self) -> None:
        nn.share_scope(self, self.encoder)

    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b f"]:
        channels = images.shape[-1]
        if len(self.mean) not in (1, channels):
            raise ValueError(
                f"Normalized.mean has {len(self.mean)} channels, the images have "
                f"{channels}: give {channels} numbers, or one for all."
            )
        shape = (1, 1, 1, -1)
        mean = jnp.asarray(self.mean, images.dtype).reshape(shape)
        std = jnp.asarray(self.std, images.dtype).reshape(shape)
        seen = (images - mean) / std
        if self.rounding == "float16":
            # Without the barrier compilers may leave out such a pair of conversions.
            half = lax.optimization_barrier(seen.astype(jnp.float16))
            seen = half.astype(seen.dtype)
        return self.encoder(seen, train=train)


class Concatenated(nn.Module):
    """Features of several encoders side by side: [b, f₁], [b, f₂] -> [b, f₁ + f₂].

    Each encoder has its variables directly below its name, `params/first/...` and
    `batch_stats/first/...`, as a run of that encoder alone has them below
    `params/encoder` and `memory/encoder`: such runs fill the parts of this one.

    Attributes:
      encoders: images to features [b, f]; equal ones are still separate networks.
      names: of each in the variables.
    """

    encoders: tuple[nn.Module, ...]
    names: tuple[str, ...] = ("first", "second")

    def __post_init__(self) -> None:
        known = {name for name in self.names if name.isidentifier()}
        if not known or not len(known) == len(self.names) == len(self.encoders):
            raise ValueError(
                f"Concatenated.names {self.names} must be a different name for each of "
                f'{len(self.encoders)} encoders, of letters, digits and "_". Try '
                f'("first", "second").'
            )
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b f"]:
        outputs = []
        for name, encoder in zip(self.names, self.encoders, strict=True):
            # A copy takes the name; the field's own module would be `encoders_0`.
            features = encoder.copy(parent=self, name=name)(images, train=train)
            if features.ndim != 2:
                raise ValueError(
                    f"Concatenated: encoder '{name}' gives {features.shape} for "
                    f"{len(images)} images; it must give a vector each, [b, f]."
                )
            outputs.append(features)
        return jnp.concatenate(outputs, axis=1)
