"""Running means of a run's metrics, over the epoch so far."""

from collections.abc import Mapping
from typing import Any


class EpochMeans:
    """The mean of every metric over the updates of the epoch that is under way.

    It is part of a checkpoint (`facts`), so that a resumed run goes on with it.
    """

    def __init__(self, steps_per_epoch: int) -> None:
        self._steps_per_epoch = steps_per_epoch
        self._count, self._sums = 0, {}

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Takes the metrics of update number `step`, counted from 1."""
        if (step - 1) % self._steps_per_epoch == 0:
            self._count, self._sums = 0, {}
        self._count += 1
        for name, value in numbers.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        """By the names of the metrics; empty before the first update."""
        return {name: total / self._count for name, total in self._sums.items()}

    def facts(self) -> dict[str, Any]:
        """What `restore` takes, as JSON has it."""
        return {"count": self._count, "sums": dict(self._sums)}

    def restore(self, facts: Mapping[str, Any] | None) -> None:
        """Goes on from `facts` of a checkpoint; older ones have none."""
        if facts:
            self._count, self._sums = facts["count"], dict(facts["sums"])
