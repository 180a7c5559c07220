"""The losses of Thanos: classes attract, and the members of a class spread."""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jax_rcl.losses.pairwise import (
    LogSum,
    Scalar,
    Temperature,
    fold_columns,
    inverse_length,
    similarities,
    unit,
)
from jax_rcl.ranges import NotNegative, check


def spread(
    rows: Float[Array, "b d"],
    columns: Float[Array, "n d"],
    *,
    row_examples: Int[Array, " b"],
    column_examples: Int[Array, " n"],
    row_labels: Int[Array, " b"],
    column_labels: Int[Array, " n"],
    temperature: Scalar = 0.5,
    attraction: float = 1.0,
    spread: float = 1.0,
    positives_in_denominator: float = 0.0,
    logit_clip: Scalar | None = None,
    block: int | None = None,
) -> Float[Array, " b"]:
    """Contrast of each row with another view: close to its class, but apart within it.

    With s_ij = row_i · column_j / temperature, P(i) the columns of the label of row i,
    o ∈ P(i) the one of its own example, and N(i) the columns of other labels,

        attract_i = 1/|P(i)| Σ_{p ∈ P(i)} (log D_ip - s_ip)
        repel_i   = log Σ_{p ∈ P(i)} exp s_ip - s_io
        loss_i    = (attraction · attract_i + spread · repel_i) / (attraction + spread)

    or, where `spread` is 0, loss_i = attraction · attract_i. The denominator has one
    positive, or all of them with a weight w = `positives_in_denominator` above 0:

        w = 0:  D_ip = exp s_ip + Σ_{n ∈ N(i)} exp s_in
        w > 0:  D_ip = w Σ_{p' ∈ P(i)} exp s_ip' + Σ_{n ∈ N(i)} exp s_in

    These are L_attract, L_repel (the class-conditional InfoNCE) and L_spread of Fu et
    al. 2022, The Details Matter, and Chen et al. 2022, Perfectly Balanced
    (https://arxiv.org/abs/2204.07596), where spread / (attraction + spread) is α. With
    `spread=0` classes collapse to points. With examples for labels, `attract` is the
    InfoNCE of two views: SimCLR without its contrast within a view.

    The rows are one view of this device's examples, the columns another view of all
    examples, each once; unit vectors for cosines. With w = 1 the softmax is over all
    columns. A positive logit counts at most `logit_clip` where `attract` subtracts it
    (not in the denominator, not in `repel`). `block` columns at a time need memory
    O(b·block); None takes all at once.

    Returns:
      The loss of each row, in float32 or wider. Without clip: `attract` is 0 for a row
      without negatives if w is 0, `repel` is 0 for a class of one example. When all
      logits are equal, `attract` is log(1 + |N|) if w is 0, and `repel` is log |P|.
    """
    check(temperature, Temperature, "temperature")
    check(attraction, NotNegative, "attraction")
    check(spread, NotNegative, "spread")
    check(positives_in_denominator, NotNegative, "positives_in_denominator")
    if attraction == spread == 0:
        raise ValueError(
            "attraction and spread are both 0, so that there is no loss; give one of "
            "them a weight, such as 1."
        )
    nothing = LogSum.empty(rows)
    zero = nothing.total
    # All at once, both passes share one matrix; in blocks, each computes it again.
    whole = similarities(rows, columns) if block is None else None

    def compare(part: tuple, present: Bool[Array, " m"]) -> tuple[jax.Array, jax.Array]:
        alike = similarities(rows, part[0]) if whole is None else whole
        same = row_labels[:, None] == part[2][None, :]
        return alike / temperature, same & present[None, :]

    def add_up(carry: tuple, part: tuple, present: Bool[Array, " m"]) -> tuple:
        positives, negatives = carry
        logits, same = compare(part, present)
        other = ~same & present[None, :]
        return positives.add(logits, same), negatives.add(logits, other)

    everyone = (columns, column_examples, column_labels)
    sums = fold_columns(add_up, (nothing, nothing), everyone, block=block)
    positives, negatives = (side.log()[:, None] for side in sums)

    def average(carry: tuple, part: tuple, present: Bool[Array, " m"]) -> tuple:
        attract, repel, count = carry
        logits, same = compare(part, present)
        other_view = same & (row_examples[:, None] == part[1][None, :])
        pull = attract_terms(
            logits, positives, negatives, positives_in_denominator, logit_clip
        )
        return (
            attract + jnp.sum(pull, axis=1, where=same),
            repel + jnp.sum(positives - logits, axis=1, where=other_view),
            count + jnp.sum(same, axis=1, dtype=zero.dtype),
        )

    attract, repel, count = fold_columns(
        average, (zero, zero, zero), everyone, block=block
    )
    attract = attract / jnp.maximum(count, 1)
    # A term without weight is left out rather than computed and multiplied by 0.
    if spread == 0:
        return attraction * attract
    if attraction == 0:
        return repel
    return (attraction * attract + spread * repel) / (attraction + spread)


def attract_terms(
    logits: Float[Array, "b m"],
    positives: Float[Array, "b 1"],
    negatives: Float[Array, "b 1"],
    positives_in_denominator: float,
    logit_clip: Scalar | None,
) -> Float[Array, "b m"]:
    """The log D_ip - s_ip of `spread`, from log Σ exp over positives and negatives."""
    if positives_in_denominator > 0:
        weighted = positives + math.log(positives_in_denominator)
        terms = jnp.logaddexp(weighted, negatives) - logits
    else:
        # Not log D - s: where classes are well apart, little of that would be left.
        terms = jax.nn.softplus(negatives - logits)
    if logit_clip is None:
        return terms
    # Deviation: the authors' code clips logits (not cosines) of positives at 1.0, or
    # not at all if given another number; the papers do not mention clipping. Their
    # default: `logit_clip=1.0`.
    return terms + jnp.maximum(logits - logit_clip, 0)


def over_view_pairs(
    rows: Float[Array, "b v d"],
    columns: Float[Array, "n v d"],
    pair_loss: Callable[[jax.Array, jax.Array], jax.Array],
    *,
    direction: Literal["symmetric", "one-way"] = "symmetric",
    similarity: Literal["cosine", "dot", "released"] = "cosine",
) -> Float[Array, " b"]:
    """Mean over ordered pairs of views of a loss of one view against another.

        1/|pairs| Σ_{(i, j) ∈ pairs} pair_loss(rows[:, i], columns[:, j])

    Args:
      rows: embeddings of this device's examples, of any length.
      columns: embeddings of all examples, their views in the same order.
      pair_loss: `(rows [b, d], columns [n, d]) -> [b]`, such as `spread` with its other
        arguments filled in; it is traced once for all pairs.
      direction: "symmetric" has all pairs of different views, "one-way" only a later
        view for rows against an earlier one for columns.
      similarity: what an inner product inside `pair_loss` is. "cosine" of the
        embeddings; "dot", their inner product; "released", their inner product over the
        lengths of the *column's* example in both views.
    """
    views = rows.shape[1]
    if views < 2:
        raise ValueError(
            f"a view is compared with another view; got {views} for each example. Let "
            "the augmentation make 2."
        )
    # Deviation: the authors' code compares later views with earlier ones only, so that
    # the loss depends on their order; ours is the mean of both directions. Theirs:
    # `direction="one-way"`.
    symmetric = direction == "symmetric"
    pairs = [
        (i, j) for i in range(views) for j in range(views if symmetric else i) if i != j
    ]
    if similarity == "cosine":
        rows, columns = unit(rows), unit(columns)

    def compared_with(i: int, j: int) -> jax.Array:
        if similarity != "released":
            return columns[:, j]
        # Deviation: the authors' code divides row b and column k by the length of row k
        # instead of row b; ours is "cosine", which is the same if all embeddings of a
        # view are equally long. Theirs: `similarity="released"`.
        return unit(columns[:, j]) * inverse_length(columns[:, i])

    rows_of_pairs = jnp.stack([rows[:, i] for i, _ in pairs])
    columns_of_pairs = jnp.stack([compared_with(i, j) for i, j in pairs])
    return jax.vmap(pair_loss)(rows_of_pairs, columns_of_pairs).mean(axis=0)
