"""Distillation of a teacher that sees clean images into a student that does not."""

import dataclasses
from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from jax_rcl import parallel
from jax_rcl.core import Batch, Clock, Network, Outcome, Tree, Variables
from jax_rcl.losses import contrastive, distillation, pairwise
from jax_rcl.objectives import applying
from jax_rcl.ranges import Above, Count, ranged

Loss = Literal["simclr", "simclr_st", "simclr_ss", "simclr_both", "clip", "mse"]
"""Which formula of `losses.distillation`, by the names of the released code; `simclr`
is `losses.contrastive.nt_xent` of the two as views of one example."""


@dataclasses.dataclass(frozen=True)
@ranged
class Distill:
    """A student learns to embed a distorted image as its teacher embeds the clean one.

    Ravula et al. 2021 (https://arxiv.org/abs/2110.07439), whose teacher is CLIP's image
    encoder. No labels are read. The teacher, in `Variables.frozen`, must get its
    weights from rules of `init_from`, and the student starts from the same ones:
    `Restore(workdir, FROM_ONE_RUN)`, or two `ImportClip` of one file.

    Attributes:
      teacher: to embeddings of the same width; None: a network like the student's.
      loss_type: compares students and teachers over the global batch.
      temperature: τ of the contrastive losses; 0.1 in the paper.
      teacher_norm: whether the teacher's batch normalisation uses the statistics that
        it learned ("inference"), or those of the batch of clean images ("batch"), as in
        the released code, whose framework switches the teacher to training mode.
      averaged: of loss_type="clip": over the batch "once"; or "twice", divided by n
        once more, as in the released code. Adam's steps are the same but for its
        epsilon: with n = 256 the first is shorter by about 0.3 %.
      classes: k; for zero-shot classification `frozen/classes` then keeps an embedding
        of each class, [k, d], which `FillClasses`, a rule of `init_from`, fills and
        training does not read; `encode` gives `logits`, too.
      block: as for `SupCon`.
    """

    encoder: Network
    teacher: Network | None = None
    loss_type: Loss = "simclr_st"
    temperature: Annotated[float, Above(0, "such as 0.1")] = 0.1
    teacher_norm: Literal["inference", "batch"] = "inference"
    classes: Count | None = None
    block: Count | None = None
    averaged: Literal["once", "twice"] = "once"
    needs = frozenset({"clean", "distorted"})

    def __post_init__(self) -> None:
        if self.averaged == "twice" and self.loss_type != "clip":
            raise ValueError(
                f'Distill.averaged "twice" is for loss_type="clip"; loss_type is '
                f'{self.loss_type!r}. Write "once".'
            )

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        """Fresh student and teacher; ValueError if their vectors differ in width."""
        student_key, teacher_key, classes_key = jax.random.split(key, 3)
        params, stats, student_z = applying.fresh(
            self.encoder, student_key, batch["distorted"]
        )
        teacher_params, teacher_stats, teacher_z = applying.fresh(
            self._teacher, teacher_key, batch["clean"]
        )
        if student_z.ndim != 2 or student_z.shape != teacher_z.shape:
            raise ValueError(
                f"Distill.encoder gives {list(student_z.shape[1:])} for each image and "
                f"the teacher {list(teacher_z.shape[1:])}; they must be vectors of one "
                "width, since they are compared."
            )
        frozen: dict[str, Tree] = {
            "teacher": {"params": teacher_params, "batch_stats": teacher_stats}
        }
        if self.classes is not None:
            shape = (self.classes, student_z.shape[1])
            frozen["classes"] = jax.random.normal(classes_key, shape)
        return Variables(
            params={"encoder": params}, frozen=frozen, memory={"encoder": stats}
        )

    def loss(self, variables: Variables, batch: Batch, clock: Clock) -> Outcome:
        """The loss of each example; metrics per example.

        `cosine` of student and teacher; `found`, whether the nearest teacher of the
        global batch is the student's own; `spread` of the students, which is 0 when
        they have collapsed to a point.
        """
        if self.loss_type != "mse":
            n = parallel.global_count(len(batch["clean"]))
            applying.check_comparable(f"Distill.loss_type {self.loss_type!r}", n)
        student_key, teacher_key = jax.random.split(clock.key)
        students, stats = applying.train_apply(
            self.encoder,
            variables.params["encoder"],
            variables.memory["encoder"],
            batch["distorted"],
            student_key,
        )
        teachers = self._teach(variables.frozen["teacher"], batch, teacher_key)
        value = self._compare(students, teachers)
        s, t = pairwise.unit(jax.lax.stop_gradient(students)), pairwise.unit(teachers)
        nearest = jnp.argmax(pairwise.similarities(s, parallel.gather(t)), axis=1)
        metrics = {
            "cosine": jnp.sum(s * t, axis=1),
            "found": (nearest == parallel.example_ids(len(s))).astype(jnp.float32),
            "spread": applying.spread(s),
        }
        return Outcome(value, {"encoder": stats}, metrics)

    def encode(self, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        """`features` of the student; with classes also `logits`, cosines [n, k]."""
        params, stats = variables.params["encoder"], variables.memory["encoder"]
        features = applying.eval_apply(self.encoder, params, stats, images)
        if self.classes is None:
            return {"features": features}
        classes = pairwise.unit(variables.frozen["classes"])
        cosines = pairwise.similarities(pairwise.unit(features), classes)
        return {"features": features, "logits": cosines}

    @property
    def _teacher(self) -> Network:
        return self.encoder if self.teacher is None else self.teacher

    def _teach(self, teacher: Tree, batch: Batch, key: jax.Array) -> jax.Array:
        arrays = teacher["params"], teacher["batch_stats"]
        if self.teacher_norm == "inference":
            return applying.eval_apply(self._teacher, *arrays, batch["clean"])
        # The new running statistics are dropped: nothing would ever read them.
        return applying.train_apply(self._teacher, *arrays, batch["clean"], key)[0]

    def _compare(self, students: jax.Array, teachers: jax.Array) -> jax.Array:
        if self.loss_type == "mse":
            return distillation.embedding_mse(students, teachers)
        s, t = pairwise.unit(students), pairwise.unit(teachers)
        every_s, every_t = parallel.gather(s), parallel.gather(t)
        ids, every_id = parallel.example_ids(len(s)), jnp.arange(len(every_s))
        known = {"temperature": self.temperature, "block": self.block}
        if self.loss_type == "simclr_st":
            return distillation.student_teacher(s, t, all_teachers=every_t, **known)
        if self.loss_type == "clip":
            every = {"all_students": every_s, "all_teachers": every_t}
            value = distillation.symmetric_infonce(s, t, **every, **known)
            return value / len(every_s) if self.averaged == "twice" else value
        if self.loss_type == "simclr":
            rows = contrastive.nt_xent(
                jnp.concatenate([s, t]),
                jnp.concatenate([every_s, every_t]),
                row_ids=jnp.concatenate([ids, ids + len(every_s)]),
                column_ids=jnp.arange(2 * len(every_s)),
                row_examples=jnp.concatenate([ids, ids]),
                column_examples=jnp.concatenate([every_id, every_id]),
                **known,
            )
            return rows.reshape(2, -1).mean(axis=0)
        known |= {"row_ids": ids, "column_ids": every_id, "all_students": every_s}
        if self.loss_type == "simclr_ss":
            return distillation.student_student(s, t, **known)
        return distillation.both(s, t, all_teachers=every_t, **known)


FROM_ONE_RUN = {
    "params/encoder": "params/encoder",
    "memory/encoder": "memory/encoder",
    "frozen/teacher/params": "params/encoder",
    "frozen/teacher/batch_stats": "memory/encoder",
}
"""For `Restore`: one trained encoder as the teacher and as the start of the student."""
