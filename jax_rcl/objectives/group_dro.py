"""Classification whose worst group counts most: group distributional robustness."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jax_rcl import parallel
from jax_rcl.core import Batch, Clock, Outcome, Variables
from jax_rcl.objectives.classify import Classify
from jax_rcl.ranges import AtLeast, Count, NotNegative, ranged


@dataclasses.dataclass(frozen=True)
@ranged
class GroupDRO:
    """Group DRO, Sagawa et al. 2020, algorithm 1 (https://arxiv.org/abs/1911.08731).

    With L_g the mean loss of the examples of group g in the global batch, a step sets

      q_g ← q_g exp(η (L_g + C / √n_g)),  q ← q / Σ_g q_g

    and minimises Σ_g q_g L_g, whose gradient does not reach q. The weights q are kept
    in `memory["group_weights"]` and start equal. C / √n_g is the group adjustment of
    section 3.3.

    A group without an example in the batch has no loss: its weight is only divided by
    the new sum, as algorithm 1 does with the groups that it does not draw. The
    algorithm draws all groups equally often; from a source in its own order, rare
    groups are raised in fewer steps than common ones.

    A group outside [0, groups) makes the loss NaN, which stops training.

    Attributes:
      classify: encoder, head and the loss of each view.
      groups: how many there are; `group` of the batch counts them from 0.
      step_size: η; 0 keeps the weights equal.
      adjustment: C; it needs `group_sizes`.
      group_sizes: n_g, training images of each group, or None.
    """

    classify: Classify
    groups: Annotated[int, AtLeast(2, "or there is nothing to weigh: use Classify")]
    step_size: NotNegative = 0.01
    adjustment: NotNegative = 0.0
    group_sizes: tuple[Count, ...] | None = None

    def __post_init__(self) -> None:
        if self.group_sizes is None:
            if self.adjustment:
                raise ValueError(
                    f"GroupDRO.adjustment {self.adjustment} is divided by the root of "
                    f"each group's size; write group_sizes, training images by group."
                )
        elif len(self.group_sizes) != self.groups:
            raise ValueError(
                f"GroupDRO.group_sizes {self.group_sizes} must be {self.groups} "
                f"numbers, as there are that many groups."
            )

    @property
    def needs(self) -> frozenset[str]:
        return self.classify.needs | {"group"}

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        variables = self.classify.init(key, batch)
        weights = jnp.full(self.groups, 1 / self.groups, jnp.float32)
        memory = {**variables.memory, "group_weights": weights}
        return dataclasses.replace(variables, memory=memory)

    def loss(self, variables: Variables, batch: Batch, clock: Clock) -> Outcome:
        """Σ_g q_g L_g over the global batch, a scalar; every view counts alike."""
        outcome = self.classify.loss(variables, batch, clock)
        views = len(outcome.value) // len(batch["group"])
        losses, present = group_means(
            outcome.value, jnp.repeat(batch["group"], views), self.groups
        )
        old, adjusted = variables.memory["group_weights"], jax.lax.stop_gradient(losses)
        if self.group_sizes is not None:
            sizes = jnp.array(self.group_sizes, losses.dtype)
            adjusted += self.adjustment / jnp.sqrt(sizes)
        weights = reweight(old, adjusted, present, step_size=self.step_size)
        memory = {**outcome.memory, "group_weights": weights}
        metrics = {
            "worst_group_loss": jnp.max(losses, where=present, initial=-jnp.inf),
            **{f"group_weight_{g}": weights[g] for g in range(self.groups)},
        }
        return Outcome(weights @ losses, memory, {**outcome.metrics, **metrics})

    def encode(self, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        return self.classify.encode(variables, images)


def group_means(
    values: Float[Array, " b"], groups: Int[Array, " b"], count: int
) -> tuple[Float[Array, " g"], Bool[Array, " g"]]:
    """Mean of each group's rows on all devices, and which groups have any.

    Means of groups without rows are 0; all are NaN if a row's group is not in [0, g).
    """
    known = (groups >= 0) & (groups < count)
    member = jax.nn.one_hot(groups, count, dtype=values.dtype)
    # Averages of sums: devices have unequal numbers of a group's rows, so that an
    # average of their means would be another number.
    sums, rows, strays = parallel.device_average(
        (
            jnp.sum(member * values[:, None], axis=0),
            jnp.sum(member, axis=0),
            jnp.sum(~known, dtype=values.dtype),
        )
    )
    present = rows > 0
    means = sums / jnp.where(present, rows, 1)
    return jnp.where(strays == 0, means, jnp.nan), present


def reweight(
    weights: Float[Array, " g"],
    losses: Float[Array, " g"],
    present: Bool[Array, " g"],
    *,
    step_size: float,
) -> Float[Array, " g"]:
    """q_g exp(η L_g) for groups that are present, q_g for others, made to sum to 1."""
    # A weight that has become 0 could not rise again, however bad the group gets.
    logarithms = jnp.log(jnp.maximum(weights, jnp.finfo(weights.dtype).tiny))
    return jax.nn.softmax(logarithms + jnp.where(present, step_size * losses, 0))
