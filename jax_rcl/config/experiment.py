"""An experiment: everything that determines a run."""

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Literal

from jax_rcl.config.types import ConfigError, unknown
from jax_rcl.core import Augment, Evaluator, InitRule, Objective, Optimizer, Source

OF_BEST = "best/"
"""Begins the names of the numbers of a run's best state."""


@dataclasses.dataclass(frozen=True)
class Best:
    """Which of the states that a run goes through is its best one.

    Whenever the evaluator of `monitor` has run, the state is compared with the best so
    far; of equal ones the earlier stays. Let the evaluator look at examples that were
    held out for this: the best of many numbers on a test set flatters what it measures.

    Attributes:
      monitor: a number of an evaluator, `<evaluator>/<number>`, such as `probe/top1`.
        That there is such a number shows when the evaluator has run for the first time.
      mode: whether it is to be high or low.
    """

    monitor: str
    mode: Literal["max", "min"] = "max"

    def __post_init__(self) -> None:
        """Checks the form."""
        if not all(self.monitor.rpartition("/")[::2]):
            raise ValueError(
                f"Best.monitor {self.monitor!r} must be <evaluator>/<number>, such as "
                "'probe/top1'."
            )

    def evaluator(self, names: Collection[str]) -> str:
        """Whose number `monitor` is: of the names that fit, the longest.

        Raises:
          ConfigError: none of them does.
        """
        fitting = [name for name in names if self.monitor.startswith(f"{name}/")]
        if not fitting:
            start = f"best.monitor is {self.monitor!r}, but there is no evaluator"
            raise ConfigError(unknown(start, self.monitor.rpartition("/")[0], names))
        return max(fitting, key=len)

    def is_better(self, value: float, than: float | None) -> bool:
        """Whether a number beats the best so far; one that is not finite never does."""
        if than is None or not math.isfinite(value):
            return math.isfinite(value)
        return value > than if self.mode == "max" else value < than


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that determines a run: with the seed, all its numbers.

    Attributes:
      objective: the method, with its networks.
      source: what it is trained on.
      augment: makes what the objective reads out of what the source gives.
      optimizer: moves `Variables.params`.
      batch_size: examples in a global batch, over all devices and processes.
      epochs: passes over the source; the remainder of a pass that does not fill a batch
        is dropped.
      steps: number of updates, in place of `epochs`; 0 trains nothing: evaluators look
        at what `init_from` brought, and the checkpoint holds it.
      seed: of initialisation, data order and augmentation.
      init_from: applied in order to the freshly initialised variables.
      evaluators: by the name that prefixes their numbers.
      log_every: steps between logged training metrics.
      save_every: steps between checkpoints; the last step is always saved.
      keep: newest checkpoints that are kept.
      best: by which number one more checkpoint is kept, that of the best state;
        evaluators run on it at the end, too, and what they find there is named
        `best/<evaluator>/<number>`.
      resident: whether the data set is laid out in device memory once, as uint8, and
        the host sends indices; "auto" where it takes less than a third of the memory.
      steps_per_call: updates between two touches by the host. On a CPU leave it at 1:
        convolutions inside a loop are several times slower there. On a GPU or TPU
        measure with `jax-rcl bench`.
      threads: that read and decode examples when the data set is not resident.
    """

    objective: Objective
    source: Source
    augment: Augment
    optimizer: Optimizer
    batch_size: int
    epochs: int | None = None
    steps: int | None = None
    seed: int = 0
    init_from: tuple[InitRule, ...] = ()
    evaluators: Mapping[str, Evaluator] = dataclasses.field(default_factory=dict)
    log_every: int = 50
    save_every: int = 1000
    keep: int = 2
    best: Best | None = None
    resident: Literal["auto", "always", "never"] = "auto"
    steps_per_call: int = 1
    threads: int = 8

    def __post_init__(self) -> None:
        """Checks what can be known without data, devices or networks."""
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                f"give either epochs or steps; got epochs={self.epochs} and "
                f"steps={self.steps}."
            )
        counts = ("batch_size", "epochs", "steps", "log_every", "save_every", "keep")
        for name in (*counts, "steps_per_call", "threads"):
            value = getattr(self, name)
            least = 0 if name == "steps" else 1
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}; got {value}.")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative; got {self.seed}.")
