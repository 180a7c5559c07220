"""The fixed parts of a run."""

import dataclasses
import functools
import os
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.checkpoint import Which, saved_steps
from jax_rcl.config.experiment import OF_BEST, Experiment
from jax_rcl.config.nodes import Node
from jax_rcl.config.types import ConfigError
from jax_rcl.train.facts import describe_data
from jax_rcl.train.plan import Plan, plan


@dataclasses.dataclass(frozen=True)
class Run:
    """What stays the same from the first step to the last."""

    config: Node
    experiment: Experiment
    workdir: Path  # absolute
    mesh: Mesh
    plan: Plan

    @classmethod
    def prepare(
        cls,
        config: ConfigDict,
        workdir: str | os.PathLike[str],
        mesh: Mesh | None = None,
    ) -> "Run":
        """Builds the experiment and checks it; nothing is compiled or written."""
        experiment = configs.build(config)
        if not isinstance(experiment, Experiment):
            raise ConfigError("get_config must return node(Experiment, ...).")
        mesh = parallel.make_mesh() if mesh is None else mesh
        workdir = Path(workdir).absolute()
        planned = experiment
        if has_checkpoint(workdir):
            # What it started from is in its checkpoints, and may be gone elsewhere.
            planned = dataclasses.replace(experiment, init_from=())
        return cls(config, experiment, workdir, mesh, plan(planned, mesh))

    def due_evaluators(self, step: int) -> list[str]:
        """Names of the evaluators that run once `step` updates have been made."""
        total_steps, steps_per_epoch = self.plan.total_steps, self.plan.steps_per_epoch
        return [
            name
            for name, evaluator in self.experiment.evaluators.items()
            if evaluator.when.due(
                step, total_steps=total_steps, steps_per_epoch=steps_per_epoch
            )
        ]

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is written once `step` updates have been made."""
        return step == self.plan.total_steps or self._saves_regularly(step)

    def keeps(self, step: int) -> bool:
        """Whether the checkpoint of a step is kept for ever: each `keep_every`-th."""
        every = self.experiment.keep_every
        if every is None or not self._saves_regularly(step):
            return False
        if isinstance(self.experiment.save_every, int):
            return not step // self.experiment.save_every % every
        return not (self._regular_saves.index(step) + 1) % every

    def _saves_regularly(self, step: int) -> bool:
        every = self.experiment.save_every
        if isinstance(every, int):
            return step > 0 and not step % every
        total_steps, steps_per_epoch = self.plan.total_steps, self.plan.steps_per_epoch
        return every.due(step, total_steps=total_steps, steps_per_epoch=steps_per_epoch)

    @functools.cached_property
    def _regular_saves(self) -> list[int]:
        return [x for x in range(self.plan.total_steps + 1) if self._saves_regularly(x)]

    def logs(self, step: int) -> bool:
        """Whether the metrics of update number `step`, counted from 1, are logged."""
        ends = step in (1, self.plan.total_steps)
        return ends or not step % self.experiment.log_every

    def learning_rate(self, step: int) -> float:
        """The base learning rate of update number `step`, counted from 1."""
        return self.experiment.optimizer.learning_rate_at(
            step - 1,
            total_steps=self.plan.total_steps,
            steps_per_epoch=self.plan.steps_per_epoch,
            batch_size=self.experiment.batch_size,
        )

    @functools.cached_property
    def data(self) -> dict[str, Any]:
        """What is stored of the data with every checkpoint."""
        return describe_data(self.experiment)

    def protocols(self) -> dict[str, str]:
        """One line for each evaluator that says what its numbers mean."""
        texts = {n: e.protocol for n, e in self.experiment.evaluators.items()}
        best = self.experiment.best
        if best is None:
            return texts
        extreme = {"max": "highest", "min": "lowest"}[best.mode]
        of_best = {f"{OF_BEST}{name}": text for name, text in texts.items()}
        chosen = f"the state of the {extreme} {best.monitor}"
        return texts | {OF_BEST.rstrip("/"): chosen} | of_best


def has_checkpoint(workdir: Path, which: Which = "newest") -> bool:
    """Whether a run in this workdir can be continued, or has had a best state."""
    return bool(saved_steps(workdir, which))
