"""The fixed parts of a run, and its workdir."""

import dataclasses
import os
from pathlib import Path

from jax.sharding import Mesh
from ml_collections import ConfigDict

from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.checkpoint import Which, folder_of
from jax_rcl.config.experiment import OF_BEST, Experiment
from jax_rcl.config.types import ConfigError
from jax_rcl.config.workdir import CONFIG, stored_config
from jax_rcl.train.plan import Plan, plan


@dataclasses.dataclass(frozen=True)
class Run:
    """What stays the same from the first step to the last."""

    config: ConfigDict
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
        return step == self.plan.total_steps or not step % self.experiment.save_every

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


def claim(run: Run) -> None:
    """Makes the workdir this run's, or checks that it is already.

    Raises:
      ConfigError: it cannot be written to, or holds the run of another config.
    """
    path = run.workdir / CONFIG
    if parallel.is_main():
        try:
            run.workdir.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".tmp")
            temporary.write_text(configs.to_json(run.config) + "\n")
            if path.exists():
                temporary.unlink()
            else:
                temporary.replace(path)
        except OSError as error:
            raise ConfigError(
                f"the workdir {run.workdir} cannot be written to ({error}); choose "
                "another with --workdir."
            ) from error
    parallel.barrier("config")
    lines = configs.differences(stored_config(run.workdir), run.config)
    if lines:
        raise ConfigError(
            f"the workdir {run.workdir} holds the run of another config; these fields "
            "differ (there -> now):\n  "
            + "\n  ".join(lines)
            + "\nChoose another --workdir, or change these back."
        )


def has_checkpoint(workdir: Path, which: Which = "newest") -> bool:
    """Whether a run in this workdir can be continued, or has had a best state."""
    return any(path.name.isdigit() for path in (workdir / folder_of(which)).glob("*"))
