"""Whose run a workdir holds: its config, its length and its data, before anything else.

A workdir belongs to its config from the first checkpoint on, or from its results. What
a run may then be continued with is checked here, and nothing is written before.
"""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.checkpoint import BEST, FROZEN, STATES, Checkpoints, saved_steps
from jax_rcl.config.experiment import OF_BEST, Experiment
from jax_rcl.config.nodes import Node, from_json, to_json
from jax_rcl.config.types import ConfigError
from jax_rcl.config.workdir import (
    CONFIG,
    MAY_CHANGE,
    PLACES,
    binding_differences,
    store_config,
    stored_config,
    without,
)
from jax_rcl.report import log
from jax_rcl.train.facts import (
    MEASURED,
    changes_of,
    changes_of_all,
    is_known,
    measured,
)
from jax_rcl.train.owner import refusing
from jax_rcl.train.plan import reads_progress
from jax_rcl.train.run import Run

logger = logging.getLogger(__name__)

RESULTS, PAGE = "results.json", "report/index.html"
"""What a finished run leaves in its workdir."""

COMPARED = 32
"""Of how many updates the learning rates are compared when a run becomes longer."""


def claim(run: Run) -> None:
    """Makes the workdir this run's, or checks that it is already.

    Raises:
      ConfigError: it cannot be written to, or holds a run that cannot be continued with
        this config or with these data; it is then left as it is.
    """
    found = newest_facts(run)
    with refusing(run.workdir):
        if parallel.is_main():
            _claim(run, found)


def newest_facts(run: Run) -> tuple[int, dict[str, Any]] | None:
    """Step and facts of the newest checkpoint; all processes have to read them."""
    if not saved_steps(run.workdir):
        return None
    with Checkpoints(run.workdir / STATES) as checkpoints:
        return checkpoints.readable_facts()


def _claim(run: Run, found: tuple[int, dict[str, Any]] | None) -> None:
    run.workdir.mkdir(parents=True, exist_ok=True)
    if not (run.workdir / CONFIG).exists():
        store_config(run.workdir, run.config)
        return
    old = stored_config(run.workdir)
    steps, best_steps = saved_steps(run.workdir), saved_steps(run.workdir, "best")
    reports = [x for x in (RESULTS, PAGE) if (run.workdir / x).exists()]
    if not steps and not best_steps and not reports:
        if binding_differences(old, run.config):
            logger.warning(
                "%s was begun with another config and saved nothing; it is begun anew.",
                run.workdir,
            )
            _forget_everything(run.workdir)
    else:
        check_config(run, old, {} if found is None else found[1])
        if not steps and reports:
            raise ConfigError(
                f"the run in {run.workdir} is finished, as {reports[0]} there says, "
                f"but its checkpoints are gone: nothing can be continued or evaluated "
                f"anew. Put {STATES}/ back, or choose another --workdir to train it "
                "from the start."
            )
        if found is not None:
            step, facts = found
            before = facts.get("total_steps") or length_of(old, run)
            check_data(run, old, step, before, facts)
            check_length(run, step, before)
            if step == before:  # it was finished
                finish_otherwise(run, old, step, before, facts)
    if configs.differences(old, run.config):
        store_config(run.workdir, run.config)


def _forget_everything(workdir: Path) -> None:
    """Removes what a run has left that never came to a checkpoint."""
    for folder in (FROZEN, BEST, log.EVENTS):
        shutil.rmtree(workdir / folder, ignore_errors=True)
    for file in (log.METRICS, MEASURED):
        (workdir / file).unlink(missing_ok=True)


# The config.


def check_config(run: Run, old: Node, facts: Mapping[str, Any]) -> None:
    """Refuses another config, except for what changes no update that was made.

    Data may be in another place if their facts tell the same data from others.
    """
    known = "data" in facts and is_known(facts["data"]["train"])
    free = (MAY_CHANGE, PLACES) if known else (MAY_CHANGE,)
    lines = binding_differences(old, run.config, but=Experiment.LATER, free=free)
    if lines:
        told = (
            f"the workdir {run.workdir} holds the run of another config; these fields "
            "differ (there -> now):\n  "
            + "\n  ".join(lines)
            + "\nChoose another --workdir, or change these back. "
            + from_its_weights(run)
        )
        raise ConfigError(told.rstrip())


def from_its_weights(run: Run) -> str:
    """How another run takes up what this one has learnt; empty if it kept nothing."""
    which = ""
    if not saved_steps(run.workdir):
        if not saved_steps(run.workdir, "best"):
            return ""
        which = ', which="best"'
    variables = run.plan.variables
    parts = {"params": variables.params, "memory": variables.memory}
    paths = ", ".join(f'"{name}": "{name}"' for name, tree in parts.items() if tree)
    return (
        "To go on from its weights in another --workdir, write there "
        f'init_from=(node(Restore, "{run.workdir}", {{{paths}}}{which}),).'
    )


# The length.


def length_of(old: Node, run: Run) -> int:
    """Steps of a run whose checkpoints do not tell them."""
    return old.epochs * run.plan.steps_per_epoch if old.steps is None else old.steps


def keep_length(run: Run) -> Run:
    """The run, or the longer one that it has become and has finished.

    A command from before it became longer then says that it is done.
    """
    steps = saved_steps(run.workdir)
    if not steps or run.plan.total_steps >= steps[-1]:
        return run
    old, new = stored_config(run.workdir), run.config
    before = length_of(old, run)
    same = (old.epochs, old.steps) == (new.epochs, new.steps)  # then the data changed
    if same or steps[-1] != before:
        return run
    check_length(run, before, before)
    config = from_json(to_json(run.config))
    with config.unlocked():
        config.epochs, config.steps = old.epochs, old.steps
    if parallel.is_main():
        logger.warning(
            "%s has made %d steps, more than the %d asked for, and keeps them.",
            *(run.workdir, before, run.plan.total_steps),
        )
    return Run.prepare(config, run.workdir, run.mesh)


def check_length(run: Run, step: int, before: int) -> None:
    """Refuses another length where updates that were made are not those of such a run.

    They are if each had the same learning rate, and nothing reads how far the run is.
    """
    now = run.plan.total_steps
    if now == before:
        return
    start = (
        f"the run in {run.workdir} has made {step} of {before} steps and cannot become "
        f"one of {now}"
    )
    advice = "Leave its length as it was, or choose another --workdir."
    experiment, plan = run.experiment, run.plan

    def rate(update: int, total_steps: int) -> float:
        return experiment.optimizer.learning_rate_at(
            update,
            total_steps=total_steps,
            steps_per_epoch=plan.steps_per_epoch,
            batch_size=experiment.batch_size,
        )

    last = max(min(step, now) - 1, 0)
    for update in np.unique(np.linspace(0, last, COMPARED).astype(int)) if step else ():
        rates = [rate(int(update), length) for length in (before, now)]
        if not np.isclose(*rates, rtol=1e-6, atol=0.0):
            schedule = getattr(experiment.optimizer, "schedule", experiment.optimizer)
            raise ConfigError(
                f"{start}: {type(schedule).__name__} depends on the length. The "
                f"learning rate of step {update + 1} was {rates[0]:g}, and would have "
                f"been {rates[1]:g}. A schedule that does not, such as Constant or "
                f"MultiStep, can be extended. {advice} {from_its_weights(run)}"
            )
    if step and reads_progress(experiment, run.mesh, plan):
        raise ConfigError(
            f"{start}: its augmentation or its objective depends on how far the run "
            f"is, as a curriculum does. {advice} {from_its_weights(run)}"
        )
    if now < step < before:
        raise ConfigError(f"{start}, which are fewer. {advice}")
    logger.info("%s: %d steps instead of %d", run.workdir, now, before)


def finish_otherwise(
    run: Run, old: Node, step: int, before: int, facts: Mapping[str, Any]
) -> None:
    """Lets a finished run go on, if it is longer now or has other evaluators.

    What it had found is renamed, and the log forgets what is to be found anew.

    Raises:
      ConfigError: it is no longer, and another number is to choose its best state.
    """
    if run.plan.total_steps == before:
        check_best(run, old)
    last = _last_measured(run, step, facts)
    changed = [
        name
        for name in run.due_evaluators(step)
        if _measures_otherwise(run, old, name, last.get(name, {}))
    ]
    seen = {
        key for line in log.read(run.workdir) if line["step"] == step for key in line
    }
    changed += [
        name
        for name in run.due_evaluators(step)
        if configs.differences(old.evaluators.get(name), run.config.evaluators[name])
        and not any(key.startswith(f"{name}/") for key in seen)
    ]
    if run.plan.total_steps == before and not changed:
        return
    # In this order: without a page the run goes on, whatever the log has lost by then.
    for name in (RESULTS, PAGE):
        set_aside(run.workdir / name)
    if changed:
        prefixes = tuple(f"{name}/" for name in changed)
        # Which state is the best may have changed, and what these find of it has.
        log.forget(run.workdir, step, (*prefixes, OF_BEST))


def check_best(run: Run, old: Node) -> None:
    """Refuses that a run without further steps has its best state chosen otherwise."""
    best = run.experiment.best
    if best is None or not configs.differences(old.best, run.config.best):
        return
    kept = None
    if saved_steps(run.workdir, "best"):
        with Checkpoints(run.workdir / BEST) as checkpoints:
            kept = checkpoints.readable_facts()
    by = None if kept is None else kept[1].get("chosen_by", [None, None])[:2]
    if by == [best.monitor, best.mode]:
        return
    has = "none" if by is None else f"the one of {by[0]}, {by[1]}"
    raise ConfigError(
        f"best: the run in {run.workdir} is finished, and of its states only the last "
        f"ones are there: which was best by {best.monitor}, {best.mode}, cannot be "
        f"found any more (it kept {has}). Leave best as it was, or train with it in "
        "another --workdir."
    )


def _measures_otherwise(
    run: Run, old: Node, name: str, last: Mapping[str, Any]
) -> bool:
    """Whether an evaluator gives other numbers than `last` the one called so gave."""
    pair = _measures(old.evaluators.get(name)), _measures(run.config.evaluators[name])
    if not configs.differences(*pair):
        return False
    if configs.differences(*(without(each, PLACES) for each in pair)):
        return True
    # The same, of data in another place: of the same data?
    then = last.get("data", [])
    if not then or not all(map(is_known, then)):
        return True
    return bool(changes_of_all(then, run.data["evaluators"][name]))


def _last_measured(run: Run, step: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """At which `step` each evaluator has run last, and on which `data`.

    Where there is no record of it, they are those of the newest checkpoint.
    """
    stored = facts.get("data", {}).get("evaluators", {})
    saved = {name: {"step": step, "data": data} for name, data in stored.items()}
    return saved | measured(run.workdir)


def _measures(evaluator: Any) -> Any:
    """What the numbers of an evaluator depend on."""
    if evaluator is None:
        return None
    return {key: evaluator[key] for key in evaluator.keys() if key != "when"}


def set_aside(path: Path) -> Path | None:
    """Renames a file to the first free of name-1, name-2, …; None if there is none."""
    if not path.exists():
        return None
    number = 1
    while (aside := path.with_stem(f"{path.stem}-{number}")).exists():
        number += 1
    return path.rename(aside)


# The data.


def check_data(
    run: Run, old: Node, step: int, before: int, facts: Mapping[str, Any]
) -> None:
    """Refuses training data that are others than those of the checkpoints.

    Fewer records are taken where the source omits more damaged ones than it did, as the
    config tells it to, if all that follows from their number, the length of an epoch,
    stays. Other test data are told by a warning.
    """
    changes, fewer = [], False
    if "data" in facts:
        then, now = facts["data"]["train"], run.data["train"]
        changes = changes_of(then, now)
        same = now["classes"] == then["classes"]
        same &= facts["steps_per_epoch"] == run.plan.steps_per_epoch
        lost = then["count"] - now["count"]
        fewer = same and 0 < lost <= now["omitted"] - then.get("omitted", 0)
        warn_of_evaluators(run, old, step, facts)
    else:  # stored before 0.2
        had = steps_per_epoch_of(old, before)
        if had not in (None, run.plan.steps_per_epoch):
            changes = [f"an epoch has {run.plan.steps_per_epoch} steps, and had {had}"]
    if not changes:
        return
    told = f"since step {step} was saved in {run.workdir}: {'; '.join(changes)}"
    if fewer:  # as long as no checkpoint was saved since, so each time
        logger.warning("the training data have changed %s. It goes on with them.", told)
        return
    raise ConfigError(
        f"the training data have changed {told}. Labels, order and schedule come from "
        "them. Put them back as they were, or choose another --workdir. "
        f"{from_its_weights(run)}"
    )


def warn_of_data(run: Run, old: Node) -> None:
    """Warns of data that are others than those of the newest checkpoint."""
    found = newest_facts(run)
    if found is None or "data" not in found[1] or not parallel.is_main():
        return
    step, facts = found
    changes = changes_of(facts["data"]["train"], run.data["train"])
    if changes:
        told = "; ".join(changes)
        logger.warning("the training data are others than at step %d: %s.", step, told)
    warn_of_evaluators(run, old, step, facts)


def warn_of_evaluators(
    run: Run, old: Node, step: int, facts: Mapping[str, Any]
) -> None:
    """Warns of evaluators that are the same, but whose data have changed."""
    last = _last_measured(run, step, facts)
    for name in sorted(last.keys() & run.data["evaluators"].keys()):
        both = old.evaluators.get(name), run.config.evaluators[name]
        changes = changes_of_all(last[name]["data"], run.data["evaluators"][name])
        if changes and not configs.differences(*(without(x, PLACES) for x in both)):
            logger.warning(
                "the data of evaluator '%s' are others than at step %d (%s): its "
                "numbers from before are not of these.",
                *(name, last[name]["step"], "; ".join(changes)),
            )


def steps_per_epoch_of(old: Node, total_steps: int) -> int | None:
    """Steps of an epoch of a run whose checkpoints do not tell them."""
    return None if old.epochs is None else total_steps // old.epochs
