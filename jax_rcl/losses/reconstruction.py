"""Losses of images made by a decoder."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_rcl.losses.pairwise import widen


def pixel_mse(
    outputs: Float[Array, "b h w c"], targets: Float[Array, "b _ _ _"]
) -> Float[Array, " b"]:
    """Mean squared error of each image over its pixels and channels.

        1/(h·w·c) Σ_{y, x, z} (output_yxz - target_yxz)²

    In float32 or wider.
    """
    if outputs.shape != targets.shape:
        raise ValueError(
            f"outputs {outputs.shape} and targets {targets.shape} must have one shape: "
            "give the decoder the height, width and channels of its targets."
        )
    difference = widen(outputs) - widen(targets)
    return jnp.mean(difference**2, axis=(1, 2, 3))
