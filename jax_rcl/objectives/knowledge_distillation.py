"""Knowledge distillation: a classifier of distorted images taught by one of clean."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp

from jax_rcl.core import Batch, Clock, Network, Outcome, Variables
from jax_rcl.losses import distillation
from jax_rcl.objectives import applying
from jax_rcl.ranges import Above, Share, ranged


@dataclasses.dataclass(frozen=True)
@ranged
class KnowledgeDistillation:
    """A classifier learns the labels, and a teacher's predictions of the clean image.

    The baseline that the experiments of Ravula et al. 2021 have for `Distill`, after
    Hinton et al. 2015 (https://arxiv.org/abs/1503.02531): the same networks, compared
    in the predicted classes and not in the embeddings, and labels for every image. The
    teacher, in `Variables.frozen` and in inference mode, gets its weights from a rule
    of `init_from`, such as `Restore(workdir, FROM_CLASSIFIER)`.

    Attributes:
      temperature: T, softens the predictions that are compared.
      weight: of the teacher's predictions in the loss; the rest is the labels'.
    """

    encoder: Network
    head: Network
    temperature: Annotated[float, Above(0, "such as 4.0")] = 4.0
    weight: Share = 0.9
    needs = frozenset({"clean", "distorted", "label"})

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        student_key, teacher_key = jax.random.split(key)
        own, _ = applying.fresh_chain(self.networks, student_key, batch["distorted"])
        theirs, _ = applying.fresh_chain(self.networks, teacher_key, batch["clean"])
        return dataclasses.replace(own, frozen={"teacher": applying.copies(theirs)})

    def loss(self, variables: Variables, batch: Batch, clock: Clock) -> Outcome:
        """The loss of each example; accuracies and how often the two agree."""
        distorted = batch["distorted"][:, None]
        logits, memory = applying.embed_views(
            self.networks, variables, distorted, clock.key
        )
        logits, teacher_logits = logits[:, 0], batch["clean"]
        for name, network in self.networks.items():
            teacher = variables.frozen["teacher"][name]
            teacher_logits = applying.eval_apply(
                network, teacher["params"], teacher["batch_stats"], teacher_logits
            )
        value = distillation.knowledge_distillation(
            logits,
            teacher_logits,
            batch["label"],
            temperature=self.temperature,
            weight=self.weight,
        )
        right, label = applying.share_right, batch["label"]
        metrics = {
            "top1": right(logits, label),
            "teacher_top1": right(teacher_logits, label),
            "agreement": right(logits, jnp.argmax(teacher_logits, axis=-1)),
        }
        return Outcome(value, memory, metrics)

    def encode(self, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        """`features` and `logits` of the student."""
        layers = ("features", "logits")
        return applying.encode_with(self.networks, layers, variables, images)

    @property
    def networks(self) -> dict[str, Network]:
        return {"encoder": self.encoder, "head": self.head}


FROM_CLASSIFIER = {
    f"{place}/{network}{kind}": f"{theirs}/{network}"
    for network in ("encoder", "head")
    for place, kind, theirs in (
        ("params", "", "params"),
        ("memory", "", "memory"),
        ("frozen/teacher", "/params", "params"),
        ("frozen/teacher", "/batch_stats", "memory"),
    )
}
"""For `Restore`: a trained `Classify` as the teacher, from which the student starts."""
