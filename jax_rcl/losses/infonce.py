"""InfoNCE against a queue: one key to be found among negatives, own and shared."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_rcl.losses.pairwise import Scalar, Temperature, similarities, widen
from jax_rcl.ranges import Positive, check


def instance_logits(
    queries: Float[Array, "b d"],
    keys: Float[Array, "b d"],
    queue: Float[Array, "q d"],
    own_negatives: Float[Array, "b m d"],
    *,
    temperature: Scalar,
    alpha: Scalar = 1.0,
) -> Float[Array, "b l"]:
    """What a query is compared with, as logits; l = 1 + q + m.

        [ q_i · k_i,   q_i · u_1, …, q_i · u_q,   α q_i · t_i1, …, α q_i · t_im ] / τ

    He et al. 2020, MoCo (https://arxiv.org/abs/1911.05722), equation 1, with the
    non-semantic negatives t of Ge et al. 2021 (https://arxiv.org/abs/2110.14189) behind
    the queue: each query has its own, and α scales their cosines inside the
    exponential, so that it is neither a weight of the loss nor of its terms.

    All are unit vectors (`pairwise.unit`): queries and keys of this device's examples,
    row by row, earlier keys in the queue, and the m negatives of each query, perhaps 0.
    With α = 1 these are negatives like all others; 0 would not be MoCo, but add e⁰ to
    the denominator for every negative, and is refused. Logits come in float32 or wider,
    the positive first.
    """
    check(temperature, Temperature, "temperature")
    check(alpha, Positive, "alpha")
    queries = widen(queries)
    positive = jnp.sum(queries * widen(keys), axis=-1, keepdims=True)
    own = jnp.einsum("bd,bmd->bm", queries, widen(own_negatives), precision="highest")
    logits = [positive, similarities(queries, queue), alpha * own]
    return jnp.concatenate(logits, axis=1) / temperature


def infonce(logits: Float[Array, "b l"]) -> Float[Array, " b"]:
    """Cross entropy of finding the first: log Σ_j exp(l_ij) - l_i0, at least 0."""
    return jax.nn.logsumexp(logits, axis=1) - logits[:, 0]


def found_within(logits: Float[Array, "b l"], k: int) -> Float[Array, " b"]:
    """1.0 where fewer than k other logits reach the first, else 0.0.

    Its mean is the accuracy at k of telling the key from the negatives. Ties count as
    misses, so that a collapsed encoder finds nothing.
    """
    above = jnp.sum(~(logits[:, 1:] < logits[:, :1]), axis=1)
    return (above < k).astype(jnp.float32)
