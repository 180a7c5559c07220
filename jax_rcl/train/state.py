"""The state of a run: fresh, from a checkpoint, the best so far."""

import dataclasses
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType

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
)
from jax_rcl.config.types import ConfigError, unknown
from jax_rcl.core import Tree, Variables
from jax_rcl.train import step as train_step
from jax_rcl.train.run import Run
from jax_rcl.train.step import TrainState

logger = logging.getLogger(__name__)


def items(state: TrainState) -> dict[str, Tree]:
    """What a checkpoint holds; frozen arrays are stored once per run, beside it."""
    variables = state.variables
    training = {"step": state.step, "key": state.key, "opt_state": state.opt_state}
    return {
        VARIABLES: {"params": variables.params, "memory": variables.memory},
        "training": training,
    }


def facts(state: TrainState, seconds: float, total_steps: int) -> dict[str, object]:
    """What a checkpoint says beside its arrays."""
    frozen = checksums(state.variables.frozen)
    return {"seconds": seconds, "frozen": frozen, "total_steps": total_steps}


def starting_state(run: Run, checkpoints: Checkpoints) -> tuple[TrainState, float]:
    """The newest checkpoint's state, or a fresh one; and the seconds spent so far.

    Raises:
      DamagedCheckpoint: there are checkpoints, but none can be read, or the frozen
        arrays are not those that the run was trained with.
    """
    whole = parallel.replicated(run.mesh)
    template = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole),
        jax.eval_shape(lambda: _initial(run)),
    )
    found = checkpoints.restore(items(template))
    if found is None:
        state = fresh_state(run)
        if jax.tree.leaves(state.variables.frozen):
            with Checkpoints(run.workdir / FROZEN, keep=1) as once:
                once.save(0, {FROZEN: state.variables.frozen})
        return state, 0.0
    step, arrays, told = found
    frozen = restore_frozen(run.workdir, template.variables.frozen)
    if checksums(frozen) != told["frozen"]:
        raise DamagedCheckpoint(
            f"{run.workdir / FROZEN} is not what this run was trained with."
        )
    logger.info("continues from step %d of %s", step, run.workdir)
    variables = Variables(frozen=frozen, **arrays[VARIABLES])
    return TrainState(variables=variables, **arrays["training"]), told["seconds"]


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
    """Step and variables of the newest or the best checkpoint, on all devices.

    Raises:
      ConfigError: there is no checkpoint.
      DamagedCheckpoint: none can be read.
    """
    whole = parallel.replicated(run.mesh)
    template = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole),
        run.plan.variables,
    )
    wanted = {"params": template.params, "memory": template.memory}
    with Checkpoints(run.workdir / folder_of(which)) as checkpoints:
        found = checkpoints.restore({VARIABLES: wanted})
    if found is None:
        kind = "best checkpoint" if which == "best" else "checkpoint"
        raise ConfigError(f"{run.workdir} holds no {kind} yet.")
    frozen = restore_frozen(run.workdir, template.frozen)
    return found[0], Variables(frozen=frozen, **found[1][VARIABLES])


def fresh_state(run: Run) -> TrainState:
    """A new run's state, with what `init_from` brings, on all devices.

    A frozen network that it brings nothing for stays random, which a warning says.
    """
    state = _initial(run)
    left = {
        "/".join(path.split("/")[:2])
        for path, leaf in flat(run.plan.variables).items()
        if path.startswith("frozen/") and isinstance(leaf, jax.ShapeDtypeStruct)
    }
    if left:
        logger.warning(
            "no rule of init_from fills %s: its weights are random, and stay so.",
            ", ".join(sorted(left)),
        )
    brought = jax.tree.map(
        lambda own, other: own if isinstance(other, jax.ShapeDtypeStruct) else other,
        state.variables,
        run.plan.variables,
    )
    return parallel.replicate(dataclasses.replace(state, variables=brought), run.mesh)


def _initial(run: Run) -> TrainState:
    made, experiment = run.plan, run.experiment
    return train_step.create(
        experiment.objective, made.optimizer, experiment.seed, made.example()
    )


def check_frozen(state: TrainState, at_start: Mapping[str, int]) -> str:
    """A sentence that says that no frozen array has moved; empty where there is none.

    Args:
      state: at the end of the run.
      at_start: `checksums` of the frozen arrays before its first step.

    Raises:
      DamagedCheckpoint: some of them are not what they were.
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


class BestSoFar:
    """The best variables that a run has had, in a folder of their own; see `Best`.

    What others are compared with is read from there, so that nothing else needs to be
    carried over a stop. Once a state is saved, what was best until it must be on disk:
    `wait` before. Where a run goes back behind its best, it comes by it again.
    """

    def __init__(self, run: Run) -> None:
        """Opens the folder, if the run has a best state.

        Raises:
          DamagedCheckpoint: what is there cannot be read.
        """
        self.run, self._kept = run, None
        self._step, self._value = 0, None
        if run.experiment.best is not None:
            self._kept = Checkpoints(run.workdir / BEST, keep=1)
            try:
                found = self._kept.newest_facts()
            except DamagedCheckpoint as error:
                raise DamagedCheckpoint(
                    f"{error} Remove {self._kept.folder} to go on without it."
                ) from error
            if found is not None:
                self._step, self._value = found[0], found[1]["value"]

    def __enter__(self) -> "BestSoFar":
        """The best so far; its folder is closed at the end of the `with` block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Waits for what is still being written."""
        if self._kept is not None:
            self._kept.__exit__(kind, error, trace)

    def offer(
        self,
        variables: Variables,
        step: int,
        names: Collection[str],
        numbers: Mapping[str, float],
    ) -> bool:
        """Starts to save variables if they are the best; gives whether they are.

        Args:
          variables: after `step` updates.
          step: how many.
          names: evaluators that have looked at them.
          numbers: what these found, as `<evaluator>/<number>`.

        Raises:
          ConfigError: the evaluator of the monitored number has found no such number.
        """
        best = self.run.experiment.best
        if best is None or self._kept is None:
            return False
        name = best.evaluator(self.run.experiment.evaluators)
        if name not in names:
            return False
        if best.monitor not in numbers:
            own = [key for key in numbers if key.startswith(f"{name}/")]
            raise ConfigError(unknown("best.monitor: no number", best.monitor, own))
        value = numbers[best.monitor]
        # Steps up to the best were compared when it was made; a run that was stopped
        # behind it and moved to other devices may find them a rounding away.
        better = step > self._step and best.is_better(value, self._value)
        if not parallel.agree(better):
            return False
        arrays = {"params": variables.params, "memory": variables.memory}
        self._kept.save(step, {VARIABLES: arrays}, {"value": value})
        self._step, self._value = step, value
        return True

    def wait(self) -> None:
        """Waits until the best is on disk."""
        if self._kept is not None:
            self._kept.wait()
