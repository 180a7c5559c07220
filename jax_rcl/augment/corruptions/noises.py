"""Noise of ImageNet-C and CIFAR-10-C: Gaussian, shot, impulse, speckle.

Every value of each channel is disturbed independently of all others and then limited to
[0, 1].
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from jax_rcl.augment.resample import Image

FEW = 10.0
"""Mean number of events up to which `poisson` counts them one by one."""

MOST = 32
"""Events that it counts at most; a mean of 10 gives more once in 10^8 cases."""


def poisson(key: jax.Array, mean: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Whole numbers of events, Poisson distributed, from one normal number w each.

    The number is the quantile of the distribution at the probability Φ(w). Up to a mean
    of 10 by summing probabilities until they exceed Φ(w). Above, with λ the mean, as
    the whole part of

      λ + w √λ + (1/3 + w²/6) - (w/36 + w³/72) / √λ + (-8/405 + 7w²/810 + w⁴/270) / λ,

    Giles 2016 (ACM Transactions on Mathematical Software 42, algorithm 955): the total
    variation from the Poisson distribution is 1.4e-4 at 10, 3e-6 at 60. Rejection, as
    in `jax.random.poisson`, has none and takes ten times as long on a CPU.
    """
    w = jax.random.normal(key, mean.shape)
    probability, few = norm.cdf(w), jnp.minimum(mean, FEW)

    def count_one(n: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        exactly, at_most, number = state
        number += (probability > at_most).astype(number.dtype)
        exactly = exactly * few / (n + 1).astype(mean.dtype)
        return exactly, at_most + exactly, number

    none = jnp.exp(-few)
    start = (none, none, jnp.zeros_like(mean))
    # Four at a time: what passes through memory in between costs more than counting.
    small = lax.fori_loop(0, MOST, count_one, start, unroll=4)[2]
    many = jnp.maximum(mean, FEW)
    root = jnp.sqrt(many)
    quantile = many + w * root + (1 / 3 + w**2 / 6) - (w / 36 + w**3 / 72) / root
    quantile += (-8 / 405 + 7 * w**2 / 810 + w**4 / 270) / many
    return jnp.where(mean > FEW, jnp.floor(quantile), small)


def gaussian_noise(key: jax.Array, image: Image, level: Float[Array, " 1"]) -> Image:
    """Adds normal noise; level: its standard deviation."""
    return jnp.clip(image + level[0] * jax.random.normal(key, image.shape), 0, 1)


def shot_noise(key: jax.Array, image: Image, level: Float[Array, " 1"]) -> Image:
    """Counts photons; level: how many are expected of a value of 1."""
    return jnp.clip(poisson(key, image * level[0]) / level[0], 0, 1)


def impulse_noise(key: jax.Array, image: Image, level: Float[Array, " 1"]) -> Image:
    """Sets values to 0 or 1, equally often; level: the fraction that is set."""
    # One uniform number decides both: below half the fraction black, below it white.
    drawn = jax.random.uniform(key, image.shape)
    set_to = (drawn >= level[0] / 2).astype(image.dtype)
    return jnp.where(drawn < level[0], set_to, image)


def speckle_noise(key: jax.Array, image: Image, level: Float[Array, " 1"]) -> Image:
    """Multiplies by 1 plus normal noise; level: the noise's standard deviation."""
    noise = level[0] * jax.random.normal(key, image.shape)
    return jnp.clip(image * (1 + noise), 0, 1)


LEVELS = {
    gaussian_noise: {
        224: ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,)),
        32: ((0.04,), (0.06,), (0.08,), (0.09,), (0.1,)),
    },
    shot_noise: {
        224: ((60,), (25,), (12,), (5,), (3,)),
        32: ((500,), (250,), (100,), (75,), (50,)),
    },
    impulse_noise: {
        224: ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,)),
        32: ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,)),
    },
    speckle_noise: {
        224: ((0.15,), (0.2,), (0.35,), (0.45,), (0.6,)),
        32: ((0.06,), (0.1,), (0.12,), (0.16,), (0.2,)),
    },
}
