"""Contrastive losses of labelled or self-labelled views, row by row."""

from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jax_rcl.losses.pairwise import (
    LogSum,
    Scalar,
    Temperature,
    fold_columns,
    similarities,
)
from jax_rcl.ranges import check


def supcon(
    rows: Float[Array, "b d"],
    columns: Float[Array, "n d"],
    *,
    row_ids: Int[Array, " b"],
    column_ids: Int[Array, " n"],
    row_labels: Int[Array, " b"],
    column_labels: Int[Array, " n"],
    temperature: Scalar,
    positives: Literal["out", "in"] = "out",
    block: int | None = None,
) -> Float[Array, " b"]:
    """Supervised contrastive loss of each row: near to its class, far from the rest.

    With A(i) all columns of another id than row i, P(i) those of A(i) with its label,
    and s_ij = row_i · column_j / temperature,

        "out":  -1/|P(i)| Σ_{p ∈ P(i)} log( exp s_ip / Σ_{a ∈ A(i)} exp s_ia )
        "in":   -log( 1/|P(i)| Σ_{p ∈ P(i)} exp s_ip / Σ_{a ∈ A(i)} exp s_ia )

    The mean over positives is outside or inside the logarithm: equations 2 and 3 of
    Khosla et al. 2020 (https://arxiv.org/abs/2004.11362), who recommend "out". "in" is
    never the larger of the two (Jensen).

    The rows are unit vectors (`pairwise.unit`) of this device's views, the columns
    those of all views, the rows among them. A column of the id of a row
    (`pairwise.view_ids`) is the row itself, and an id occurs once among them. `block`
    columns at a time need memory O(b·block); None takes all at once.

    Returns:
      The loss of each row, in float32 or wider: log(n - 1) when all vectors are equal;
      0, with gradient 0, for a row whose label no other column has.
    """
    check(temperature, Temperature, "temperature")
    nothing = LogSum.empty(rows)
    zero = nothing.total

    # Carried: Σ exp s over everyone else; what the positives add up to (Σ s for the
    # mean outside the logarithm, Σ exp s for the mean inside); how many there are.
    def fold(carry: tuple, part: tuple, present: Bool[Array, " m"]) -> tuple:
        everyone, attraction, count = carry
        embeddings, ids, labels = part
        logits = similarities(rows, embeddings) / temperature
        other = (row_ids[:, None] != ids[None, :]) & present[None, :]
        positive = other & (row_labels[:, None] == labels[None, :])
        if positives == "out":
            attraction = attraction + jnp.sum(logits, axis=1, where=positive)
        else:
            attraction = attraction.add(logits, positive)
        count = count + jnp.sum(positive, axis=1, dtype=zero.dtype)
        return everyone.add(logits, other), attraction, count

    initial: tuple[Any, ...] = (nothing, zero if positives == "out" else nothing, zero)
    everyone, attraction, count = fold_columns(
        fold, initial, (columns, column_ids, column_labels), block=block
    )
    some = jnp.maximum(count, 1)
    if positives == "out":
        value = everyone.log() - attraction / some
    else:
        value = everyone.log() - attraction.log() + jnp.log(some)
    return jnp.where(count > 0, value, 0)


def nt_xent(
    rows: Float[Array, "b d"],
    columns: Float[Array, "n d"],
    *,
    row_ids: Int[Array, " b"],
    column_ids: Int[Array, " n"],
    row_examples: Int[Array, " b"],
    column_examples: Int[Array, " n"],
    temperature: Scalar,
    block: int | None = None,
) -> Float[Array, " b"]:
    """Normalised temperature-scaled cross entropy of each row: finds its other views.

        -log( exp s_ij / Σ_{a ≠ i} exp s_ia ),    s_ij = row_i · column_j / temperature

    with j the other view of the same example: equation 1 of Chen et al. 2020, SimCLR
    (https://arxiv.org/abs/2002.05709). With more than two views, the mean over j. It is
    `supcon` "out" with every example as its own class.

    Arguments are those of `supcon`, with `row_examples` and `column_examples`, the
    examples of which rows and columns are views, for the labels.
    """
    return supcon(
        rows,
        columns,
        row_ids=row_ids,
        column_ids=column_ids,
        row_labels=row_examples,
        column_labels=column_examples,
        temperature=temperature,
        block=block,
    )
