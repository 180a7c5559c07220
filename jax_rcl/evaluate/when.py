"""When something happens during a run: every so often, at the end, never."""

import dataclasses
from typing import Annotated

from jax_rcl.ranges import AtLeast, ranged

Period = Annotated[int, AtLeast(1, "to switch something off write Never()")]
"""Every so many steps or epochs."""


@dataclasses.dataclass(frozen=True)
@ranged
class Every:
    """At every multiple of a number of steps or of epochs, and at the end of the run.

    The last step always counts, multiple or not, so that there is a number for the
    final state of a run. Step 0, before any update, does not.

    Attributes:
      steps: period in updates; None if the period is given in epochs.
      epochs: period in passes over the training set; None if given in steps.
    """

    steps: Period | None = None
    epochs: Period | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(
                f"Every has one period; got steps={self.steps} and "
                f"epochs={self.epochs}. Write Every(steps=1000) or Every(epochs=10)."
            )

    def due(self, step: int, *, total_steps: int, steps_per_epoch: int) -> bool:
        """Whether `step`, the number of updates made, is a multiple or the last."""
        period = self.steps or (self.epochs or 1) * steps_per_epoch
        return step == total_steps or (step > 0 and step % period == 0)


@dataclasses.dataclass(frozen=True)
class AtEnd:
    """Once, after the last step."""

    def due(self, step: int, *, total_steps: int, steps_per_epoch: int) -> bool:
        """Whether `step` updates are all that this run makes."""
        del steps_per_epoch
        return step == total_steps


@dataclasses.dataclass(frozen=True)
class Never:
    """Not at all: leaves an evaluator to `--mode=evaluate`."""

    def due(self, step: int, *, total_steps: int, steps_per_epoch: int) -> bool:
        """False."""
        del step, total_steps, steps_per_epoch
        return False
