"""The state of a run: fresh, from a checkpoint, the best so far."""

import contextlib
import dataclasses
import functools
import logging
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax

from jax_rcl import parallel
from jax_rcl.checkpoint import (
    BEST,
    FROZEN,
    VARIABLES,
    Checkpoints,
    DamagedCheckpoint,
    Which,
    checksums,
    flat,
    folder_of,
    step_of,
)
from jax_rcl.config.types import ConfigError, unknown
from jax_rcl.core import Tree, Variables
from jax_rcl.train import step as train_step
from jax_rcl.train.facts import changes_of_all
from jax_rcl.train.means import EpochMeans
from jax_rcl.train.run import Run
from jax_rcl.train.step import TrainState

logger = logging.getLogger(__name__)

TRAINING = "training"
"""Item of a checkpoint that holds what training needs beside the variables."""


def save_state(
    checkpoints: Checkpoints,
    run: Run,
    state: TrainState,
    step: int,
    seconds: float,
    means: EpochMeans,
) -> None:
    """Starts writing a checkpoint; frozen arrays are stored once per run, beside it."""
    facts = {
        "seconds": seconds,
        "frozen": checksums(state.variables.frozen),
        "total_steps": run.plan.total_steps,
        "steps_per_epoch": run.plan.steps_per_epoch,
        "data": run.data,
        "means": means.facts(),
    }
    checkpoints.save(step, _items(state), facts)


def _items(state: TrainState) -> dict[str, Tree]:
    variables = state.variables
    return {
        VARIABLES: {"params": variables.params, "memory": variables.memory},
        TRAINING: {"step": state.step, "key": state.key, "opt_state": state.opt_state},
    }


def restore_or_create(
    run: Run, checkpoints: Checkpoints
) -> tuple[TrainState, float, EpochMeans]:
    """The newest checkpoint's state, or a fresh one; seconds spent, and means, so far.

    Raises:
      DamagedCheckpoint: there are checkpoints, but none can be read, or the frozen
        arrays are not those that the run was trained with.
    """
    parts = run.experiment.objective, run.plan.optimizer, run.plan.example()
    init = functools.partial(train_step.initial_state, *parts)
    shapes = jax.eval_shape(init, jax.random.key(run.experiment.seed))
    template = _template(run, shapes)
    found = checkpoints.restore(_items(template))
    if found is None:
        state = fresh_state(run)
        if jax.tree.leaves(state.variables.frozen):
            # Of a run that never came to a checkpoint; others may have been meant.
            if parallel.is_main():
                shutil.rmtree(run.workdir / FROZEN, ignore_errors=True)
            parallel.barrier("frozen")
            with Checkpoints(run.workdir / FROZEN, keep=1) as once:
                once.save(0, {FROZEN: state.variables.frozen})
        return state, 0.0, EpochMeans(run.plan.steps_per_epoch)
    step, items, facts = found
    frozen = restore_frozen(run.workdir, template.variables.frozen)
    if checksums(frozen) != facts["frozen"]:
        raise DamagedCheckpoint(
            f"{run.workdir / FROZEN} is not what this run was trained with."
        )
    logger.info("continues from step %d of %s", step, run.workdir)
    variables = Variables(frozen=frozen, **items[VARIABLES])
    means = EpochMeans(run.plan.steps_per_epoch)
    means.restore(facts.get("means"))
    return TrainState(variables=variables, **items[TRAINING]), facts["seconds"], means


def _template(run: Run, tree: Tree) -> Tree:
    """Shapes of arrays that are the same on every device of a run."""
    whole = parallel.replicated(run.mesh)
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), tree
    )


def restore_frozen(workdir: Path, template: Tree) -> Tree:
    """The frozen arrays of a run; an empty template where it has none."""
    if not jax.tree.leaves(template):
        return template
    with Checkpoints(workdir / FROZEN) as checkpoints:
        found = checkpoints.restore({FROZEN: template})
    if found is None:
        raise DamagedCheckpoint(f"{workdir / FROZEN} is missing.")
    return found[1][FROZEN]


def restore_variables(run: Run, which: Which = "newest") -> tuple[int, Variables]:
    """Step and variables of a checkpoint, on all devices.

    Raises:
      ConfigError: there is no such checkpoint.
      DamagedCheckpoint: none can be read.
    """
    template = _template(run, run.plan.variables)
    wanted = {"params": template.params, "memory": template.memory}
    with Checkpoints(run.workdir / folder_of(which)) as checkpoints:
        try:
            found = checkpoints.restore({VARIABLES: wanted}, step_of(which))
        except DamagedCheckpoint:
            raise
        except ValueError as error:  # none of this step
            raise ConfigError(str(error)) from error
    if found is None:
        kind = "best checkpoint" if which == "best" else "checkpoint"
        hint = " Its config must set `best`." if which == "best" else ""
        raise ConfigError(f"{run.workdir} holds no {kind} yet.{hint}")
    frozen = restore_frozen(run.workdir, template.frozen)
    return found[0], Variables(frozen=frozen, **found[1][VARIABLES])


def fresh_state(run: Run) -> TrainState:
    """A new run's state, with the arrays of `init_from`, on all devices.

    Warns of a frozen network that `init_from` does not fill: it stays random.
    """
    plan, experiment = run.plan, run.experiment
    state = train_step.create(
        experiment.objective, plan.optimizer, experiment.seed, plan.example()
    )
    unfilled = {
        "/".join(path.split("/")[:2])
        for path, leaf in flat(run.plan.variables).items()
        if path.startswith("frozen/") and isinstance(leaf, jax.ShapeDtypeStruct)
    }
    if unfilled:
        logger.warning(
            "no rule of init_from fills %s: its weights are random, and stay so.",
            ", ".join(sorted(unfilled)),
        )
    variables = jax.tree.map(
        lambda new, given: new if isinstance(given, jax.ShapeDtypeStruct) else given,
        state.variables,
        run.plan.variables,
    )
    return parallel.replicate(dataclasses.replace(state, variables=variables), run.mesh)


def check_frozen(state: TrainState, at_start: Mapping[str, int]) -> str:
    """Says that no frozen array has changed since `at_start`; empty if there is none.

    Raises DamagedCheckpoint if some of them have.
    """
    found = checksums(state.variables.frozen)
    moved = [path for path, crc in found.items() if at_start[path] != crc]
    if moved:
        raise DamagedCheckpoint(
            f"{len(moved)} of {len(found)} frozen arrays are not what they were at the "
            f"start: {', '.join(moved[:3])}. Numbers of this run mean nothing: find "
            "what changes `Variables.frozen`, then train it in another --workdir."
        )
    if not found:
        return ""
    return f"frozen: {len(found)} arrays, at the end as at the start, bit by bit"


class BestSoFar(contextlib.ExitStack):
    """The best variables that a run has had, in a folder of their own; see `Best`.

    The number to beat is read from there, so that nothing else needs to survive a stop.
    `wait` before a later state is saved: the best one before it must be on disk. If
    training resumes from before the best step, it is found again. One that was chosen
    by another number, or one of other data, is put aside with a warning as soon as
    there is a number to choose by.
    """

    def __init__(self, run: Run) -> None:
        """Opens the folder, if the run has a best state."""
        super().__init__()
        self.run, self._kept = run, None
        self._step, self._value = 0, None
        self._chosen_otherwise = ""
        if run.experiment.best is not None:
            self._kept = self.enter_context(Checkpoints(run.workdir / BEST, keep=1))
            try:
                found = self._kept.newest_facts()
            except DamagedCheckpoint as error:
                raise DamagedCheckpoint(
                    f"{error} Remove {self._kept.folder} to go on without it."
                ) from error
            if found is not None:
                self._step, self._value = found[0], found[1]["value"]
                self._chosen_otherwise = self._compare(found[1])

    def _chosen_by(self) -> list[str]:
        """The number that decides, and what it means."""
        best = self.run.experiment.best
        assert best is not None
        evaluators = self.run.experiment.evaluators
        name = best.evaluator(evaluators)
        return [best.monitor, best.mode, evaluators[name].protocol]

    def _data(self) -> list[Any]:
        """The data that this number is of."""
        best, evaluators = self.run.experiment.best, self.run.data["evaluators"]
        assert best is not None
        return evaluators[best.evaluator(evaluators)]

    def _compare(self, facts: Mapping[str, Any]) -> str:
        """In words by what the best so far was chosen, if that was something else."""
        chosen = facts.get("chosen_by", self._chosen_by())
        changes = changes_of_all(facts.get("data", ()), self._data())
        if chosen == self._chosen_by() and not changes:
            return ""
        told = "; ".join([chosen[2], *changes])
        return f"{chosen[0]} ({told})"

    def _begin_anew(self) -> None:
        folder = self.run.workdir / BEST
        aside = folder.with_name(f"{BEST}-{self._step}")
        logger.warning(
            "the best state so far, of step %d, was chosen by %s; it is now in %s, and "
            "the choice begins anew.",
            *(self._step, self._chosen_otherwise, aside),
        )
        self._chosen_otherwise = ""
        self.close()
        if parallel.is_main():
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
        parallel.barrier("best")
        self._kept = self.enter_context(Checkpoints(folder, keep=1))
        self._step, self._value = 0, None

    def offer(
        self,
        variables: Variables,
        step: int,
        names: Collection[str],
        numbers: Mapping[str, float],
    ) -> bool:
        """Starts to save the variables of a step if they are the best, and says so.

        `names` are those of the evaluators that ran on them, `numbers` what they gave.

        Raises:
          ConfigError: the evaluator of the monitored number gave no such number.
        """
        best = self.run.experiment.best
        if best is None or self._kept is None:
            return False
        name = best.evaluator(self.run.experiment.evaluators)
        if name not in names:
            return False
        if best.monitor not in numbers:
            known = [key for key in numbers if key.startswith(f"{name}/")]
            raise ConfigError(unknown("best.monitor: no number", best.monitor, known))
        if self._chosen_otherwise:
            self._begin_anew()
        value = numbers[best.monitor]
        # Earlier steps were compared when the best was saved. A run that resumes from
        # before it on other devices may find them a rounding error away.
        better = step > self._step and best.is_better(value, self._value)
        if not parallel.agree(better):
            return False
        arrays = {"params": variables.params, "memory": variables.memory}
        chosen_by, data = self._chosen_by(), self._data()
        facts = {"value": value, "chosen_by": chosen_by, "data": data}
        self._kept.save(step, {VARIABLES: arrays}, facts)
        self._step, self._value = step, value
        return True

    def wait(self) -> None:
        """Waits until the best is on disk."""
        if self._kept is not None:
            self._kept.wait()
