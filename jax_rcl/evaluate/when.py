"""When something happens during a run: every so often, at the end, never."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Every:
    """At every multiple of a number of steps or of epochs, and at the end of the run.

    The last step is always among them, multiple or not, so that there is a number for
    what a run ends with. Step 0, before any update, is not.

    Attributes:
      steps: period in updates; None if the period is given in epochs.
      epochs: period in passes over the training set; None if given in steps.

    Raises:
      ValueError: unless exactly one of the two is given and at least 1.
    """

    steps: int | None = None
    epochs: int | None = None

    def __post_init__(self) -> None:
        """Checks that there is one period."""
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(
                f"Every has one period; got steps={self.steps} and "
                f"epochs={self.epochs}. Write Every(steps=1000) or Every(epochs=10)."
            )
        period = self.steps if self.steps is not None else self.epochs
        if period is not None and period < 1:
            raise ValueError(
                f"the period of {self} must be at least 1; to switch something off "
                f"write Never()."
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
