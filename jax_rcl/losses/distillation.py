"""Losses that pull a student to a teacher: of embeddings, and of class predictions.

A student s_i and its teacher t_i embed the same example i; s and t below are unit
vectors, except in `embedding_mse`. Bounds of values hold up to rounding. Nothing here
stops gradients: that the teacher gets none is said by who differentiates. Ravula et al.
2021 (https://arxiv.org/abs/2110.07439), with the names of its released code in
brackets.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jax_rcl.losses.classification import smoothed_cross_entropy
from jax_rcl.losses.pairwise import LogSum, fold_columns, similarities, widened


def student_teacher(
    students: Float[Array, "b d"],
    teachers: Float[Array, "b d"],
    *,
    all_teachers: Float[Array, "n d"],
    temperature: float,
    block: int | None = None,
) -> Float[Array, " b"]:
    """InfoNCE of each student among all teachers (`simclr_st`).

        -s_i·t_i / τ + log Σ_j exp(s_i·t_j / τ)

    One direction only, the positive in the denominator: the cross entropy of finding
    one's own teacher.

    Args:
      students: of this device's examples.
      teachers: of the same examples, row by row.
      all_teachers: of the global batch; on one device, `teachers`.
      temperature: τ, divides the cosines; above 0.
      block: columns per block, for memory O(b·block); None for all at once.

    Returns:
      The loss of each example, in float32 or wider; at least 0, log n if all are equal.

    Raises:
      ValueError: with a temperature of 0 or less, or a block of less than one column.
    """
    teachers_sum = _log_sum(
        LogSum.empty(students), students, all_teachers, None, temperature, block
    )
    return teachers_sum.log() - _positive(students, teachers, temperature)


def student_student(
    students: Float[Array, "b d"],
    teachers: Float[Array, "b d"],
    *,
    all_students: Float[Array, "n d"],
    row_ids: Int[Array, " b"],
    column_ids: Int[Array, " n"],
    temperature: float,
    block: int | None = None,
) -> Float[Array, " b"]:
    """Each student near its teacher and far from the other students (`simclr_ss`).

        -s_i·t_i / τ + log Σ_{j ≠ i} exp(s_i·s_j / τ)

    The positive is not in the denominator, so the loss can be negative.

    Args:
      students: of this device's examples.
      teachers: of the same examples, row by row.
      all_students: of the global batch; on one device, `students`.
      row_ids: who a row is. A column of the same id is the row itself.
      column_ids: who a column is; an id occurs once.
      temperature: τ, divides the cosines; above 0.
      block: columns per block, for memory O(b·block); None for all at once.

    Returns:
      The loss of each example, in float32 or wider: log(n - 1) if all are equal.

    Raises:
      ValueError: with a temperature of 0 or less, a block of less than one column, or
        fewer than two columns: one example alone has nothing to be far from.
    """
    if len(all_students) < 2:
        raise ValueError(
            "student_student compares a student with others, but the batch holds one "
            "example; make the batch larger."
        )
    ids = row_ids, column_ids
    students_sum = _log_sum(
        LogSum.empty(students), students, all_students, ids, temperature, block
    )
    return students_sum.log() - _positive(students, teachers, temperature)


def both(
    students: Float[Array, "b d"],
    teachers: Float[Array, "b d"],
    *,
    all_students: Float[Array, "n d"],
    all_teachers: Float[Array, "n d"],
    row_ids: Int[Array, " b"],
    column_ids: Int[Array, " n"],
    temperature: float,
    block: int | None = None,
) -> Float[Array, " b"]:
    """InfoNCE of each student among all teachers and the other students.

        -s_i·t_i / τ + log( Σ_j exp(s_i·t_j / τ) + Σ_{j ≠ i} exp(s_i·s_j / τ) )

    `simclr_both` of the released code; the positive is in the denominator.

    Args:
      students: of this device's examples.
      teachers: of the same examples, row by row.
      all_students: of the global batch; on one device, `students`.
      all_teachers: likewise, `teachers`.
      row_ids: who a row is. A student of the same id is the row itself.
      column_ids: who a column is; an id occurs once.
      temperature: τ, divides the cosines; above 0.
      block: columns per block, for memory O(b·block); None for all at once.

    Returns:
      The loss of each example, in float32 or wider; at least 0, log(2n - 1) if all are
      equal.

    Raises:
      ValueError: with a temperature of 0 or less, or a block of less than one column.
    """
    ids = row_ids, column_ids
    nothing = LogSum.empty(students)
    among = _log_sum(nothing, students, all_teachers, None, temperature, block)
    among = _log_sum(among, students, all_students, ids, temperature, block)
    return among.log() - _positive(students, teachers, temperature)


def symmetric_infonce(
    students: Float[Array, "b d"],
    teachers: Float[Array, "b d"],
    *,
    all_students: Float[Array, "n d"],
    all_teachers: Float[Array, "n d"],
    temperature: float,
    block: int | None = None,
) -> Float[Array, " b"]:
    """InfoNCE in both directions, as CLIP's of images and texts (`clip`).

        -s_i·t_i / τ + ½ log Σ_j exp(s_i·t_j / τ) + ½ log Σ_j exp(t_i·s_j / τ)

    The released code divides its mean by n once more, which only changes the number
    that is shown: its optimizer, Adam, takes no notice.

    Args:
      students: of this device's examples.
      teachers: of the same examples, row by row.
      all_students: of the global batch; on one device, `students`.
      all_teachers: likewise, `teachers`.
      temperature: τ, divides the cosines; above 0.
      block: columns per block, for memory O(b·block); None for all at once.

    Returns:
      The loss of each example, in float32 or wider; at least 0, log n if all are equal.

    Raises:
      ValueError: with a temperature of 0 or less, or a block of less than one column.
    """
    known = {"temperature": temperature, "block": block}
    forth = student_teacher(students, teachers, all_teachers=all_teachers, **known)
    back = student_teacher(teachers, students, all_teachers=all_students, **known)
    return (forth + back) / 2


def embedding_mse(
    students: Float[Array, "b d"], teachers: Float[Array, "b d"]
) -> Float[Array, " b"]:
    """Mean square of the differences, 1/d ‖s_i - t_i‖², of embeddings as they are."""
    return jnp.mean((widened(students) - widened(teachers)) ** 2, axis=1)


def knowledge_distillation(
    students: Float[Array, "b k"],
    teachers: Float[Array, "b k"],
    labels: Int[Array, " b"],
    *,
    temperature: float,
    weight: float,
) -> Float[Array, " b"]:
    """A student's predictions compared with the softened ones of a teacher.

        w T² KL( softmax(t / T) ‖ softmax(s / T) ) + (1 - w) cross_entropy(s, label)

    Hinton et al. 2015 (https://arxiv.org/abs/1503.02531), section 2: T² keeps the size
    of the first term's gradient when T is changed.

    Args:
      students: logits s.
      teachers: logits t of the same examples.
      labels: true classes in [0, k).
      temperature: T, above 0; the released experiments have 4.
      weight: w in [0, 1]; the released experiments have 0.9.

    Returns:
      The loss of each example, in float32 or wider, at least 0.

    Raises:
      ValueError: with a temperature or a weight out of its range.
    """
    _check_temperature(temperature)
    if not 0 <= weight <= 1:
        raise ValueError(f"weight {weight} is a share, from 0 to 1. Try 0.9.")
    softened = jax.nn.log_softmax(widened(students) / temperature)
    target = jax.nn.log_softmax(widened(teachers) / temperature)
    divergence = jnp.sum(jnp.exp(target) * (target - softened), axis=1)
    hard = smoothed_cross_entropy(students, labels)
    return weight * temperature**2 * divergence + (1 - weight) * hard


def _positive(
    students: Float[Array, "b d"], teachers: Float[Array, "b d"], temperature: float
) -> Float[Array, " b"]:
    return jnp.sum(widened(students) * widened(teachers), axis=1) / temperature


def _log_sum(
    carry: LogSum,
    rows: Float[Array, "b d"],
    columns: Float[Array, "n d"],
    ids: tuple[Int[Array, " b"], Int[Array, " n"]] | None,
    temperature: float,
    block: int | None,
) -> LogSum:
    """`carry` and exp(row·column / τ) over the columns of another id, or over all."""
    _check_temperature(temperature)
    row_ids, column_ids = (None, jnp.arange(len(columns))) if ids is None else ids

    def fold(carry: LogSum, part: tuple, present: Bool[Array, " m"]) -> LogSum:
        embeddings, own_ids = part
        counted = jnp.broadcast_to(present[None, :], (len(rows), len(present)))
        if row_ids is not None:
            counted = counted & (row_ids[:, None] != own_ids[None, :])
        return carry.add(similarities(rows, embeddings) / temperature, counted)

    return fold_columns(fold, carry, (columns, column_ids), block=block)


def _check_temperature(temperature: float) -> None:
    if temperature <= 0:
        raise ValueError(
            f"temperature {temperature} must be above 0: it divides the logits. "
            "Try 0.1."
        )
