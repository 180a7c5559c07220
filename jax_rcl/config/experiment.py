"""An experiment: everything that determines a run."""

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar, Literal

from jax_rcl.config.types import ConfigError, unknown
from jax_rcl.core import (
    Augment,
    Evaluator,
    InitRule,
    Objective,
    Optimizer,
    Source,
    When,
)
from jax_rcl.ranges import AtLeast, Count, ranged

OF_BEST = "best/"
"""Prefix of the names of the best state's numbers."""


@dataclasses.dataclass(frozen=True)
class Best:
    """Which state of a run is its best one.

    Whenever the evaluator of `monitor` has run, the state is compared with the best so
    far; of equal ones the earlier stays. Give the evaluator examples that were held out
    for this: the best of many numbers on a test set is biased upwards.

    Attributes:
      monitor: a number of an evaluator, `<evaluator>/<number>`, such as `probe/top1`;
        whether it exists is checked when the evaluator first runs.
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
        """The evaluator of `monitor`, by the longest name that fits, or ConfigError."""
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
@ranged
class Experiment:
    """Everything that determines a run and, with the seed, all its numbers.

    A workdir belongs to its config from the first checkpoint on. No number depends on
    the fields in `MAY_CHANGE`, which may be others when a run is continued; nor does
    training depend on its evaluators and on `best`. Its length may be another if the
    updates already made are those of the longer run: not with a cosine over all of it.

    Attributes:
      augment: turns records of the source into what the objective reads.
      batch_size: examples in a global batch, over all devices and processes.
      epochs: passes over the source; the remainder of a pass that does not fill a batch
        is dropped.
      steps: number of updates, instead of `epochs`; with 0 nothing is trained: what
        `init_from` gives is evaluated and saved.
      seed: of initialisation, data order and augmentation.
      init_from: applied in order to the freshly initialised variables.
      evaluators: by the name that prefixes their numbers.
      log_every: steps between logged training metrics.
      save_every: steps between checkpoints, or when they are written, such as
        `Every(epochs=10)`; the last step is always saved.
      keep: how many of the newest checkpoints are kept.
      keep_every: of the checkpoints written by `save_every`, every so many are kept for
        ever, such as each fifth; None for none.
      best: the number by which one more checkpoint is kept, that of the best state;
        evaluators also run on it at the end, as `best/<evaluator>/<number>`.
      resident: whether the data set is laid out in device memory once, as uint8, and
        the host sends indices; "auto" if it takes less than a third of the memory.
      steps_per_call: updates between two touches by the host. On a CPU leave it at 1:
        convolutions inside a loop are several times slower there. On a GPU or TPU
        measure with `jax-rcl bench`.
      threads: that read and decode examples when the data set is not resident.
    """

    objective: Objective
    source: Source
    augment: Augment
    optimizer: Optimizer
    batch_size: Count
    epochs: Count | None = None
    steps: Annotated[int, AtLeast(0)] | None = None
    seed: Annotated[int, AtLeast(0)] = 0
    init_from: tuple[InitRule, ...] = ()
    evaluators: Mapping[str, Evaluator] = dataclasses.field(default_factory=dict)
    log_every: Count = 50
    save_every: Count | When = 1000
    keep: Count = 2
    keep_every: Count | None = None
    best: Best | None = None
    resident: Literal["auto", "always", "never"] = "auto"
    steps_per_call: Count = 1
    threads: Count = 8

    # Updates in one call are compiled otherwise, which moves numbers by rounding, as
    # another number of devices does.
    MAY_CHANGE: ClassVar[frozenset[str]] = frozenset(
        "keep keep_every log_every resident save_every steps_per_call threads".split()
    )
    LATER: ClassVar[frozenset[str]] = frozenset("best epochs evaluators steps".split())
    """What may change once more is known of the run, see `jax_rcl.train.claim`."""

    def __post_init__(self) -> None:
        """Checks that the length is given once."""
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                f"give either epochs or steps; got epochs={self.epochs} and "
                f"steps={self.steps}."
            )
