"""Losses that pull a student to a teacher: of embeddings, and of class predictions.

A student s_i and its teacher t_i embed the same example i. The losses compare the
`students` and `teachers` of this device's examples, row by row, with `all_students` and
`all_teachers` of the global batch (on one device, the same arrays); `row_ids` and
`column_ids` say which student of the batch a row is. s and t are unit vectors, except
in `embedding_mse`; τ is the temperature; `block` is the number of columns per block,
for memory O(b·block), None for all at once. Results are one value per example, in
float32 or wider; bounds hold up to rounding.

Nothing here stops gradients. Ravula et al. 2021 (https://arxiv.org/abs/2110.07439),
with the names of its released code in brackets.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jax_rcl.losses.classification import smoothed_cross_entropy
from jax_rcl.losses.pairwise import (
    LogSum,
    Scalar,
    Temperature,
    fold_columns,
    similarities,
    widen,
)
from jax_rcl.ranges import Share, check

Ids = tuple[Int[Array, " b"], Int[Array, " n"]]


def student_teacher(
    students: Float[Array, "b d"],
    teachers: Float[Array, "b d"],
    *,
    all_teachers: Float[Array, "n d"],
    temperature: Scalar,
    block: int | None = None,
) -> Float[Array, " b"]:
    """InfoNCE of each student among all teachers (`simclr_st`).

        -s_i·t_i / τ + log Σ_j exp(s_i·t_j / τ)

    The cross entropy of finding one's own teacher: at least 0; log n if all are equal.
    """
    return _contrast(students, teachers, temperature, block, (all_teachers, None))


def student_student(
    students: Float[Array, "b d"],
    teachers: Float[Array, "b d"],
    *,
    all_students: Float[Array, "n d"],
    row_ids: Int[Array, " b"],
    column_ids: Int[Array, " n"],
    temperature: Scalar,
    block: int | None = None,
) -> Float[Array, " b"]:
    """Each student near its teacher and far from the other students (`simclr_ss`).

        -s_i·t_i / τ + log Σ_{j ≠ i} exp(s_i·s_j / τ)

    The positive is not in the denominator, so the loss can be negative; log(n - 1) if
    all are equal.
    """
    if len(all_students) < 2:
        raise ValueError(
            "student_student compares a student with others, but the batch has one "
            "example; make the batch larger."
        )
    others = all_students, (row_ids, column_ids)
    return _contrast(students, teachers, temperature, block, others)


def both(
    students: Float[Array, "b d"],
    teachers: Float[Array, "b d"],
    *,
    all_students: Float[Array, "n d"],
    all_teachers: Float[Array, "n d"],
    row_ids: Int[Array, " b"],
    column_ids: Int[Array, " n"],
    temperature: Scalar,
    block: int | None = None,
) -> Float[Array, " b"]:
    """InfoNCE of each student among all teachers and the other students.

        -s_i·t_i / τ + log( Σ_j exp(s_i·t_j / τ) + Σ_{j ≠ i} exp(s_i·s_j / τ) )

    `simclr_both` of the released code: at least 0; log(2n - 1) if all are equal.
    """
    among = (all_teachers, None), (all_students, (row_ids, column_ids))
    return _contrast(students, teachers, temperature, block, *among)


def symmetric_infonce(
    students: Float[Array, "b d"],
    teachers: Float[Array, "b d"],
    *,
    all_students: Float[Array, "n d"],
    all_teachers: Float[Array, "n d"],
    temperature: Scalar,
    block: int | None = None,
) -> Float[Array, " b"]:
    """InfoNCE in both directions, as CLIP's of images and texts (`clip`).

        -s_i·t_i / τ + ½ log Σ_j exp(s_i·t_j / τ) + ½ log Σ_j exp(t_i·s_j / τ)

    Deviation: the released code divides the mean over the batch by n once more. With
    Adam that changes the number reported and, through its epsilon, the steps a little:
    the first by about 0.3 % at n = 256. `Distill.averaged` has the released form.

    At least 0; log n if all are equal.
    """
    known = {"temperature": temperature, "block": block}
    forth = student_teacher(students, teachers, all_teachers=all_teachers, **known)
    back = student_teacher(teachers, students, all_teachers=all_students, **known)
    return (forth + back) / 2


def embedding_mse(
    students: Float[Array, "b d"], teachers: Float[Array, "b d"]
) -> Float[Array, " b"]:
    """Mean square of the differences, 1/d ‖s_i - t_i‖², of embeddings as they are."""
    return jnp.mean((widen(students) - widen(teachers)) ** 2, axis=1)


def knowledge_distillation(
    students: Float[Array, "b k"],
    teachers: Float[Array, "b k"],
    labels: Int[Array, " b"],
    *,
    temperature: Scalar,
    weight: float,
) -> Float[Array, " b"]:
    """A student's predictions compared with the softened ones of a teacher.

        w T² KL( softmax(t / T) ‖ softmax(s / T) ) + (1 - w) cross_entropy(s, label)

    Hinton et al. 2015 (https://arxiv.org/abs/1503.02531), section 2: T² keeps the size
    of the first term's gradient when T is changed. In the released experiments the
    `temperature` T is 4 and the `weight` w 0.9.

    At least 0.
    """
    check(temperature, Temperature, "temperature")
    check(weight, Share, "weight")
    softened = jax.nn.log_softmax(widen(students) / temperature)
    target = jax.nn.log_softmax(widen(teachers) / temperature)
    divergence = jnp.sum(jnp.exp(target) * (target - softened), axis=1)
    hard = smoothed_cross_entropy(students, labels)
    return weight * temperature**2 * divergence + (1 - weight) * hard


def _contrast(
    students: Float[Array, "b d"],
    teachers: Float[Array, "b d"],
    temperature: Scalar,
    block: int | None,
    *among: tuple[Float[Array, "n d"], Ids | None],
) -> Float[Array, " b"]:
    """Log Σ_c exp(s_i·c / τ) - s_i·t_i / τ over columns c of other ids, or all."""
    check(temperature, Temperature, "temperature")
    total = LogSum.empty(students)
    for columns, ids in among:
        total = _log_sum(total, students, columns, ids, temperature, block)
    positive = jnp.sum(widen(students) * widen(teachers), axis=1) / temperature
    return total.log() - positive


def _log_sum(
    carry: LogSum,
    rows: Float[Array, "b d"],
    columns: Float[Array, "n d"],
    ids: Ids | None,
    temperature: Scalar,
    block: int | None,
) -> LogSum:
    row_ids, column_ids = (None, jnp.arange(len(columns))) if ids is None else ids

    def fold(carry: LogSum, part: tuple, present: Bool[Array, " m"]) -> LogSum:
        embeddings, own_ids = part
        counted = jnp.broadcast_to(present[None, :], (len(rows), len(present)))
        if row_ids is not None:
            counted = counted & (row_ids[:, None] != own_ids[None, :])
        return carry.add(similarities(rows, embeddings) / temperature, counted)

    return fold_columns(fold, carry, (columns, column_ids), block=block)
